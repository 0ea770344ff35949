"""A session in its worker: what goes to the model, to the gateway and into the records, on a real nats-server."""

from __future__ import annotations

import asyncio
import time

import pytest
from google.protobuf import struct_pb2
from nats.aio.msg import Msg

from parley.v1 import errors_pb2, fabric_pb2, live_pb2, sessions_pb2, tools_pb2
from services.fabric import subjects
from services.fabric.bus import settle
from services.fabric.catalog import Catalog
from services.fabric.conversation_log import ConversationLog
from services.fabric.errors import ServiceError
from services.fabric.records import SessionRecords
from services.fabric.telemetry import SESSION_TRACEPARENT
from services.session_worker import events, measured
from services.session_worker.link import LinkClosedError
from services.session_worker.recorder import Recorder
from services.session_worker.responses import duration
from tests.session_worker.conftest import TOKEN, FakeLink, Rig
from tests.support.eventually import eventually

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
DONE = events.TurnComplete("", False, True)


def audio(seq: int) -> live_pb2.ConverseRequest:
    return live_pb2.ConverseRequest(seq=seq, audio=live_pb2.AudioInput(frames=[seq.to_bytes(2, "big") * 20]))


def text(seq: int, words: str = "hello") -> live_pb2.ConverseRequest:
    return live_pb2.ConverseRequest(seq=seq, text=live_pb2.TextInput(text=words))


async def test_audio_reaches_the_link_whole_in_order_and_once(rig: Rig) -> None:
    session, link = await rig.open()
    frames = [audio(seq) for seq in range(1, 241)]
    wanted = b""
    for start in range(0, 240, 3):
        first, second, third = frames[start : start + 3]
        await rig.send(session, second)
        await rig.send(session, first, second)
        await rig.send(session, third)
        wanted += b"".join(request.audio.frames[0] for request in (first, second, third))
        # One by one, so that not everything leaves joined in a few messages.
        await eventually(lambda: len(b"".join(link.audio)) >= len(wanted))  # noqa: B023
        assert b"".join(link.audio) == wanted


@pytest.mark.parametrize("stale", [{"epoch": 2}, {"epoch": 0}, {"attach_generation": 0}, {"attach_generation": 2}])
async def test_uplink_of_another_epoch_or_generation_counts_for_nothing(rig: Rig, stale: dict[str, int]) -> None:
    session, link = await rig.open()
    await rig.send(session, text(1, "stale"), **stale)
    await rig.send(session, detached=True, **stale)
    await rig.send(session, text(1, "mine"))
    await eventually(lambda: link.texts)
    assert link.texts == ["mine"]
    assert rig.worker.counts["stale_uplink"] == 2


