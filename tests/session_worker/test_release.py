"""A session that its worker lets go: what it leaves, and that nothing comes of it any more."""

from __future__ import annotations

import asyncio
import time

import pytest

from parley.v1 import errors_pb2, fabric_pb2, live_pb2, sessions_pb2
from services.fabric.records import handed_over
from services.session_worker import events
from tests.session_worker.conftest import TOKEN, FakeLink, Rig
from tests.session_worker.test_session import DONE
from tests.support.eventually import eventually

PATIENT = {"attachment_timeout": "60s", "resume_window": "60s", "park_after": "60s", "capacity": "2"}
pytestmark = pytest.mark.parametrize("rig", [PATIENT], indirect=True)
UNKNOWN = errors_pb2.ERROR_REASON_SESSION_UNKNOWN


def text(seq: int, words: str) -> live_pb2.ConverseRequest:
    return live_pb2.ConverseRequest(seq=seq, text=live_pb2.TextInput(text=words))


def end(seq: int) -> live_pb2.ConverseRequest:
    return live_pb2.ConverseRequest(seq=seq, end=live_pb2.End(reason="enough"))


def wishes(rig: Rig) -> list[fabric_pb2.MoveWish]:
    return [envelope.move for envelope in rig.envelopes if envelope.HasField("move")]


async def own_of(rig: Rig, session: str) -> fabric_pb2.OwnRecord:
    found = await rig.records.read_own(session)
    assert found is not None
    return found[0]


async def release(rig: Rig, session: str, *, force: bool = False) -> fabric_pb2.ControlReply:
    return await rig.control(release=fabric_pb2.ReleaseSession(session_id=session, force=force, to_worker="wk-b"))


async def answered(rig: Rig, session: str, link: FakeLink) -> None:
    """A question and its answer, which the gateway has."""
    await rig.send(session, text(1, "hello"))
    await eventually(lambda: link.texts == ["hello"])
    link.says(events.OutputTranscript("hi", finished=False, language=""))
    link.says(events.GenerationComplete(), events.TurnComplete(reason="", waiting_for_input=False, idle=True))
    link.says(events.HandleUpdate("h1", resumable=True, consumed_index=None))
    await eventually(lambda: any(told.HasField("turn_complete") for told in rig.responses))
    await rig.send(session, last_seq=1, downlink_received_seq=rig.responses[-1].seq)


async def test_it_leaves_everything_that_another_worker_needs(rig: Rig) -> None:
    session, link = await rig.open()
    await answered(rig, session, link)

    async def let_go() -> bool:
        return (await release(rig, session)).HasField("released")

    await eventually(let_go)
    assert link.closed
    own = await own_of(rig, session)
    assert handed_over(own)
    assert (own.handover.cause, own.handover.to_worker, own.session.worker) == ("MOVED", "wk-b", rig.me)
    checkpoint = await rig.records.read_checkpoint(session)
    assert checkpoint is not None
    assert (checkpoint.handle, checkpoint.turns, checkpoint.covered_uplink_seq) == ("h1", 1, 1)
    assert not checkpoint.HasField("begun")
    assert await rig.records.read_attachment(session) is not None
    ping = await rig.control(ping=fabric_pb2.Ping(session_id=session))
    assert ping.failure.reason == UNKNOWN
    await rig.ended()
    assert (await own_of(rig, session)).session.state != sessions_pb2.SESSION_STATE_ENDED
    assert not any(told.HasField("ended") for told in rig.responses)
    assert wishes(rig)[-1].released, "the gateway that did not ask hears of it, too"


async def test_it_stays_while_something_is_in_progress_unless_it_is_forced(rig: Rig) -> None:
    session, link = await rig.open(output_transcription=True)
    await rig.send(session, text(1, "hello"))
    await eventually(lambda: link.texts == ["hello"])
    assert (await release(rig, session)).HasField("busy")
    assert not link.closed
    link.says(events.OutputTranscript("well", finished=False, language=""))
    await eventually(lambda: any(told.HasField("output_transcript") for told in rig.responses))
    assert (await release(rig, session)).HasField("busy")
    assert (await release(rig, session, force=True)).HasField("released")
    checkpoint = await rig.records.read_checkpoint(session)
    assert checkpoint is not None
    assert (checkpoint.begun.turn, checkpoint.begun.given_seq) == (1, 1)
    assert not any(told.HasField("interrupted") for told in rig.responses), "that is for the next worker to say"
    assert (await release(rig, session)).failure.reason == UNKNOWN


