"""How many calls at once a gateway and a worker can take on this machine, beside one process with the bare loop.

``make bench-capacity``, or ``python -m bench.capacity [--frame-ms 20 40] [--seconds 6] [--proof-seconds 20]``.

The largest number of calls in the echo scenario, frames in real time, with nothing lost, doubled, out of order or
damaged, and 99 % of all frames back within 100 ms of when they were due: a load that comes late is no excuse. Numbers
are doubled, then the gap is halved to within 5 %; the result is proved by a longer run. Everything shares this machine,
the load included: when its process is what is full, the figure is the load's; stderr tells how busy each was.
"""

import argparse
from typing import Final

from bench import command
from bench.figures import against
from bench.rig import CAPACITY, LoadError, Measured, Rig, Run, Side
from bench.search import Search

LATE_MS: Final = 100.0


def holds(measured: Measured) -> bool:
    """Whether so many calls are no too many."""
    late = measured.account.since_due.percentile(99)
    return measured.account.clean and late is not None and late <= LATE_MS


async def largest(rig: Rig, side: Side, frame_ms: int, wanted: argparse.Namespace) -> int:
    """Of one side, for one frame length."""
    search = Search(wanted.start, wanted.limit)
    while (probe := search.probe) is not None:
        seconds = wanted.proof_seconds if probe.proof else wanted.seconds
        try:
            measured = await rig.measure(side, Run(probe.n, frame_ms, seconds))
        except LoadError as error:
            held, words = False, str(error)
        else:
            held, words = holds(measured), _in_words(measured, seconds)
        command.say(f"{side}, {frame_ms} ms, {probe.n} sessions {'hold' if held else 'do not hold'}: {words}")
        search.report(held=held)
    return search.found


def _in_words(measured: Measured, seconds: float) -> str:
    account = measured.account
    late = "/".join(f"{account.since_due.percentile(percent) or 0:.1f}" for percent in (50, 99))
    cores = ", ".join(f"{name} {used / seconds:.2f}" for name, used in measured.cpu.items())
    failed = f", {len(account.failures)} calls failed: {account.failures[0]}" if account.failures else ""
    cores += f", elsewhere {measured.elsewhere:.2f}"
    return f"p50/p99 {late} ms since due, {account.counts}, cores used: {cores}{failed}"


async def main() -> int:
    """The command."""
    parser = command.parser(__doc__)
    parser.add_argument("--frame-ms", type=int, nargs="+", choices=[20, 40], default=[20, 40])
    parser.add_argument("--seconds", type=command.positive, default=6.0, help="of a probe")
    parser.add_argument("--proof-seconds", type=command.positive, default=20.0, help="of the last one")
    parser.add_argument("--start", type=command.count, default=8, help="sessions of the first probe")
    parser.add_argument("--limit", type=command.count, default=CAPACITY, help="sessions of the largest")
    wanted = parser.parse_args()
    if wanted.limit > CAPACITY:
        parser.error(f"--limit: {CAPACITY} at most")
    command.say_load()
    for frame_ms in wanted.frame_ms:
        found: dict[Side, int] = {}
        for side in ("fabric", "bare"):
            async with Rig(wanted.load_processes) as rig:
                found[side] = await largest(rig, side, frame_ms, wanted)
        n = found["fabric"]
        print(against(f"capacity/{frame_ms}ms", n, found["bare"], unit="sessions", n=n, digits=0), flush=True)
    command.say_load()
    return 0


if __name__ == "__main__":
    command.run(main)
