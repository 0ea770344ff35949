"""A session in its worker: what goes to the model, to the gateway and into the records, on a real nats-server."""

from __future__ import annotations

import asyncio

import pytest
from nats.aio.msg import Msg

from parley.v1 import errors_pb2, fabric_pb2, live_pb2, sessions_pb2
from services.fabric import subjects
from services.fabric.bus import settle
from services.fabric.conversation_log import ConversationLog
from services.fabric.errors import ServiceError
from services.fabric.records import SessionRecords
from services.session_worker import events
from services.session_worker.worker import OPEN_TRACEPARENT
from tests.session_worker.conftest import TOKEN, Rig
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
    stored = await rig.js.get_last_msg(subjects.LOG_STREAM, subjects.log(session))
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
    await rig.send(session, audio(1))
    await eventually(lambda: link.audio)
    link.says(events.Audio(bytes(480), 24_000), DONE, events.HandleUpdate("handle-1", True, None))
    link.says(events.HandleUpdate("", False, None))  # the last good handle stays

    async def written() -> fabric_pb2.CheckpointRecord | None:
        return await rig.records.read_checkpoint(session)

    checkpoint = await eventually(written)
    assert (checkpoint.handle, checkpoint.covered_uplink_seq, checkpoint.epoch) == ("handle-1", 1, 1)
    await eventually(lambda: rig.envelopes[-1].uplink_acked_seq == 1)


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
    assert await rig.records.read_checkpoint(session) is None
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
    _, link = await rig.open("lookup", headers={OPEN_TRACEPARENT: f"00-{TRACE_ID}-b7ad6b7169203331-01"})
    link.says(events.FunctionCall("c1", "lookup", {"id": 1}), events.FunctionCall("c1", "lookup", {"id": 1}))
    await eventually(lambda: tool.calls)
    assert TRACE_ID in (tool.calls[0].headers or {}).get("traceparent", "")
    reply = fabric_pb2.ToolCallReply(outcome=live_pb2.TOOL_OUTCOME_SUCCEEDED, output_json='{"status":"shipped"}')
    await tool.calls[0].respond(reply.SerializeToString())
    await eventually(lambda: link.tool_responses)
    assert [(sent.id, sent.response) for sent in link.tool_responses] == [("c1", {"output": {"status": "shipped"}})]
    assert len(tool.calls) == 1


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
