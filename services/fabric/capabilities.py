"""What each model and backend accepts and how it behaves. The only place where a model's name means anything.

Sources: Gemini Live documentation and field reports as of November 2026. What a model does not accept is refused by
the gateway (:mod:`services.gateway.model_check`) before anything is connected; how it behaves guides the worker.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal

from parley.v1 import live_pb2

Backend = Literal["developer", "vertex"]

_LEVELS: Final = frozenset(
    {
        live_pb2.THINKING_LEVEL_MINIMAL,
        live_pb2.THINKING_LEVEL_LOW,
        live_pb2.THINKING_LEVEL_MEDIUM,
        live_pb2.THINKING_LEVEL_HIGH,
    }
)
_MOST_THINKING: Final = 24_576


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_HALF_CASCADE_VOICES: Final = _words("Aoede Charon Fenrir Kore Leda Orus Puck Zephyr")
_VOICES: Final = _HALF_CASCADE_VOICES | _words(
    """Achernar Achird Algenib Algieba Alnilam Autonoe Callirrhoe Despina Enceladus Erinome Gacrux Iapetus Laomedeia
    Pulcherrima Rasalgethi Sadachbia Sadaltager Schedar Sulafat Umbriel Vindemiatrix Zubenelgenubi"""
)
_HALF_CASCADE_LANGUAGES: Final = _words(
    """ar-XA bn-IN cmn-CN de-DE en-AU en-GB en-IN en-US es-ES es-US fr-CA fr-FR gu-IN hi-IN id-ID it-IT ja-JP kn-IN
    ko-KR ml-IN mr-IN nl-NL pl-PL pt-BR ru-RU ta-IN te-IN th-TH tr-TR vi-VN"""
)


SCHEMA_KEYWORDS: Final = _words(
    """$id $defs $ref $anchor type format title description enum items prefixItems minItems maxItems minimum maximum
    anyOf oneOf properties additionalProperties required propertyOrdering"""
)
"""Keywords of JSON Schema that models heed in a declaration. Others are accepted, and the model may go against them.

Source: google-genai 3.4.0, `types.GenerationConfig.response_json_schema`, and the same words in the REST reference of
both backends. `FunctionDeclaration.parameters_json_schema` names no keywords of its own; its example has none but
these. `nullable`, `pattern` and the limits of lengths are of `types.Schema`, the older form, which is not sent."""
SCHEMA_ANNOTATIONS: Final = _words(
    "default examples deprecated readOnly writeOnly $schema $comment contentMediaType contentEncoding"
)
"""Keywords that forbid nothing: it does not matter whether a model heeds them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCapabilities:
    """One model's traits."""

    # What a session may ask for

    task: Literal["conversation", "translation", "transcription"] = "conversation"
    """Models that only translate or transcribe hear audio and take nothing else."""
    audio_output: bool = True
    text_output: bool = False
    """It can answer in text instead of speech."""
    voices: frozenset[str] = _VOICES
    """Prebuilt voices."""
    languages: frozenset[str] | None = None
    """Languages that can be asked for; None: any that names its region."""
    thinking_levels: frozenset[int] = frozenset()
    """Values of `ThinkingLevel` that it takes; empty: none may be given."""
    thinking_level_required: bool = False
    thinking_budget: int | None = None
    """Most tokens of a thinking budget; None: none may be given."""
    proactive_audio: Literal["always", "opt-in", "never"] = "never"
    """Whether it may stay silent when it is not addressed. `opt-in` is served by API version v1alpha only."""
    affective_dialog: bool = False
    all_video_coverage: bool = True
    """It takes `TURN_COVERAGE_AUDIO_ACTIVITY_AND_ALL_VIDEO`."""
    functions: bool = True
    google_search: bool = True
    history_ends_with_user: bool = False
    """History must end with the user's words, and is answered; otherwise the model waits for new input."""
    answers_nothing: bool = True
    """It answers when it is asked to although nothing was said; otherwise that ends the link (1007)."""
    max_output_tokens: int = 65_536
    context_tokens: int = 131_072

    # How it behaves

    blocking_tools: bool = True
    """It takes functions that block the conversation."""
    non_blocking_tools: bool = True
    """It takes functions that do not."""
    default_non_blocking: bool = False
    """Functions without a behaviour do not block the conversation; the turn then completes at the call."""
    behavior_required: bool = False
    """Every function must say that it does not block."""
    response_scheduling: bool = True
    """A function's result may say when to speak of it."""
    continued_responses: bool = True
    """A function may have several results."""
    stuck_on_lost_calls: bool = True
    """After a resume it goes on waiting for a call that was pending on the link before, until that is answered."""
    handles_cover_typed_turns: bool = False
    """The newest handle restores also what was asked as ordered content (`client_content`) since it was issued, as soon
    as the model answers that. Not on Vertex AI, where each handle says what it restores."""
    context_update: bool = False
    """Instructions and tools can be changed on an open link."""
    idle_by_interaction_status: bool = False
    """`interactionStatus: IDLE`, not `turnComplete`, says that the model is idle."""
    completes_turns: bool = True
    """It says `turnComplete`; otherwise a turn is over with its `generationComplete`."""
    transcribes_words: bool = False
    """What the caller says is transcribed piece by piece; otherwise once for each utterance."""
    pictures_per_second: float = 1.0


