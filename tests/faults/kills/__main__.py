"""The command: `python -m tests.faults.kills`."""

from __future__ import annotations

import argparse
import asyncio
import random
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from parley.cli.stack import Stack, StackConfig
from services.tools.examples import database
from tests.faults import kills
from tests.faults.kills.books import REFUND, VOUCHER, Books, Row
from tests.faults.kills.callers import FIRST_ORDER, Callers, Plan
from tests.faults.kills.strikes import TOOLS, WORKERS, Strikes
from tests.support import payments

ENV = {
    "PARLEY_TOOLS_MODULES": payments.MODULES,
    "PARLEY_EMULATOR_SCENARIO": str(Path(__file__).with_name("shop.yaml")),
    # Answers are here to be counted, not to be listened to.
    "PARLEY_EMULATOR_GENERATION_SPEED": "20",
    "PARLEY_EMULATOR_PLAYBACK_SPEED": "10",
    # Many links of a session in a minute are what is wanted here, not a backend that is broken.
    "PARLEY_WORKER_HEALTHY_LINK": "1s",
}


async def run(*, calls: int, kills: int, sessions: int, seed: int, minutes: float, sabotage: str = "") -> Books:
    """Everything. `kills`: of each kind."""
    books = Books(wanted={"worker killed": kills, "tools killed": kills})
    plan, chance = Plan(calls), random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="parley-payments-") as folder:
        socket, orders = Path(folder) / "commits", Path(folder) / "orders.sqlite3"
        env = {**ENV, "PARLEY_TOOLS_ORDERS_DB": str(orders), payments.SOCKET: str(socket)}
        async with Stack(StackConfig(workers=WORKERS, env={**env, payments.SABOTAGE: sabotage})) as stack:
            for _ in range(TOOLS - 1):
                await stack.start_tools()
            _stock(orders, calls)
            callers = Callers(stack, books, plan)
            fate = random.Random(seed + 1)
            strikes = Strikes(stack, callers.open, books, fate, kills=kills, share=lambda: plan.share)
            try:
                async with asyncio.timeout(60 * minutes), strikes.listening(socket), asyncio.TaskGroup() as group:
                    for _ in range(sessions):
                        group.create_task(callers.run(strikes, random.Random(chance.random())))
            except TimeoutError:
                books.violations.append(f"not done within {minutes:g} minutes")
            books.balance(_rows(orders))
            stack.failed = stack.failed or not books.good
            if stack.failed:
                print(f"logs are kept in {stack.state_dir}")
    return books


def _stock(path: Path, number: int) -> None:
    """So many orders that can be paid back."""
    with database.transaction(path, writes=True) as connection:
        orders = ((str(FIRST_ORDER + one), "umbrella", "delivered", "monday") for one in range(number))
        connection.executemany("INSERT INTO orders VALUES (?, ?, ?, ?)", orders)


def _rows(path: Path) -> Iterator[Row]:
    with closing(sqlite3.connect(path)) as connection:
        for tool, query in (
            (REFUND, "SELECT idempotency_key, order_id, refund_id FROM refunds"),
            (VOUCHER, "SELECT idempotency_key, order_id, code FROM vouchers"),
        ):
            for key, order, reference in connection.execute(query):
                yield Row(key, (tool, order), reference)


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults.kills",
        description=kills.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--calls", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=24, help="of workers, and as many of tools services")
    parser.add_argument("--sessions", type=int, default=16, help="at once")
    parser.add_argument("--minutes", type=float, default=12, help="after which it has failed")
    parser.add_argument("--seed", type=int, default=None)
    wanted = parser.parse_args()
    if wanted.seed is None:
        wanted.seed = random.SystemRandom().randrange(2**32)
    print(f"seed {wanted.seed}", flush=True)
    began = time.monotonic()
    books = asyncio.run(run(**vars(wanted)))
    print(f"{time.monotonic() - began:.0f} s")
    for line in books.lines():
        print(line)
    return 0 if books.good else 1


if __name__ == "__main__":
    sys.exit(main())
