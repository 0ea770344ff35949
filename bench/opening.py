"""How long a call takes to open when many come at once, beside the SDK's own `connect`.

``make bench-open``, or ``python -m bench.opening [--sessions 200] [--runs 5]``.

Through the fabric: from `open` to `opened` on a gRPC connection that stands, each call with a connection of its own. By
the bare SDK: `connect`, which is TCP, TLS, the upgrade and the set-up; the worker does the same within each open. All
calls of a burst begin at once, and bursts of both sides alternate. All processes, the load's too, share this machine.
"""

from bench import command
from bench.figures import Figure, against
from bench.load.tally import Times
from bench.rig import CAPACITY, Rig, Side

_FIRST = 5
"""Calls before all others, for what happens once in a process."""


def figures(n: int, fabric: Times, bare: Times) -> list[Figure]:
    """What is printed."""
    return [
        against(f"open_p{percent}", fabric.percentile(percent), bare.percentile(percent), unit="ms", n=n, digits=1)
        for percent in (50, 99)
    ]


async def bursts(rig: Rig, sessions: int, runs: int) -> list[Figure]:
    """Measures on a running rig. LoadError: a call could not be opened."""
    found: dict[Side, Times] = {"fabric": Times(), "bare": Times()}
    for run in range(runs):
        for side in list(found)[:: 1 if run % 2 == 0 else -1]:
            times = Times()
            for seconds in await rig.open_burst(side, sessions):
                times.add(round(seconds * 1e9))
            command.say(f"{side}: {sessions} calls, p50 {times.percentile(50)} ms, p99 {times.percentile(99)} ms")
            found[side] += times
    return figures(sessions, found["fabric"], found["bare"])


async def main() -> int:
    """The command."""
    parser = command.parser(__doc__)
    parser.add_argument("--sessions", type=command.count, default=200, help="calls that open at once")
    parser.add_argument("--runs", type=command.count, default=5, help="bursts of each side")
    wanted = parser.parse_args()
    if wanted.sessions > CAPACITY:
        parser.error(f"--sessions: {CAPACITY} at most")
    command.say_load()
    async with Rig(wanted.load_processes) as rig:
        await rig.open_burst("fabric", _FIRST)
        await rig.open_burst("bare", _FIRST)
        for figure in await bursts(rig, wanted.sessions, wanted.runs):
            print(figure, flush=True)
    command.say_load()
    return 0


if __name__ == "__main__":
    command.run(main)