_LIVE_3_8 = ModelCapabilities(
    proactive_audio="always", default_non_blocking=True, context_update=True, handles_cover_typed_turns=True
)
_THINKING_3_8 = replace(
    _LIVE_3_8,
    thinking_levels=_LEVELS - {live_pb2.THINKING_LEVEL_MINIMAL},
    thinking_level_required=True,
    blocking_tools=False,
    behavior_required=True,
    response_scheduling=False,
    continued_responses=False,
    idle_by_interaction_status=True,
)
_FLASH_3_1 = ModelCapabilities(
    thinking_levels=_LEVELS,
    handles_cover_typed_turns=True,
    non_blocking_tools=False,
    response_scheduling=False,
    continued_responses=False,
)
_NATIVE_2_5 = ModelCapabilities(
    languages=_HALF_CASCADE_LANGUAGES - _words("ar-XA cmn-CN en-IN"),
    thinking_budget=_MOST_THINKING,
    proactive_audio="opt-in",
    affective_dialog=True,
    history_ends_with_user=True,
    answers_nothing=False,
    stuck_on_lost_calls=False,
    transcribes_words=True,
    context_tokens=128_000,
)
_HALF_CASCADE_2_5 = replace(
    _NATIVE_2_5,
    text_output=True,
    voices=_HALF_CASCADE_VOICES,
    languages=_HALF_CASCADE_LANGUAGES,
    proactive_audio="never",
    affective_dialog=False,
    context_tokens=32_768,
)
_TRANSLATE_3_5 = ModelCapabilities(
    task="translation",
    functions=False,
    google_search=False,
    non_blocking_tools=False,
    response_scheduling=False,
    continued_responses=False,
)
_TRANSCRIBE_3_5 = replace(
    _TRANSLATE_3_5, task="transcription", audio_output=False, text_output=True, completes_turns=False
)


def _on_vertex(model: ModelCapabilities) -> ModelCapabilities:
    """The same model there, where the newest turn coverage is not known, nor several results of one function."""
    return replace(
        model,
        all_video_coverage=False,
        continued_responses=False,
        handles_cover_typed_turns=False,
        context_tokens=min(model.context_tokens, 128_000),
    )


MODELS: Final[Mapping[Backend, Mapping[str, ModelCapabilities]]] = {
    "developer": {
        "gemini-3.8-live": _LIVE_3_8,
        "gemini-3.8-live-extended-thinking": _THINKING_3_8,
        "gemini-3.1-flash-live-preview": _FLASH_3_1,
        "gemini-2.5-flash-native-audio-preview-12-2025": _NATIVE_2_5,
        "gemini-3.5-live-translate-preview": _TRANSLATE_3_5,
        "gemini-3.5-transcribe-live": _TRANSCRIBE_3_5,
    },
    "vertex": {
        "gemini-3.8-live": _on_vertex(replace(_LIVE_3_8, affective_dialog=True)),
        "gemini-live-2.5-flash-native-audio": _on_vertex(_NATIVE_2_5),
        "gemini-live-2.5-flash": _on_vertex(_HALF_CASCADE_2_5),
        "gemini-3.5-live-translate-preview": _on_vertex(_TRANSLATE_3_5),
        "gemini-3.5-transcribe-live": _on_vertex(_TRANSCRIBE_3_5),
    },
}


def capabilities_of(model: str, backend: Backend = "developer") -> ModelCapabilities | None:
    """The traits of a model, named as in the API or with the prefix `models/`; None when it is not known."""
    return MODELS[backend].get(model.removeprefix("models/"))
