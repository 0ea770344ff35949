"""`parley session ...` and `parley worker list`: questions to a gateway."""

from datetime import UTC, datetime
from typing import Annotated, Any

import grpc
import typer
from google.protobuf.json_format import MessageToDict

from parley.cli import _output
from parley.cli._connection import DEFAULT_TARGET, ApiKey, AsJson, Target, call
from parley.v1 import fleet_pb2, sessions_pb2
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
) -> None:
    """List the sessions of your tenant, newest first."""

    async def ask(channel: grpc.aio.Channel, options: dict[str, Any]) -> list[sessions_pb2.Session]:
        found: list[sessions_pb2.Session] = []
        token = ""
        while len(found) < limit:
            size = min(limit - len(found), 1000)
            request = sessions_pb2.ListSessionsRequest(page_size=size, page_token=token)
            page = await SessionServiceStub(channel).ListSessions(request, **options)
            found += page.sessions
            token = page.next_page_token
            if not token:
                break
        return found[:limit]

    found = call(target, api_key, ask)
    if as_json:
        _output.print_json([_document(session) for session in found])
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

    document = _document(call(target, api_key, ask).session)
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
        _output.print_json([_document(worker) for worker in workers])
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


def _document(message: Any) -> dict[str, Any]:
    return MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)


def _state(session: sessions_pb2.Session) -> str:
    return sessions_pb2.SessionState.Name(session.state).removeprefix("SESSION_STATE_").lower()


def _age(session: sessions_pb2.Session) -> str:
    if not session.HasField("open_time"):
        return "-"
    seconds = (datetime.now(UTC) - session.open_time.ToDatetime(UTC)).total_seconds()
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
