"""The command: `python -m tests.faults.chaos`."""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

from parley.cli.stack import Stack, StackConfig
from tests.faults import chaos
from tests.faults.chaos import links
from tests.faults.chaos.callers import SECOND_CALLER, Callers
from tests.faults.chaos.report import Report
from tests.faults.chaos.strikes import GATEWAYS, TOOLS, WORKERS, Strike, Strikes
from tests.support import order_ledger
from tests.support.ports import reserved

MINUTES = 30.0
"""A run of this length needs ten faults of each kind; a shorter one in proportion."""
AT_ONCE = 20
"""A run of this length, and any longer one, needs so many calls at once."""
_LONGER = 0.5
"""Of its length: how much longer a run goes on, at most, where a kind has not happened often enough."""


@asynccontextmanager
async def stack_with(env: Mapping[str, str]) -> AsyncIterator[Stack]:
    """As many processes of each kind as strikes need."""
    with ExitStack() as ports:
        async with Stack(StackConfig(workers=WORKERS, gateways=0, env=env)) as stack:
            for _ in range(GATEWAYS):
                # It comes back where it was: nobody else may have the port meanwhile.
                await stack.start_gateway(PARLEY_GATEWAY_LISTEN=ports.enter_context(reserved()))
            for _ in range(TOOLS - 1):
                await stack.start_tools()
            yield stack


async def run(wanted: argparse.Namespace, seed: int) -> Report:
    """Everything."""
    with tempfile.TemporaryDirectory(prefix="parley-orders-") as folder:
        env = {order_ledger.FOLDER: folder, "PARLEY_TOOLS_MODULES": order_ledger.MODULES}
        async with stack_with(env) as stack:
            report = Report((), wanted.at_least, wanted.at_once)
            until = time.monotonic() + 60 * wanted.minutes
            at_last = until + 60 * wanted.minutes * _LONGER

            def over() -> bool:
                return time.monotonic() >= (at_last if report.few else until)

            callers = Callers(stack, Path(folder), report, over)
            strikes = Strikes(stack, callers.open, report, random.Random(seed))
            lanes = [_chosen(lane, wanted.strikes) for lane in strikes.lanes]
            report.kinds = (*links.FAULTS, SECOND_CALLER, *(kind for lane in lanes for kind in lane))
            chance = random.Random(seed + 1)
            async with asyncio.TaskGroup() as group:
                for _ in range(wanted.calls):
                    group.create_task(callers.run(random.Random(chance.random())))
                for lane in filter(None, lanes):
                    group.create_task(strikes.run(lane, wanted.every, over))
            stack.failed = stack.failed or not report.good
            if stack.failed:
                print(f"logs are kept in {stack.state_dir}")
    return report


def _chosen(lane: dict[str, Strike], kinds: Iterable[str]) -> dict[str, Strike]:
    return {kind: strike for kind, strike in lane.items() if any(part in kind for part in kinds)}


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults.chaos",
        description=chaos.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--minutes", type=float, default=MINUTES)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--calls", type=int, default=22, help="at once")
    parser.add_argument("--every", type=float, default=3, help="seconds from one strike to the next of its lane, about")
    parser.add_argument("--strikes", nargs="*", default=[""], help="parts of the kinds wanted; nothing: links only")
    parser.add_argument("--at-least", type=int, default=None, help="faults of each kind; default: in proportion")
    parser.add_argument("--at-once", type=int, default=None, help="calls that must be open at once, for a while")
    wanted = parser.parse_args()
    if wanted.at_least is None:
        wanted.at_least = int(10 * wanted.minutes / MINUTES)
    if wanted.at_once is None:
        # Calls are looked at with each strike: without any, nobody counts them.
        wanted.at_once = AT_ONCE if wanted.minutes >= MINUTES and wanted.strikes else 0
    seed = wanted.seed if wanted.seed is not None else random.SystemRandom().randrange(2**32)
    print(f"seed {seed}", flush=True)
    report = asyncio.run(run(wanted, seed))
    for line in report.lines():
        print(line)
    return 0 if report.good else 1


if __name__ == "__main__":
    sys.exit(main())
