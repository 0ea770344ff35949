"""What the fabric adds to a call, and what it costs, beside the bare google-genai loop.

``make bench``, or ``python -m bench.echo [--sessions 5 25] [--frame-ms 20 40] [--seconds 60] [--runs 4]``.

For every number of sessions and every frame length, on a fresh stack: calls in the emulator's echo scenario, frames in
real time both ways, once through gateway, NATS and worker and once from the SDK straight to the same emulator. The
`--seconds` of each side are split into `--runs` that alternate (fabric, bare; bare, fabric; ...), so that a noisy
minute of the machine falls on both; the sum of them is what is measured. Before each run there is half a second of
talking that does not count. With the defaults it takes some nine and a half minutes, eight of them measuring.

How to read the figures, and what is subtracted from what: docs/bench.md. Exit status 1 when a frame was lost, came
twice, out of order or damaged, on either side, or a call failed: such figures say nothing.

``--tamper drop|double|swap`` does just that to one frame after it was received: the bench must report it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from bench import command
from bench.figures import Figure, comparison, cpu_per_session_second, total
from bench.load.tamper import KINDS, Kind
from bench.rig import Measured, Rig, Run, Side

LONGEST_RUN: Final = 300.0
"""Seconds. The emulator, like Google, takes a connection away after some ten minutes."""
_FLOOR_PART: Final = 0.1
"""Of a run's seconds: what the timers cost needs no minute to be seen."""
_FLOOR_LEAST: Final = 0.5
_FIRST: Final = Run(sessions=1, frame_ms=20, seconds=0.5, warm_up=0.1)
"""A call before all others, for what happens once in a process."""


@dataclass
class Comparison:
    """Fabric and bare loop, and the load without either."""

    sessions: int
    frame_ms: int
    runs: dict[Side, list[Measured]] = field(default_factory=lambda: {"fabric": [], "bare": [], "floor": []})

    def figures(self) -> list[Figure]:
        """What is printed."""
        return comparison(self.frame_ms, self.sessions, self.runs["fabric"], self.runs["bare"], self.runs["floor"])

    @property
    def failures(self) -> tuple[str, ...]:
        """Of calls, in words."""
        return tuple(failure for measured in self.runs.values() for failure in total(measured).failures)

    @property
    def clean(self) -> bool:
        """Nothing was lost on any side."""
        return all(total(measured).clean for measured in self.runs.values())


def order(runs: int) -> Iterator[Side]:
    """Whose turn it is: each side is first as often as second, so that what drifts falls on both."""
    for number in range(runs):
        yield from ("fabric", "bare", "floor") if number % 2 == 0 else ("bare", "fabric", "floor")


async def compare(
    rig: Rig,
    *,
    sessions: int,
    frame_ms: int,
    seconds: float,
    runs: int,
    warm_up: float = 0.5,
    tamper: Kind | None = None,
) -> Comparison:
    """Measures on a running rig. `tamper` strikes in the first run of the fabric. LoadError: calls cannot be opened."""
    found = Comparison(sessions, frame_ms)
    each = seconds / runs
    for side in order(runs):
        lasting = max(_FLOOR_LEAST, each * _FLOOR_PART) if side == "floor" else each
        first = side == "fabric" and not found.runs["fabric"]
        run = Run(sessions, frame_ms, lasting, warm_up, tamper if first else None)
        measured = await rig.measure(side, run)
        found.runs[side].append(measured)
        command.say(f"{sessions} sessions, {frame_ms} ms, {side}: {_in_words(measured)}")
    return found


def _in_words(measured: Measured) -> str:
    account = measured.account
    times = [
        "/".join(f"{times.percentile(percent) or 0:.2f}" for percent in (50, 99))
        for times in (account.round_trip, account.since_due)
    ]
    cpu = ", ".join(f"{name} {1000 * cpu_per_session_second([measured], name):.1f}" for name in measured.cpu)
    return (
        f"round trip p50/p99 {times[0]} ms ({times[1]} since due), CPU ms per session-second: {cpu}, "
        f"elsewhere {measured.elsewhere:.2f} cores; {account.counts}"
    )


async def main() -> int:
    """The command."""
    parser = command.parser(__doc__)
    parser.add_argument("--sessions", type=command.count, nargs="+", default=[5, 25], help="calls at once")
    parser.add_argument("--frame-ms", type=int, nargs="+", choices=[20, 40], default=[20, 40])
    parser.add_argument("--seconds", type=command.positive, default=60.0, help="measured on each side")
    parser.add_argument("--runs", type=command.count, default=4, help="that the seconds are split into")
    parser.add_argument("--tamper", choices=KINDS, help="with one frame, as a test of this bench")
    wanted = parser.parse_args()
    if wanted.seconds / wanted.runs > LONGEST_RUN:
        parser.error(f"a run of more than {LONGEST_RUN:g} s would meet the end of the connection: give more --runs")
    command.say_load()
    clean = True
    for sessions in wanted.sessions:
        for frame_ms in wanted.frame_ms:
            async with Rig(wanted.load_processes) as rig:
                await rig.measure("fabric", _FIRST)
                await rig.measure("bare", _FIRST)
                found = await compare(
                    rig,
                    sessions=sessions,
                    frame_ms=frame_ms,
                    seconds=wanted.seconds,
                    runs=wanted.runs,
                    tamper=wanted.tamper,
                )
            for figure in found.figures():
                print(figure, flush=True)
            for failure in found.failures:
                command.say(failure)
            clean = clean and found.clean
    command.say_load()
    return 0 if clean else 1


if __name__ == "__main__":
    command.run(main)
