"""What the chosen model and backend accept: the capability table put to a session's settings. Plain code: no I/O.

Each refusal names the field and what would be accepted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from parley.v1 import errors_pb2, live_pb2
from services.fabric.capabilities import MODELS, Backend, ModelCapabilities, capabilities_of
from services.fabric.errors import ServiceError, invalid_field

_LANGUAGE: Final = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z]{4})?-([A-Za-z]{2}|\d{3})")
_TARGET_LANGUAGE: Final = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z]{4})?(-([A-Za-z]{2}|\d{3}))?")
_CONVERSATION_INPUT: Final = frozenset({"text", "turn", "video"})
_CONVERSATION_ONLY: Final = ("history", "caller_tools", "tools", "google_search", "instructions")


def check_model(config: live_pb2.SessionConfig, path: str, backend: Backend) -> None:
    """ServiceError where the model does not take what the settings ask for."""
    model = capabilities_of(config.model, backend)
    if model is None:
        known = _listed(MODELS[backend])
        raise invalid_field(f"{path}.model", f"must be one of {known}", errors_pb2.ERROR_REASON_MODEL_UNKNOWN)
    _check_task(config, model, path)
    _check_output(config, model, path)
    _check_thinking(config, model, path)
    if config.proactive_audio and model.proactive_audio == "never":
        raise _refused(config, f"{path}.proactive_audio", "unset")
    if config.affective_dialog and not model.affective_dialog:
        raise _refused(config, f"{path}.affective_dialog", "unset")
    every_picture = live_pb2.TURN_COVERAGE_AUDIO_ACTIVITY_AND_ALL_VIDEO
    if config.turn_coverage == every_picture and not model.all_video_coverage:
        raise _refused(config, f"{path}.turn_coverage", "TURN_COVERAGE_ONLY_ACTIVITY or TURN_COVERAGE_ALL_INPUT")
    if config.sampling.max_output_tokens > model.max_output_tokens:
        raise _refused(config, f"{path}.sampling.max_output_tokens", f"at most {model.max_output_tokens:,}")
    for name in ("trigger_tokens", "target_tokens"):
        if getattr(config.context_compression, name) > model.context_tokens:
            raise _refused(config, f"{path}.context_compression.{name}", f"at most {model.context_tokens:,}")
    for index, function in enumerate(config.caller_tools):
        _check_behavior(config, function, model, f"{path}.caller_tools[{index}].behavior")
    if config.history and model.history_ends_with_user and config.history[-1].role != live_pb2.ROLE_USER:
        raise _refused(config, f"{path}.history", "a history that ends with content of ROLE_USER")


def check_input(kind: str, model: ModelCapabilities | None) -> None:
    """ServiceError where the model does not hear a message of this kind."""
    if model is not None and model.task != "conversation" and kind in _CONVERSATION_INPUT:
        raise invalid_field(kind, f"the session's model does {model.task} and hears nothing but audio: send `audio`")


def check_tool_result(result: live_pb2.ToolResult, model: ModelCapabilities | None) -> None:
    """ServiceError where the model does not take a result of this kind."""
    if model is None:
        return
    if result.scheduling and not model.response_scheduling:
        raise invalid_field("tool_result.scheduling", "the session's model takes none: leave it unset")
    if result.will_continue and not model.continued_responses:
        raise invalid_field("tool_result.will_continue", "the session's model takes one result a call: leave it unset")


def check_context_update(model: ModelCapabilities | None) -> None:
    """ServiceError where the model cannot be changed on an open link."""
    if model is not None and not model.context_update:
        takers = _listed({name: 0 for rows in MODELS.values() for name, row in rows.items() if row.context_update})
        raise invalid_field(
            "context_update", f"the session's model takes none ({takers} do): send a `turn`, or open another session"
        )


def _check_task(config: live_pb2.SessionConfig, model: ModelCapabilities, path: str) -> None:
    translates = model.task == "translation"
    if translates and not config.HasField("translation"):
        raise _refused(config, f"{path}.translation", "a target language, for translating is all that it does")
    if config.HasField("translation"):
        if not translates:
            translators = {name for rows in MODELS.values() for name, row in rows.items() if row.task == "translation"}
            raise _refused(config, f"{path}.translation", f"unset; {_listed(translators)} translates")
        if not _TARGET_LANGUAGE.fullmatch(config.translation.target_language):
            raise invalid_field(f"{path}.translation.target_language", "required; a BCP-47 language, e.g. es or pt-BR")
    if model.task != "conversation":
        for name in _CONVERSATION_ONLY:
            if getattr(config, name):
                raise _refused(config, f"{path}.{name}", "unset, for it hears audio and nothing else")


def _check_output(config: live_pb2.SessionConfig, model: ModelCapabilities, path: str) -> None:
    text = config.response_modality == live_pb2.MODALITY_TEXT
    if text and not model.text_output:
        raise _refused(config, f"{path}.response_modality", "MODALITY_AUDIO, with `output_transcription` for the words")
    if config.response_modality == live_pb2.MODALITY_AUDIO and not model.audio_output:
        raise _refused(config, f"{path}.response_modality", "MODALITY_TEXT")
    if config.voice:
        if text or not model.audio_output:
            raise invalid_field(f"{path}.voice", "must be unset where the model answers in text")
        if config.voice.casefold() not in {voice.casefold() for voice in model.voices}:
            raise _refused(config, f"{path}.voice", f"one of {_listed(model.voices)}")
    if config.language:
        if model.languages is None:
            if not _LANGUAGE.fullmatch(config.language):
                raise invalid_field(f"{path}.language", "a BCP-47 language with its region, e.g. en-US")
        elif config.language not in model.languages:
            raise _refused(config, f"{path}.language", f"one of {_listed(model.languages)}")


def _check_thinking(config: live_pb2.SessionConfig, model: ModelCapabilities, path: str) -> None:
    levels = _listed(live_pb2.ThinkingLevel.Name(level) for level in model.thinking_levels)
    if config.thinking_level:
        if not model.thinking_levels:
            instead = "unset; give `thinking_budget_tokens`" if model.thinking_budget is not None else "unset"
            raise _refused(config, f"{path}.thinking_level", instead)
        if config.thinking_level not in model.thinking_levels:
            raise _refused(config, f"{path}.thinking_level", f"one of {levels}")
    elif model.thinking_level_required:
        raise _refused(config, f"{path}.thinking_level", f"one of {levels}, always")
    if config.HasField("thinking_budget_tokens"):
        if model.thinking_budget is None:
            instead = "unset; give `thinking_level`" if model.thinking_levels else "unset"
            raise _refused(config, f"{path}.thinking_budget_tokens", instead)
        if not -1 <= config.thinking_budget_tokens <= model.thinking_budget:
            raise _refused(config, f"{path}.thinking_budget_tokens", f"-1 to {model.thinking_budget:,}")


def _check_behavior(
    config: live_pb2.SessionConfig, function: live_pb2.FunctionDeclaration, model: ModelCapabilities, path: str
) -> None:
    if function.behavior == live_pb2.TOOL_BEHAVIOR_BLOCKING and not model.blocking_tools:
        raise _refused(config, path, "TOOL_BEHAVIOR_NON_BLOCKING, or unset")
    if function.behavior == live_pb2.TOOL_BEHAVIOR_NON_BLOCKING and not model.non_blocking_tools:
        raise _refused(config, path, "TOOL_BEHAVIOR_BLOCKING, or unset")


def _refused(config: live_pb2.SessionConfig, path: str, accepted: str) -> ServiceError:
    return invalid_field(path, f"{config.model} accepts {accepted}")


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))
