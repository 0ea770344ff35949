"""The command: `python -m bench.tools`."""

from collections.abc import Mapping, Sequence
from typing import Final

from bench import command, tools
from bench.figures import Figure, against
from bench.load.tally import Times
from bench.rig import LoadError
from bench.tools.course import Course

BARE: Final = "bare"
CALLS: Final = {
    "call": {"tool": "run"},
    "call_in_thread": {"tool": "run_in_thread"},
    "call_claimed": {"tool": "run", "claimed": True},
}
CANCELLATIONS: Final = {"cancel": "hang", "cancel_in_thread": "hang_in_thread"}
_FIRST: Final = 20
"""Calls of each kind before all others, for what happens once in a process."""
_PERCENTILES: Final = (50, 99)


def figures(times: Mapping[str, Times]) -> list[Figure]:
    """What is printed: each figure beside that of bare requests."""
    return [
        against(
            f"{name}_p{percent}",
            found.percentile(percent),
            times[BARE].percentile(percent),
            unit="ms",
            n=len(found),
            digits=3,
        )
        for name, found in times.items()
        if name != BARE
        for percent in _PERCENTILES
    ]


async def measure(course: Course, calls: int, cancellations: int) -> dict[str, Times]:
    """Everything, on a running course. LoadError: a call failed, or did not run once."""
    times = {name: Times() for name in (BARE, *CALLS, *CANCELLATIONS)}
    before = await course.runs()
    for number in range(calls):
        for name in _rotated([*CALLS], number):
            times[BARE].add(await course.bare())
            times[name].add(await course.call(**CALLS[name]))  # type: ignore[arg-type]
    ran = await course.runs() - before
    if ran != len(CALLS) * calls:
        raise LoadError(f"{len(CALLS) * calls} calls ran {ran} times")
    for number in range(cancellations):
        for name in _rotated([*CANCELLATIONS], number):
            times[name].add(await course.cancel(CANCELLATIONS[name]))
    return times


def _rotated(names: Sequence[str], by: int) -> list[str]:
    """None of them always follows the same one."""
    return [names[(by + at) % len(names)] for at in range(len(names))]


async def main() -> int:
    """The command."""
    parser = command.parser(tools.__doc__)
    parser.add_argument("--calls", type=command.count, default=2000, help="of each kind")
    parser.add_argument("--cancellations", type=command.count, default=500, help="of each kind")
    wanted = parser.parse_args()
    command.say_load()
    async with Course() as course:
        await measure(course, _FIRST, _FIRST)
        times = await measure(course, wanted.calls, wanted.cancellations)
    bare = times[BARE]
    command.say(f"{len(bare)} bare requests: p50 {bare.percentile(50)} ms, p99 {bare.percentile(99)} ms")
    for figure in figures(times):
        print(figure, flush=True)
    command.say_load()
    return 0


if __name__ == "__main__":
    command.run(main)
