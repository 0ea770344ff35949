"""What a session tells its caller: small frozen values, one class for each kind.

Every event has `seq`, its position in the downlink series; 0 for the few that stand outside of it. Words of the API's
enums are given as their names without prefix (`BARGE_IN`); a word newer than this client is given as its number.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from parley.errors import ParleyError


@dataclass(frozen=True, slots=True)
class Event:
    """Anything that comes out of a session."""

    seq: int


@dataclass(frozen=True, slots=True)
class Opened(Event):
    """The session is open or attached; first event of a stream."""

    session_id: str
    resume_token: str = field(repr=False)
    """Secret."""
    next_uplink_seq: int = 1
    existing: bool = False
    """An earlier open with the same request id, or a resume, found the session."""
    resume_window: timedelta = timedelta()
    """How long the session waits for its caller after a stream is gone."""


@dataclass(frozen=True, slots=True)
class Audio(Event):
    """Speech of the model: PCM, 16 bit signed little endian, mono."""

    pcm: bytes = field(repr=False)
    rate: int
    """Samples a second."""

    @property
    def seconds(self) -> float:
        """Playing time in seconds."""
        return len(self.pcm) / 2 / self.rate


@dataclass(frozen=True, slots=True)
class Text(Event):
    """A piece of the model's text; the pieces of a turn follow each other."""

    text: str
    thought: bool = False
    """A thought, not part of the answer."""


@dataclass(frozen=True, slots=True)
class InputTranscript(Event):
    """A piece of what the caller was heard to say."""

    text: str
    finished: bool = False
    """The last piece of this utterance."""
    language: str = ""
    """BCP-47, where the model says it."""


@dataclass(frozen=True, slots=True)
class OutputTranscript(Event):
    """A piece of what the model says."""

    text: str
    finished: bool = False
    """The last piece of this utterance."""
    language: str = ""
    """BCP-47, where the model says it."""


@dataclass(frozen=True, slots=True)
class Interrupted(Event):
    """The answer was cut off: stop playing, and forget all audio that came before this event.

    Audio `void_from` to `void_to` (both included) is void, whether it came or never will.
    """

    reason: str
    """`BARGE_IN` or `RESTARTED`."""
    void_from: int
    void_to: int
    """Below `void_from` when nothing is void."""

    def takes_back(self, seq: int) -> bool:
        """Whether audio of message `seq` that waits to be played is not to be heard any more.

        The void range alone would not do. It names what the service takes back; audio that was acked on arrival, but
        still waits to be played, it counts as delivered.
        """
        return seq < self.seq or self.void_from <= seq <= self.void_to


@dataclass(frozen=True, slots=True)
class GenerationComplete(Event):
    """The model has produced the whole answer; it may still be playing."""


@dataclass(frozen=True, slots=True)
class TurnComplete(Event):
    """The turn is over; the model listens."""

    reason: str = ""
    """As Gemini spells it, where the end is not the ordinary one."""
    waiting_for_input: bool = False
    """The model is silent on purpose."""


@dataclass(frozen=True, slots=True)
class ToolCall(Event):
    """A function for the caller to run; answer with `Session.send_tool_result`, once for each id."""

    call_id: str
    name: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ToolCallCancelled(Event):
    """Functions whose result nobody wants any more."""

    call_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ToolActivity(Event):
    """What the tools service does for this session."""

    call_id: str
    name: str
    phase: str
    """`STARTED`, `PROGRESS` or `FINISHED`."""
    arguments: Mapping[str, Any]
    """With `STARTED`."""
    outcome: str = ""
    """With `FINISHED`: `SUCCEEDED`, `FAILED`, `TIMED_OUT`, `CANCELLED` or `UNKNOWN`."""
    message: str = ""
    """Progress or error in words."""
    duration: timedelta | None = None
    """With `FINISHED`."""
    fraction: float | None = None
    """With `PROGRESS`: how far it is, from 0 to 1; None: not known."""
    output: Mapping[str, Any] | None = None
    """With `PROGRESS`: a partial result, where there is one."""


