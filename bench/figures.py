"""Figures as the benchmarks print them: one line of JSON each. Plain code.

``{"figure", "value", "unit", "n", "baseline", "ratio"}``: `n` sessions, the same figure of the baseline in the same
run, and the ratio of the two; null where there is none.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from bench.load.tally import Account

PERCENTILES: Final = (50, 95, 99)
CPU_UNIT: Final = "cpu_s/session_s"


class Measurement(Protocol):
    """What one run of one side has measured; :class:`bench.rig.Measured` is one."""

    @property
    def account(self) -> Account:
        """What came back, and when."""

    @property
    def cpu(self) -> Mapping[str, float]:
        """CPU seconds by process."""

    @property
    def session_seconds(self) -> float:
        """Sessions times seconds."""

    @property
    def memory(self) -> Mapping[str, int]:
        """Bytes by process that came with the calls."""


@dataclass(frozen=True)
class Figure:
    """One line."""

    figure: str
    value: float | None
    unit: str
    n: int
    baseline: float | None
    ratio: float | None

    def __str__(self) -> str:
        return json.dumps(self.__dict__)


def against(
    name: str, value: float | None, baseline: float | None, *, unit: str, n: int, digits: int, over: float | None = None
) -> Figure:
    """`value` beside its baseline. The ratio is `over` (default: the value) / baseline."""
    over = value if over is None else over
    ratio = round(over / baseline, 2) if over is not None and baseline is not None and baseline > 0 else None
    rounded = [None if one is None else round(one, digits) for one in (value, baseline)]
    return Figure(name, rounded[0], unit, n, rounded[1], ratio)


def total(measured: Iterable[Measurement]) -> Account:
    """Of all runs of a side."""
    return sum((one.account for one in measured), Account.empty())


def cpu_per_session_second(measured: Sequence[Measurement], *processes: str) -> float:
    """CPU seconds of these processes for one session in one second, over all runs of a side."""
    used = sum(one.cpu[process] for one in measured for process in processes)
    return used / sum(one.session_seconds for one in measured)


def latencies(name: str, fabric: Account, bare: Account, n: int) -> list[Figure]:
    """Round trip through the fabric minus (value) and over (ratio) the direct one."""
    found = []
    for percent in PERCENTILES:
        through, direct = fabric.round_trip.percentile(percent), bare.round_trip.percentile(percent)
        added = None if through is None or direct is None else through - direct
        found.append(against(f"added_latency_p{percent}/{name}", added, direct, unit="ms", n=n, digits=2, over=through))
    return found


def comparison(
    frame_ms: int, n: int, fabric: Sequence[Measurement], bare: Sequence[Measurement], floor: Sequence[Measurement]
) -> list[Figure]:
    """Everything that `make bench` tells of one number of sessions and one frame length."""
    name = f"{frame_ms}ms"
    through, direct = total(fabric), total(bare)
    found = latencies(name, through, direct, n)

    whole = cpu_per_session_second(bare, "bare")
    net = whole - cpu_per_session_second(floor, "floor")

    def cpu(figure: str, *processes: str) -> Figure:
        value = cpu_per_session_second(fabric, *processes)
        return against(f"{figure}/{name}", value, net, unit=CPU_UNIT, n=n, digits=5)

    found += [
        cpu("cpu_gateway", "gateway"),
        cpu("cpu_worker", "worker"),
        cpu("cpu_gateway_and_worker", "gateway", "worker"),
        cpu("cpu_nats_server", "nats_server"),
        cpu("cpu_sum", "gateway", "worker", "nats_server"),
        against(f"cpu_bare/{name}", net, whole, unit=CPU_UNIT, n=n, digits=5),
    ]
    kilobytes = bare[0].memory["bare"] / n / 1024
    for process in ("gateway", "worker", "nats_server"):
        value = fabric[0].memory[process] / n / 1024
        found.append(against(f"memory_{process}/{name}", value, kilobytes, unit="KiB/session", n=n, digits=0))
    for count in ("lost", "duplicated", "out_of_order", "damaged"):
        mine, theirs = getattr(through.counts, count), getattr(direct.counts, count)
        found.append(against(f"{count}/{name}", mine, theirs, unit="frames", n=n, digits=0))
    return found
