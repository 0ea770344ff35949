"""What each model allows and does: one row a model, read by name only here."""

from dataclasses import dataclass
from typing import Literal

from emulator.errors import Refusal


@dataclass(frozen=True, kw_only=True)
class Rules:
    """One model's row."""

    thinking: Literal["refused", "level required", "level", "budget"]
    """What ``thinkingConfig`` may hold: nothing; a level above minimal, always; a level; a budget."""
    blocking: Literal["default", "opt-in", "only", "refused"]
    """Whether a function may be BLOCKING. ``only``: NON_BLOCKING is not known and read as BLOCKING (our guess)."""
    scheduling: Literal["allowed", "ignored", "refused"]
    """``scheduling`` in a function response."""
    proactivity: Literal["opt-in", "always", "unknown"]
    """``always`` refuses ``proactiveAudio: false``."""
    affective_dialog: Literal["allowed", "refused", "refused at first send"]
    code_execution: bool
    media_chunks: bool
    """Whether the legacy ``mediaChunks`` is read."""
    role_required: bool
    """Whether ``client_content`` without a role closes the connection."""
    typed_turn_interrupts: bool
    """Whether ``client_content`` cuts off an answer; otherwise the answer is finished first."""
    announces_barge_in: bool
    """Whether ``voiceActivity`` comes just before ``interrupted`` when the caller speaks."""
    transcribes_unasked: bool
    """Whether ``inputTranscription`` comes also when it is not configured."""
    transcribes_words: bool
    """Whether it comes word by word instead of once."""
    completes_at_blocking_call: bool
    """Whether a turn that waits for a BLOCKING call says ``turnComplete`` at the call, and again after the answer."""
    interaction_status: Literal["none", "idle", "full"]
    """``idle``: IDLE goes with turnComplete when nothing is pending; ``full``: IN_PROGRESS too, before a call."""


_LIVE_3_8 = Rules(
    thinking="refused",
    blocking="opt-in",
    scheduling="allowed",
    proactivity="always",
    affective_dialog="refused at first send",
    code_execution=False,
    media_chunks=False,
    role_required=True,
    typed_turn_interrupts=True,
    announces_barge_in=True,
    transcribes_unasked=True,
    transcribes_words=False,
    completes_at_blocking_call=False,
    interaction_status="idle",
)

_THINKING_3_8 = Rules(
    thinking="level required",
    blocking="refused",
    scheduling="refused",
    proactivity="always",
    affective_dialog="refused at first send",
    code_execution=False,
    media_chunks=False,
    role_required=True,
    typed_turn_interrupts=True,
    announces_barge_in=True,
    transcribes_unasked=True,
    transcribes_words=False,
    completes_at_blocking_call=False,
    interaction_status="full",
)

_FLASH_3_1 = Rules(
    thinking="level",
    blocking="only",
    scheduling="ignored",
    proactivity="unknown",
    affective_dialog="refused",
    code_execution=False,
    media_chunks=False,
    role_required=True,
    typed_turn_interrupts=True,
    announces_barge_in=True,
    transcribes_unasked=True,
    transcribes_words=False,
    completes_at_blocking_call=False,
    interaction_status="none",
)

_NATIVE_2_5 = Rules(
    thinking="budget",
    blocking="default",
    scheduling="allowed",
    proactivity="opt-in",
    affective_dialog="allowed",
    code_execution=False,
    media_chunks=True,
    role_required=False,
    typed_turn_interrupts=False,
    announces_barge_in=False,
    transcribes_unasked=False,
    transcribes_words=True,
    completes_at_blocking_call=True,
    interaction_status="none",
)

MODELS: dict[str, Rules] = {
    "gemini-3.8-live": _LIVE_3_8,
    "gemini-3.8-live-extended-thinking": _THINKING_3_8,
    "gemini-3.1-flash-live-preview": _FLASH_3_1,
    "gemini-2.5-flash-native-audio-preview-12-2025": _NATIVE_2_5,
    # Its name on Vertex.
    "gemini-live-2.5-flash-native-audio": _NATIVE_2_5,
}


def find(model: str, api_version: str) -> tuple[str, Rules]:
    """The bare name and the rules of ``models/X``, ``publishers/google/models/X`` or a full resource name."""
    name = model.rsplit("/", 1)[-1]
    if "/" not in model or name not in MODELS:
        raise not_found(model, api_version)
    return name, MODELS[name]


def not_found(model: str, api_version: str) -> Refusal:
    """A model that this version of the API does not serve."""
    text = f"{model} is not found for API version {api_version}, or is not supported for bidiGenerateContent"
    return Refusal(1008, text)
