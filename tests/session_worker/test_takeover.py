"""A worker that takes a session over, on a real nats-server: what it writes, tells, gives its link, and refuses."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from parley.v1 import errors_pb2, fabric_pb2, live_pb2, sessions_pb2
from services.fabric import subjects
from services.fabric.records import SessionRecords
from services.session_worker import events, restoring
from services.session_worker import journal as journal_module
from services.session_worker.worker import Worker
from tests.session_worker.conftest import TOKEN, FakeLink, Rig
from tests.session_worker.test_questions_across_links import sound
from tests.session_worker.test_session import DONE, audio, text
from tests.support.eventually import eventually

OTHER = "wk-gone"


async def lose(rig: Rig, session: str, link: FakeLink, epoch: int = 2) -> None:
    """Another worker takes the session over, and is gone; ours finds that out. `epoch`: that one's."""
    own = await rig.records.read_own(session)
    assert own is not None
    own[0].session.worker, own[0].session.epoch = OTHER, epoch
    own[0].epochs.add(epoch=epoch, first_downlink_seq=1)
    await rig.records.take_own(session, own[1], own[0])
    link.says(events.HandleUpdate("fenced", True, None))
    await rig.ended()


async def take_over(
    rig: Rig, session: str, headers: dict[str, str] | None = None, **fields: Any
) -> fabric_pb2.ControlReply:
    values = {
        "session_id": session,
        "gateway": "gw-test",
        "tenant": "acme",
        "principal": "bot",
        "from_worker": OTHER,
        "from_epoch": 2,
        "proof": fabric_pb2.PROOF_OF_DEATH_DEAD,
        "attach_generation": 1,
        **fields,
    }
    rig.envelopes.clear()
    return await rig.control(headers, take_over=values)


def told(rig: Rig) -> list[str]:
    """What the new owner says, by kind."""
    kinds = [response.WhichOneof("payload") or "ack" for response in rig.responses]
    return [kind for kind in kinds if kind != "ack"]


async def conversation(rig: Rig, headers: dict[str, str] | None = None) -> tuple[str, FakeLink]:
    """A question that has its answer and a handle."""
    session, link = await rig.open(headers=headers)
    await rig.send(session, text(1, "how are you"))
    await eventually(lambda: link.texts)
    link.says(events.OutputTranscript("fine", False, ""), DONE, events.HandleUpdate("good", True, None))

    async def stored() -> bool:
        checkpoint = await rig.records.read_checkpoint(session)
        return checkpoint is not None and checkpoint.handle == "good" and checkpoint.handle_position == 2

    await eventually(stored)
    return session, link


async def test_a_session_goes_on_where_its_owner_left_it(rig: Rig) -> None:
    session, link = await conversation(rig)
    floor = rig.responses[-1].seq
    await rig.send(session, text(2, "and now"), audio(3))
    await eventually(lambda: link.audio)
    await eventually(lambda: rig.envelopes[-1].uplink_acked_seq == 2)
    await lose(rig, session, link)
    reply = await take_over(rig, session, floor=floor, uplink_acked_seq=2, uplink_sent_seq=3)
    attached = reply.attached
    assert (attached.epoch, attached.attach_generation) == (3, 2)
    assert (attached.next_uplink_seq, attached.next_downlink_seq) == (3, floor + 1)
    new = await eventually(lambda: rig.dialer.links[-1] if len(rig.dialer.links) == 2 else None)
    await eventually(lambda: new.texts == ["and now"])
    assert new.turns == []
    await eventually(lambda: told(rig) == ["link_state", "link_state"])
    recovered = rig.responses[1].link_state.recovered
    assert rig.responses[0].link_state.rotating.cause == "WORKER_LOST"
    assert recovered.method == "RESUMED"
    assert [(each.from_seq, each.to_seq) for each in recovered.replayed] == [(2, 3)]
    assert [response.seq for response in rig.responses] == [floor + 1, floor + 2]
    own = await rig.records.read_own(session)
    assert own is not None
    assert (own[0].session.worker, own[0].session.epoch) == (rig.me, 3)
    assert [(each.epoch, each.first_downlink_seq) for each in own[0].epochs] == [(1, 1), (2, 1), (3, floor + 1)]
    rig.generation = 2
    await rig.send(session, audio(3), epoch=3)
    await eventually(lambda: new.audio)
    await rig.send(session, text(4, "bye"), epoch=3)
    new.says(DONE)
    await eventually(lambda: new.texts == ["and now", "bye"])


