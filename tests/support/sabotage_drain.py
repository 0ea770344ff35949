"""Sabotage: a worker that dies, or lets others die, in the middle of a move; or that does not move as it promises."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from parley.cli._child import Child
from parley.cli.stack import Stack
from services.session_worker import takeover
from services.session_worker.departure import Departure
from services.session_worker.link import Link
from services.session_worker.link_keeper import LinkKeeper
from services.session_worker.ownership import Ownership
from tests.support.sabotage_stack import VARIABLE

TARGET = "PARLEY_TEST_SABOTAGE_TARGET"
"""Id of a process."""


def dies_at_takeover() -> None:
    """Killed when it is asked to take a session over, for which it has kept a place."""

    async def die(*_args: Any, **_options: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    takeover.inherit = die  # type: ignore[assignment]


def kills_gateway() -> None:
    """The gateway is killed when the session has been let go, and before it hears of that."""
    release = Ownership.release

    async def and_kill(ownership: Ownership, cause: str, to_worker: str) -> None:
        await release(ownership, cause, to_worker)
        os.kill(int(os.environ[TARGET]), signal.SIGKILL)

    Ownership.release = and_kill  # type: ignore[method-assign]


def no_quiet_moment() -> None:
    """Sessions go as if there was no time to wait for a quiet moment."""
    Departure.forced = lambda departure, _now: departure.plan is not None  # type: ignore[method-assign]


def open_link() -> None:
    """The link is left open when the session goes."""

    left: list[Link | None] = []

    async def leave_open(keeper: LinkKeeper) -> None:
        left.append(keeper._link)
        await keeper._keeps.feeder.let_go()

    LinkKeeper.close = leave_open  # type: ignore[method-assign]


SABOTAGES: dict[str, Callable[[], None]] = {
    sabotage.__name__: sabotage for sabotage in (dies_at_takeover, kills_gateway, no_quiet_moment, open_link)
}


async def start(stack: Stack, sabotage: str, target: str = "") -> Child:
    """One more worker, sabotaged."""
    env = {**stack._common("WORKER"), **stack._backend(), VARIABLE: sabotage, TARGET: target}
    worker = await stack._spawn("worker", [sys.executable, "-m", __name__], env)
    await worker.wait_ready(30)
    worker.stopping = True
    stack.workers.append(worker)
    return worker


def main() -> None:
    """The worker, sabotaged as the environment says."""
    from services.session_worker.cli import command

    SABOTAGES[os.environ[VARIABLE]]()
    command()


if __name__ == "__main__":
    main()
