"""Who says that a session is over, for how long that is waited for, and that nothing follows it."""

from __future__ import annotations

from typing import Any, cast
from unittest import mock

import pytest

from parley.v1 import errors_pb2, live_pb2
from services.fabric.errors import ServiceError
from services.session_worker.dialogue import Dialogue
from services.session_worker.ending import EndCause, Ending
from services.session_worker.parts import Parts
from services.session_worker.session import Session
from services.session_worker.turns import Turn


def ending_of(parts: Any) -> Ending:
    parts.ending = Ending(cast(Parts, parts))
    return cast(Ending, parts.ending)


def test_a_session_that_is_let_go_does_not_end_here_whatever_fails_meanwhile() -> None:
    parts = mock.Mock()
    ending = ending_of(parts)
    ending.leaving = True
    ending.fail(ServiceError(errors_pb2.ERROR_REASON_BACKEND_UNAVAILABLE, "the last try failed"))
    ending.fail(RuntimeError("a task that was told to stop"))
    parts.say.assert_not_called()
    parts.downlink.end_stream.assert_not_called()
    ending.let_go("DRAIN")
    assert ending.cause is not None
    assert ending.cause.elsewhere


@pytest.mark.parametrize(("closed", "until"), [(101.0, 103.0), (104.0, 105.5)])
def test_the_end_has_time_to_leave_however_long_everything_else_took(closed: float, until: float) -> None:
    parts = mock.Mock()
    parts.downlink.drained = False
    ending = ending_of(parts)
    ending.cause = EndCause(live_pb2.END_REASON_CALLER, "", 100.0)
    ending._closed = closed
    assert ending.lingers(until - 0.01)
    parts.downlink.drop_queued_audio.assert_called()  # which the end waited behind
    assert not ending.lingers(until)
    parts.downlink.drained = True
    assert not ending.lingers(closed)


def test_a_link_that_goes_after_the_end_voids_nothing() -> None:
    parts = mock.Mock()
    ending_of(parts).finish(live_pb2.END_REASON_CALLER, "")
    Dialogue(cast(Parts, parts)).restart(Turn(1, 0.0, said="on and on"))
    parts.downlink.interrupt.assert_not_called()
    parts.timeline.turn_restarted.assert_not_called()


@pytest.mark.parametrize("connected", [True, False])
def test_nothing_is_given_up_without_a_connection_to_nats(*, connected: bool) -> None:
    """Whose gateway was heard as that was lost: it may send again what is missing when there is another."""
    parts, services = mock.Mock(), mock.Mock()
    parts.standby.lapsed = False
    parts.attachment.in_touch.return_value = True
    services.bus.connected.is_set.return_value = connected
    session = Session.__new__(Session)
    session._parts, session._services, session._leaving = parts, services, False
    parts.uplink.queue = []
    session._ending = ending_of(parts)
    session.tick(100.0)
    assert parts.intake.tick.called is connected
    assert parts.uplink.wait_anew.called is not connected
