"""What happened to a session, from its records."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley.v1 import fabric_pb2, live_pb2, sessions_pb2
from services.gateway.lifecycle import Event, Lifecycle, shown


def own(epoch: int = 1, worker: str = "wk-1", *, ended: bool = False) -> fabric_pb2.OwnRecord:
    state = sessions_pb2.SESSION_STATE_ENDED if ended else sessions_pb2.SESSION_STATE_ATTACHED
    session = sessions_pb2.Session(session_id="ses_1", epoch=epoch, worker=worker, state=state)
    if ended:
        session.end_reason = live_pb2.END_REASON_CALLER
    return fabric_pb2.OwnRecord(session=session)


def attachment(generation: int, gateway: str = "gw-1") -> fabric_pb2.AttachmentRecord:
    return fabric_pb2.AttachmentRecord(attach_generation=generation, gateway=gateway)


def told(event: Event | None) -> Any:
    """An event as a tuple."""
    if event is None:
        return None
    session = event.session
    state = sessions_pb2.SessionState.Name(session.state).removeprefix("SESSION_STATE_")
    assert sessions_pb2.SessionEventType.Name(event.type) == f"SESSION_EVENT_TYPE_{event.event}"
    return event.event, state, session.worker, session.epoch, session.gateway, session.attach_generation


def test_the_whole_life() -> None:
    life = Lifecycle(own(), 1, None)
    assert told(life.current()) == ("CURRENT", "DETACHED", "wk-1", 1, "", 0)
    assert told(life.attachment(attachment(1))) == ("ATTACHED", "ATTACHED", "wk-1", 1, "gw-1", 1)
    assert told(life.attachment(attachment(1, ""))) == ("DETACHED", "DETACHED", "wk-1", 1, "", 1)
    assert told(life.attachment(attachment(2, "gw-2"))) == ("ATTACHED", "ATTACHED", "wk-1", 1, "gw-2", 2)
    assert told(life.attachment(attachment(3, "gw-2"))) == ("ATTACHED", "ATTACHED", "wk-1", 1, "gw-2", 3)
    assert told(life.own(own(2, "wk-2"), 9)) == ("MOVED", "ATTACHED", "wk-2", 2, "gw-2", 3)
    assert told(life.own(own(3, "wk-2"), 10)) == ("MOVED", "ATTACHED", "wk-2", 3, "gw-2", 3)
    assert not life.ended
    ended = life.own(own(3, "wk-2", ended=True), 12)
    assert told(ended) == ("ENDED", "ENDED", "wk-2", 3, "", 0)
    assert ended is not None
    assert ended.session.end_reason == live_pb2.END_REASON_CALLER
    assert life.ended
    assert life.attachment(attachment(9)) is None
    assert life.own(own(9), 99) is None


def test_what_is_known_already_or_older_is_no_event() -> None:
    life = Lifecycle(own(2), 5, attachment(3))
    assert told(life.current()) == ("CURRENT", "ATTACHED", "wk-1", 2, "gw-1", 3)
    assert life.own(own(2), 5) is None
    assert life.own(own(1, "wk-0"), 4) is None
    assert life.own(own(1, "wk-0", ended=True), 4) is None
    assert life.attachment(attachment(3)) is None
    assert life.attachment(attachment(2, "gw-0")) is None
    # Written anew, with nothing in it that others see.
    assert life.own(own(2), 6) is None
    assert told(life.current()) == ("CURRENT", "ATTACHED", "wk-1", 2, "gw-1", 3)


def test_attached_and_detached_between_two_looks_is_seen_by_the_generation() -> None:
    life = Lifecycle(own(), 1, attachment(1, ""))
    assert told(life.attachment(attachment(2, ""))) == ("DETACHED", "DETACHED", "wk-1", 1, "", 2)


def test_a_record_that_is_gone_is_an_end_of_unknown_reason() -> None:
    life = Lifecycle(own(), 1, attachment(4))
    event = life.gone()
    assert told(event) == ("ENDED", "ENDED", "wk-1", 1, "", 4)
    assert event.session.end_reason == live_pb2.END_REASON_UNSPECIFIED
    assert not event.session.HasField("end_time")
    assert life.ended


def test_a_session_that_has_ended_is_shown_as_its_tombstone_has_it() -> None:
    assert Lifecycle(own(ended=True), 1, None).ended
    tombstone = own(ended=True).session
    assert shown(tombstone, attachment(1)) == tombstone


@pytest.mark.parametrize("state", [sessions_pb2.SESSION_STATE_ATTACHED, sessions_pb2.SESSION_STATE_ENDED])
def test_showing_changes_no_record(state: Any) -> None:
    record = own(ended=state == sessions_pb2.SESSION_STATE_ENDED)
    before = record.SerializeToString(deterministic=True)
    life = Lifecycle(record, 1, attachment(1))
    life.current()
    life.gone()
    assert record.SerializeToString(deterministic=True) == before


# What JetStream keeps is the newest record of each kind; a watcher is told any of them again after every interruption.
steps = st.lists(st.sampled_from(["attach", "detach", "move", "end"]), max_size=8)


@given(steps, st.data())
def test_a_watcher_ends_up_with_what_is_there_whatever_it_missed(history: list[str], data: st.DataObject) -> None:
    session, revision, attached = own(), 1, attachment(1)
    life = Lifecycle(session, revision, attached)
    for number, step in enumerate(history, start=2):
        if session.session.state == sessions_pb2.SESSION_STATE_ENDED:
            break
        match step:
            case "attach":
                attached = attachment(attached.attach_generation + 1, f"gw-{number}")
            case "detach":
                attached = attachment(attached.attach_generation, "")
            case "move":
                session, revision = own(session.session.epoch + 1, f"wk-{number}"), number
            case "end":
                session, revision = own(session.session.epoch, session.session.worker, ended=True), number
        for kind in data.draw(st.lists(st.sampled_from(["own", "attachment"]), max_size=2)):
            if kind == "own":
                life.own(session, revision)
            else:
                life.attachment(attached)
    life.attachment(attached)
    life.own(session, revision)
    assert life.current().session == shown(session.session, attached)
