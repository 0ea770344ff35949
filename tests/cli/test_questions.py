"""`parley session ...`, `worker list` and `tools ...` against services over a real socket."""

import asyncio
import ctypes
import io
import json
import platform
import signal
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest

from parley.cli import main
from parley.cli._failures import CliError
from parley.cli.tools import read_arguments
from parley.v1 import (
    fleet_pb2,
    fleet_pb2_grpc,
    live_pb2,
    sessions_pb2,
    sessions_pb2_grpc,
    timeline_pb2,
    tools_pb2,
    tools_pb2_grpc,
)

TGKILL = {"x86_64": 234, "aarch64": 131}[platform.machine()]
"""Number of the system call that signals one thread."""


class Sessions(sessions_pb2_grpc.SessionServiceServicer):
    def __init__(self):
        self.calls = []
        self.metadata = {}
        self.timeline = []
        """What each look at one gets."""

    async def GetSessionTimeline(self, request, context):  # noqa: N802
        self.calls.append(request)
        return self.timeline.pop(0)

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
        self.calls.append(request)
        session = sessions_pb2.Session(session_id=request.session_id, worker="wk-1", epoch=1, state=2)
        yield sessions_pb2.WatchSessionResponse(session=session, event="CURRENT", type=1)
        if request.session_id == "ses_quiet":
            await asyncio.sleep(3600)
        session.state, session.gateway, session.attach_generation = 1, "gw-1", 7
        yield sessions_pb2.WatchSessionResponse(session=session, event="ATTACHED", type=2)
        if request.session_id == "ses_cut":
            await context.abort(grpc.StatusCode.UNAVAILABLE, "going away")
        session.state, session.gateway, session.end_reason = 3, "", live_pb2.END_REASON_OPERATOR
        yield sessions_pb2.WatchSessionResponse(session=session, event="ENDED", type=5)

    async def MoveSession(self, request, context):  # noqa: N802
        self.calls.append(request)
        worker, gateway = request.worker or "wk-2", "" if request.session_id == "ses_alone" else "gw-1"
        session = sessions_pb2.Session(session_id=request.session_id, worker=worker, gateway=gateway)
        return sessions_pb2.MoveSessionResponse(session=session)

    async def MintEphemeralToken(self, request, context):  # noqa: N802
        raise NotImplementedError


class Fleet(fleet_pb2_grpc.FleetServiceServicer):
    def __init__(self):
        self.left = [3]
        """Sessions that the worker has, each time it is listed; below 0: it is not heard."""

    async def ListWorkers(self, request, context):  # noqa: N802
        left = self.left.pop(0) if len(self.left) > 1 else self.left[0]
        if left < 0:
            return fleet_pb2.ListWorkersResponse()
        worker = fleet_pb2.Worker(worker="wk-1", sessions=left, capacity=100, version="0.1.0")
        worker.loop_lag.FromMilliseconds(7)
        return fleet_pb2.ListWorkersResponse(workers=[worker])

    async def DrainWorker(self, request, context):  # noqa: N802
        if request.worker == "wk-empty":
            return fleet_pb2.DrainWorkerResponse(worker=fleet_pb2.Worker(worker="wk-empty", draining=True))
        return fleet_pb2.DrainWorkerResponse(worker=fleet_pb2.Worker(worker=request.worker, sessions=3, draining=True))

    async def UndrainWorker(self, request, context):  # noqa: N802
        worker = fleet_pb2.Worker(worker=request.worker, sessions=2, draining=request.worker == "wk-going")
        return fleet_pb2.UndrainWorkerResponse(worker=worker)


class Tools(tools_pb2_grpc.ToolServiceServicer):
    def __init__(self):
        self.calls = []
        self.remaining = []

    async def ListTools(self, request, context):  # noqa: N802
        declaration = live_pb2.FunctionDeclaration(name="lookup_order", description="Finds\nan order.")
        tool = tools_pb2.Tool(declaration=declaration, idempotent=True)
        tool.timeout.FromMilliseconds(2500)
        return tools_pb2.ListToolsResponse(tools=[tool])

    async def CallTool(self, request, context):  # noqa: N802
        self.calls.append(request)
        self.remaining.append(context.time_remaining())
        if request.name == "nothing":
            await context.abort(grpc.StatusCode.NOT_FOUND, "there is no tool nothing")
        response = tools_pb2.CallToolResponse(outcome=OUTCOMES.get(request.name, live_pb2.TOOL_OUTCOME_SUCCEEDED))
        if response.outcome == live_pb2.TOOL_OUTCOME_SUCCEEDED:
            response.output.update({"city": "Zürich", "arguments": request.arguments})
        else:
            response.error = f"no order\n{request.name}"
        response.duration.FromMilliseconds(1500)
        return response


