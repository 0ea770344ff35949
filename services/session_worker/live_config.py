"""A session's settings as the SDK's set-up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from google.genai import types
from google.protobuf import json_format

from parley.v1 import live_pb2, tools_pb2
from services.fabric.capabilities import Backend, ModelCapabilities, capabilities_of
from services.session_worker import live_schema

_THINKING: Final = {
    live_pb2.THINKING_LEVEL_MINIMAL: types.ThinkingLevel.MINIMAL,
    live_pb2.THINKING_LEVEL_LOW: types.ThinkingLevel.LOW,
    live_pb2.THINKING_LEVEL_MEDIUM: types.ThinkingLevel.MEDIUM,
    live_pb2.THINKING_LEVEL_HIGH: types.ThinkingLevel.HIGH,
}
_RESOLUTION: Final = {
    live_pb2.MEDIA_RESOLUTION_LOW: types.MediaResolution.MEDIA_RESOLUTION_LOW,
    live_pb2.MEDIA_RESOLUTION_MEDIUM: types.MediaResolution.MEDIA_RESOLUTION_MEDIUM,
    live_pb2.MEDIA_RESOLUTION_HIGH: types.MediaResolution.MEDIA_RESOLUTION_HIGH,
}
_HANDLING: Final = {
    live_pb2.ACTIVITY_HANDLING_INTERRUPTS: types.ActivityHandling.START_OF_ACTIVITY_INTERRUPTS,
    live_pb2.ACTIVITY_HANDLING_NO_INTERRUPTION: types.ActivityHandling.NO_INTERRUPTION,
}
_COVERAGE: Final = {
    live_pb2.TURN_COVERAGE_ONLY_ACTIVITY: types.TurnCoverage.TURN_INCLUDES_ONLY_ACTIVITY,
    live_pb2.TURN_COVERAGE_ALL_INPUT: types.TurnCoverage.TURN_INCLUDES_ALL_INPUT,
    live_pb2.TURN_COVERAGE_AUDIO_ACTIVITY_AND_ALL_VIDEO: types.TurnCoverage.TURN_INCLUDES_AUDIO_ACTIVITY_AND_ALL_VIDEO,
}
_START: Final = {
    live_pb2.SENSITIVITY_HIGH: types.StartSensitivity.START_SENSITIVITY_HIGH,
    live_pb2.SENSITIVITY_LOW: types.StartSensitivity.START_SENSITIVITY_LOW,
}
_END: Final = {
    live_pb2.SENSITIVITY_HIGH: types.EndSensitivity.END_SENSITIVITY_HIGH,
    live_pb2.SENSITIVITY_LOW: types.EndSensitivity.END_SENSITIVITY_LOW,
}

DEFAULT_INPUT_RATE: Final = 16_000
_PROACTIVE_VERSION: Final = "v1alpha"
"""The one version of the API that knows `proactivity`."""


def input_rate(config: live_pb2.SessionConfig) -> int:
    """Hertz of the caller's audio."""
    return config.input_sample_rate_hertz or DEFAULT_INPUT_RATE


def live_config(
    config: live_pb2.SessionConfig,
    tools: Sequence[tools_pb2.Tool],
    handle: str,
    headers: dict[str, str],
    backend: Backend = "developer",
    *,
    seeded: bool = False,
) -> types.LiveConnectConfig:
    """The set-up of a link.

    Transcription, which is billed, is on upstream while the log is, which stands on it; otherwise where the caller
    wants to see it. `handle` resumes; empty begins anew, with a history that follows at once where it is `seeded`.
    Unset fields stay unset, so that the model's own defaults hold.
    """
    sampling = config.sampling
    log = not config.conversation_log.disabled
    model = capabilities_of(config.model, backend) or ModelCapabilities()
    proactive = config.proactive_audio and model.proactive_audio == "opt-in"
    return types.LiveConnectConfig(
        http_options=_http_options(headers, _PROACTIVE_VERSION if proactive else None),
        response_modalities=[_modality(config, model)],
        system_instruction=config.instructions or None,
        speech_config=_speech(config),
        tools=live_tools(config, tools, backend) or None,
        temperature=sampling.temperature if sampling.HasField("temperature") else None,
        top_p=sampling.top_p if sampling.HasField("top_p") else None,
        top_k=sampling.top_k if sampling.HasField("top_k") else None,
        max_output_tokens=sampling.max_output_tokens if sampling.HasField("max_output_tokens") else None,
        seed=sampling.seed if sampling.HasField("seed") else None,
        media_resolution=_RESOLUTION.get(config.media_resolution),
        thinking_config=_thinking(config),
        enable_affective_dialog=config.affective_dialog or None,
        # Where the model always may be silent, saying so is not needed.
        proactivity=types.ProactivityConfig(proactive_audio=True) if proactive else None,
        input_audio_transcription=_transcription(log or config.input_transcription),
        output_audio_transcription=_transcription(log or config.output_transcription),
        realtime_input_config=_realtime_input(config),
        context_window_compression=_compression(config.context_compression),
        session_resumption=(
            None
            if config.resumption.disabled
            # Vertex then says with each handle what it covers.
            else types.SessionResumptionConfig(handle=handle or None, transparent=backend == "vertex" or None)
        ),
        history_config=types.HistoryConfig(initial_history_in_client_content=True) if seeded else None,
        translation_config=_translation(config),
    )


