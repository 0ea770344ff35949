"""Which metrics the counts of a gateway are."""

from __future__ import annotations

from typing import Final

from services.fabric import metrics, names
from services.fabric.meters import Labels, Table


def _of(direction: str, reason: str) -> Labels:
    return {names.DIRECTION: direction, names.REASON: reason}


TABLE: Final[Table] = {
    "calls": (metrics.CALLS, {}),
    "streams": (metrics.STREAMS, {}),
    "watches": (metrics.WATCHES, {}),
    "workers": (metrics.WORKERS, {}),
    "publish_failed": (metrics.PUBLISH_FAILURES, {}),
    "sessions_recovered": (metrics.RECOVERIES, {names.OUTCOME: "recovered"}),
    "sessions_not_recovered": (metrics.RECOVERIES, {names.OUTCOME: "given_up"}),
    "sessions_moved": (metrics.MOVES, {}),
    "sessions_swept": (metrics.SWEPT, {}),
    "uplink_waiting_items": (metrics.GATEWAY_QUEUE, {names.QUEUE: "uplink"}),
    "downlink_waiting_items": (metrics.GATEWAY_QUEUE, {names.QUEUE: "downlink"}),
    "uplink_waiting_bytes": (metrics.GATEWAY_QUEUE_BYTES, {names.QUEUE: "uplink"}),
    "downlink_waiting_bytes": (metrics.GATEWAY_QUEUE_BYTES, {names.QUEUE: "downlink"}),
    "uplink_ring_bytes": (metrics.GATEWAY_QUEUE_BYTES, {names.QUEUE: "uplink_ring"}),
    "dropped_uplink_shed_items": (metrics.GATEWAY_DROPPED, _of("uplink", "shed")),
    "dropped_uplink_ring_forgotten_items": (metrics.GATEWAY_DROPPED, _of("uplink", "forgotten")),
    "dropped_uplink_duplicates": (metrics.GATEWAY_DROPPED, _of("uplink", "duplicate")),
    "dropped_uplink_unflushed_items": (metrics.GATEWAY_DROPPED, _of("uplink", "unflushed")),
    "dropped_downlink_voided_items": (metrics.GATEWAY_DROPPED, _of("downlink", "voided")),
    "dropped_downlink_refused_items": (metrics.GATEWAY_DROPPED, _of("downlink", "refused")),
    "dropped_downlink_lost_items": (metrics.GATEWAY_DROPPED, _of("downlink", "lost")),
    "dropped_downlink_duplicates": (metrics.GATEWAY_DROPPED, _of("downlink", "duplicate")),
    "dropped_downlink_stale_envelopes": (metrics.GATEWAY_DROPPED, _of("downlink", "stale")),
    "dropped_downlink_unroutable": (metrics.GATEWAY_DROPPED, _of("downlink", "unroutable")),
    "dropped_downlink_unreadable": (metrics.GATEWAY_DROPPED, _of("downlink", "unreadable")),
    "dropped_uplink_shed_bytes": (metrics.GATEWAY_DROPPED_BYTES, _of("uplink", "shed")),
    "dropped_downlink_voided_bytes": (metrics.GATEWAY_DROPPED_BYTES, _of("downlink", "voided")),
    "dropped_uplink_unflushed_bytes": (metrics.GATEWAY_DROPPED_BYTES, _of("uplink", "unflushed")),
}
