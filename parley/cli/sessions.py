"""`parley session ...` and `parley worker list`: questions to a gateway."""

import asyncio
from datetime import UTC, datetime
from typing import Annotated, Any

import grpc
import typer

from parley.cli import _output
from parley.cli._connection import CALL_TIMEOUT, DEFAULT_TARGET, ApiKey, AsJson, Target, call
from parley.errors import DeadlineExceeded
from parley.v1 import fleet_pb2, live_pb2, sessions_pb2
from parley.v1.fleet_pb2_grpc import FleetServiceStub
from parley.v1.sessions_pb2_grpc import SessionServiceStub

session_app = typer.Typer(help="Look at sessions and end them.", no_args_is_help=True)
worker_app = typer.Typer(help="Run a session worker, or list those that run.", no_args_is_help=True)

SessionId = Annotated[str, typer.Argument(help="Id of the session, `ses_...`.")]


@session_app.command("list")
def session_list(
    target: Target = DEFAULT_TARGET,
    api_key: ApiKey = "",
    as_json: AsJson = False,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="At most this many, newest first.")] = 100,
    filter_: Annotated[
        str,
        typer.Option(
            "--filter",
            help="Only those that match (AIP-160): state, profile, model, worker, gateway, principal, labels.KEY, "
            "open_time, end_time, end_reason; AND, OR, NOT.",
            show_default=False,
        ),
    ] = "",
) -> None:
    """List the sessions of your tenant, newest first.

    [dim]Example:[/dim] parley session list --filter 'state = DETACHED AND labels.team = "billing"'
    """

    async def ask(channel: grpc.aio.Channel, options: dict[str, Any]) -> list[sessions_pb2.Session]:
        found: list[sessions_pb2.Session] = []
        token = ""
        while len(found) < limit:
            size = min(limit - len(found), 1000)
            request = sessions_pb2.ListSessionsRequest(page_size=size, page_token=token, filter=filter_)
            page = await SessionServiceStub(channel).ListSessions(request, **options)
            found += page.sessions
            token = page.next_page_token
            if not token:
                break
        return found[:limit]

    found = call(target, api_key, ask)
    if as_json:
        _output.print_json([_output.document(session) for session in found])
        return
    rows = [
        (s.session_id, _state(s), s.profile or "(inline)", s.model, s.worker, s.gateway or "-", _age(s)) for s in found
    ]
    _output.print_table("", ("session", "state", "profile", "model", "worker", "gateway", "age"), rows)


@session_app.command("show")
def session_show(
    session_id: SessionId, target: Target = DEFAULT_TARGET, api_key: ApiKey = "", as_json: AsJson = False
) -> None:
    """Show one session."""

    async def ask(channel: grpc.aio.Channel, options: dict[str, Any]) -> sessions_pb2.GetSessionResponse:
        request = sessions_pb2.GetSessionRequest(session_id=session_id)
        return await SessionServiceStub(channel).GetSession(request, **options)

    document = _output.document(call(target, api_key, ask).session)
    if as_json:
        _output.print_json(document)
        return
    rows = [(key, _output.flat(value) if isinstance(value, dict) else str(value)) for key, value in document.items()]
    _output.print_table("", ("field", "value"), rows)


@session_app.command("end")
def session_end(
    session_id: SessionId,
    target: Target = DEFAULT_TARGET,
    api_key: ApiKey = "",
    reason: Annotated[str, typer.Option(help="Why, for the record.")] = "",
    as_json: AsJson = False,
) -> None:
    """End a session; ending one that has ended is no error."""

    async def ask(channel: grpc.aio.Channel, options: dict[str, Any]) -> None:
        request = sessions_pb2.EndSessionRequest(session_id=session_id, reason=reason)
        await SessionServiceStub(channel).EndSession(request, **options)

    call(target, api_key, ask)
    if as_json:
        _output.print_json({"ended": session_id})
    else:
        print(f"{session_id} ended")


@session_app.command("watch")
def session_watch(
    session_id: SessionId,
    target: Target = DEFAULT_TARGET,
    api_key: ApiKey = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document a line for each event.")] = False,
) -> None:
    """Print what happens to a session, an event a line, until it has ended.

    The first line is the session as it is. Exits with 0 when the session has ended.

    [dim]Example:[/dim] parley session watch ses_... --json
    """

    async def ask(channel: grpc.aio.Channel, options: dict[str, Any]) -> None:
        request = sessions_pb2.WatchSessionRequest(session_id=session_id)
        # A limit for the first event only: a session may take as long as it likes.
        events = SessionServiceStub(channel).WatchSession(request, metadata=options["metadata"])
        try:
            async with asyncio.timeout(CALL_TIMEOUT) as limit:
                async for event in events:
                    limit.reschedule(None)
                    if as_json:
                        _output.print_json(_output.document(event))
                    else:
                        print(_event_line(event), flush=True)
        except TimeoutError:
            raise DeadlineExceeded(f"no answer within {CALL_TIMEOUT:g} s", code="DEADLINE_EXCEEDED") from None

    call(target, api_key, ask)


def _event_line(event: sessions_pb2.WatchSessionResponse) -> str:
    session = event.session
    about = {"state": _state(session), "worker": session.worker, "epoch": str(session.epoch)}
    if session.gateway:
        about |= {"gateway": session.gateway, "generation": str(session.attach_generation)}
    if session.end_reason:
        about["reason"] = live_pb2.EndReason.Name(session.end_reason).removeprefix("END_REASON_").lower()
    now = datetime.now().astimezone().isoformat(timespec="milliseconds")
    return f"{now}  {event.event.lower():8}  {'  '.join(f'{key}={value}' for key, value in about.items())}"


@worker_app.callback()
def _worker() -> None:
    """Keeps `list` a sub-command although it is the only one."""


@worker_app.command("list")
def worker_list(target: Target = DEFAULT_TARGET, api_key: ApiKey = "", as_json: AsJson = False) -> None:
    """List the session workers that the gateway has heard in the last seconds."""

    async def ask(channel: grpc.aio.Channel, options: dict[str, Any]) -> fleet_pb2.ListWorkersResponse:
        return await FleetServiceStub(channel).ListWorkers(fleet_pb2.ListWorkersRequest(), **options)

    workers = call(target, api_key, ask).workers
    if as_json:
        _output.print_json([_output.document(worker) for worker in workers])
        return
    rows = [
        (
            w.worker,
            f"{w.sessions}/{w.capacity}",
            "draining" if w.draining else "serving",
            f"{w.loop_lag.ToTimedelta().total_seconds() * 1000:.0f} ms",
            w.version,
            f"{w.since_heard.ToTimedelta().total_seconds():.1f} s ago",
        )
        for w in workers
    ]
    _output.print_table("", ("worker", "sessions", "state", "loop lag", "version", "heard"), rows)


def _state(session: sessions_pb2.Session) -> str:
    return sessions_pb2.SessionState.Name(session.state).removeprefix("SESSION_STATE_").lower()


def _age(session: sessions_pb2.Session) -> str:
    if not session.HasField("open_time"):
        return "-"
    seconds = (datetime.now(UTC) - session.open_time.ToDatetime(UTC)).total_seconds()
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