async def test_an_answer_that_was_cut_off_is_told_void_and_asked_for_again(rig: Rig) -> None:
    session, link = await conversation(rig)
    await rig.send(session, text(2, "a story please"))
    await eventually(lambda: len(link.texts) == 2)
    link.says(events.Audio(bytes(480), 24_000), events.OutputTranscript("once", False, ""))

    async def begun() -> bool:
        checkpoint = await rig.records.read_checkpoint(session)
        return checkpoint is not None and checkpoint.HasField("begun")

    await eventually(begun)
    await eventually(lambda: rig.responses[-1].HasField("audio"))
    floor = rig.responses[-1].seq
    await lose(rig, session, link)
    await take_over(rig, session, floor=floor, uplink_acked_seq=2, uplink_sent_seq=2)
    new = await eventually(lambda: rig.dialer.links[-1] if len(rig.dialer.links) == 2 else None)
    await eventually(lambda: new.turns)
    [(question, complete)] = new.turns
    assert ([part.text for part in question[0].parts], complete) == (["a story please"], True)
    await eventually(lambda: told(rig) == ["link_state", "interrupted", "link_state"])
    cut_off = rig.responses[1].interrupted
    assert cut_off.reason == live_pb2.INTERRUPTION_REASON_RESTARTED
    assert (cut_off.void_from_seq, cut_off.void_to_seq) == (floor, floor)
    assert not new.texts


async def test_an_answer_that_the_caller_has_is_ended_and_not_asked_for_again(rig: Rig) -> None:
    session, link = await conversation(rig)
    await rig.send(session, text(2, "a story please"))
    await eventually(lambda: len(link.texts) == 2)
    link.says(events.Audio(bytes(480), 24_000), events.OutputTranscript("once", False, ""), events.GenerationComplete())

    async def generated() -> bool:
        checkpoint = await rig.records.read_checkpoint(session)
        return checkpoint is not None and checkpoint.begun.generated_downlink_seq > 0

    await eventually(generated)
    await eventually(lambda: rig.responses[-1].HasField("generation_complete"))
    floor = rig.responses[-1].seq
    await lose(rig, session, link)
    await take_over(rig, session, floor=floor, uplink_acked_seq=2, uplink_sent_seq=2)
    new = await eventually(lambda: rig.dialer.links[-1] if len(rig.dialer.links) == 2 else None)
    await eventually(lambda: told(rig) == ["link_state", "turn_complete", "link_state"])
    [(exchange, complete)] = new.turns
    assert [[part.text for part in content.parts] for content in exchange] == [["a story please"], ["once"]]
    assert not complete
    await rig.send(session, text(3, "thanks"), epoch=3, attach_generation=2)
    await eventually(lambda: new.texts == ["thanks"])


