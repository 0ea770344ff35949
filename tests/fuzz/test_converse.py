"""Random and mutated `Converse` messages: every stream ends with a status that the API names, and leaves nothing.

``make test`` runs some hundred streams; ``make fuzz-converse`` runs 5,000 (``CONVERSE_FUZZ_EXAMPLES``).
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

import grpc
import grpc.aio
import pytest
from google.protobuf import struct_pb2
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from parley._status import FirstStatus
from parley.v1 import live_pb2
from services.session_worker import events
from tests.fuzz.fabric import RESUME_WINDOW, Fabric

EXAMPLES = int(os.environ.get("CONVERSE_FUZZ_EXAMPLES", "200"))
CHECK_EVERY = 100
LIMIT = 60.0
"""Seconds for a stream, and for its end: a status takes milliseconds, but a busy machine may stand still."""
NUMBERS = itertools.count(1)
WRONG = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.PERMISSION_DENIED,
}
JPEG = live_pb2.Blob(mime_type="image/jpeg", data=b"\xff\xd8\xff\xe0 and so on")
FUNCTION = live_pb2.FunctionDeclaration(name="book")


def output() -> struct_pb2.Struct:
    made = struct_pb2.Struct()
    made.update({"done": True})
    return made


content = st.builds(
    live_pb2.Content,
    role=st.sampled_from([live_pb2.ROLE_USER, live_pb2.ROLE_MODEL]),
    parts=st.lists(st.builds(live_pb2.Part, text=st.text(min_size=1, max_size=9)), min_size=1, max_size=2),
)
# What is always right, in any order.
right = st.one_of(
    st.builds(
        lambda frames: {"audio": live_pb2.AudioInput(frames=frames)},
        st.lists(st.sampled_from([2, 640, 1280]).map(bytes), min_size=1, max_size=4),
    ),
    st.just({"video": live_pb2.VideoInput(image=JPEG)}),
    st.builds(lambda text: {"text": live_pb2.TextInput(text=text)}, st.text(min_size=1, max_size=20)),
    st.builds(
        lambda turns, done: {"turn": live_pb2.TurnInput(content=turns, turn_complete=done or not turns)},
        st.lists(content, max_size=2),
        st.booleans(),
    ),
    st.just({"audio_stream_end": live_pb2.AudioStreamEnd()}),
    st.builds(lambda text: {"context_update": live_pb2.ContextUpdate(instructions=text)}, st.text(max_size=9)),
)
# What never is. Drawn by number: hypothesis writes down what a rule may draw, again and again, and this is long.
NEVER: list[dict[str, Any]] = [
    {"audio": live_pb2.AudioInput()},
    {"audio": live_pb2.AudioInput(frames=[b"odd"])},
    {"audio": live_pb2.AudioInput(frames=[bytes(32_002)])},
    {"video": live_pb2.VideoInput(image=live_pb2.Blob(mime_type="image/jpeg", data=b"GIF89a"))},
    {"text": live_pb2.TextInput()},
    {"text": live_pb2.TextInput(text="x" * 65_537)},
    {"turn": live_pb2.TurnInput(content=[live_pb2.Content()])},
    {"tool_result": live_pb2.ToolResult(call_id="made up", error="x")},
    {"tool_result": live_pb2.ToolResult(call_id="made up")},
    {"context_update": live_pb2.ContextUpdate()},
    {"context_update": live_pb2.ContextUpdate(tools=live_pb2.ToolSelection(names=["no_such_tool"]))},
    {"open": live_pb2.Open(request_id="again", config=live_pb2.SessionConfig(model="gemini-3.8-live"))},
    {"end": live_pb2.End(reason="x" * 257)},
    {},
]


def never(number: int) -> dict[str, Any]:
    return NEVER[number]


wrong = st.sampled_from(range(len(NEVER))).map(never)
said = st.sampled_from(
    [
        events.Audio(bytes(480), 24_000),
        events.Text("words", False),
        events.Interrupted(),
        events.FunctionCall("c1", "book", {"room": "blue"}),
        events.FunctionCall("c2", "not_declared", {}),
        events.CallsCancelled(("c1",)),
        events.TurnComplete("", False, True),
        events.HandleUpdate("handle", True, None),
        events.GoAway(None),
        events.Unknown("{}"),
        events.Usage(1, 2, 3, 0, 0, 0, {}, {}),
    ]
)


@st.composite
def mutated(draw: st.DrawFn, message: bytes) -> bytes:
    """Bytes of a message with up to three things changed."""
    raw = bytearray(message)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(raw)))
        match draw(st.sampled_from(["cut", "flip", "insert", "double"])):
            case "cut":
                del raw[at:]
            case "flip" if raw:
                raw[at % len(raw)] ^= draw(st.integers(1, 255))
            case "insert":
                raw[at:at] = draw(st.binary(min_size=1, max_size=8))
            case _:
                raw += raw[:at]
    return bytes(raw)


def opening(request_id: str = "", *, manual: bool = False) -> live_pb2.ConverseRequest:
    """`manual`: the caller marks what is speech."""
    config = live_pb2.SessionConfig(model="gemini-3.8-live", caller_tools=[FUNCTION], output_transcription=True)
    config.voice_activity_detection.disabled = manual
    request_id = request_id or f"fuzz-{next(NUMBERS)}"
    return live_pb2.ConverseRequest(open=live_pb2.Open(request_id=request_id, config=config))


# What is mutated must not differ from run to run, or hypothesis could not repeat what it found.
SAMPLE_OPENING = opening("sample").SerializeToString()


class Machine(RuleBasedStateMachine):
    """One call, from its open to its last status; it may come back to its session on another stream."""

    shared: ClassVar[Fabric]
    baseline: ClassVar[dict[str, int]]
    streams: ClassVar[int] = 0

    def __init__(self) -> None:
        super().__init__()
        self.call: Any = None
        self.seq = 1
        self.expected = {grpc.StatusCode.OK}
        self.over = False
        """Nothing more can be sent."""
        self.exact = True
        """Everything so far was sent as it is meant, so that what is wrong must be refused."""
        self.manual = False
        self.speaking: bool | None = False
        """Between the caller's marks of activity; None: that depends on what the stream before has delivered."""
        self.repeated: int | None = None
        """Number of the newest message that came again, from 0, after a resume and until a new one comes; else None."""

    # What happens

    @initialize(broken=st.sampled_from([False] * 9 + [True]), manual=st.booleans(), data=st.data())
    def open(self, broken: bool, manual: bool, data: st.DataObject) -> None:
        raw = opening(manual=manual).SerializeToString()
        self.manual = manual
        if broken:
            raw = data.draw(mutated(SAMPLE_OPENING))
            self.exact = False
            self.expected |= WRONG | {grpc.StatusCode.FAILED_PRECONDITION}
        self.shared.run(self._open(raw))

    @rule(payloads=st.lists(right, min_size=1, max_size=3))
    def say(self, payloads: list[dict[str, Any]]) -> None:
        for payload in payloads:
            self.send(live_pb2.ConverseRequest(seq=self.number(), **payload).SerializeToString())

    @rule(upto=st.integers(0, 2**64 - 1))
    def ack(self, upto: int) -> None:
        self.send(live_pb2.ConverseRequest(ack=live_pb2.Ack(seq=upto)).SerializeToString())

    @rule(start=st.booleans())
    def mark(self, start: bool) -> None:
        if not self.manual:
            self.must_fail()
        elif self.speaking is None:
            self.may_fail()
        elif self.speaking is start:
            self.must_fail()
        self.speaking = start
        kind = {"activity_start": live_pb2.ActivityStart()} if start else {"activity_end": live_pb2.ActivityEnd()}
        self.send(live_pb2.ConverseRequest(seq=self.number(), **kind).SerializeToString())

    @rule(payload=wrong)
    def say_wrong(self, payload: dict[str, Any]) -> None:
        self.must_fail()
        self.send(live_pb2.ConverseRequest(seq=self.number(), **payload).SerializeToString())

    @rule(by=st.integers(-3, 3).filter(bool), payload=right)
    def misnumber(self, by: int, payload: dict[str, Any]) -> None:
        seq = max(0, self.seq + by)
        # A caller that has come back may send again, in order, what was received before.
        if self.repeated is not None and 0 < seq < self.seq and self.repeated in (0, seq - 1):
            self.repeated = seq
        else:
            self.must_fail()
        self.send(live_pb2.ConverseRequest(seq=seq, **payload).SerializeToString())

    @rule(payload=right, data=st.data())
    def mutate(self, payload: dict[str, Any], data: st.DataObject) -> None:
        # Even this may be right by chance: a text of other letters.
        self.may_fail()
        message = live_pb2.ConverseRequest(seq=self.number(), **payload).SerializeToString()
        self.send(data.draw(mutated(message)))

    @rule(raw=st.binary(max_size=30))
    def send_junk(self, raw: bytes) -> None:
        self.may_fail()
        self.send(raw)

    @rule(what=st.lists(said, min_size=1, max_size=3))
    def hear(self, what: list[events.Event]) -> None:
        self.shared.run(self._hear(what))

    @rule(call_id=st.sampled_from(["c1", "c2"]))
    def answer(self, call_id: str) -> None:
        # Whether there is such a call depends on how far the model's words have come.
        self.expected |= {grpc.StatusCode.INVALID_ARGUMENT}
        result = live_pb2.ToolResult(call_id=call_id, output=output())
        self.send(live_pb2.ConverseRequest(seq=self.number(), tool_result=result).SerializeToString())

    @rule()
    def come_back(self) -> None:
        if not self.over:
            self.shared.run(self._come_back())

    @rule(how=st.sampled_from(["half close", "cancel", "end"]))
    def leave(self, how: str) -> None:
        if self.over:
            return
        if how == "cancel":
            self.expected |= {grpc.StatusCode.CANCELLED}
            self.call.cancel()
        elif how == "end":
            self.send(live_pb2.ConverseRequest(seq=self.number(), end=live_pb2.End()).SerializeToString())
        else:
            self.shared.run(self._done())
        self.over = True

    # How

    def number(self) -> int:
        """Of the next message."""
        self.repeated, self.seq = None, self.seq + 1
        return self.seq - 1

    def must_fail(self) -> None:
        if not self.over:
            self.expected |= WRONG
            if self.exact:
                self.expected.discard(grpc.StatusCode.OK)

    def may_fail(self) -> None:
        self.expected |= WRONG
        self.exact = False

    def send(self, raw: bytes) -> None:
        if not self.over:
            self.shared.run(self._send(raw))

    async def _open(self, raw: bytes) -> None:
        self.call = self.shared.converse(timeout=LIMIT)
        self.status = FirstStatus(self.call)
        self.responses: list[live_pb2.ConverseResponse] = []
        self.reading = asyncio.create_task(self._read())
        await self._send(raw)

    async def _come_back(self) -> None:
        """The stream breaks off, and another one goes on with its session."""
        async with asyncio.timeout(LIMIT):
            while not self.responses and not self.reading.done():
                await asyncio.sleep(0.001)
        left = time.monotonic()
        self.call.cancel()
        self.expected |= {grpc.StatusCode.CANCELLED}
        await self._check()
        if not self.responses:
            self.over = True  # it was refused
            return
        opened, last = self.responses[0].opened, max(response.seq for response in self.responses)
        resume = live_pb2.Resume(session_id=opened.session_id, resume_token=opened.resume_token, last_received_seq=last)
        self.expected, self.exact, self.speaking = {grpc.StatusCode.OK}, True, None
        await self._open(live_pb2.ConverseRequest(open=live_pb2.Open(resume=resume)).SerializeToString())
        async with asyncio.timeout(LIMIT):
            while not self.responses and not self.reading.done():
                await asyncio.sleep(0.001)
        if not self.responses:
            # Only where the machine stood still, so that the session could not wait for as long as that took.
            assert time.monotonic() - left > RESUME_WINDOW, await self.status.settled()
            self.expected, self.over = {grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.NOT_FOUND}, True
            return
        again = self.responses[0].opened
        assert (again.session_id, again.existing) == (opened.session_id, True)
        self.seq, self.repeated = again.next_uplink_seq, 0

    async def _read(self) -> None:
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.CancelledError):
            # Not with `read`: once a write has failed, it reads no further, and as long as responses are unread gRPC
            # does not give the status that the service ended the call with, until the call's deadline.
            async for raw in self.call:
                self.responses.append(live_pb2.ConverseResponse.FromString(raw))

    async def _send(self, raw: bytes) -> None:
        try:
            await self.call.write(raw)
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError, asyncio.CancelledError):
            self.over = True

    async def _done(self) -> None:
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError, asyncio.CancelledError):
            await self.call.done_writing()

    async def _hear(self, what: list[events.Event]) -> None:
        if self.shared.dialer.links:
            self.shared.dialer.links[-1].says(*what)

    def teardown(self) -> None:
        if self.call is None:
            return
        if not self.over:
            self.leave("end")
        self.shared.run(self._check())
        cls = type(self)
        cls.streams += 1
        if cls.streams % CHECK_EVERY == 0:
            self.shared.run(self.shared.settled_at(self.baseline))

    async def _check(self) -> None:
        async with asyncio.timeout(LIMIT):
            await self.reading
            await self.call.code()
        status = await self.status.settled()
        assert status is not None
        error = status.error()
        assert status.code in self.expected, error
        numbered = [response.seq for response in self.responses if response.seq]
        assert numbered == sorted(set(numbered))
        if status.code not in (grpc.StatusCode.OK, grpc.StatusCode.CANCELLED):
            assert error.reason and error.message, status
            assert "Traceback" not in error.message


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> Iterator[Fabric]:
    # On a machine that is busy the service's own status may come long after a write has failed.
    monkeypatch.setattr(FirstStatus, "_WAIT", LIMIT)
    fabric = Fabric()
    try:
        yield fabric
    finally:
        fabric.stop()


