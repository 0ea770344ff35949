"""Figures of continuity, and how they are read from the emulator's record. Plain code."""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from bench.figures import Figure

FRAME: Final = 0.04
"""Seconds of audio that a caller sends in a message."""
BUDGETS: Final = {
    "killed_pause_p50": 1000.0,
    "killed_pause_p99": 3000.0,
    "frozen_pause_p50": 15_000.0,
    "frozen_pause_p99": 15_000.0,
    "hung_noticed_p50": 5000.0,
    "hung_noticed_p99": 5000.0,
    "barge_in_p50": 20.0,
    "barge_in_p99": 20.0,
    "refusal_p50": 50.0,
    "refusal_p99": 50.0,
}
"""Milliseconds; the baseline where no other way of doing it was measured."""


@dataclass
class Scene:
    """What one scene has measured."""

    name: str
    sessions: int
    times: dict[str, list[float]] = field(default_factory=dict)
    """Seconds, by figure."""
    counts: dict[str, int] = field(default_factory=dict)
    """What must be 0, by figure."""
    baseline: float | None = None
    """Milliseconds that its times are held against, measured in the same run."""
    problems: list[str] = field(default_factory=list)

    def add(self, figure: str, seconds: Iterable[float]) -> None:
        """More of a figure."""
        self.times.setdefault(figure, []).extend(seconds)

    def count(self, figure: str, more: int) -> None:
        """More of what must be 0."""
        self.counts[figure] = self.counts.get(figure, 0) + more

    @property
    def clean(self) -> bool:
        """The figures may be believed."""
        return not self.problems and not any(self.counts.values()) and all(self.times.values())

    def figures(self) -> list[Figure]:
        """What is printed."""
        found = []
        for name, seconds in self.times.items():
            for percent in (50, 99) if seconds else ():
                value = 1000 * percentile(seconds, percent)
                figure = f"{name}_p{percent}"
                found.append(_figure(figure, value, self.sessions, self.baseline or BUDGETS.get(figure)))
        found += [Figure(name, count, "count", self.sessions, 0, None) for name, count in self.counts.items()]
        return found


def _figure(name: str, value: float, n: int, baseline: float | None) -> Figure:
    ratio = None if not baseline else round(value / baseline, 3)
    return Figure(name, round(value, 1), "ms", n, None if baseline is None else round(baseline, 1), ratio)


def percentile(values: Sequence[float], percent: float) -> float:
    """Nearest rank."""
    ordered = sorted(values)
    return ordered[max(1, math.ceil(len(ordered) * percent / 100)) - 1]


def pauses(links: Iterable[Mapping[str, Any]]) -> list[float]:
    """Seconds between the last audio that one link heard and the first of the next, from the record of a conversation,
    beyond the pace of a frame, at which audio comes on one link, too.

    Links that heard nothing are tries that failed.
    """
    heard = [link for link in links if link["audio_from"] is not None]
    return [max(0.0, new["audio_from"] - old["audio_until"] - FRAME) for old, new in itertools.pairwise(heard)]


def heard_late(links: Sequence[Mapping[str, Any]]) -> int:
    """Links that heard something after another link had begun to: their owner was not the owner any more."""
    heard = [link for link in links if link["audio_from"] is not None]
    return sum(old["audio_until"] > new["audio_from"] for old, new in itertools.pairwise(heard))


def moments(events: Iterable[Mapping[str, Any]], kind: str, began: float) -> list[float]:
    """When events of a kind happened, on the machine's monotonic clock; `began`: where the emulator's clock was 0."""
    return [began + event["at"] for event in events if event["kind"] == kind]