async def test_calls_of_the_caller_that_are_made_again_are_the_same_calls(rig: Rig) -> None:
    session, link = await rig.open(caller_tools=[live_pb2.FunctionDeclaration(name="open_door")])
    await rig.send(session, text(1, "open the doors"))
    await eventually(lambda: link.texts)
    link.says(*(events.FunctionCall(f"c{door}", "open_door", {"door": door}) for door in (1, 2)))

    async def stored() -> bool:
        checkpoint = await rig.records.read_checkpoint(session)
        return checkpoint is not None and len(checkpoint.caller_calls) == 2

    await eventually(stored)
    floor = rig.responses[-1].seq
    await lose(rig, session, link)
    attached = (await take_over(rig, session, floor=floor, uplink_acked_seq=1, uplink_sent_seq=1)).attached
    rig.generation = attached.attach_generation
    new = await eventually(lambda: rig.dialer.links[-1] if len(rig.dialer.links) == 2 else None)
    await eventually(lambda: new.turns)

    def result(seq: int, call_id: str) -> live_pb2.ConverseRequest:
        return live_pb2.ConverseRequest(seq=seq, tool_result=live_pb2.ToolResult(call_id=call_id, output={}))

    # Of one of the old owner's last moment nobody knows.
    await rig.send(session, result(2, "c1"), result(3, "c9"), epoch=3)
    new.says(events.FunctionCall("d1", "open_door", {"door": 1}))
    await eventually(lambda: new.tool_responses)
    assert [(sent.id, sent.name) for sent in new.tool_responses] == [("d1", "open_door")]
    assert "tool_call" not in told(rig)
    # The other one does not come again.
    new.says(events.Text("it is open", thought=False), DONE)
    await eventually(lambda: "tool_call_cancelled" in told(rig))
    [cancelled] = [
        list(each.tool_call_cancelled.call_ids) for each in rig.responses if each.HasField("tool_call_cancelled")
    ]
    assert cancelled == ["c2"]
    await rig.send(session, result(4, "c2"), text(5, "hurry"), epoch=3)
    await eventually(lambda: new.texts == ["hurry"])
    assert len(new.tool_responses) == 1


async def test_a_result_of_the_caller_that_the_model_was_not_told_is(rig: Rig) -> None:
    """The log has it, so the caller need not send it again; there was no link for it."""
    session, link = await rig.open(caller_tools=[live_pb2.FunctionDeclaration(name="pay")])
    await rig.send(session, text(1, "pay"))
    await eventually(lambda: link.texts)
    call = events.FunctionCall("c1", "pay", {"euros": 5})
    link.says(events.OutputTranscript("one moment", False, ""), call, DONE, events.HandleUpdate("good", True, None))

    async def stored() -> bool:
        checkpoint = await rig.records.read_checkpoint(session)
        return checkpoint is not None and checkpoint.handle_position == 2 and len(checkpoint.caller_calls) == 1

    await eventually(stored)
    rig.worker.held(session)._parts.feeder.release()
    result = live_pb2.ToolResult(call_id="c1")
    result.output.update({"paid": True})
    await rig.send(session, live_pb2.ConverseRequest(seq=2, tool_result=result))
    await eventually(lambda: rig.envelopes[-1].uplink_acked_seq == 2)
    floor = rig.responses[-1].seq
    await lose(rig, session, link)
    attached = (await take_over(rig, session, floor=floor, uplink_acked_seq=2, uplink_sent_seq=2)).attached
    assert attached.next_uplink_seq == 3
    new = await eventually(lambda: rig.dialer.links[-1] if len(rig.dialer.links) == 2 else None)
    await eventually(lambda: new.turns)
    [(contents, complete)] = new.turns
    [words] = [part.text for part in contents[0].parts]
    assert ("pay" in words, '"paid"' in words, complete) == (True, True, True)
    assert not rig.worker.held(session)._parts.caller_tools.pending


async def test_the_end_of_an_answer_that_reached_nobody_is_named_and_ended(rig: Rig) -> None:
    session, link = await conversation(rig)
    last = rig.responses[-1].seq
    await lose(rig, session, link)
    reply = await take_over(rig, session, floor=last - 1)
    assert reply.attached.next_downlink_seq == last
    await eventually(lambda: told(rig) == ["link_state", "turn_complete", "link_state"])
    [skip] = [skip for envelope in rig.envelopes for skip in envelope.skips]
    assert (skip.range.from_seq, skip.range.to_seq, skip.reason) == (last, last, "FORGOTTEN")
    assert rig.responses[0].seq == last + 1


