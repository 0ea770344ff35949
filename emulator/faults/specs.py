"""The faults. Each model is one: ``do`` is its name; the descriptions of its fields are the parameters' documents."""

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from emulator.actions import Happening
from emulator.faults.base import Code, Count, Fault, Lasting, LinkFault, MindFault, Preset, Span, UpgradeFault
from emulator.faults.frames import OVERSIZED, FrameKind, Odd


class RefuseUpgrade(UpgradeFault):
    """The upgrade request is answered with an HTTP error."""

    do: Literal["refuse_upgrade"] = "refuse_upgrade"
    status: int = Field(503, ge=400, le=599, description="HTTP status: 401, 403, 429, 503 or any other error.")
    body: str | None = Field(
        None, max_length=10_000, description="Body of the response. Unset: an error in Google's JSON form."
    )
    retry_after: Span | None = Field(None, description="Header `Retry-After`, in whole seconds. Unset: none.")


class SlowUpgrade(UpgradeFault):
    """The upgrade request is answered late. The Python SDK gives up after ten seconds."""

    do: Literal["slow_upgrade"] = "slow_upgrade"
    by: Span = Field(timedelta(seconds=11), description="How much later, in real time.")


class FaultySetup(Fault):
    """A setup is answered late, wrongly or not at all."""

    do: Literal["setup"] = "setup"
    on: Literal["setup"] = Field("setup", description="The moment: always the setup.")
    answer: Literal["late", "omitted", "error", "closed"] = Field(
        "late",
        description="`late`: setupComplete comes later, all else behind it; `omitted`: all but setupComplete comes; "
        '`error`: `{"error": {…}}` in its place, and nothing else any more; `closed`: a close in its place.',
    )
    by: Span | None = Field(
        None, description="How late the answer is, in real time. Unset: five seconds for `late`, else not at all."
    )
    preset: Preset = Field("unavailable", description="The close for `closed`, as in the fault `close`.")


class GoAway(LinkFault):
    """A goAway out of turn, and what follows it."""

    do: Literal["go_away"] = "go_away"
    time_left: Span | None = Field(None, description="What `timeLeft` says. Unset: goAway without it.")
    then: Literal["normal", "silence", "close", "reset"] = Field(
        "normal",
        description="What follows: business as usual; no frame any more on an open socket; a close; a TCP reset.",
    )
    wait: Span | None = Field(
        None, description="How long after the goAway that follows. Unset: at once for `silence`, else `time_left`."
    )
    preset: Preset = Field("go_away", description="The close for `then: close`, as in the fault `close`.")


class Close(LinkFault):
    """A close frame."""

    do: Literal["close"] = "close"
    preset: Preset = Field("internal", description="One of the closes below by name.")
    code: Code | None = Field(None, description="Another code than the preset's.")
    reason: str | None = Field(None, max_length=1000, description="Another reason; cut at 123 bytes.")


class Reset(LinkFault):
    """The TCP connection ends without a close frame: clients say 1006."""

    do: Literal["reset"] = "reset"
    how: Literal["rst", "fin"] = Field("rst", description="With a TCP reset, or with an orderly end of the stream.")


class HalfOpen(Lasting):
    """The socket stays open, but nothing is read, written or answered, pings included. What was to be sent is sent
    when it is over."""

    do: Literal["half_open"] = "half_open"


class StopReading(Lasting):
    """Nothing is read, so pings are not answered either; frames are still sent."""

    do: Literal["stop_reading"] = "stop_reading"


class Silence(Lasting):
    """No frame is sent any more, but pings are answered and the socket stays open. What was to be sent is lost."""

    do: Literal["silence"] = "silence"


class Pongs(Lasting):
    """Pings are answered late or never."""

    do: Literal["pongs"] = "pongs"
    delay: Span | None = Field(None, description="How late. Unset: never.")


class Drip(Lasting):
    """Frames trickle: a client gets a few bytes at a time."""

    do: Literal["drip"] = "drip"
    rate: int = Field(1000, ge=1, le=1_000_000_000, description="Bytes in a second.")


class Delay(Lasting):
    """Every frame comes later, in order."""

    do: Literal["delay"] = "delay"
    by: Span = Field(timedelta(seconds=1), description="How much later.")