async def test_it_stays_while_speech_may_be_on_its_way(rig: Rig) -> None:
    """Behind what is missing, or not given to this link yet; and a pause is over when silence says so."""
    session, link = await rig.open()
    await answered(rig, session, link)
    held = rig.worker.held(session)
    await eventually(lambda: held._standing(time.monotonic()).quiet)
    spoken = live_pb2.ConverseRequest(seq=3, audio=live_pb2.AudioInput(frames=[b"\x00\x10" * 640]))
    await rig.send(session, spoken)
    await eventually(held._parts.uplink.missing)
    assert not held._standing(time.monotonic()).quiet
    await rig.send(session, live_pb2.ConverseRequest(seq=2, audio=spoken.audio))
    await eventually(lambda: link.audio)
    assert not held._standing(time.monotonic() + 3).quiet
    held._parts.feeder.release()
    silence = [live_pb2.ConverseRequest(seq=seq, audio={"frames": [bytes(6400)]}) for seq in range(4, 14)]  # type: ignore[arg-type]
    await rig.send(session, *silence)
    await eventually(lambda: len(held._parts.uplink.queue) == len(silence))
    again = held._parts.journal.replay(time.monotonic()).items
    held._parts.journal.restart(again, told=False)
    held._parts.feeder.give(held._parts.links._link.link, again)  # type: ignore[union-attr]
    assert held._parts.feeder.behind
    assert not held._standing(time.monotonic()).quiet
    await eventually(lambda: held._standing(time.monotonic()).quiet)
    assert not held._parts.feeder.behind


async def test_what_the_gateway_has_and_the_caller_may_not_is_kept(rig: Rig) -> None:
    """A gateway that looks again who has its stream's session wants no message twice, and may die before the caller has
    them."""
    session, link = await rig.open()
    await rig.send(session, text(1, "hello"))
    await eventually(lambda: link.texts)
    link.says(events.Audio(bytes(480), 24_000), events.Audio(bytes(480), 24_000), DONE)
    await eventually(lambda: rig.responses and rig.responses[-1].HasField("turn_complete"))
    newest = rig.responses[-1].seq
    assert newest > 2
    again = {"session_id": session, "gateway": "gw-test", "tenant": "acme", "principal": "bot"}
    attached = (await rig.control(attach={**again, "last_received_seq": 1, "passed_on_seq": newest})).attached
    assert attached.next_downlink_seq == newest + 1
    attached = (await rig.control(attach={**again, "last_received_seq": 1})).attached
    assert attached.next_downlink_seq == 2
    refused = (await rig.control(attach={**again, "passed_on_seq": newest + 1})).failure
    assert refused.reason == errors_pb2.ERROR_REASON_FIELD_INVALID


async def test_what_comes_when_it_has_gone_is_nobodys_here(rig: Rig) -> None:
    session, link = await rig.open()
    await release(rig, session, force=True)
    await rig.send(session, text(1, "too late"))
    attach = fabric_pb2.AttachSession(
        session_id=session, gateway="gw-test", tenant="acme", principal="bot", presented_token_sha256=TOKEN
    )
    assert (await rig.control(attach=attach)).failure.reason == UNKNOWN
    closing = fabric_pb2.CloseSession(session_id=session, reason=live_pb2.END_REASON_OPERATOR)
    assert (await rig.control(end=closing)).failure.reason == UNKNOWN
    await rig.ended()
    assert link.texts == []
    assert (await own_of(rig, session)).session.state != sessions_pb2.SESSION_STATE_ENDED


