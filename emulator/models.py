"""What each model allows and does, on each backend: one table, read by name only here.

Sources are the documentation and what client authors saw (November 2026); what is only our guess says so. A trait
that is to be added is a field of :class:`Rules` and a value in the rows that begin a family; the others are written as
what they change.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from emulator import prebuilt, texts
from emulator.errors import Refusal

Backend = Literal["developer", "vertex"]

Coverage = Literal["only activity", "all input", "audio activity and all video"]
"""What of realtime input belongs to a turn (API reference, TurnCoverage)."""


@dataclass(frozen=True, kw_only=True)
class Rules:
    """One model's row."""

    kind: Literal["conversation", "transcription", "translation"] = "conversation"

    # What a setup may ask for

    modalities: tuple[str, ...] = ("AUDIO",)
    """Response modalities, one of which a setup chooses; the first is the default."""
    voices: frozenset[str] = prebuilt.VOICES
    languages: frozenset[str] | None = None
    """Codes that ``speechConfig`` may have; None: any with a region (our guess)."""
    thinking: Literal["refused", "level required", "level", "budget"]
    """What ``thinkingConfig`` may hold: nothing; a level above minimal, always; a level; a budget."""
    proactivity: Literal["opt-in", "always", "unknown"]
    """``always`` refuses ``proactiveAudio: false``. That there is such a field depends on the API version."""
    affective_dialog: Literal["allowed", "refused", "refused at first send"]
    functions: bool = True
    """Whether functions may be declared."""
    blocking: Literal["default", "opt-in", "only", "refused"]
    """Whether a function may be BLOCKING. ``only``: NON_BLOCKING is not known and read as BLOCKING (our guess)."""
    tools: frozenset[str] = frozenset({"googleSearch", "googleSearchRetrieval"})
    """Built-in tools."""
    idle_tools: frozenset[str] = frozenset({"urlContext"})
    """Built-in tools that are accepted and do nothing, as was seen of this one; all others are refused."""
    null_handle: Literal["refused", "unset"] = "unset"
    """``sessionResumption.handle: null``, which the SDKs leave out."""
    context_tokens: int = 131_072
    output_tokens: int = 65_536
    context_update: bool = True
    """Whether ``contextUpdate`` is taken. Documented for 3.8; a guess, and a switch, elsewhere."""

    # Hearing

    sensitivity: Literal["HIGH", "LOW"] = "HIGH"
    """Of automatic detection, at both ends of speech, where the setup does not say (by backend)."""
    turn_coverage: Coverage
    """Where the setup does not say."""
    announces_barge_in: bool
    """Whether ``voiceActivity`` comes just before ``interrupted`` when the caller speaks."""
    transcribes_unasked: bool
    """Whether ``inputTranscription`` comes also when it is not configured."""
    transcribes_words: bool
    """Whether it comes word by word instead of once."""
    announces_activity: bool = False
    """Whether ``voiceActivity`` comes at every beginning and end of speech."""
    interim_transcripts: bool = False
    """Whether ``interimInputTranscription`` comes without being asked for."""

    # Turns

    media_chunks: bool
    """Whether the legacy ``mediaChunks`` is read."""
    role_required: bool
    """Whether ``client_content`` without a role closes the connection."""
    typed_turn_interrupts: bool
    """Whether ``client_content`` cuts off an answer; otherwise the answer is finished first."""
    refuses_empty_turn: bool
    """Whether ``turnComplete`` or ``activityEnd`` with nothing before it closes the connection."""
    seeds_end_with_user: bool
    """Whether a seeded history must end with a turn of the user's."""
    audio_in_seeds: bool
    """Whether a seeded history may hold audio."""
    answers_seed: bool
    """Whether a seeded history that ends with the user's turn is answered at once; otherwise it waits for input."""
    forgets_seed_at_first_audio: bool
    """Whether a first turn that is spoken leaves out what the seeded history asked."""
    joins_fields: bool = True
    """Whether one ``serverContent`` has several fields: speech and its transcription. Documented since 3.1."""
    interaction_status: Literal["none", "idle", "full"]
    """``idle``: IDLE goes with turnComplete when nothing is pending; ``full``: IN_PROGRESS too, before a call."""

    # Tools

    scheduling: Literal["allowed", "ignored", "refused"]
    """``scheduling`` in a function response."""
    will_continue: Literal["followed", "abandoned"] = "followed"
    """What becomes of a call whose response is to be continued; extended thinking was seen to abandon it."""
    completes_at_blocking_call: bool
    """Whether a turn that waits for a BLOCKING call says ``turnComplete`` at the call, and again after the answer."""
    response_media: frozenset[str] = frozenset({"image/png", "image/jpeg", "image/webp", "text/plain"})
    """Types of ``parts`` in a function response; others close the connection."""
    lost_calls: Literal["stuck", "forgotten"] = "stuck"
    """A call that was pending when its link was lost, after a resume."""

    # Lifetime

    not_resumable_at_typed_turn: bool = False
    """Whether ``resumable: false`` without a handle is sent when a typed turn is taken up."""
    limit_close: Literal["1008", "1011"] = "1008"
    """How a connection ends at its limit: the goAway text or the deadline text (the division is our guess)."""