class Frame(LinkFault):
    """A frame that no client expects."""

    do: Literal["frame"] = "frame"
    what: Odd = Field("unknown_top", description="One of the frames below by name.")
    raw: str = Field("", max_length=1_000_000, description="The frame itself, for `what: raw`.")
    size: int = Field(OVERSIZED, ge=100, le=64 * 1024 * 1024, description="Bytes, for `what: oversized`.")


class Burst(LinkFault):
    """Many frames at once, to a client that may not be reading."""

    do: Literal["burst"] = "burst"
    frames: int = Field(40, ge=1, le=10_000, description="How many.")
    what: Odd = Field("usage_only", description="Which, as in the fault `frame`.")


class Duplicate(LinkFault):
    """The next frames are sent twice."""

    do: Literal["duplicate"] = "duplicate"
    frames: Count = Field(1, description="How many.")
    kind: FrameKind = Field("any", description="Only frames of this kind.")


class Drop(LinkFault):
    """The next frames are lost."""

    do: Literal["drop"] = "drop"
    frames: Count = Field(1, description="How many.")
    kind: FrameKind = Field("any", description="Only frames of this kind.")


class Reorder(LinkFault):
    """The next frames come in reverse order."""

    do: Literal["reorder"] = "reorder"
    frames: int = Field(2, ge=2, le=1000, description="How many.")
    within: Span = Field(timedelta(seconds=1), description="They come after that time even if they are fewer.")


class DuplicateCall(MindFault):
    """The last function call is sent again."""

    do: Literal["duplicate_call"] = "duplicate_call"
    on: Happening = Field("tool_call", description="The moment that brings it about.")
    id: Literal["same", "new"] = Field("same", description="With the same ids, or with new ones that nobody waits for.")


class CancelCalls(MindFault):
    """Pending calls are cancelled by the model although nobody interrupted it."""

    do: Literal["cancel_calls"] = "cancel_calls"
    on: Happening = Field("tool_call", description="The moment that brings it about.")


class IgnoreResponses(MindFault):
    """Function responses are not heard: the model stays without the result."""

    do: Literal["ignore_responses"] = "ignore_responses"
    responses: Count = Field(1, description="How many messages with responses.")


class NotResumable(Lasting):
    """A window without handles: `resumable: false` at its beginning, and none is issued before it ends."""

    do: Literal["not_resumable"] = "not_resumable"


class LoseHandles(LinkFault):
    """Handles that were issued are dead: resuming by them is refused. At `connect` that includes the setup's own."""

    do: Literal["lose_handles"] = "lose_handles"
    which: Literal["all", "newest"] = Field("all", description="Every one of the conversation, or the newest alone.")


class Mute(Lasting):
    """The model does not answer. What it was to say comes when it is over."""

    do: Literal["mute"] = "mute"
    on: Happening = Field("setup", description="The moment that brings it about.")


class Stall(Lasting):
    """The model stops in the middle of what it says. The rest comes when it is over."""

    do: Literal["stall"] = "stall"
    on: Happening = Field("first_audio", description="The moment that brings it about.")


class Interrupt(MindFault):
    """The model interrupts itself although nobody spoke."""

    do: Literal["interrupt"] = "interrupt"
    on: Happening = Field("first_audio", description="The moment that brings it about.")


class EmptyTurns(MindFault):
    """The model answers with an empty turn."""

    do: Literal["empty_turns"] = "empty_turns"
    turns: int = Field(1, ge=1, le=1000, description="How many turns.")


AnyUpgradeFault = RefuseUpgrade | SlowUpgrade
AnyLinkFault = (
    FaultySetup
    | GoAway
    | Close
    | Reset
    | HalfOpen
    | StopReading
    | Silence
    | Pongs
    | Drip
    | Delay
    | Frame
    | Burst
    | Duplicate
    | Drop
    | Reorder
    | DuplicateCall
    | CancelCalls
    | IgnoreResponses
    | NotResumable
    | LoseHandles
    | Mute
    | Stall
    | Interrupt
    | EmptyTurns
)
AnyFault = Annotated[AnyUpgradeFault | AnyLinkFault, Field(discriminator="do")]
ADAPTER: TypeAdapter[AnyFault] = TypeAdapter(AnyFault)