OUTCOMES = {
    "failed": live_pb2.TOOL_OUTCOME_FAILED,
    "slow": live_pb2.TOOL_OUTCOME_TIMED_OUT,
    "cancelled": live_pb2.TOOL_OUTCOME_CANCELLED,
    "unknown": live_pb2.TOOL_OUTCOME_UNKNOWN,
}


@asynccontextmanager
async def tools_service():
    server = grpc.aio.server()
    tools = Tools()
    tools_pb2_grpc.add_ToolServiceServicer_to_server(tools, server)
    target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()

    async def run(*arguments):
        return await asyncio.to_thread(main, ["tools", *arguments, "--target", target])

    try:
        yield tools, run
    finally:
        await server.stop(None)


@asynccontextmanager
async def gateway():
    server = grpc.aio.server()
    sessions = Sessions()
    sessions_pb2_grpc.add_SessionServiceServicer_to_server(sessions, server)
    run_fleet = Fleet()
    fleet_pb2_grpc.add_FleetServiceServicer_to_server(run_fleet, server)
    target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()

    async def run(*arguments):
        return await asyncio.to_thread(main, [*arguments, "--target", target, "--api-key", "secret"])

    run.target, run.fleet = target, run_fleet
    try:
        yield sessions, run
    finally:
        await server.stop(None)


async def test_sessions_are_listed_over_pages_up_to_the_limit(capsys):
    async with gateway() as (sessions, run):
        assert await run("session", "list", "--json", "--limit", "5") == 0
        assert [s["session_id"] for s in json.loads(capsys.readouterr().out)] == [f"ses_{n}" for n in range(5)]
        assert [call.page_size for call in sessions.calls] == [5, 3, 1]
        assert [call.filter for call in sessions.calls] == [""] * 3
        assert sessions.metadata["authorization"] == "Bearer secret"
        sessions.calls.clear()
        assert await run("session", "list", "--json", "--filter", "state = ATTACHED", "--limit", "3") == 0
        assert [call.filter for call in sessions.calls] == ["state = ATTACHED"] * 2
        capsys.readouterr()
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


def timeline(state, *types, message=""):
    session = sessions_pb2.Session(session_id="ses_1", worker="wk-1", state=f"SESSION_STATE_{state}")
    events = [timeline_pb2.TimelineEvent(type=f"TIMELINE_EVENT_TYPE_{each}", message=message) for each in types]
    return sessions_pb2.GetSessionTimelineResponse(
        session_ids=["ses_1"], session=session, events=events, next_after=str(len(types))
    )


async def test_a_timeline_is_followed_to_its_last_event_which_may_be_stored_after_the_end(capsys, monkeypatch):
    monkeypatch.setattr("parley.cli.timeline._LOOK_EVERY", 0.01)
    async with gateway() as (sessions, run):
        sessions.timeline = [timeline("ATTACHED", "OPENED"), timeline("ENDED"), timeline("ENDED", "ENDED")]
        sessions.timeline += [timeline("ENDED")]
        assert await run("session", "timeline", "ses_1", "--follow") == 0
        out = capsys.readouterr().out.splitlines()
        assert [line.split()[2] for line in out if line.startswith("+")] == ["opened", "ended"]
        assert [call.after for call in sessions.calls] == ["", "1", "0", "1"]


async def test_square_brackets_of_a_message_are_printed(capsys):
    async with gateway() as (sessions, run):
        sessions.timeline = [timeline("ENDED", "LINK_LOST", message="1007 [setup] [/v1/x] refused")]
        assert await run("session", "timeline", "ses_1") == 0
        assert "1007 [setup] [/v1/x] refused" in capsys.readouterr().out


async def test_a_gateway_of_an_older_release_is_one_line(capsys):
    server = grpc.aio.server()
    fleet_pb2_grpc.add_FleetServiceServicer_to_server(Fleet(), server)
    target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    try:
        assert await asyncio.to_thread(main, ["session", "timeline", "ses_1", "--target", target]) == 1
    finally:
        await server.stop(None)
    err = capsys.readouterr().err
    assert err.startswith("parley: the service does not know what was asked of it: its release is older")
    assert err.count("\n") == 1


async def test_a_session_is_moved(capsys):
    async with gateway() as (sessions, run):
        assert await run("session", "move", "ses_1") == 0
        assert capsys.readouterr().out == "ses_1 is on wk-2\n"
        assert await run("session", "move", "ses_1", "--to", "wk-3", "--json") == 0
        assert json.loads(capsys.readouterr().out)["worker"] == "wk-3"
        assert [call.worker for call in sessions.calls] == ["", "wk-3"]
        assert await run("session", "move", "ses_alone") == 0
        assert capsys.readouterr().out == "ses_alone waits for its caller on no worker\n"


