"""`parley top`: workers and sessions as they are, again and again."""

import asyncio
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import grpc
import typer

from parley._status import from_rpc_error
from parley.cli import _output
from parley.cli._connection import DEFAULT_TARGET, ApiKey, Target, call
from parley.cli.sessions import WORKER_COLUMNS, age, state, worker_row
from parley.v1 import fleet_pb2, sessions_pb2
from parley.v1.fleet_pb2_grpc import FleetServiceStub
from parley.v1.sessions_pb2_grpc import SessionServiceStub

if TYPE_CHECKING:
    from rich.console import RenderableType

_MOST_SESSIONS = 1000
"""Sessions that are asked for; the numbers say when there are more."""
_ROWS_BESIDE = 8
"""Lines of a terminal that headings take."""


@dataclass(frozen=True)
class View:
    """One look."""

    workers: Sequence[fleet_pb2.Worker]
    sessions: Sequence[sessions_pb2.Session]
    """Those that have not ended, newest first."""
    more: bool
    """There are more sessions than these."""

    @property
    def headline(self) -> str:
        """The numbers in a line."""
        held, capacity = sum(w.sessions for w in self.workers), sum(w.capacity for w in self.workers)
        states = Counter(map(state, self.sessions))
        told = ", ".join(f"{number} {name}" for name, number in sorted(states.items())) or "none"
        draining = sum(w.draining for w in self.workers)
        return (
            f"{len(self.workers)} workers ({draining} draining), {held}/{capacity} places taken; "
            f"sessions of your tenant: {told}{' of the newest' if self.more else ''}"
        )


def top(
    *,
    target: Target = DEFAULT_TARGET,
    api_key: ApiKey = "",
    every: Annotated[float, typer.Option(min=0.2, max=3600, help="Seconds between two looks.")] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="One look, then exit.")] = False,
    limit: Annotated[int, typer.Option(min=0, max=_MOST_SESSIONS, help="Sessions to show, newest first.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document a line for each look.")] = False,
) -> None:
    """Show workers and sessions, live; plain text, one look after another, where the output is no terminal.

    [dim]Example:[/dim] parley top --once | grep draining
    """

    async def ask(channel: grpc.aio.Channel, options: dict[str, Any]) -> None:
        if once:
            _print(await _look(channel, options), limit, as_json=as_json)
        elif as_json or not sys.stdout.isatty():
            while True:
                _print(await _look(channel, options), limit, as_json=as_json)
                await asyncio.sleep(every)
        else:
            await _live(channel, options, every, limit)

    call(target, api_key, ask)


async def _look(channel: grpc.aio.Channel, options: dict[str, Any]) -> View:
    request = sessions_pb2.ListSessionsRequest(page_size=_MOST_SESSIONS, filter="NOT state = ENDED")
    fleet = FleetServiceStub(channel).ListWorkers(fleet_pb2.ListWorkersRequest(), **options)
    page = SessionServiceStub(channel).ListSessions(request, **options)
    workers, sessions = await asyncio.gather(fleet, page)
    return View(workers.workers, sessions.sessions, bool(sessions.next_page_token))


async def _live(channel: grpc.aio.Channel, options: dict[str, Any], every: float, limit: int) -> None:
    """Until Ctrl-C. A gateway that does not answer is said, and asked again."""
    from rich.console import Group
    from rich.live import Live
    from rich.text import Text

    console = _output.console()
    with Live(console=console, screen=True, auto_refresh=False) as live:
        shown: RenderableType = Text("asking the gateway")
        while True:
            try:
                view = await _look(channel, options)
            except grpc.aio.AioRpcError as error:
                live.update(Group(Text(f"{from_rpc_error(error)}; trying again", style="red"), shown), refresh=True)
            else:
                rows = max(1, min(limit, console.size.height - len(view.workers) - _ROWS_BESIDE)) if limit else 0
                shown = Group(Text(f"{_now()}  {view.headline}"), *_tables(view, rows))
                live.update(shown, refresh=True)
            await asyncio.sleep(every)


def _print(view: View, limit: int, *, as_json: bool) -> None:
    if as_json:
        _output.print_json(
            {
                "time": _now(),
                "workers": [_output.document(worker) for worker in view.workers],
                "sessions": [_output.document(session) for session in view.sessions[:limit]],
                "more_sessions": view.more or len(view.sessions) > limit,
            }
        )
        return
    console = _output.console()
    console.print(f"{_now()}  {view.headline}", soft_wrap=True)
    for table in _tables(view, limit):
        console.print(table)
    sys.stdout.flush()


def _tables(view: View, rows: int) -> "list[RenderableType]":
    tables: list[RenderableType] = [_output.table("", WORKER_COLUMNS, map(worker_row, view.workers))]
    shown = [
        (s.session_id, state(s), s.profile or "(inline)", s.model, s.worker or "-", s.gateway or "-", age(s))
        for s in view.sessions[:rows]
    ]
    if shown:
        columns = ("session", "state", "profile", "model", "worker", "gateway", "age")
        tables.append(_output.table("", columns, shown))
    return tables


def _now() -> str:
    return datetime.now(UTC).astimezone().isoformat(timespec="seconds")