async def test_text_is_acked_only_when_the_log_holds_it(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    session, link = await rig.open()
    gate, append = asyncio.Event(), ConversationLog.append

    async def slow(self: ConversationLog, entry: fabric_pb2.LogEntry) -> None:
        await gate.wait()
        await append(self, entry)

    monkeypatch.setattr(ConversationLog, "append", slow)
    await rig.send(session, text(1))
    await eventually(lambda: link.texts)
    link.says(events.Audio(bytes(480), 24_000), DONE, events.HandleUpdate("handle", True, None))  # is not enough
    for status in await rig.statuses(2):
        assert status.uplink_acked_seq == 0
    gate.set()
    await eventually(lambda: rig.envelopes[-1].uplink_acked_seq == 1)
    answer = await rig.js.get_last_msg(subjects.LOG_STREAM, subjects.log(session))
    stored = await rig.js.get_msg(subjects.LOG_STREAM, (answer.seq or 0) - 1)
    assert fabric_pb2.LogEntry.FromString(stored.data or b"").request == text(1)


async def test_input_waits_while_the_log_takes_no_more(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.session_worker.recorder._MAX_WAITING", 4)
    session, link = await rig.open()
    gate, append = asyncio.Event(), ConversationLog.append

    async def slow(self: ConversationLog, entry: fabric_pb2.LogEntry) -> None:
        await gate.wait()
        await append(self, entry)

    monkeypatch.setattr(ConversationLog, "append", slow)
    await rig.send(session, *[text(seq, str(seq)) for seq in range(1, 21)])
    await eventually(lambda: rig.envelopes and rig.envelopes[-1].uplink_received_seq == 20)
    assert link.texts == []
    gate.set()
    await eventually(lambda: len(link.texts) == 20)
    assert link.texts == [str(seq) for seq in range(1, 21)]


async def test_the_worker_asks_for_uplink_that_did_not_come(rig: Rig) -> None:
    session, link = await rig.open()
    await rig.send(session, text(1), text(3))
    await eventually(lambda: any(envelope.uplink_missing for envelope in rig.envelopes))
    asked = next(envelope.uplink_missing for envelope in rig.envelopes if envelope.uplink_missing)
    assert [(hole.from_seq, hole.to_seq) for hole in asked] == [(2, 2)]
    await rig.send(session, text(2, "late"), last_seq=3)
    await eventually(lambda: len(link.texts) == 3)
    assert link.texts[1] == "late"


async def test_a_stream_that_comes_back_may_send_other_things_than_were_on_their_way(rig: Rig) -> None:
    """A message was lost behind which others wait; then the gateway dies, and the caller has them no more."""
    session, link = await rig.open()
    await rig.send(session, text(1, "one"))
    await rig.send(session, audio(3), audio(4), last_seq=5)
    await eventually(lambda: any(envelope.uplink_missing for envelope in rig.envelopes))
    known = {"session_id": session, "gateway": "gw-test", "tenant": "acme", "principal": "bot"}
    attached = (await rig.control(attach={**known, "presented_token_sha256": TOKEN})).attached
    assert attached.next_uplink_seq == 2
    await rig.send(session, text(2, "late"), audio(3))  # of the stream before
    rig.generation = attached.attach_generation
    words = ["A", "B", "C", "D", "E"]
    await rig.send(session, *[text(seq, word) for seq, word in enumerate(words, 2)])
    await eventually(lambda: len(link.texts) >= 6)
    assert link.texts == ["one", *words]
    assert not link.audio
    await eventually(lambda: rig.envelopes[-1].uplink_acked_seq == 6)
    assert not [response for response in rig.responses if response.HasField("gap")]


async def test_a_stream_that_goes_on_has_what_came_early(rig: Rig) -> None:
    """It lost its worker, and the answer of the one that has the session by now: the numbers are those they were."""
    session, link = await rig.open()
    await rig.send(session, text(2, "two"), text(3, "three"))
    known = {"session_id": session, "gateway": "gw-test", "tenant": "acme", "principal": "bot"}
    await eventually(lambda: any(envelope.uplink_missing for envelope in rig.envelopes))
    attached = (await rig.control(attach=known)).attached
    assert attached.next_uplink_seq == 1
    rig.generation = attached.attach_generation
    await rig.send(session, text(1, "one"))
    await eventually(lambda: link.texts == ["one", "two", "three"])


async def test_what_is_missing_is_not_given_up_while_its_gateway_is_silent(rig: Rig) -> None:
    """It may be gone: the caller has what it was not told of, and brings it by another one."""
    session, link = await rig.open()
    await rig.send(session, text(2, "two"))
    await eventually(lambda: any(envelope.uplink_missing for envelope in rig.envelopes))
    held = rig.worker.held(session)
    now = time.monotonic()
    held.tick(now + 3)
    assert held._parts.uplink.received == 0
    held._parts.attachment.heard(now + 3, leaving=False)
    held.tick(now + 3.1)
    assert held._parts.uplink.received == 0, "it is heard again, and may send it now"
    held._parts.attachment.heard(now + 5, leaving=False)
    held.tick(now + 5.1)
    await eventually(lambda: link.texts == ["two"])
    held.tick(now + 5.5)
    gap = await eventually(lambda: next((one.gap for one in rig.responses if one.HasField("gap")), None))
    assert (gap.from_seq, gap.to_seq, gap.reason) == (1, 1, "LOST")


async def test_a_stream_that_attaches_must_be_of_the_caller_and_know_the_token(rig: Rig) -> None:
    session, _ = await rig.open()

    async def attach(**fields: object) -> fabric_pb2.ControlReply:
        values = {"tenant": "acme", "principal": "bot", "presented_token_sha256": TOKEN, **fields}
        return await rig.control(attach={"session_id": session, "gateway": "gw-test", **values})

    unknown, refused = errors_pb2.ERROR_REASON_SESSION_UNKNOWN, errors_pb2.ERROR_REASON_RESUME_REFUSED
    assert (await attach(presented_token_sha256=b"\x08" * 32)).failure.reason == refused
    assert (await attach(tenant="umbrella")).failure.reason == unknown
    assert (await attach(principal="other")).failure.reason == unknown
    assert (await attach()).attached.attach_generation == 2
    attachment = await rig.records.read_attachment(session)
    assert attachment is not None
    assert (attachment.attach_generation, attachment.resume_token_sha256) == (2, TOKEN)


async def test_an_attach_that_cannot_be_recorded_leaves_stream_and_token_of_the_one_before(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, link = await rig.open()

    async def unavailable(*_: object) -> None:
        raise ServiceError(errors_pb2.ERROR_REASON_FABRIC_UNAVAILABLE, "no JetStream")

    stranger = {"session_id": session, "gateway": "gw-other", "tenant": "acme", "principal": "bot"}
    with monkeypatch.context() as broken:
        broken.setattr(SessionRecords, "write_attachment", unavailable)
        reply = await rig.control(attach={**stranger, "new_token_sha256": b"\x09" * 32})
    assert reply.failure.reason == errors_pb2.ERROR_REASON_FABRIC_UNAVAILABLE
    await rig.send(session, audio(1))  # of the first generation
    await eventually(lambda: link.audio)
    reply = await rig.control(attach={**stranger, "presented_token_sha256": TOKEN})
    assert reply.attached.attach_generation == 2


async def test_a_handle_becomes_a_checkpoint_and_acks_what_it_covers(rig: Rig) -> None:
    session, link = await rig.open()
    await rig.send(session, audio(1), text(2))
    await eventually(lambda: link.texts)
    link.says(events.Audio(bytes(480), 24_000), DONE, events.HandleUpdate("handle-1", True, None))
    link.says(events.HandleUpdate("", False, None))  # the last good handle stays

    async def written() -> fabric_pb2.CheckpointRecord | None:
        record = await rig.records.read_checkpoint(session)
        return record if record is not None and record.handle else None

    checkpoint = await eventually(written)
    assert (checkpoint.handle, checkpoint.covered_uplink_seq, checkpoint.epoch) == ("handle-1", 2, 1)
    await eventually(lambda: rig.envelopes[-1].uplink_acked_seq == 2)


async def test_an_owner_that_lost_its_session_stops_and_writes_nothing_more(rig: Rig) -> None:
    session, link = await rig.open()
    found = await rig.records.read_own(session)
    assert found is not None
    taken = fabric_pb2.OwnRecord()
    taken.CopyFrom(found[0])
    taken.session.worker, taken.session.epoch = "wk-other", 2
    revision = await rig.records._compare_and_set(session, found[1], taken, None)
    rig.envelopes.clear()
    link.says(events.HandleUpdate("mine", True, None))
    await eventually(lambda: link.closed)
    await rig.ended()
    checkpoint = await rig.records.read_checkpoint(session)
    assert checkpoint is not None
    assert not checkpoint.handle
    assert await rig.records.read_own(session) == (taken, revision)
    assert not [response for response in rig.responses if response.HasField("ended")]


async def test_an_ended_session_leaves_a_tombstone_and_then_nothing(rig: Rig) -> None:
    session, link = await rig.open()
    link.says(events.Audio(bytes(480), 24_000), DONE, events.HandleUpdate("handle", True, None))

    async def checkpointed() -> bool:
        return await rig.records.read_checkpoint(session) is not None

    await eventually(checkpointed)
    request = live_pb2.ConverseRequest(seq=1, end=live_pb2.End())
    await rig.send(session, request)
    await rig.ended()
    assert link.closed
    assert await rig.records.read_checkpoint(session) is None
    assert await rig.records.read_attachment(session) is None
    tombstone = await rig.records.read_own(session)
    assert tombstone is not None
    assert tombstone[0].session.state == sessions_pb2.SESSION_STATE_ENDED
    request_id = f"$KV.{subjects.REQUESTS_BUCKET}.{tombstone[0].request_key}"

    async def forgotten() -> bool:
        assert not await rig.messages(subjects.log(session), subjects.LOG_STREAM)
        assert not await rig.messages(request_id, f"KV_{subjects.REQUESTS_BUCKET}")
        return await rig.records.read_own(session) is None

    await eventually(forgotten)


async def test_what_comes_after_the_end_is_not_for_the_model(rig: Rig) -> None:
    session, link = await rig.open()
    end = live_pb2.ConverseRequest(seq=2, end=live_pb2.End())
    await rig.send(session, text(1, "before"), end, text(3, "after"))
    await rig.ended()
    assert link.texts == ["before"]


async def test_nothing_is_said_and_no_tool_is_run_after_the_end(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model goes on until its link is closed."""
    await rig.declare("look")
    session, link = await rig.open("look")
    received: list[str] = []

    async def receive() -> list[events.Event]:
        await asyncio.sleep(0.001)
        received.append(f"c{len(received)}")
        return [events.FunctionCall(received[-1], "look", {}), events.OutputTranscript("on and on", False, "")]

    async def flush(_: Recorder, timeout: float) -> None:
        so_far = len(received)
        await eventually(lambda: len(received) > so_far + 5)

    monkeypatch.setattr(link, "receive", receive)
    monkeypatch.setattr(Recorder, "flush", flush)  # it takes its time
    # More than the gateway takes at once: the end waits behind it, and so would what came after.
    link.says(*[events.Audio(bytes(24_000), 24_000)] * 40)
    await eventually(lambda: len(received) > 5)
    await rig.send(session, live_pb2.ConverseRequest(seq=1, end=live_pb2.End()))
    await rig.ended()
    await eventually(lambda: any(one.HasField("ended") for one in rig.responses))
    numbered = sorted((one for one in rig.responses if one.seq), key=lambda one: one.seq)
    assert numbered[-1].HasField("ended"), numbered[-1]


async def test_an_open_that_fails_leaves_nothing(rig: Rig) -> None:
    rig.dialer.refuse = ServiceError(errors_pb2.ERROR_REASON_BACKEND_REFUSED, "no")
    spec = rig.spec()
    reply = await rig.control(open=spec)
    assert reply.failure.reason == errors_pb2.ERROR_REASON_BACKEND_REFUSED
    assert await rig.records.read_own(spec.session_id) is None
    assert not await rig.messages(subjects.log(spec.session_id), subjects.LOG_STREAM)
    assert not rig.worker.counts["sessions"]


async def test_a_half_closed_stream_gets_its_answer_and_the_session_waits(rig: Rig) -> None:
    session, link = await rig.open()
    await rig.send(session, text(1), half_closed=True)
    await eventually(lambda: link.texts)
    assert not [envelope for envelope in await rig.statuses(2) if envelope.HasField("stream_end")]
    link.says(events.Audio(bytes(480), 24_000), DONE)
    await eventually(lambda: rig.envelopes[-1].HasField("stream_end"))
    assert {"audio", "turn_complete"} <= {response.WhichOneof("payload") for response in rig.responses}
    assert rig.worker.counts["sessions"] == 1
    await rig.ended()  # nobody came back within the resume window


async def test_speech_before_a_half_close_is_answered(rig: Rig) -> None:
    session, link = await rig.open()
    await rig.send(session, audio(1), half_closed=True)
    await eventually(lambda: {"audio_stream_end": True} in link.realtime)
    assert link.audio
    assert not [envelope for envelope in await rig.statuses(1) if envelope.HasField("stream_end")]


async def test_a_model_that_only_writes_down_is_done_when_it_has_written(rig: Rig) -> None:
    """It says no `turnComplete`; a caller that has closed its side is not kept for it."""
    session, link = await rig.open(model="gemini-3.5-transcribe-live", input_transcription=True)
    await rig.send(session, audio(1), half_closed=True)
    await eventually(lambda: {"audio_stream_end": True} in link.realtime)
    assert not [envelope for envelope in await rig.statuses(2) if envelope.HasField("stream_end")]
    link.says(events.InputTranscript("hello", True, ""), events.GenerationComplete())
    await eventually(lambda: rig.envelopes[-1].HasField("stream_end"))
    last = await rig.js.get_last_msg(subjects.LOG_STREAM, subjects.log(session))
    assert fabric_pb2.LogEntry.FromString(last.data or b"").HasField("model_said")  # the turn is over
    assert [response.WhichOneof("payload") for response in rig.responses] == ["input_transcript", "generation_complete"]


def marks(*said: live_pb2.ConverseRequest) -> list[live_pb2.ConverseRequest]:
    """`said` after a mark of its beginning."""
    return [live_pb2.ConverseRequest(seq=1, activity_start=live_pb2.ActivityStart()), *said]


END = live_pb2.ConverseRequest(seq=3, activity_end=live_pb2.ActivityEnd())


@pytest.mark.parametrize(
    ("said", "ends", "waits"),
    [
        pytest.param(marks(audio(2)), 1, True, id="speech"),
        pytest.param(marks(text(2)), 1, True, id="text"),
        pytest.param(marks(audio(2), END), 1, True, id="speech that has ended"),
        pytest.param(marks(), 0, False, id="nothing"),
        pytest.param([audio(1)], 0, False, id="speech outside of marks"),
    ],
)
async def test_where_the_caller_marks_its_speech_a_half_close_ends_it(
    rig: Rig, said: list[live_pb2.ConverseRequest], ends: int, waits: bool
) -> None:
    detection = live_pb2.VoiceActivityDetection(disabled=True)
    session, link = await rig.open(voice_activity_detection=detection)
    await rig.send(session, *said, half_closed=True)

    def ended() -> list[object]:
        return [sent for sent in link.realtime if "activity_end" in sent]

    if waits:
        await eventually(lambda: len(ended()) == ends)
        assert not [envelope for envelope in await rig.statuses(2) if envelope.HasField("stream_end")]
        link.says(events.Audio(bytes(480), 24_000), DONE)
    await eventually(lambda: rig.envelopes and rig.envelopes[-1].HasField("stream_end"))
    assert len(ended()) == ends
    assert not [sent for sent in link.realtime if "audio_stream_end" in sent]  # for those that find it themselves


async def test_an_utterance_that_ends_without_another_word_has_ended(rig: Rig) -> None:
    _, link = await rig.open(input_transcription=True)
    link.says(events.InputTranscript("hello", False, ""))
    link.says(events.InputTranscript("", True, ""))
    await eventually(lambda: len(rig.responses) == 2)
    told = [response.input_transcript for response in rig.responses]
    assert [(piece.text, piece.finished) for piece in told] == [("hello", False), ("", True)]


async def test_an_interruption_voids_what_the_caller_has_not(rig: Rig) -> None:
    session, link = await rig.open()
    link.says(*[events.Audio(bytes(4800), 24_000)] * 5)
    await eventually(lambda: len(rig.responses) == 5)
    await rig.send(session, text(1), downlink_received_seq=5, downlink_acked_seq=2)
    await eventually(lambda: link.texts)  # so the ack has arrived too
    link.says(events.Interrupted())
    await eventually(lambda: rig.responses[-1].HasField("interrupted"))
    told = rig.responses[-1].interrupted
    assert (told.void_from_seq, told.void_to_seq) == (3, 5)


class Tool:
    """Answers on NATS when it is let."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.calls: list[Msg] = []
        self.cancelled: list[str] = []

    async def serve(self, name: str) -> None:
        await self.rig.client.subscribe(subjects.tool_call(name), cb=self._on_call)
        await self.rig.client.subscribe(subjects.tool_cancel("*"), cb=self._on_cancel)
        await settle(self.rig.client)

    async def _on_call(self, message: Msg) -> None:
        self.calls.append(message)

    async def _on_cancel(self, message: Msg) -> None:
        self.cancelled.append(message.subject.split(".")[2])

    def request(self, index: int = 0) -> fabric_pb2.ToolCallRequest:
        return fabric_pb2.ToolCallRequest.FromString(self.calls[index].data)


async def test_a_call_carries_the_callers_trace_and_its_answer_goes_to_the_model(rig: Rig) -> None:
    tool = Tool(rig)
    await tool.serve("lookup")
    _, link = await rig.open("lookup", headers={SESSION_TRACEPARENT: f"00-{TRACE_ID}-b7ad6b7169203331-01"})
    link.says(events.FunctionCall("c1", "lookup", {"id": 1}), events.FunctionCall("c1", "lookup", {"id": 1}))
    await eventually(lambda: tool.calls)
    assert TRACE_ID in (tool.calls[0].headers or {}).get("traceparent", "")
    reply = fabric_pb2.ToolCallReply(outcome=live_pb2.TOOL_OUTCOME_SUCCEEDED, output_json='{"status":"shipped"}')
    await tool.calls[0].respond(reply.SerializeToString())
    await eventually(lambda: link.tool_responses)
    assert [(sent.id, sent.name, sent.response) for sent in link.tool_responses] == [
        ("c1", "lookup", {"output": {"status": "shipped"}})
    ]
    assert len(tool.calls) == 1


async def test_audio_behind_a_call_reaches_the_caller(rig: Rig) -> None:
    _, link = await rig.open(caller_tools=[BOOK])
    link.says(events.Audio(b"\1\0", 24_000), call(), events.Audio(b"\2\0", 24_000))
    await eventually(lambda: b"\2\0" in [frame for one in rig.responses for frame in one.audio.frames])
    assert not any(response.HasField("turn_complete") for response in rig.responses)


async def test_a_call_that_the_model_cancels_is_stopped_and_not_answered(rig: Rig) -> None:
    tool = Tool(rig)
    await tool.serve("slow")
    _, link = await rig.open("slow")
    link.says(events.FunctionCall("c1", "slow", {}))
    await eventually(lambda: tool.calls)
    link.says(events.CallsCancelled(("c1",)))
    await eventually(lambda: tool.cancelled)
    assert tool.cancelled == [tool.request().execution_id]
    await eventually(lambda: rig.responses[-1].tool_activity.outcome == live_pb2.TOOL_OUTCOME_CANCELLED)
    assert not link.tool_responses


async def test_a_tool_that_the_profile_does_not_name_is_not_run(rig: Rig) -> None:
    tool = Tool(rig)
    await tool.serve("forbidden")
    _, link = await rig.open("allowed")
    link.says(events.FunctionCall("c1", "forbidden", {}))
    await eventually(lambda: link.tool_responses)
    assert "forbidden" in link.tool_responses[0].response["error"]
    assert not tool.calls


# What the caller runs, and changes


BOOK = live_pb2.FunctionDeclaration(name="book")


def call(id_: str = "c1", name: str = "book") -> events.FunctionCall:
    return events.FunctionCall(id_, name, {"room": "blue"})


def result(seq: int, id_: str = "c1", words: str = "done") -> live_pb2.ConverseRequest:
    output = struct_pb2.Struct()
    output.update({"words": words})
    return live_pb2.ConverseRequest(seq=seq, tool_result=live_pb2.ToolResult(call_id=id_, output=output))


def update(seq: int, *names: str, **fields: str) -> live_pb2.ConverseRequest:
    tools = live_pb2.ToolSelection(names=names) if names else None
    return live_pb2.ConverseRequest(seq=seq, context_update=live_pb2.ContextUpdate(tools=tools, **fields))


async def refusal(rig: Rig) -> fabric_pb2.Failure:
    def found() -> fabric_pb2.Failure | None:
        ends = [envelope.stream_end for envelope in rig.envelopes if envelope.HasField("stream_end")]
        return ends[-1].failure if ends else None

    return await eventually(found)


async def test_the_caller_runs_its_own_functions_and_the_model_gets_their_results(rig: Rig) -> None:
    session, link = await rig.open(caller_tools=[BOOK])
    link.says(call(), call("c2"), call())
    await eventually(lambda: len([one for one in rig.responses if one.HasField("tool_call")]) == 2)
    told = [one.tool_call for one in rig.responses if one.HasField("tool_call")]
    assert [(one.call_id, one.name, dict(one.arguments)) for one in told] == [
        ("c1", "book", {"room": "blue"}),
        ("c2", "book", {"room": "blue"}),
    ]
    await rig.send(session, result(1, "c2"), result(2, "c1"), result(3, "c1", "again"))
    await rig.send(session, text(4))
    await eventually(lambda: link.texts)
    assert [(one.id, one.name, one.response) for one in link.tool_responses] == [
        ("c2", "book", {"output": {"words": "done"}}),
        ("c1", "book", {"output": {"words": "done"}}),
    ]

    async def logged() -> list[str]:
        last = await rig.js.get_last_msg(subjects.LOG_STREAM, subjects.log(session))
        return [fabric_pb2.LogEntry.FromString(last.data or b"").WhichOneof("entry") or ""]

    await eventually(logged)


async def test_cancelled_calls_are_told_and_their_results_reach_nobody(rig: Rig) -> None:
    session, link = await rig.open(caller_tools=[BOOK])
    link.says(call(), events.CallsCancelled(("c1", "other")))
    await eventually(lambda: any(one.HasField("tool_call_cancelled") for one in rig.responses))
    (told,) = [one.tool_call_cancelled for one in rig.responses if one.HasField("tool_call_cancelled")]
    assert list(told.call_ids) == ["c1"]
    await rig.send(session, result(1), text(2))
    await eventually(lambda: link.texts)
    assert link.tool_responses == []


@pytest.mark.parametrize("rig", [{"caller_tool_timeout": "200ms"}], indirect=True)
async def test_a_call_that_the_caller_leaves_open_is_answered_in_the_end(rig: Rig) -> None:
    _, link = await rig.open(caller_tools=[BOOK])
    link.says(call())
    await eventually(lambda: link.tool_responses)
    assert "in time" in link.tool_responses[0].response["error"]
    await eventually(lambda: any(list(one.tool_call_cancelled.call_ids) == ["c1"] for one in rig.responses))


async def test_a_result_of_no_call_ends_the_stream_and_not_the_session(rig: Rig) -> None:
    session, link = await rig.open(caller_tools=[BOOK])
    await rig.send(session, result(1, "made up"), text(2))
    failure = await refusal(rig)
    assert failure.reason == errors_pb2.ERROR_REASON_TOOL_CALL_UNKNOWN
    await eventually(lambda: link.texts)  # it was right, and numbered
    reply = await rig.control(
        attach={
            "session_id": session,
            "gateway": "gw-test",
            "tenant": "acme",
            "principal": "bot",
            "presented_token_sha256": TOKEN,
        }
    )
    assert reply.attached.next_uplink_seq == 3


async def test_an_end_behind_a_mistake_does_not_hide_it(rig: Rig) -> None:
    session, _ = await rig.open(caller_tools=[BOOK])
    await rig.send(session, result(1, "made up"), live_pb2.ConverseRequest(seq=2, end=live_pb2.End()))
    await rig.ended()
    assert (await refusal(rig)).reason == errors_pb2.ERROR_REASON_TOOL_CALL_UNKNOWN
    assert any(one.HasField("ended") for one in rig.responses)


async def test_a_context_update_changes_the_link_the_tools_and_the_checkpoint(rig: Rig) -> None:
    await rig.declare("get_weather")
    session, link = await rig.open("lookup_order", caller_tools=[BOOK])
    await rig.send(session, update(1, "get_weather", instructions="be brief"))
    await eventually(lambda: link.updates)
    instructions, tools = link.updates[0]
    assert instructions == "be brief"
    assert [one.name for tool in tools for one in tool.function_declarations] == ["get_weather", "book"]

    async def written() -> fabric_pb2.CheckpointRecord | None:
        newest = await rig.records.read_checkpoint(session)
        return newest if newest is not None and newest.config.instructions else None

    checkpoint = await eventually(written)
    assert checkpoint.config.instructions == "be brief"
    assert list(checkpoint.config.tools) == ["get_weather"]
    assert [tool.declaration.name for tool in checkpoint.tools] == ["get_weather"]
    # What the model may call has changed with it.
    link.says(call("c9", "lookup_order"))
    await eventually(lambda: link.tool_responses)
    assert "no tool named" in link.tool_responses[0].response["error"]
    await rig.send(session, update(2, instructions=""))
    await eventually(lambda: len(link.updates) == 2)
    assert link.updates[1] == ("", None)


@pytest.mark.parametrize(
    ("model", "names", "reason", "field"),
    [
        ("gemini-3.8-live", ("missing",), errors_pb2.ERROR_REASON_TOOL_UNKNOWN, "context_update.tools.names[0]"),
        ("gemini-3.8-live", ("book",), errors_pb2.ERROR_REASON_FIELD_INVALID, "context_update.tools.names[0]"),
        ("gemini-3.1-flash-live-preview", ("x",), errors_pb2.ERROR_REASON_FIELD_INVALID, "context_update"),
    ],
)
async def test_an_update_that_cannot_be_is_refused_and_changes_nothing(
    rig: Rig, model: str, names: tuple[str, ...], reason: int, field: str
) -> None:
    session, link = await rig.open(caller_tools=[BOOK], model=model)
    await rig.send(session, update(1, *names, instructions="changed"), text(2))
    failure = await refusal(rig)
    assert failure.reason == reason
    assert [one.field for one in failure.field_violations] == [field]
    await eventually(lambda: link.texts)
    assert link.updates == []


async def test_an_update_to_a_tool_of_another_tenant_is_one_to_a_tool_that_is_not_there(rig: Rig) -> None:
    await rig.declare("mine", "theirs")
    await Catalog(rig.js).publish(
        [
            tools_pb2.Tool(declaration=live_pb2.FunctionDeclaration(name=name), tenants=[tenant])
            for name, tenant in (("mine", "acme"), ("theirs", "umbrella"))
        ]
    )
    session, link = await rig.open()
    await rig.send(session, update(1, "mine"))
    await eventually(lambda: link.updates)
    await rig.send(session, update(2, "mine", "theirs"))
    failure = await refusal(rig)
    assert failure.reason == errors_pb2.ERROR_REASON_TOOL_UNKNOWN
    assert [one.field for one in failure.field_violations] == ["context_update.tools.names[1]"]


async def test_an_update_to_more_tools_than_a_checkpoint_holds_is_refused_and_changes_nothing(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def large(_: Catalog, name: str) -> tools_pb2.Tool:
        return tools_pb2.Tool(declaration=live_pb2.FunctionDeclaration(name=name, description="x" * 61_440))

    monkeypatch.setattr(Catalog, "get", large)
    session, link = await rig.open()
    await rig.send(session, update(1, *(f"tool_{number}" for number in range(13))), text(2))
    failure = await refusal(rig)
    assert failure.reason == errors_pb2.ERROR_REASON_FIELD_INVALID
    assert [one.field for one in failure.field_violations] == ["context_update.tools.names"]
    await eventually(lambda: link.texts)
    assert link.updates == []


async def test_history_goes_to_a_new_link_before_anything_else(rig: Rig) -> None:
    said = [
        live_pb2.Content(role=role, parts=[live_pb2.Part(text=words)])
        for role, words in ((live_pb2.ROLE_USER, "hi"), (live_pb2.ROLE_MODEL, "hello"))
    ]
    _, link = await rig.open(history=said)
    assert [(turn.role, turn.parts[0].text) for turn in link.turns[0][0]] == [("user", "hi"), ("model", "hello")]
    assert link.turns[0][1] is True


async def test_a_link_that_is_resumed_is_not_given_the_opening_again(rig: Rig) -> None:
    said = [live_pb2.Content(role=live_pb2.ROLE_USER, parts=[live_pb2.Part(text="greet the caller")])]
    session, first = await rig.open(history=said)
    assert "greet the caller" in str(first.turns)
    first.says(events.OutputTranscript("hello", True, ""), DONE)
    first.says(events.HandleUpdate("h1", resumable=True, consumed_index=None))
    await eventually(lambda: rig.worker._sessions[session]._parts.links.handle == "h1")
    await first.close()
    await eventually(lambda: any(response.link_state.HasField("recovered") for response in rig.responses))
    await rig.send(session, text(1, "are you there"))
    _, second = rig.dialer.links
    await eventually(lambda: second.texts)
    assert (second.turns, second.texts) == ([], ["are you there"])


async def test_a_link_that_closes_on_the_history_is_the_backends_fault_and_leaves_nothing(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def closes(*_: object, **__: object) -> None:
        raise LinkClosedError(1007, "Precondition check failed.")

    monkeypatch.setattr(FakeLink, "send_turn", closes)
    said = [live_pb2.Content(role=live_pb2.ROLE_USER, parts=[live_pb2.Part(text="hi")])]
    spec = rig.spec(history=said)
    reply = await rig.control(open=spec)
    assert reply.failure.reason == errors_pb2.ERROR_REASON_BACKEND_REFUSED
    assert "1007 Precondition check failed." in reply.failure.message
    assert rig.dialer.links[-1].closed
    assert await rig.records.read_own(spec.session_id) is None


async def test_an_update_waits_for_the_catalog_and_only_so_long(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many tools it names: all of them together have the one limit."""
    monkeypatch.setattr("services.session_worker.session_context._CATALOG_WAIT", 0.3)
    asked: list[str] = []

    async def flaky(_: Catalog, name: str) -> tools_pb2.Tool:
        asked.append(name)
        if asked.count(name) == 1:
            raise ServiceError(errors_pb2.ERROR_REASON_FABRIC_UNAVAILABLE, "no JetStream")
        return tools_pb2.Tool(declaration=live_pb2.FunctionDeclaration(name=name))

    monkeypatch.setattr(Catalog, "get", flaky)
    session, link = await rig.open()
    await rig.send(session, update(1, *[f"tool_{number}" for number in range(50)]), text(2))
    failure = await refusal(rig)
    assert failure.reason == errors_pb2.ERROR_REASON_FABRIC_UNAVAILABLE
    assert failure.HasField("retry_delay")
    assert "tool_49" not in asked
    assert asked.count("tool_0") > 1
    await eventually(lambda: link.texts)
    assert link.updates == []


async def test_pictures_reach_the_link_at_the_models_pace(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[float] = []
    monkeypatch.setattr(measured, "lost", lambda gap: counted.append(gap.to_seq - gap.from_seq + 1))
    session, link = await rig.open()

    def picture(seq: int) -> live_pb2.ConverseRequest:
        image = live_pb2.Blob(mime_type="image/jpeg", data=bytes([seq]))
        return live_pb2.ConverseRequest(seq=seq, video=live_pb2.VideoInput(image=image))

    await rig.send(session, *[picture(seq) for seq in range(1, 6)])
    await eventually(lambda: link.pictures)
    await rig.send(session, picture(6), picture(7))
    await eventually(lambda: len(link.pictures) == 2)
    assert link.pictures == [bytes([5]), bytes([7])]
    await eventually(lambda: sum(one.HasField("gap") for one in rig.responses) == 2)
    gaps = [(one.gap.from_seq, one.gap.to_seq, one.gap.reason) for one in rig.responses if one.HasField("gap")]
    assert gaps == [(1, 4, "PACE"), (6, 6, "PACE")]
    assert counted == [4, 1]  # a burst at a time: a counter of the metrics costs too much for each picture


async def test_a_caller_may_wait_less_for_itself_than_the_operator_allows(rig: Rig) -> None:
    wished = live_pb2.Resumption(window=duration(0.05))
    session, _ = await rig.open(resumption=wished)
    await rig.send(session, detached=True)
    await rig.ended()
    tombstone = await rig.records.read_own(session)
    assert tombstone is None or tombstone[0].session.end_reason == live_pb2.END_REASON_ABANDONED


@pytest.mark.parametrize(
    ("model", "restored"), [("gemini-3.8-live", True), ("gemini-3.5-live-translate-preview", False)]
)
async def test_a_link_without_a_handle_restores_what_can_be_told(rig: Rig, model: str, restored: bool) -> None:
    _, link = await rig.open(model=model)
    link.says(events.InputTranscript("hello", True, ""), events.OutputTranscript("hi", True, ""), DONE)
    await eventually(lambda: any(response.HasField("turn_complete") for response in rig.responses))
    await link.close()
    await eventually(lambda: len(rig.dialer.links) == 2)
    await eventually(lambda: any(response.link_state.HasField("recovered") for response in rig.responses))
    (recovered,) = (
        response.link_state.recovered for response in rig.responses if response.link_state.HasField("recovered")
    )
    assert (recovered.method, recovered.state_restored) == ("RESEEDED", restored)