@dataclass(frozen=True, slots=True)
class Usage(Event):
    """Tokens used by the turn so far."""

    prompt_tokens: int
    response_tokens: int
    total_tokens: int
    tool_use_tokens: int
    thought_tokens: int
    cached_tokens: int
    prompt_tokens_by_modality: Mapping[str, int]
    response_tokens_by_modality: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class VoiceActivity(Event):
    """Speech of the caller was found to begin (`START`) or end (`END`)."""

    kind: str
    audio_offset: timedelta
    """Position in the audio that the model's link has heard."""


@dataclass(frozen=True, slots=True)
class LinkRotating(Event):
    """The session moves to a new link to the model; input is kept meanwhile."""

    cause: str
    """E.g. `GO_AWAY`, `LINK_LOST`, `WORKER_LOST`, `DRAIN`, `MOVED`, `PARKED`, `OWNERSHIP_LAPSED`."""


@dataclass(frozen=True, slots=True)
class LinkRecovered(Event):
    """The session is on a new link to the model. Without a `LinkRotating` before it: a question was asked again on the
    same link, whose model had let it pass, waiting for a function of the link before."""

    method: str
    """`RESUMED` or `RESEEDED`."""
    state_restored: bool
    gap: timedelta
    """How long the model did not hear the caller."""
    replayed: tuple[tuple[int, int], ...] = ()
    """Uplink ranges, both ends included, that were given to the model again, as they were or in words."""
    dropped: tuple[tuple[int, int], ...] = ()
    """Uplink ranges, both ends included, that could not be given to it."""


@dataclass(frozen=True, slots=True)
class Gap(Event):
    """Messages of a direction were lost: `from_seq` to `to_seq` (both included), those of the class."""

    direction: str
    """`UPLINK` or `DOWNLINK`."""
    from_seq: int
    to_seq: int
    media_class: str
    """`VIDEO`, `AUDIO` or `VITAL`."""
    reason: str


@dataclass(frozen=True, slots=True)
class GatewayDraining(Event):
    """This gateway is going away in `time_left`; the session moves to another one as soon as one takes it."""

    time_left: timedelta


@dataclass(frozen=True, slots=True)
class Undelivered:
    """Messages of the caller that the service does not have and will not get; part of `StreamResumed`."""

    media_class: str
    """`VIDEO` or `AUDIO`; `UNKNOWN` when more was forgotten than anybody remembers."""
    reason: str
    """`FORGOTTEN`: more was unacked than is kept. `TOO_OLD`: it was sent more than 15 s ago."""
    messages: int
    """A frame of audio that never left counts as one."""
    audio: timedelta
    """Playing time; of `AUDIO`."""
    from_seq: int
    to_seq: int
    """The numbers they had among others, both included; later messages have them now. 0: they had none yet."""


@dataclass(frozen=True, slots=True)
class StreamLost(Event):
    """The stream to the gateway is gone; the session is not. The client tries to resume it by itself.

    What is sent meanwhile waits. Not the link between the service and the model: that is `LinkRotating`.
    """

    error: ParleyError
    """Why."""
    time_left: timedelta
    """How long it is tried; then the iteration and the sends raise the last error."""


@dataclass(frozen=True, slots=True)
class StreamResumed(Event):
    """Another stream has the session, after `StreamLost` or off a gateway that drains. The conversation goes on."""

    gap: timedelta
    """How long there was no stream; next to nothing where one took over from the other."""
    replayed: tuple[tuple[int, int], ...] = ()
    """Uplink range, both ends included, that is sent (again), because the service did not have it."""
    dropped: tuple[Undelivered, ...] = ()
    """What the service did not have either, and is not sent."""


@dataclass(frozen=True, slots=True)
class Ended(Event):
    """The session is over; last event."""

    reason: str
    """`CALLER`, `OPERATOR`, `ABANDONED`, `BACKEND` or `LIMIT`."""
    message: str = ""


@dataclass(frozen=True, slots=True)
class Raw(Event):
    """Something the model said that the API has no name for: its JSON as the link delivered it."""

    json: str


@dataclass(frozen=True, slots=True)
class Unknown(Event):
    """Something that this client is too old to name: the serialized `ConverseResponse`."""

    data: bytes = field(repr=False)