async def test_a_worker_is_drained(capsys, monkeypatch):
    monkeypatch.setattr("parley.cli.sessions._LOOK_EVERY", 0.01)
    async with gateway() as (_, run):
        assert await run("worker", "drain", "wk-1") == 0
        assert capsys.readouterr().out == "wk-1 is draining: 3 sessions left\n"
        assert await run("worker", "drain", "wk-empty", "--wait", "5") == 0
        assert capsys.readouterr().out == "wk-empty is empty\n"
        assert await run("worker", "drain", "wk-1", "--json") == 0
        assert json.loads(capsys.readouterr().out)["draining"]
        run.fleet.left = [3, 1, 0]
        assert await run("worker", "drain", "wk-1", "--wait", "5") == 0
        assert capsys.readouterr().out.splitlines() == ["wk-1 is draining: 1 sessions left", "wk-1 is empty"]
        run.fleet.left = [1]
        assert await run("worker", "drain", "wk-1", "--wait", "0.1") == 75
        assert capsys.readouterr().err.startswith("parley: wk-1 still has 1 sessions after 0.1 s")
        run.fleet.left = [1, -1]
        assert await run("worker", "drain", "wk-1", "--wait", "5") == 69
        assert "wk-1 is not heard any more" in capsys.readouterr().err


async def test_a_drain_is_taken_back(capsys):
    async with gateway() as (_, run):
        assert await run("worker", "undrain", "wk-1") == 0
        assert capsys.readouterr().out == "wk-1 takes sessions; it has 2\n"
        assert await run("worker", "undrain", "wk-1", "--json") == 0
        assert json.loads(capsys.readouterr().out)["sessions"] == 2
        assert await run("worker", "undrain", "wk-going") == 75
        assert "goes on draining" in capsys.readouterr().err


async def test_a_refusal_is_one_line(capsys):
    async with gateway() as (_, run):
        assert await run("session", "show", "ses_9") == 1
        assert capsys.readouterr().err.startswith("parley: there is no session ses_9 [NOT_FOUND]. Check the name")


@pytest.mark.parametrize("key", ["secret\n", "gehe\u00efm"])
def test_a_key_that_cannot_be_sent_is_one_line(key, capsys):
    assert main(["session", "list", "--api-key", key]) == 77
    err = capsys.readouterr().err
    assert err.startswith("parley: the API key has characters that keys do not have")
    assert err.count("\n") == 1


async def test_a_session_is_watched_until_it_has_ended(capsys):
    async with gateway() as (sessions, run):
        assert await run("session", "watch", "ses_1") == 0
        assert sessions.calls[-1].session_id == "ses_1"
        lines = capsys.readouterr().out.splitlines()
        assert [line.split(maxsplit=1)[1].strip() for line in lines] == [
            "current   state=detached  worker=wk-1  epoch=1",
            "attached  state=attached  worker=wk-1  epoch=1  gateway=gw-1  generation=7",
            "ended     state=ended  worker=wk-1  epoch=1  reason=operator",
        ]
        assert await run("session", "watch", "ses_1", "--json") == 0
        events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert [event["event"] for event in events] == ["CURRENT", "ATTACHED", "ENDED"]
        assert events[1]["session"]["attach_generation"] == "7"
        assert events[2]["type"] == "SESSION_EVENT_TYPE_ENDED"


async def test_a_watch_that_is_cut_off_is_a_failure(capsys):
    async with gateway() as (_, run):
        assert await run("session", "watch", "ses_cut") == 69
        captured = capsys.readouterr()
        assert len(captured.out.splitlines()) == 2
        assert captured.err.startswith("parley: going away [UNAVAILABLE]. ")
        assert captured.err.count("\n") == 1


async def test_a_gateway_that_says_nothing_is_given_up(capsys, monkeypatch):
    monkeypatch.setattr("parley.cli.sessions.CALL_TIMEOUT", 0.2)

    async def hold(reader, writer):
        await reader.read()
        writer.close()

    server = await asyncio.start_server(hold, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        assert await asyncio.to_thread(main, ["session", "watch", "ses_1", "--target", f"127.0.0.1:{port}"]) == 1
    assert "no answer within 0.2 s [DEADLINE_EXCEEDED]" in capsys.readouterr().err


def interrupt_another_thread(pid):
    threads = {int(thread.name) for thread in Path(f"/proc/{pid}/task").iterdir()}
    assert ctypes.CDLL(None).syscall(TGKILL, pid, min(threads - {pid}), signal.SIGINT) == 0


@pytest.mark.parametrize("thread", ["main", "gRPC's"])
async def test_ctrl_c_ends_a_watch_without_a_word(thread):
    """The kernel may hand the signal to any thread."""
    async with gateway() as (_, run):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "parley.cli", "session", "watch", "ses_quiet", "--target", run.target),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(30):
            assert b"current" in await process.stdout.readline()
            if thread == "main":
                process.send_signal(signal.SIGINT)
            else:
                interrupt_another_thread(process.pid)
            assert await process.communicate() == (b"", b"")
        assert process.returncode == 130


