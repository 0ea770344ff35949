"""What was lost of the uplink, until the caller knows: a burst in one gap. Plain code: the time is an argument."""

from __future__ import annotations

from collections import deque
from typing import Final

from parley.v1 import fabric_pb2, live_pb2

_QUIET: Final = 0.25
"""Seconds without another loss after which a burst is over."""
_LONGEST: Final = 2.0
"""Seconds after which the caller is told of what goes on."""
_MOST_HELD: Final = 64
"""Gaps that wait, where losses do not follow one another."""
_MOST_UNDER_WAY: Final = 192
"""Gaps that are remembered until the caller has them."""


class Losses:
    """Of one session. What waits here is told before anything that it must not come after; see `Downlink`."""

    def __init__(self) -> None:
        self._held: list[live_pb2.Gap] = []
        self._under_way: deque[fabric_pb2.UntoldLoss] = deque(maxlen=_MOST_UNDER_WAY)
        self._since = 0.0
        self._newest_at = 0.0

    def __bool__(self) -> bool:
        return bool(self._held)

    def add(self, gap: live_pb2.Gap, now: float) -> None:
        """One more."""
        if not self._held:
            self._since = now
        self._newest_at = now
        same = [one for one in self._held if _kind(one) == _kind(gap)]
        if same and same[-1].to_seq + 1 == gap.from_seq:
            same[-1].to_seq = gap.to_seq
        else:
            self._held.append(gap)

    def is_due(self, now: float) -> bool:
        """Nothing more is to be waited for."""
        over = now - self._newest_at >= _QUIET or now - self._since >= _LONGEST
        return bool(self._held) and (over or len(self._held) >= _MOST_HELD)

    def take(self) -> list[live_pb2.Gap]:
        """Everything, to be told now."""
        held, self._held = self._held, []
        return held

    def told(self, gap: live_pb2.Gap, seq: int) -> None:
        """It is on its way as this message, behind whatever waits."""
        self._under_way.append(fabric_pb2.UntoldLoss(gap=gap, downlink_seq=seq))

    def untold(self, known: int) -> list[fabric_pb2.UntoldLoss]:
        """What the caller may not know, who has every message up to `known`: it would be lost with this process."""
        while self._under_way and self._under_way[0].downlink_seq <= known:
            self._under_way.popleft()
        return [*self._under_way, *(fabric_pb2.UntoldLoss(gap=gap) for gap in self._held)]


def _kind(gap: live_pb2.Gap) -> tuple[int, int, str]:
    return gap.direction, gap.media_class, gap.reason