async def test_without_a_handle_the_link_begins_anew_from_the_log(rig: Rig) -> None:
    session, link = await rig.open()
    await rig.send(session, text(1, "how are you"))
    await eventually(lambda: link.texts)
    link.says(events.OutputTranscript("fine", False, ""), DONE)

    async def stored() -> bool:
        checkpoint = await rig.records.read_checkpoint(session)
        return checkpoint is not None and checkpoint.turns == 1

    await eventually(stored)
    await lose(rig, session, link)
    await take_over(rig, session, floor=rig.responses[-1].seq)
    new = await eventually(lambda: rig.dialer.links[-1] if len(rig.dialer.links) == 2 else None)
    await eventually(lambda: new.turns)
    assert [[part.text for part in content.parts] for content in new.turns[0][0]] == [["how are you"], ["fine"]]
    assert not new.texts


async def test_a_caller_that_comes_back_may_number_its_text_anew(rig: Rig) -> None:
    session, link = await conversation(rig)
    floor = rig.responses[-1].seq
    await rig.send(session, audio(2), text(3, "and now"))
    await eventually(lambda: len(link.texts) == 2)
    await eventually(lambda: rig.envelopes[-1].uplink_stored or rig.envelopes[-1].uplink_acked_seq == 3)
    await lose(rig, session, link)
    back = {"attach_generation": 0, "presented_token_sha256": TOKEN}
    attached = (await take_over(rig, session, floor=floor, **back)).attached
    rig.generation = attached.attach_generation
    first = attached.next_uplink_seq
    await rig.send(session, text(first, "and now"), epoch=3)
    new = await eventually(lambda: rig.dialer.links[-1] if len(rig.dialer.links) == 2 else None)
    await eventually(lambda: new.texts)
    new.says(events.OutputTranscript("fine", False, ""), DONE)
    conversation_now = rig.worker.held(session)._parts.conversation
    await eventually(lambda: conversation_now.settled > 2)
    assert not conversation_now.unanswered_requests, "it was answered, whatever its number was"
    await rig.send(session, text(first + 1, "more"), epoch=3)
    await eventually(lambda: len(new.texts) == 2)
    assert new.texts == ["and now", "more"]
    await eventually(lambda: rig.envelopes[-1].uplink_acked_seq == first + 1)
    # Asked, answered, asked again by the first owner; the new one stored that it begins, which number the text has now,
    # and what was new.
    assert await rig.messages(subjects.log(session), subjects.LOG_STREAM) == 8


@pytest.mark.parametrize("comes_again", ["then", "later", "never"])
async def test_and_the_owner_after_the_next_knows_the_new_numbers(rig: Rig, comes_again: str) -> None:
    """The log has it under the old number, which the caller's stream comes to in time, with something else."""
    session, link = await conversation(rig)
    floor = rig.responses[-1].seq
    await rig.send(session, audio(2), audio(3), audio(4), text(5, "and now"))
    await eventually(lambda: len(link.texts) == 2)
    await eventually(lambda: rig.envelopes[-1].uplink_stored or rig.envelopes[-1].uplink_acked_seq == 5)
    await lose(rig, session, link)
    back = {"attach_generation": 0, "presented_token_sha256": TOKEN}
    attached = (await take_over(rig, session, floor=floor, **back)).attached
    rig.generation, first = attached.attach_generation, attached.next_uplink_seq
    assert first == 2
    second = await eventually(lambda: rig.dialer.links[-1] if len(rig.dialer.links) == 2 else None)
    if comes_again == "then":
        await rig.send(session, text(first, "and now"), epoch=3)
        await eventually(lambda: second.texts == ["and now"])
        second.says(events.OutputTranscript("fine", False, ""), DONE)
        conversation_now = rig.worker.held(session)._parts.conversation
        await eventually(lambda: conversation_now.settled > 2)
        await eventually(lambda: rig.envelopes[-1].uplink_acked_seq == first)
    elif comes_again == "never":  # its caller goes on without it, but has sent it
        await rig.send(session, text(first, "something else"), epoch=3)
        await eventually(lambda: second.texts == ["and now", "something else"])
        await eventually(lambda: rig.envelopes[-1].uplink_acked_seq == first)
    floor = max(response.seq for response in rig.responses)
    await lose(rig, session, second, epoch=4)
    fields = {"from_epoch": 4, "attach_generation": attached.attach_generation, "floor": floor}
    again = (await take_over(rig, session, **fields)).attached
    rig.generation = again.attach_generation
    third = await eventually(lambda: rig.dialer.links[-1] if len(rig.dialer.links) == 3 else None)
    if comes_again == "later":
        assert again.next_uplink_seq == first
        await rig.send(session, text(first, "and now"), epoch=5)
    after = {"then": [], "later": ["and now"], "never": ["and now", "something else"]}[comes_again]
    await eventually(lambda: third.texts == after)
    await rig.send(session, audio(3), audio(4), audio(5), text(6, "bye"), epoch=5)
    third.says(events.OutputTranscript("so", False, ""), DONE)
    await eventually(lambda: third.texts == [*after, "bye"])
    told_in_words = [part.text for turns, _ in third.turns for content in turns for part in content.parts]
    assert told_in_words.count("and now") == (comes_again == "then")