def _transcription(wanted: bool) -> types.AudioTranscriptionConfig | None:
    return types.AudioTranscriptionConfig() if wanted else None


def _modality(config: live_pb2.SessionConfig, model: ModelCapabilities) -> types.Modality:
    text = config.response_modality == live_pb2.MODALITY_TEXT or not model.audio_output
    return types.Modality.TEXT if text else types.Modality.AUDIO


def _http_options(headers: dict[str, str], api_version: str | None) -> types.HttpOptions | None:
    return types.HttpOptions(headers=headers or None, api_version=api_version) if headers or api_version else None


def _thinking(config: live_pb2.SessionConfig) -> types.ThinkingConfig | None:
    level = _THINKING.get(config.thinking_level)
    budget = config.thinking_budget_tokens if config.HasField("thinking_budget_tokens") else None
    if level is None and budget is None and not config.include_thoughts:
        return None
    return types.ThinkingConfig(
        thinking_level=level, thinking_budget=budget, include_thoughts=config.include_thoughts or None
    )


def _translation(config: live_pb2.SessionConfig) -> types.TranslationConfig | None:
    if not config.HasField("translation"):
        return None
    wished = config.translation
    return types.TranslationConfig(
        target_language_code=wished.target_language, echo_target_language=wished.echo_target_language or None
    )


def _speech(config: live_pb2.SessionConfig) -> types.SpeechConfig | None:
    if not config.voice and not config.language:
        return None
    voice = (
        types.VoiceConfig(prebuilt_voice_config=types.PrebuiltVoiceConfig(voice_name=config.voice))
        if config.voice
        else None
    )
    return types.SpeechConfig(voice_config=voice, language_code=config.language or None)


def live_tools(
    config: live_pb2.SessionConfig, tools: Sequence[tools_pb2.Tool], backend: Backend = "developer"
) -> list[types.Tool | object]:
    """All that the model may call: tools of the catalog, the caller's own, Google's search."""
    model = capabilities_of(config.model, backend) or ModelCapabilities()
    functions = [*(tool.declaration for tool in tools), *config.caller_tools]
    found: list[types.Tool | object] = []
    if config.google_search:
        found.append(types.Tool(google_search=types.GoogleSearch()))
    if functions:
        declarations = [_declaration(function, model) for function in functions]
        found.append(types.Tool(function_declarations=declarations))
    return found


def _declaration(function: live_pb2.FunctionDeclaration, model: ModelCapabilities) -> types.FunctionDeclaration:
    return types.FunctionDeclaration(
        name=function.name,
        description=function.description or None,
        parameters_json_schema=live_schema.as_taken(json_format.MessageToDict(function.parameters)) or None,
        behavior=_behavior(function.behavior, model),
    )


def _behavior(wished: live_pb2.ToolBehavior, model: ModelCapabilities) -> types.Behavior | None:
    """What the declaration says. What the model does not take is left out, so that its own default holds."""
    if model.behavior_required:
        return types.Behavior.NON_BLOCKING
    if wished == live_pb2.TOOL_BEHAVIOR_BLOCKING and model.blocking_tools:
        return types.Behavior.BLOCKING
    if wished == live_pb2.TOOL_BEHAVIOR_NON_BLOCKING and model.non_blocking_tools:
        return types.Behavior.NON_BLOCKING
    return None


def blocks(function: live_pb2.FunctionDeclaration, model: ModelCapabilities) -> bool:
    """Whether the model waits for the function's result."""
    match _behavior(function.behavior, model):
        case types.Behavior.NON_BLOCKING:
            return False
        case types.Behavior.BLOCKING:
            return True
        case _:
            return not model.default_non_blocking


def _realtime_input(config: live_pb2.SessionConfig) -> types.RealtimeInputConfig | None:
    detection = None
    if config.HasField("voice_activity_detection"):
        wished = config.voice_activity_detection
        detection = types.AutomaticActivityDetection(
            disabled=wished.disabled or None,
            start_of_speech_sensitivity=_START.get(wished.start_sensitivity),
            end_of_speech_sensitivity=_END.get(wished.end_sensitivity),
            prefix_padding_ms=wished.prefix_padding.ToMilliseconds() if wished.HasField("prefix_padding") else None,
            silence_duration_ms=wished.silence.ToMilliseconds() if wished.HasField("silence") else None,
        )
    handling = _HANDLING.get(config.activity_handling)
    coverage = _COVERAGE.get(config.turn_coverage)
    if detection is None and handling is None and coverage is None:
        return None
    return types.RealtimeInputConfig(
        automatic_activity_detection=detection, activity_handling=handling, turn_coverage=coverage
    )


def _compression(wished: live_pb2.ContextCompression) -> types.ContextWindowCompressionConfig | None:
    if wished.disabled:
        return None
    return types.ContextWindowCompressionConfig(
        trigger_tokens=wished.trigger_tokens or None,
        sliding_window=types.SlidingWindow(target_tokens=wished.target_tokens or None),
    )


def content(turn: live_pb2.Content) -> types.Content:
    """Content with a role, as the SDK spells it."""
    parts = [
        types.Part(text=part.text)
        if part.WhichOneof("data") == "text"
        else types.Part(inline_data=types.Blob(data=part.image.data, mime_type=part.image.mime_type))
        for part in turn.parts
    ]
    return types.Content(role="model" if turn.role == live_pb2.ROLE_MODEL else "user", parts=parts)