def run(shared: Fabric, examples: int, phases: Sequence[Phase] = tuple(Phase)) -> None:
    Machine.shared, Machine.streams = shared, 0
    Machine.baseline = shared.run(shared.settled())
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        Machine,
        settings=settings(
            max_examples=examples,
            phases=phases,
            report_multiple_bugs=False,
            stateful_step_count=6,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            derandomize=examples <= 1000,
            database=None,
        ),
    )
    shared.run(shared.settled_at(Machine.baseline))


@pytest.mark.timeout(3600)
def test_whatever_is_sent_the_stream_ends_with_a_status_of_the_api(shared: Fabric) -> None:
    run(shared, EXAMPLES)


@pytest.mark.parametrize(
    ("where", "what"),
    [
        ("services.gateway.uplink_check.UplinkValidator._check_payload", lambda *_: None),
        ("services.gateway.stream.Stream.close", lambda _: None),
    ],
)
def test_a_gateway_that_looks_away_is_noticed(
    shared: Fabric, monkeypatch: pytest.MonkeyPatch, where: str, what: Callable[..., None]
) -> None:
    """Sabotage: without its checks, and without its clearing up."""
    shared.patience = 4.0  # what is left behind stays
    with monkeypatch.context() as broken:
        broken.setattr(where, what)
        with pytest.raises((AssertionError, BaseExceptionGroup)):
            run(shared, 1000, (Phase.generate,))
