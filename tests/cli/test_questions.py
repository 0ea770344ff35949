"""`parley session ...` and `parley worker list` against a gateway over a real socket."""

import asyncio
import json
from contextlib import asynccontextmanager

import grpc
import pytest

from parley.cli import main
from parley.v1 import fleet_pb2, fleet_pb2_grpc, sessions_pb2, sessions_pb2_grpc


class Sessions(sessions_pb2_grpc.SessionServiceServicer):
    def __init__(self):
        self.calls = []
        self.metadata = {}

    async def ListSessions(self, request, context):  # noqa: N802
        self.calls.append(request)
        self.metadata = dict(context.invocation_metadata())
        first = int(request.page_token or 0)
        sessions = [sessions_pb2.Session(session_id=f"ses_{n}", state=1) for n in range(first, first + 2)]
        return sessions_pb2.ListSessionsResponse(sessions=sessions, next_page_token=str(first + 2) if first < 4 else "")

    async def GetSession(self, request, context):  # noqa: N802
        if request.session_id != "ses_1":
            await context.abort(grpc.StatusCode.NOT_FOUND, f"there is no session {request.session_id}")
        session = sessions_pb2.Session(session_id="ses_1", worker="wk-1", labels={"team": "a"}, epoch=2)
        return sessions_pb2.GetSessionResponse(session=session)

    async def EndSession(self, request, context):  # noqa: N802
        self.calls.append(request)
        return sessions_pb2.EndSessionResponse()

    async def WatchSession(self, request, context):  # noqa: N802
        raise NotImplementedError

    async def MoveSession(self, request, context):  # noqa: N802
        raise NotImplementedError

    async def MintEphemeralToken(self, request, context):  # noqa: N802
        raise NotImplementedError


class Fleet(fleet_pb2_grpc.FleetServiceServicer):
    async def ListWorkers(self, request, context):  # noqa: N802
        worker = fleet_pb2.Worker(worker="wk-1", sessions=3, capacity=100, version="0.1.0")
        worker.loop_lag.FromMilliseconds(7)
        return fleet_pb2.ListWorkersResponse(workers=[worker])

    async def DrainWorker(self, request, context):  # noqa: N802
        raise NotImplementedError

    async def UndrainWorker(self, request, context):  # noqa: N802
        raise NotImplementedError


@asynccontextmanager
async def gateway():
    server = grpc.aio.server()
    sessions = Sessions()
    sessions_pb2_grpc.add_SessionServiceServicer_to_server(sessions, server)
    fleet_pb2_grpc.add_FleetServiceServicer_to_server(Fleet(), server)
    target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()

    async def run(*arguments):
        return await asyncio.to_thread(main, [*arguments, "--target", target, "--api-key", "secret"])

    try:
        yield sessions, run
    finally:
        await server.stop(None)


async def test_sessions_are_listed_over_pages_up_to_the_limit(capsys):
    async with gateway() as (sessions, run):
        assert await run("session", "list", "--json", "--limit", "5") == 0
        assert [s["session_id"] for s in json.loads(capsys.readouterr().out)] == [f"ses_{n}" for n in range(5)]
        assert [call.page_size for call in sessions.calls] == [5, 3, 1]
        assert sessions.metadata["authorization"] == "Bearer secret"
        assert await run("session", "list") == 0
        out = capsys.readouterr().out
        assert "ses_5" in out
        assert "attached" in out


async def test_a_session_is_shown_and_ended(capsys):
    async with gateway() as (sessions, run):
        assert await run("session", "show", "ses_1", "--json") == 0
        document = json.loads(capsys.readouterr().out)
        assert (document["worker"], document["labels"]) == ("wk-1", {"team": "a"})
        assert await run("session", "show", "ses_1") == 0
        assert "team=a" in capsys.readouterr().out
        assert await run("session", "end", "ses_1", "--reason", "test") == 0
        assert sessions.calls[-1].reason == "test"


@pytest.mark.parametrize("how", [(), ("--json",)])
async def test_workers_are_listed(how, capsys):
    async with gateway() as (_, run):
        assert await run("worker", "list", *how) == 0
        out = capsys.readouterr().out
        assert "wk-1" in out
        assert ("3/100" in out) == (not how)


async def test_a_refusal_is_one_line(capsys):
    async with gateway() as (_, run):
        assert await run("session", "show", "ses_9") == 1
        assert capsys.readouterr().err.startswith("parley: there is no session ses_9 [NOT_FOUND]. Check the name")
