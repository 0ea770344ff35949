"""What the libraries raise when a dial fails, as the table of closes takes it. Real refusals are in test_link."""

from __future__ import annotations

import pytest
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosedError, InvalidStatus
from websockets.frames import Close
from websockets.http11 import Response

from services.session_worker.closes import LinkFailure, Where
from services.session_worker.link import _dial_failure


@pytest.mark.parametrize(
    ("values", "seconds"),
    [
        ([], None),
        (["0"], 0.0),
        (["12", "99"], 12.0),
        (["9" * 400], 3600.0),
        (["-1"], None),
        (["soon"], None),
        (["Wed, 21 Oct 2026 07:28:00 GMT"], None),
    ],
)
def test_a_time_to_wait_is_read_where_it_is_one(values: list[str], seconds: float | None) -> None:
    response = Response(503, "", Headers([("Retry-After", value) for value in values]))
    failure = _dial_failure(InvalidStatus(response), 12.0)
    assert failure == LinkFailure(Where.UPGRADE, 503, retry_after=seconds)


def test_a_close_that_overtakes_the_set_up_is_a_refused_set_up() -> None:
    """The SDK was still sending it: then its exception is another one."""
    overtaken = ConnectionClosedError(Close(1011, "RESOURCE_EXHAUSTED"), None)
    assert _dial_failure(overtaken, 12.0) == LinkFailure(Where.SETUP, 1011, "RESOURCE_EXHAUSTED")
    assert _dial_failure(ConnectionClosedError(None, None), 12.0) == LinkFailure(Where.SETUP, 1006)


def test_a_whole_frame_in_a_librarys_message_is_not_passed_on() -> None:
    assert len(_dial_failure(ValueError("x" * 10**6), 12.0).text) == 500
