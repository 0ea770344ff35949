"""A session without a link: its caller is away, or the worker was out of touch and does not know whose it is."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from parley.v1 import fabric_pb2, live_pb2
from services.fabric import subjects
from services.session_worker import events
from services.session_worker.session import Session
from tests.session_worker.conftest import TOKEN, FakeLink, Rig
from tests.session_worker.talk import LEDGER, Talk
from tests.support.eventually import eventually
from tests.support.nats import NatsServer
from tests.tools.conftest import ToolsProcess, tools_process

PATIENT = {"attachment_timeout": "60s", "resume_window": "60s", "park_after": "100ms"}
pytestmark = pytest.mark.parametrize("rig", [PATIENT], indirect=True)


@pytest.fixture(scope="module")
def service(nats: NatsServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ToolsProcess]:
    with tools_process(nats.url, tmp_path_factory.mktemp("tools"), modules=LEDGER) as tools:
        yield tools


def held(rig: Rig, session: str) -> Session:
    return rig.worker._sessions[session]


async def attach(rig: Rig, session: str) -> FakeLink:
    """The caller is back; the link that the session gets."""
    links = len(rig.dialer.links)
    command = fabric_pb2.AttachSession(
        session_id=session, gateway="gw-test", tenant="acme", principal="bot", presented_token_sha256=TOKEN
    )
    reply = await rig.control(attach=command)
    rig.generation = reply.attached.attach_generation
    await eventually(lambda: len(rig.dialer.links) > links)
    return rig.dialer.links[-1]


async def leave(rig: Rig, session: str, link: FakeLink) -> None:
    """The caller is away for so long that the session is parked."""
    await rig.send(session, detached=True)
    await eventually(lambda: link.closed)


def text(seq: int, words: str) -> live_pb2.ConverseRequest:
    return live_pb2.ConverseRequest(seq=seq, text=live_pb2.TextInput(text=words))


def causes(rig: Rig) -> list[str]:
    return [told.link_state.rotating.cause for told in rig.responses if told.link_state.HasField("rotating")]


def said(rig: Rig) -> list[live_pb2.ConverseResponse]:
    return [told for told in rig.responses if told.seq]


def words(link: FakeLink) -> str:
    return str(link.turns)


# Parked


async def test_a_parked_session_has_no_link_and_gets_one_by_its_handle_when_the_caller_is_back(rig: Rig) -> None:
    session, first = await rig.open()
    first.says(events.HandleUpdate("h1", resumable=True, consumed_index=None))
    await eventually(lambda: held(rig, session)._parts.links.handle == "h1")
    await leave(rig, session, first)
    assert not first.aborted
    assert rig.worker.counts["sessions"] == 1
    second = await attach(rig, session)
    await rig.send(session, text(1, "are you there"))
    await eventually(lambda: second.texts == ["are you there"])
    assert causes(rig) == ["PARKED"]


async def test_what_the_model_had_not_answered_is_given_to_the_next_link(rig: Rig) -> None:
    session, first = await rig.open()
    await rig.send(session, text(1, "what is the weather"))
    await eventually(lambda: first.texts)
    await leave(rig, session, first)  # the answer is owed: it waits as long again
    second = await attach(rig, session)
    await eventually(lambda: "what is the weather" in second.texts or "what is the weather" in words(second))
    assert second.texts.count("what is the weather") + words(second).count("what is the weather") == 1


async def test_a_turn_in_progress_is_not_cut_off_at_once(rig: Rig) -> None:
    session, link = await rig.open()
    link.says(events.OutputTranscript("one moment", finished=False, language=""))
    await eventually(lambda: held(rig, session)._parts.turns.current is not None)
    began = time.monotonic()
    await leave(rig, session, link)
    assert time.monotonic() - began >= 0.2  # twice `park_after`: never sooner
    second = await attach(rig, session)
    assert second is not link


async def test_what_a_tool_returned_meanwhile_is_told_once_and_had_its_effect_once(
    talk: Talk, service: ToolsProcess
) -> None:
    rig = talk.rig
    await rig.send(talk.id, text(1, "pay the rent"))
    await eventually(lambda: talk.link.texts)
    talk.call("c1", held=True)
    await talk.entered()
    await leave(rig, talk.id, talk.link)
    talk.ledger.release()
    second = await attach(rig, talk.id)
    await eventually(lambda: "pay the rent" in words(second) + str(second.texts))
    talk.link = second
    talk.call("c2")  # asked again, the model calls again
    assert await talk.answers() == [{"output": {"result": "entered rent"}}]
    assert talk.ledger.entries() == ["rent"]
    assert words(second).count("entered rent") == 0  # the call that is answered has it
    assert not talk.link.closed


# Out of touch


def cut_off(rig: Rig) -> None:
    """As if nothing had been heard of NATS for the ttl."""
    rig.worker._services.lifeline._lease._until = 0.0


async def someone_took(rig: Rig, session: str) -> int:
    found = await rig.records.read_own(session)
    assert found is not None
    own, revision = found
    own.session.worker, own.session.epoch = "wk-other", 2
    return await rig.records._compare_and_set(session, revision, own, None)


async def test_a_session_that_is_still_ours_goes_on_with_another_link(rig: Rig) -> None:
    session, first = await rig.open()
    await rig.send(session, text(1, "hello"))
    await eventually(lambda: first.texts)
    first.says(
        events.OutputTranscript("hi", finished=True, language=""),
        events.GenerationComplete(),
        events.TurnComplete(reason="", waiting_for_input=False, idle=True),
    )
    await eventually(lambda: any(told.HasField("turn_complete") for told in rig.responses))
    cut_off(rig)
    await eventually(lambda: len(rig.dialer.links) == 2)
    assert first.aborted
    await rig.send(session, text(2, "go on"))
    second = rig.dialer.links[-1]
    await eventually(lambda: second.texts == ["go on"])
    assert causes(rig) == ["OWNERSHIP_LAPSED"]


@pytest.mark.parametrize("lapsed", [True, False])
async def test_a_session_that_is_somebody_elses_ends_without_a_word_and_its_records_stay(
    rig: Rig, lapsed: bool
) -> None:
    session, link = await rig.open()
    await rig.send(session, text(1, "hello"))
    log = subjects.log(session)

    async def logged() -> bool:
        return await rig.messages(log, subjects.LOG_STREAM) == 2

    await eventually(logged)
    revision = await someone_took(rig, session)
    before = said(rig)
    if lapsed:
        cut_off(rig)
    else:  # the connection was lost for a moment
        await rig.worker._services.lifeline.reconnected()
    await rig.ended()
    await eventually(lambda: not rig.worker.counts["to_forget"])
    assert link.closed
    assert len(rig.dialer.links) == 1 or rig.dialer.links[-1] is link
    assert said(rig) == before
    found = await rig.records.read_own(session)
    assert found is not None
    assert found[1] == revision
    assert await logged()


async def test_while_it_is_out_of_touch_a_worker_takes_no_session(rig: Rig) -> None:
    lifeline = rig.worker._services.lifeline
    lifeline._lease._ttl = -1.0  # no round trip is quick enough
    cut_off(rig)
    reply = await rig.control(open=rig.spec())
    assert "out of touch" in reply.failure.message