async def test_a_drain_is_said_at_once_asked_for_at_a_quiet_moment_and_taken_back(rig: Rig) -> None:
    session, link = await rig.open()
    await rig.send(session, text(1, "hello"))
    await eventually(lambda: link.texts == ["hello"])
    reply = await rig.control(set_draining=fabric_pb2.SetDraining(draining=True))
    assert (reply.pong.draining, reply.pong.sessions) == (True, 1)
    refused = await rig.control(open=rig.spec())
    assert refused.failure.reason == errors_pb2.ERROR_REASON_NO_CAPACITY
    await rig.statuses(3)
    assert not wishes(rig), "the question is not answered"
    await answered(rig, session, link)
    await eventually(lambda: wishes(rig))
    assert not wishes(rig)[0].force
    reply = await rig.control(set_draining=fabric_pb2.SetDraining(draining=False))
    assert not reply.pong.draining
    await rig.statuses(1)
    assert not (await rig.statuses(2))[-1].HasField("move")
    assert (await rig.control(open=rig.spec())).HasField("attached")


async def test_a_session_without_a_caller_is_let_go_without_a_gateway(rig: Rig) -> None:
    session, link = await rig.open()
    await answered(rig, session, link)
    await rig.send(session, detached=True)
    await rig.control(set_draining=fabric_pb2.SetDraining(draining=True))
    await rig.ended()
    assert handed_over(await own_of(rig, session))


async def test_it_is_moved_where_the_operator_wants(rig: Rig) -> None:
    session, link = await rig.open()
    await answered(rig, session, link)
    reply = await rig.control(move=fabric_pb2.MoveAway(session_id=session, to_worker="wk-c"))
    assert reply.HasField("done")
    await eventually(lambda: wishes(rig))
    assert wishes(rig)[0].to_worker == "wk-c"
    nobody = await rig.control(move=fabric_pb2.MoveAway(session_id="ses_nobody"))
    assert nobody.failure.reason == UNKNOWN


async def test_a_place_that_is_kept_counts(rig: Rig) -> None:
    for session in ("ses_coming", "ses_soon"):
        reply = await rig.control(reserve=fabric_pb2.ReservePlace(session_id=session))
        assert reply.HasField("done")
    refused = await rig.control(open=rig.spec())
    assert refused.failure.reason == errors_pb2.ERROR_REASON_NO_CAPACITY
    assert (await rig.control(ping=fabric_pb2.Ping())).pong.sessions == 2


async def test_a_worker_that_ends_lets_every_session_go(rig: Rig) -> None:
    session, link = await rig.open()
    link.says(events.OutputTranscript("well", finished=False, language=""))
    await rig.worker.stop(0.2)
    assert wishes(rig)[-1].released
    assert handed_over(await own_of(rig, session))
    assert (await own_of(rig, session)).handover.cause == "DRAIN"
    assert link.closed


async def test_in_a_hurry_nobody_is_waited_for(rig: Rig) -> None:
    session, link = await rig.open()
    link.says(events.OutputTranscript("well", finished=False, language=""))
    hurry = asyncio.Event()
    stopping = asyncio.create_task(rig.worker.stop(3600, hurry))
    await rig.statuses(2)
    assert not wishes(rig)
    hurry.set()
    await stopping
    assert handed_over(await own_of(rig, session))


async def test_a_caller_that_ends_a_session_without_a_link_need_not_wait_for_one(rig: Rig) -> None:
    session, link = await rig.open()
    await rig.send(session, text(1, "hello"))
    await eventually(lambda: link.texts == ["hello"])
    rig.dialer.refuse = _away()
    await link.close()
    await eventually(lambda: any(told.link_state.HasField("rotating") for told in rig.responses))
    await rig.send(session, text(2, "never mind"), end(3))
    await eventually(lambda: any(told.ended.reason == live_pb2.END_REASON_CALLER for told in rig.responses))
    await rig.ended()


def _away() -> Exception:
    from services.session_worker.closes import LinkFailure, Where, link_error

    return link_error(LinkFailure(Where.CONNECT, text="nobody there"))