async def test_what_was_never_written_takes_no_number_from_what_is_written_later(rig: Rig) -> None:
    """The record may be ahead of the log when a worker dies: what has those positions then is of the stream itself."""
    session, link = await conversation(rig)
    await lose(rig, session, link)
    own, attachment = await rig.records.read_own(session), await rig.records.read_attachment(session)
    assert own is not None
    assert attachment is not None
    attachment.numbered_from, attachment.log_position = 2, 99
    await rig.records.write_attachment(session, own[1], attachment)
    rig.generation = (await take_over(rig, session)).attached.attach_generation
    second = await eventually(lambda: rig.dialer.links[-1] if len(rig.dialer.links) == 2 else None)
    await rig.send(session, text(2, "and now"), epoch=3)
    await eventually(lambda: second.texts == ["and now"])
    await eventually(lambda: rig.envelopes[-1].uplink_acked_seq == 2)
    await lose(rig, session, second, epoch=4)
    await take_over(rig, session, from_epoch=4, attach_generation=rig.generation)
    third = await eventually(lambda: rig.dialer.links[-1] if len(rig.dialer.links) == 3 else None)
    await eventually(lambda: third.texts == ["and now"])


async def test_what_a_caller_left_before_it_says_no_more_is_answered(rig: Rig) -> None:
    """It comes back only to hear: whatever it does not send again by then, it has sent."""
    session, link = await conversation(rig)
    floor = rig.responses[-1].seq
    await rig.send(session, audio(2), text(3, "and now"))
    await eventually(lambda: len(link.texts) == 2)
    await eventually(lambda: rig.envelopes[-1].uplink_stored)
    await lose(rig, session, link)
    back = {"attach_generation": 0, "presented_token_sha256": TOKEN}
    attached = (await take_over(rig, session, floor=floor, **back)).attached
    assert attached.next_uplink_seq == 2
    new = await eventually(lambda: rig.dialer.links[-1] if len(rig.dialer.links) == 2 else None)
    rig.generation = attached.attach_generation
    await rig.send(session, epoch=3, last_seq=1, half_closed=True)
    await eventually(lambda: new.texts == ["and now"])


async def test_text_behind_what_a_gap_names_is_given_whoever_has_it(rig: Rig) -> None:
    """Nobody knows of the gap after a crash: what is behind it is acked when a checkpoint knows."""
    for checkpoint in (False, True):
        rig.generation, rig.envelopes = 1, []
        session, link = await conversation(rig)
        floor = rig.responses[-1].seq
        shed = fabric_pb2.Skip(range={"from_seq": 2, "to_seq": 2}, media_class=live_pb2.MEDIA_CLASS_VIDEO)  # type: ignore[arg-type]
        await rig.send(session, last_seq=2, skips=[shed])
        await rig.send(session, text(3, "what do you see"))
        await eventually(lambda: link.texts[1:])  # noqa: B023
        await eventually(lambda: rig.envelopes[-1].uplink_stored)
        assert rig.envelopes[-1].uplink_acked_seq == 1
        if checkpoint:
            rig.worker.held(session)._parts.checkpoints.tick(time.monotonic() + 10)
            await eventually(lambda: rig.envelopes[-1].uplink_acked_seq == 3)
        await lose(rig, session, link)
        links = len(rig.dialer.links)
        back = {"attach_generation": 0, "presented_token_sha256": TOKEN}
        attached = (await take_over(rig, session, floor=floor, **back)).attached
        new = await eventually(lambda: rig.dialer.links[-1] if len(rig.dialer.links) > links else None)  # noqa: B023
        assert attached.next_uplink_seq == (4 if checkpoint else 2)
        rig.generation = attached.attach_generation
        if not checkpoint:
            await rig.send(session, audio(2), text(3, "what do you see"), epoch=3)
        await rig.send(session, text(4, "and now"), epoch=3)
        await eventually(lambda: new.texts == ["what do you see", "and now"])  # noqa: B023


