"""What a link can say: one vocabulary for every model and backend."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Audio:
    """Speech of the model."""

    pcm: bytes
    """PCM, 16 bit little endian, mono."""
    rate: int
    """Hertz."""


@dataclass(frozen=True, slots=True)
class Text:
    """Text of the model."""

    text: str
    thought: bool


@dataclass(frozen=True, slots=True)
class InputTranscript:
    """What the caller was heard to say."""

    text: str
    finished: bool
    language: str


@dataclass(frozen=True, slots=True)
class OutputTranscript:
    """What the model says."""

    text: str
    finished: bool
    language: str


@dataclass(frozen=True, slots=True)
class Interrupted:
    """The answer was cut off."""


@dataclass(frozen=True, slots=True)
class GenerationComplete:
    """The whole answer was produced."""


@dataclass(frozen=True, slots=True)
class TurnComplete:
    """The turn is over."""

    reason: str
    waiting_for_input: bool
    idle: bool
    """False when the model says that it goes on in the background."""


@dataclass(frozen=True, slots=True)
class FunctionCall:
    """The model wants a function run."""

    id: str
    name: str
    args: dict[str, Any]
    problem: str = ""
    """Why it cannot be run, whatever it is: its arguments, which are left out then, cannot be handed on."""


@dataclass(frozen=True, slots=True)
class CallsCancelled:
    """The model does not want these results any more."""

    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of the turn so far."""

    prompt: int
    response: int
    total: int
    tool_use: int
    thoughts: int
    cached: int
    prompt_by_modality: dict[str, int]
    response_by_modality: dict[str, int]


@dataclass(frozen=True, slots=True)
class VoiceActivity:
    """The model's voice activity detection found a begin or an end of speech."""

    started: bool
    offset_seconds: float


@dataclass(frozen=True, slots=True)
class GoAway:
    """The link will be closed."""

    seconds_left: float | None


@dataclass(frozen=True, slots=True)
class HandleUpdate:
    """News about resumption. Without a handle the last good one stays good."""

    handle: str
    resumable: bool
    consumed_index: int | None
    """Vertex only: index of the last client message that the handle covers."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """A message without a name here; passed on rather than lost."""

    json: str


Event = (
    Audio
    | Text
    | InputTranscript
    | OutputTranscript
    | Interrupted
    | GenerationComplete
    | TurnComplete
    | FunctionCall
    | CallsCancelled
    | Usage
    | VoiceActivity
    | GoAway
    | HandleUpdate
    | Unknown
)