_LIVE_3_8 = Rules(
    thinking="refused",
    proactivity="always",
    affective_dialog="refused at first send",
    blocking="opt-in",
    turn_coverage="audio activity and all video",
    announces_barge_in=True,
    transcribes_unasked=True,
    transcribes_words=False,
    media_chunks=False,
    role_required=True,
    typed_turn_interrupts=True,
    refuses_empty_turn=False,
    seeds_end_with_user=False,
    audio_in_seeds=True,
    answers_seed=False,
    forgets_seed_at_first_audio=False,
    interaction_status="idle",
    scheduling="allowed",
    completes_at_blocking_call=False,
)
_THINKING_3_8 = replace(
    _LIVE_3_8,
    thinking="level required",
    blocking="refused",
    interaction_status="full",
    scheduling="refused",
    will_continue="abandoned",
)
_FLASH_3_1 = replace(
    _LIVE_3_8,
    thinking="level",
    proactivity="unknown",
    affective_dialog="refused",
    blocking="only",
    null_handle="refused",
    context_update=False,
    interaction_status="none",
    scheduling="ignored",
)
_NATIVE_2_5 = Rules(
    languages=prebuilt.NATIVE_LANGUAGES,
    thinking="budget",
    proactivity="opt-in",
    affective_dialog="allowed",
    blocking="default",
    context_tokens=128_000,
    context_update=False,
    turn_coverage="only activity",
    announces_barge_in=False,
    transcribes_unasked=False,
    transcribes_words=True,
    media_chunks=True,
    role_required=False,
    typed_turn_interrupts=False,
    refuses_empty_turn=True,
    seeds_end_with_user=True,
    audio_in_seeds=False,
    answers_seed=True,
    forgets_seed_at_first_audio=True,
    joins_fields=False,
    interaction_status="none",
    scheduling="allowed",
    completes_at_blocking_call=True,
    response_media=frozenset(),
    lost_calls="forgotten",
    not_resumable_at_typed_turn=True,
    limit_close="1011",
)
_HALF_CASCADE_2_5 = replace(
    _NATIVE_2_5,
    modalities=("AUDIO", "TEXT"),
    voices=prebuilt.HALF_CASCADE_VOICES,
    languages=prebuilt.HALF_CASCADE_LANGUAGES,
    proactivity="unknown",
    affective_dialog="refused",
    context_tokens=32_768,
)
# Both hear audio and nothing else (guides "Live translation", "Live transcription"). The emulator knows one language,
# so the first is refused as not emulated.
_TRANSLATE_3_5 = replace(
    _FLASH_3_1, kind="translation", thinking="refused", functions=False, tools=frozenset(), idle_tools=frozenset()
)
_TRANSCRIBE_3_5 = replace(
    _TRANSLATE_3_5, kind="transcription", modalities=("TEXT",), announces_activity=True, interim_transcripts=True
)


def _on_vertex(rules: Rules, turn_coverage: Coverage = "only activity") -> Rules:
    """The same model there. Its newest turn coverage is unknown there, so it cannot be the default (our guess)."""
    return replace(
        rules, sensitivity="LOW", turn_coverage=turn_coverage, context_tokens=min(rules.context_tokens, 128_000)
    )


MODELS: Mapping[Backend, Mapping[str, Rules]] = {
    "developer": {
        "gemini-3.8-live": _LIVE_3_8,
        "gemini-3.8-live-extended-thinking": _THINKING_3_8,
        "gemini-3.1-flash-live-preview": _FLASH_3_1,
        "gemini-2.5-flash-native-audio-preview-12-2025": _NATIVE_2_5,
        "gemini-3.5-live-translate-preview": _TRANSLATE_3_5,
        "gemini-3.5-transcribe-live": _TRANSCRIBE_3_5,
    },
    "vertex": {
        # Its guide calls affective dialog enabled by default there; extended thinking and 3.1 are not served.
        "gemini-3.8-live": _on_vertex(replace(_LIVE_3_8, affective_dialog="allowed")),
        "gemini-live-2.5-flash-native-audio": _on_vertex(_NATIVE_2_5),
        "gemini-live-2.5-flash": _on_vertex(_HALF_CASCADE_2_5),
        "gemini-3.5-live-translate-preview": _on_vertex(_TRANSLATE_3_5),
        "gemini-3.5-transcribe-live": _on_vertex(_TRANSCRIBE_3_5),
    },
}

ALIASES: Mapping[str, str] = {"gemini-2.5-flash-native-audio-latest": "gemini-2.5-flash-native-audio-preview-12-2025"}
"""Names that Google moves from one model to the next."""

_NAMES: Mapping[Backend, re.Pattern[str]] = {
    "developer": re.compile(r"models/([^/]+)"),
    # A bare name is what the Python SDK sends where it has a base URL and no project.
    "vertex": re.compile(r"(?:(?:(?:projects/[^/]+/locations/[^/]+/)?publishers/google/)?models/)?([^/]+)"),
}


def find(model: str, api_version: str, backend: Backend = "developer") -> tuple[str, Rules]:
    """The bare name and the rules of ``models/X``, ``publishers/google/models/X`` or a full resource name."""
    named = _NAMES[backend].fullmatch(model)
    name = named.group(1) if named else ""
    rules = MODELS[backend].get(ALIASES.get(name, name))
    if rules is None:
        raise not_found(model, api_version, backend)
    return name, rules


def not_found(model: str, api_version: str, backend: Backend = "developer") -> Refusal:
    """A model that this version of the API does not serve."""
    if backend == "vertex":
        return texts.MODEL_NOT_FOUND_VERTEX.refusal(model=model)
    # As much of a name as leaves room for what is wrong with it.
    return texts.MODEL_NOT_FOUND.refusal(model=model[:60], version=api_version)