async def test_a_loss_whose_gap_waits_behind_audio_is_told_by_the_next_owner(rig: Rig) -> None:
    """The input behind it is acked by then: nobody would ask for it, and nobody would say that it was lost."""
    session, link = await conversation(rig)
    link.says(*[events.Audio(bytes(48_000), 24_000)] * 20)
    await eventually(lambda: rig.worker.held(session)._parts.downlink.waiting)
    shed = fabric_pb2.Skip(range={"from_seq": 2, "to_seq": 2}, media_class=live_pb2.MEDIA_CLASS_VIDEO)  # type: ignore[arg-type]
    await rig.send(session, last_seq=2, skips=[shed])
    await rig.send(session, text(3, "what do you see"))
    await eventually(lambda: link.texts[1:])
    rig.worker.held(session)._parts.checkpoints.tick(time.monotonic() + 10)
    await eventually(lambda: rig.envelopes[-1].uplink_acked_seq == 3)
    assert "gap" not in told(rig)
    floor = max(response.seq for response in rig.responses)
    await lose(rig, session, link)
    assert (await take_over(rig, session, floor=floor, uplink_acked_seq=3)).HasField("attached")
    await eventually(lambda: "gap" in told(rig))
    (gap,) = [response.gap for response in rig.responses if response.HasField("gap")]
    assert (gap.from_seq, gap.to_seq, gap.media_class) == (2, 2, live_pb2.MEDIA_CLASS_VIDEO)


