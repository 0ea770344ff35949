"""`parley session ...` and `parley worker list|drain|undrain`: questions to a gateway."""

import asyncio
from datetime import UTC, datetime
from typing import Annotated, Any

import grpc
import typer

from parley.cli import _output
from parley.cli._connection import CALL_TIMEOUT, DEFAULT_TARGET, ApiKey, AsJson, Target, call
from parley.cli._failures import EX_TEMPFAIL, EX_UNAVAILABLE, CliError
from parley.cli.timeline import session_timeline
from parley.errors import DeadlineExceeded
from parley.v1 import fleet_pb2, live_pb2, sessions_pb2
from parley.v1.fleet_pb2_grpc import FleetServiceStub
from parley.v1.sessions_pb2_grpc import SessionServiceStub

session_app = typer.Typer(help="Look at sessions, move and end them.", no_args_is_help=True)
worker_app = typer.Typer(help="Run a session worker, or list, drain and undrain those that run.", no_args_is_help=True)

MOVE_TIMEOUT = 30.0
"""Seconds: longer than a gateway waits for a move."""
_LOOK_EVERY = 0.5
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
        (s.session_id, state(s), s.profile or "(inline)", s.model, s.worker, s.gateway or "-", age(s)) for s in found
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


@session_app.command("move")
def session_move(
    session_id: SessionId,
    target: Target = DEFAULT_TARGET,
    api_key: ApiKey = "",
    to: Annotated[str, typer.Option(help="Worker to move it to.", show_default="any other")] = "",
    as_json: AsJson = False,
) -> None:
    """Move a session to another worker; its caller hears a pause at most.

    A quiet moment is waited for, up to ten seconds. A session without a caller is only let go: it comes to a worker
    when its caller comes back.
    """

    async def ask(channel: grpc.aio.Channel, options: dict[str, Any]) -> sessions_pb2.Session:
        request = sessions_pb2.MoveSessionRequest(session_id=session_id, worker=to)
        options = {**options, "timeout": MOVE_TIMEOUT}
        return (await SessionServiceStub(channel).MoveSession(request, **options)).session

    session = call(target, api_key, ask)
    if as_json:
        _output.print_json(_output.document(session))
    elif session.gateway:
        print(f"{session_id} is on {session.worker}")
    else:
        print(f"{session_id} waits for its caller on no worker")


session_app.command("timeline")(session_timeline)


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
    about = {"state": state(session), "worker": session.worker, "epoch": str(session.epoch)}
    if session.gateway:
        about |= {"gateway": session.gateway, "generation": str(session.attach_generation)}
    if session.end_reason:
        about["reason"] = live_pb2.EndReason.Name(session.end_reason).removeprefix("END_REASON_").lower()
    now = datetime.now().astimezone().isoformat(timespec="milliseconds")
    return f"{now}  {event.event.lower():8}  {'  '.join(f'{key}={value}' for key, value in about.items())}"


@worker_app.command("list")
def worker_list(target: Target = DEFAULT_TARGET, api_key: ApiKey = "", as_json: AsJson = False) -> None:
    """List the session workers that the gateway has heard in the last seconds."""

    async def ask(channel: grpc.aio.Channel, options: dict[str, Any]) -> fleet_pb2.ListWorkersResponse:
        return await FleetServiceStub(channel).ListWorkers(fleet_pb2.ListWorkersRequest(), **options)

    workers = call(target, api_key, ask).workers
    if as_json:
        _output.print_json([_output.document(worker) for worker in workers])
        return
    _output.print_table("", WORKER_COLUMNS, map(worker_row, workers))


WORKER_COLUMNS = ("worker", "sessions", "state", "loop lag", "version", "heard")


def worker_row(worker: fleet_pb2.Worker) -> tuple[str, ...]:
    """A line of a table of workers."""
    return (
        worker.worker,
        f"{worker.sessions}/{worker.capacity}",
        "draining" if worker.draining else "serving",
        f"{worker.loop_lag.ToTimedelta().total_seconds() * 1000:.0f} ms",
        worker.version,
        f"{worker.since_heard.ToTimedelta().total_seconds():.1f} s ago",
    )


WorkerId = Annotated[str, typer.Argument(help="Id of the worker, as `parley worker list` shows it.")]


@worker_app.command("drain")
def worker_drain(
    worker_id: WorkerId,
    target: Target = DEFAULT_TARGET,
    api_key: ApiKey = "",
    wait: Annotated[
        float, typer.Option(min=0, max=3600, help="Seconds to wait until it is empty; else exit with 75.")
    ] = 0.0,
    as_json: AsJson = False,
) -> None:
    """Move every session off a worker and give it no new ones; the process goes on. Answers at once.

    [dim]Example:[/dim] parley worker drain wk_... --wait 60
    """

    async def ask(channel: grpc.aio.Channel, options: dict[str, Any]) -> fleet_pb2.Worker:
        stub = FleetServiceStub(channel)
        worker = (await stub.DrainWorker(fleet_pb2.DrainWorkerRequest(worker=worker_id), **options)).worker
        deadline = asyncio.get_running_loop().time() + wait
        left = worker.sessions
        while worker.sessions and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(_LOOK_EVERY)
            listed = await stub.ListWorkers(fleet_pb2.ListWorkersRequest(), **options)
            found = [each for each in listed.workers if each.worker == worker_id]
            if not found:
                raise CliError(
                    f"{worker_id} is not heard any more; sessions that it had go on with others", EX_UNAVAILABLE
                )
            worker = found[0]
            if worker.sessions not in (0, left) and not as_json:
                print(_drain_line(worker), flush=True)
            left = worker.sessions
        return worker

    worker = call(target, api_key, ask)
    if as_json:
        _output.print_json(_output.document(worker))
    else:
        print(_drain_line(worker))
    if wait and worker.sessions:
        raise CliError(f"{worker_id} still has {worker.sessions} sessions after {wait:g} s", EX_TEMPFAIL)


@worker_app.command("undrain")
def worker_undrain(
    worker_id: WorkerId, target: Target = DEFAULT_TARGET, api_key: ApiKey = "", as_json: AsJson = False
) -> None:
    """Take a drain back: the worker takes sessions again. Those that have gone stay where they are."""

    async def ask(channel: grpc.aio.Channel, options: dict[str, Any]) -> fleet_pb2.Worker:
        request = fleet_pb2.UndrainWorkerRequest(worker=worker_id)
        return (await FleetServiceStub(channel).UndrainWorker(request, **options)).worker

    worker = call(target, api_key, ask)
    if as_json:
        _output.print_json(_output.document(worker))
    elif worker.draining:
        raise CliError(f"{worker_id} is going away, and goes on draining", EX_TEMPFAIL)
    else:
        print(f"{worker_id} takes sessions; it has {worker.sessions}")


def _drain_line(worker: fleet_pb2.Worker) -> str:
    return (
        f"{worker.worker} is draining: {worker.sessions} sessions left"
        if worker.sessions
        else (f"{worker.worker} is empty")
    )


def state(session: sessions_pb2.Session) -> str:
    """As people write it."""
    return sessions_pb2.SessionState.Name(session.state).removeprefix("SESSION_STATE_").lower()


def age(session: sessions_pb2.Session) -> str:
    """Since it was opened."""
    if not session.HasField("open_time"):
        return "-"
    seconds = (datetime.now(UTC) - session.open_time.ToDatetime(UTC)).total_seconds()
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
