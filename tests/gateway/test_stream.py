"""What a stream tells its worker, envelope by envelope."""

from __future__ import annotations

from typing import cast
from unittest import mock

from parley.v1 import fabric_pb2, live_pb2
from services.fabric.bus import Writer
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