async def test_speech_that_grew_too_old_is_told_of_by_the_next_owner(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a sentence longer than what is kept nobody has the beginning, and its number is acked."""
    monkeypatch.setattr(journal_module, "HORIZON", 0.2)
    session, link = await conversation(rig)
    await rig.send(session, sound(2))
    await eventually(lambda: rig.worker.held(session)._parts.journal.too_old(None))
    rig.worker.held(session)._parts.checkpoints.tick(time.monotonic() + 10)
    await eventually(lambda: rig.envelopes[-1].uplink_acked_seq == 2)
    assert "gap" not in told(rig)
    floor = max(response.seq for response in rig.responses)
    await lose(rig, session, link)
    assert (await take_over(rig, session, floor=floor, uplink_acked_seq=2)).HasField("attached")
    await eventually(lambda: "gap" in told(rig))
    (gap,) = [response.gap for response in rig.responses if response.HasField("gap")]
    assert (gap.from_seq, gap.to_seq, gap.media_class, gap.reason) == (2, 2, live_pb2.MEDIA_CLASS_AUDIO, "TOO_OLD")


async def test_but_not_of_what_was_answered(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "HORIZON", 0.2)
    session, link = await conversation(rig)
    await rig.send(session, sound(2))
    await eventually(lambda: rig.worker.held(session)._parts.journal.too_old(None))
    parts = rig.worker.held(session)._parts
    assert parts.checkpoints.record().untold_losses
    link.says(events.InputTranscript("hello", True, ""), events.Text("good day", thought=False))
    await eventually(lambda: "text" in told(rig))
    assert not parts.checkpoints.record().untold_losses, "it is known in words"
    link.says(DONE)
    await eventually(lambda: parts.turns.current is None)
    assert not parts.checkpoints.record().untold_losses


async def test_an_answer_in_the_log_says_what_the_caller_was_not_told(rig: Rig) -> None:
    """It covers the input that it is about, whether or not its owner comes to write a checkpoint."""
    session, link = await conversation(rig)
    link.says(*[events.Audio(bytes(48_000), 24_000)] * 20)
    await eventually(lambda: rig.worker.held(session)._parts.downlink.waiting)
    shed = fabric_pb2.Skip(range={"from_seq": 2, "to_seq": 2}, media_class=live_pb2.MEDIA_CLASS_VIDEO)  # type: ignore[arg-type]
    await rig.send(session, last_seq=2, skips=[shed])
    await eventually(lambda: rig.worker.held(session)._parts.downlink.losses)
    before = await rig.messages(subjects.log(session), subjects.LOG_STREAM)
    link.says(DONE)

    async def logged() -> fabric_pb2.LogEntry | None:
        if await rig.messages(subjects.log(session), subjects.LOG_STREAM) == before:
            return None
        message = await rig.js.get_last_msg(subjects.LOG_STREAM, subjects.log(session))
        return fabric_pb2.LogEntry.FromString(message.data or b"")

    entry = await eventually(logged)
    assert [(loss.gap.from_seq, loss.gap.to_seq) for loss in entry.model_said.untold_losses] == [(2, 2)]


async def test_a_fenced_owner_leaves_the_session_its_log_and_its_request_id(rig: Rig) -> None:
    session, link = await conversation(rig)
    before = await rig.messages(subjects.log(session), subjects.LOG_STREAM)
    await lose(rig, session, link)
    assert not len(rig.worker._services.leftovers)
    assert await rig.messages(subjects.log(session), subjects.LOG_STREAM) == before
    assert not [response for response in rig.responses if response.HasField("ended")]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"tenant": "umbrella"}, errors_pb2.ERROR_REASON_SESSION_UNKNOWN),
        ({"session_id": "ses_none"}, errors_pb2.ERROR_REASON_SESSION_UNKNOWN),
        ({"from_epoch": 1}, errors_pb2.ERROR_REASON_WORKER_LOST),
        ({"attach_generation": 7}, errors_pb2.ERROR_REASON_SUPERSEDED),
        ({"proof": fabric_pb2.PROOF_OF_DEATH_UNSPECIFIED}, errors_pb2.ERROR_REASON_WORKER_LOST),
    ],
)
async def test_what_is_refused_changes_nothing(rig: Rig, fields: dict[str, Any], reason: int) -> None:
    session, link = await conversation(rig)
    await lose(rig, session, link)
    own = await rig.records.read_own(session)
    assert (await take_over(rig, session, **fields)).failure.reason == reason
    assert await rig.records.read_own(session) == own
    assert len(rig.dialer.links) == 1


async def test_a_session_that_is_being_taken_over_is_not_taken_for_one_that_nobody_holds(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its `own` names the new owner before that has it."""
    session, link = await conversation(rig)
    await lose(rig, session, link)
    owns, goes_on = asyncio.Event(), asyncio.Event()
    restore = restoring.restore

    async def slow(*arguments: Any) -> int:
        owns.set()
        await goes_on.wait()
        return await restore(*arguments)

    monkeypatch.setattr(restoring, "restore", slow)
    taking = asyncio.create_task(take_over(rig, session))
    await owns.wait()
    own = await rig.records.read_own(session)
    assert own is not None
    assert own[0].session.worker == rig.me
    assert (await rig.control(ping={"session_id": session})).HasField("pong")
    caller = {"session_id": session, "gateway": "gw-test", "tenant": "acme", "principal": "bot"}
    comes_back = {**caller, "presented_token_sha256": TOKEN}
    refused = (await rig.control(attach=comes_back)).failure
    assert refused.reason == errors_pb2.ERROR_REASON_WORKER_LOST, "a gateway tries again"
    goes_on.set()
    assert (await taking).HasField("attached")
    assert (await rig.control(attach=comes_back)).HasField("attached")
    assert (await rig.control(ping={"session_id": session})).HasField("pong")


async def test_an_owner_that_answers_keeps_its_session(rig: Rig) -> None:
    session, link = await conversation(rig)
    await lose(rig, session, link)

    async def here(message: Any) -> None:
        await message.respond(fabric_pb2.ControlReply(pong={}).SerializeToString())  # type: ignore[arg-type]

    subscription = await rig.client.subscribe(subjects.control(OTHER), cb=here)
    await rig.client.flush()
    assert (await take_over(rig, session)).failure.reason == errors_pb2.ERROR_REASON_WORKER_LOST
    await subscription.unsubscribe()


async def test_a_silent_owner_that_took_its_session_just_now_keeps_it(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the gateway has heard of it; a proof of its end, or a record that grew old, is enough."""
    session, link = await conversation(rig)
    await lose(rig, session, link)
    silent = {"proof": fabric_pb2.PROOF_OF_DEATH_SILENT, "floor": rig.responses[-1].seq}
    refused = (await take_over(rig, session, **silent)).failure
    assert refused.reason == errors_pb2.ERROR_REASON_WORKER_LOST
    assert "look again" in refused.message
    assert 0.0 < refused.retry_delay.ToTimedelta().total_seconds() <= 5.0
    own = await rig.records.read_own(session)
    assert own is not None
    assert (own[0].session.worker, own[0].session.epoch) == (OTHER, 2)

    async def age(_: SessionRecords, session_id: str) -> float:
        return ages[session_id]

    ages = {session: 4.9}
    monkeypatch.setattr(SessionRecords, "own_age", age)
    assert (await take_over(rig, session, **silent)).HasField("failure")
    ages[session] = 5.1
    assert (await take_over(rig, session, **silent)).attached.epoch == 3


async def test_clocks_that_differ_keep_no_session_from_its_next_owner(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, link = await conversation(rig)
    await lose(rig, session, link)

    async def age(*_: Any) -> float:
        return -30.0

    monkeypatch.setattr(SessionRecords, "own_age", age)
    silent = {"proof": fabric_pb2.PROOF_OF_DEATH_SILENT, "floor": rig.responses[-1].seq}
    assert (await take_over(rig, session, **silent)).attached.epoch == 3


async def test_of_two_that_take_over_at_once_one_does(rig: Rig) -> None:
    session, link = await conversation(rig)
    await lose(rig, session, link)
    replies = await asyncio.gather(*(take_over(rig, session) for _ in range(2)))
    assert sorted(reply.WhichOneof("result") for reply in replies) == ["attached", "failure"]
    assert len(rig.worker._sessions) == 1


async def test_an_ended_session_is_not_taken_over(rig: Rig) -> None:
    session, link = await conversation(rig)
    await lose(rig, session, link)
    own = await rig.records.read_own(session)
    assert own is not None
    own[0].session.state = sessions_pb2.SESSION_STATE_ENDED
    await rig.records.take_own(session, own[1], own[0])
    assert (await take_over(rig, session)).failure.reason == errors_pb2.ERROR_REASON_SESSION_ENDED


async def test_more_at_once_than_a_worker_takes_are_told_when_to_come_again(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.session_worker.admission.MOST_RECOVERIES", 1)
    first, first_link = await conversation(rig)
    await lose(rig, first, first_link)
    second, second_link = await conversation(rig)
    await lose(rig, second, second_link)
    held = asyncio.Event()
    read = SessionRecords.read_own

    async def slow(records: SessionRecords, session: str) -> Any:
        await held.wait()
        return await read(records, session)

    monkeypatch.setattr(SessionRecords, "read_own", slow)
    taking = asyncio.create_task(take_over(rig, first))

    def one_is_taken() -> bool:
        worker: Worker = rig.worker
        return worker.recovering == 1

    await eventually(one_is_taken)
    refused = (await take_over(rig, second)).failure
    assert refused.reason == errors_pb2.ERROR_REASON_NO_CAPACITY
    assert refused.retry_delay.ToTimedelta().total_seconds() == 0.25
    held.set()
    assert (await taking).HasField("attached")
    await eventually(lambda: rig.worker.recovering == 0)
    assert (await take_over(rig, second)).HasField("attached")
