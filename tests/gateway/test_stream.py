"""What a stream tells its worker, envelope by envelope."""

from __future__ import annotations

from typing import cast
from unittest import mock

import pytest

from parley.v1 import errors_pb2, fabric_pb2, live_pb2
from services.fabric.bus import Writer
from services.fabric.errors import ServiceError
from services.gateway.settings import GatewaySettings
from services.gateway.stream import Stream
from services.gateway.uplink import MAX_BATCH_ITEMS
from services.gateway.uplink_check import UplinkValidator


def publications(stream: Stream) -> list[fabric_pb2.UplinkEnvelope]:
    found = []
    while (publication := stream.next_publication()) is not None:
        found.append(fabric_pb2.UplinkEnvelope.FromString(publication[1]))
    return found


async def test_half_close_and_detachment_are_said_with_the_last_request_not_before() -> None:
    stream = Stream(GatewaySettings(development=True), cast(Writer, mock.Mock(spec=Writer)), lambda: 0.0)
    attached = fabric_pb2.Attached(epoch=1, attach_generation=1, next_uplink_seq=1, next_downlink_seq=1)
    stream.attach("wk-1", attached, UplinkValidator(1, None, existing=False, max_message=1000))
    assert stream.uplink is not None
    for seq in range(1, 2 * MAX_BATCH_ITEMS + 2):  # as after an outage of NATS
        stream.uplink.take(seq, b"x", live_pb2.MEDIA_CLASS_VITAL)
    stream._half_closed = True
    stream.close()
    found = publications(stream)
    assert [len(envelope.requests) for envelope in found] == [MAX_BATCH_ITEMS, MAX_BATCH_ITEMS, 1]
    assert [envelope.half_closed for envelope in found] == [False, False, True]
    assert [envelope.detached for envelope in found] == [False, False, True]


@pytest.mark.parametrize("wanted", [4, 6])
async def test_what_a_stream_never_carried_the_caller_sends_again(wanted: int) -> None:
    """The worker before had it from an earlier stream, and nobody else could restore it yet: only the caller has it."""
    stream = Stream(GatewaySettings(development=True), cast(Writer, mock.Mock(spec=Writer)), lambda: 0.0)
    attached = fabric_pb2.Attached(epoch=1, attach_generation=2, next_uplink_seq=6, next_downlink_seq=1)
    stream.attach("wk-1", attached, UplinkValidator(6, None, existing=True, max_message=1000))
    assert stream.uplink is not None
    stream.uplink.take(6, b"x", live_pb2.MEDIA_CLASS_VITAL)
    publications(stream)
    stream.lose_worker()
    attached = fabric_pb2.Attached(epoch=2, attach_generation=3, next_uplink_seq=wanted, next_downlink_seq=1)
    stream.reattach("wk-2", attached)
    found = publications(stream)
    assert {envelope.epoch for envelope in found} <= {2}
    assert [skip for envelope in found for skip in envelope.skips] == []
    if wanted == 6:
        assert not stream._finished.done()
        assert [list(envelope.requests) for envelope in found if envelope.requests] == [[b"x"]]
    else:
        error = stream._finished.result()
        assert isinstance(error, ServiceError)
        assert error.reason == errors_pb2.ERROR_REASON_WORKER_LOST
        assert not any(envelope.requests for envelope in found)


class AttachedStream:
    """A stream whose worker says what a test wants, and when."""

    def __init__(self) -> None:
        self.now = 0.0
        writer = cast(Writer, mock.Mock(spec=Writer))
        self.stream = Stream(GatewaySettings(development=True), writer, lambda: self.now)
        attached = fabric_pb2.Attached(epoch=1, attach_generation=1, next_uplink_seq=1, next_downlink_seq=1)
        self.stream.attach("wk-1", attached, UplinkValidator(1, None, existing=False, max_message=1000))
        assert self.stream.downlink is not None
        self.downlink = self.stream.downlink

    def hears(self, last: int, *seqs: int, end: fabric_pb2.StreamEnd | None = None) -> None:
        items = [fabric_pb2.DownlinkItem(seq=seq, response=b"x") for seq in seqs]
        self.stream.on_envelope(
            fabric_pb2.DownlinkEnvelope(epoch=1, attach_generation=1, last_seq=last, items=items, stream_end=end)
        )
        self.stream.tick(self.now)

    def wait(self, until: float) -> None:
        while self.now < until:
            self.now += 0.05
            self.stream.tick(self.now)

    def sent(self) -> list[bytes]:
        found = []
        while (outgoing := self.downlink.next()) is not None:
            found.append(outgoing.response)
            self.downlink.written()
        return found


async def test_what_is_missing_after_an_outage_is_waited_for_from_its_end_on() -> None:
    """A hole from before it is as old as the outage, in which nobody could send anything again."""
    caller = AttachedStream()
    caller.hears(3, 1)
    caller.now = 12.0
    caller.hears(9, 9)
    assert [(hole.first, hole.last) for hole in caller.downlink.missing()] == [(2, 8)]
    caller.hears(9, *range(2, 9))
    assert caller.downlink.missing() == []
    assert caller.downlink.lost_items == 0


async def test_nothing_is_given_up_without_a_connection_to_nats() -> None:
    caller = AttachedStream()
    caller.hears(3, 1, 3)
    while caller.now < 12.0:
        caller.now += 0.05
        caller.stream.out_of_touch(caller.now)
        caller.stream.tick(caller.now)
    assert [(hole.first, hole.last) for hole in caller.downlink.missing()] == [(2, 2)]
    caller.hears(3, 2)
    assert caller.sent() == [b"x"] * 3
    assert caller.downlink.lost_items == 0


async def test_the_end_of_a_session_comes_although_something_before_it_was_lost() -> None:
    """Its worker has said its last word, and sends nothing again."""
    caller = AttachedStream()
    caller.hears(4, 1, 3, 4, end=fabric_pb2.StreamEnd())
    caller.wait(2.1)
    first, gap, *rest = caller.sent()
    named = live_pb2.ConverseResponse.FromString(gap).gap
    assert (first, named.from_seq, named.to_seq, rest) == (b"x", 2, 2, [b"x", b"x"])
    assert caller.downlink.idle  # and so the stream ends