async def test_tools_are_listed(capsys):
    async with tools_service() as (_, run):
        assert await run("list") == 0
        assert "lookup_order | 2.5 s" in " ".join(capsys.readouterr().out.replace("│", "|").split())
        assert await run("list", "--json") == 0
        (tool,) = json.loads(capsys.readouterr().out)
        assert (tool["declaration"]["name"], tool["idempotent"]) == ("lookup_order", True)


async def test_a_tool_is_called(capsys):
    async with tools_service() as (tools, run):
        assert await run("call", "weather", "--args", '{"city": "Zürich", "days": 3}', "--caller", "me") == 0
        assert json.loads(capsys.readouterr().out) == {"city": "Zürich", "arguments": {"city": "Zürich", "days": 3}}
        assert await run("call", "weather", "--idempotency-key", "once", "--timeout", "5", "--json") == 0
        assert json.loads(capsys.readouterr().out) == {
            "name": "weather",
            "idempotency_key": "once",
            "outcome": "SUCCEEDED",
            "output": {"city": "Zürich", "arguments": {}},
            "error": "",
            "duration_seconds": 1.5,
        }
        assert await run("call", "weather", "--tenant", "acme") == 0
        assert [call.tenant for call in tools.calls] == ["", "", "acme"]
        assert [call.caller for call in tools.calls] == ["me", "parley-cli", "parley-cli"]
        keys = [call.idempotency_key for call in tools.calls]
        assert keys[1] == "once"
        assert all(keys)
        assert len(set(keys)) == 3
        assert 10 < tools.remaining[0] < 16
        assert 1 < tools.remaining[1] < 6


@pytest.mark.parametrize("name", OUTCOMES)
async def test_a_tool_that_did_not_succeed_is_one_line_and_a_status(name, capsys):
    outcome = live_pb2.ToolOutcome.Name(OUTCOMES[name]).removeprefix("TOOL_OUTCOME_")
    async with tools_service() as (_, run):
        assert await run("call", name) == 1
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.startswith(f"parley: {name}: no order {name} [{outcome}]. ")
        assert captured.err.count("\n") == 1
        assert await run("call", name, "--json") == 1
        captured = capsys.readouterr()
        document = json.loads(captured.out)
        assert (document["outcome"], document["output"], document["error"]) == (outcome, {}, f"no order\n{name}")
        assert captured.err.count("\n") == 1


async def test_a_tool_that_is_not_there_is_one_line(capsys):
    async with tools_service() as (_, run):
        assert await run("call", "nothing") == 1
        assert capsys.readouterr().err.startswith("parley: there is no tool nothing [NOT_FOUND]. ")


def test_arguments_come_from_stdin(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO('{"a": [1, "ü"]}\n'.encode())))
    assert dict(read_arguments("-")) == {"a": [1, "ü"]}
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b" " * (4 * 1024 * 1024 + 1))))
    with pytest.raises(CliError, match="up to 4194304 bytes"):
        read_arguments("-")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is no JSON: "),
        ("{", "is no JSON: .*column 2"),
        ("order_id=4711", "is no JSON: "),
        ("[1]", r"must be a JSON object, e\.g\. .*, not '\[1\]'"),
        ('"x"', "must be a JSON object"),
        ("null", "must be a JSON object"),
        ('{"a": NaN}', "NaN is no JSON number"),
        ('{"a": Infinity}', "Infinity is no JSON number"),
        ('{"a": 9007199254740993}', "9007199254740993 is beyond 2\\^53"),
        ('{"a": -9007199254740993}', "is beyond 2\\^53"),
        ('{"a": 1e999}', "beyond what a number can be"),
        ("[" * 100_000, "is no JSON"),
        ('{"a": ' * 3000 + "1" + "}" * 3000, "is no JSON|too deep"),
        ('{"a": ' * 60 + "1" + "}" * 60, "too deep"),
    ],
)
def test_arguments_that_cannot_be_sent_as_they_are_are_refused(text, said):
    with pytest.raises(CliError, match=said) as refused:
        read_arguments(text)
    assert refused.value.status == 2
    assert "\n" not in str(refused.value)


def test_whole_numbers_are_exact_up_to_their_bound():
    assert dict(read_arguments('{"a": 9007199254740992, "b": -9007199254740992}')) == {"a": 2.0**53, "b": -(2.0**53)}
