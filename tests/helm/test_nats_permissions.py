"""The users of files/nats/authorization.conf may do what services and operators do, and nothing that they do not.

A whole stack runs on a nats-server with the configuration of the rendered release, which traces every subject; so do
the commands of operators, for what they make on one that is empty, too.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import sys
from collections import defaultdict
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import grpc.aio
import nats
import nats.errors
import pytest
import pytest_asyncio

import parley
from parley import events
from parley.cli import _nats
from parley.cli._child import Child
from parley.cli.stack import Stack, StackConfig
from parley.v1 import sessions_pb2, sessions_pb2_grpc
from tests.helm.chart import CHART, named, render, values_of
from tests.support import live_tools
from tests.support.counts import get_json
from tests.support.eventually import eventually

SERVICES: Final = ("gateway", "worker", "tools")
USERS: Final = (*SERVICES, "operator")
_LIMIT: Final = 90.0
"""Seconds, for what hangs."""
PASSWORD: Final = "{}-secret"
_DID: Final = re.compile(r'/user:(\w+)" - <<- \[(H?PUB|SUB) (\S+)')
_REFUSED: Final = re.compile(r"Permissions Violation|Publish Violation|Subscription Violation|Authorization Violation")

RARE: Final = {
    "worker: _INBOX.worker.>": "a worker that takes a session over asks its owner, when nobody has proven it dead",
    "worker: parley.worker.*.ctl": "the same",
    "worker: $SRV.PING.parley-tools.*": "asked when a tools process does not answer",
    "tools: $JS.API.STREAM.MSG.GET.PARLEY_SESSIONS": "read when a call is claimed already",
    "gateway: $JS.FC.PARLEY_SESSIONS.>": "flow control of a reader that falls behind",
    "worker: $JS.FC.PARLEY_SESSIONS.>": "the same",
}
"""Allowed, and not always used in what this test plays."""
FIRST: Final = "$JS.API.STREAM.CREATE."
"""Streams are made by whoever of the services comes first."""


class Guarded(Stack):
    """A stack whose nats-server has the users of the release, and says what each does."""

    async def start_nats(self, *, port: int = -1) -> Child:
        manifests = render(values_of("dev"))
        for name, text in named(manifests, "ConfigMap", "nats")["data"].items():
            (self.state_dir / name).write_text(self._here(text), encoding="utf-8")
        env = {f"PARLEY_{user.upper()}_PASSWORD": PASSWORD.format(user) for user in USERS}
        command = [_nats.find_server(), "-c", str(self.state_dir / "nats.conf")]
        self.nats = await self._spawn("nats", command, env)
        await _nats.wait_listening(self.nats, self.state_dir, self.config.ready_timeout)
        return self.nats

    def _here(self, text: str) -> str:
        text = text.replace(
            "port: 4222",
            "host: 127.0.0.1\nport: -1\ntrace: true\nlogfile: trace.log".replace(
                "trace.log", json.dumps(str(self.state_dir / "trace.log"))
            ),
        )
        text = text.replace(
            "http_port: 8222", f'http: "127.0.0.1:-1"\nports_file_dir: {json.dumps(str(self.state_dir))}'
        )
        return text.replace("/data", json.dumps(str(self.state_dir / "jetstream")))

    def trace(self) -> str:
        return (self.state_dir / "trace.log").read_text(encoding="utf-8", errors="replace")


def allowed() -> dict[str, dict[str, list[str]]]:
    """Subjects by user and `publish` or `subscribe`, as the file says."""
    text = (CHART / "files/nats/authorization.conf").read_text(encoding="utf-8")
    found: dict[str, dict[str, list[str]]] = {}
    for part in re.split(r"\buser: ", text)[1:]:
        user = re.match(r"\w+", part)
        assert user is not None
        found[user[0]] = {
            way: re.findall(r'"([^"]+)"', re.search(rf"{way}: \[(.*?)\]", part, re.DOTALL)[1])  # type: ignore[index]
            for way in ("publish", "subscribe")
        }
    return found


def matches(pattern: str, subject: str) -> bool:
    """As NATS sees it; a wildcard of the subject stands for itself."""
    wanted, given = pattern.split("."), subject.split(".")
    for at, token in enumerate(wanted):
        if token == ">":
            return len(given) > at
        if at >= len(given) or token not in ("*", given[at]):
            return False
    return len(wanted) == len(given)


def done(trace: str) -> dict[str, dict[str, set[str]]]:
    """What each user published and subscribed to."""
    found: dict[str, dict[str, set[str]]] = defaultdict(lambda: {"publish": set(), "subscribe": set()})
    for user, verb, subject in _DID.findall(trace):
        found[user]["subscribe" if verb == "SUB" else "publish"].add(subject)
    return found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Guarded]:
    env = {
        f"PARLEY_{service.upper()}_NATS_{key}": value
        for service in SERVICES
        for key, value in (("USER", service), ("PASSWORD", PASSWORD.format(service)))
    }
    folder = tmp_path_factory.mktemp("stack")
    env |= {
        "PARLEY_WORKER_RECORD_RETENTION": "0s",
        "PARLEY_GATEWAY_SWEEP_EVERY": "1s",
        "PARLEY_GATEWAY_ABANDONED_AFTER": "2s",
        "PARLEY_TOOLS_MODULES": live_tools.MODULES,
        live_tools.FOLDER: str(folder),
    }
    async with Guarded(StackConfig(workers=2, gateways=2, env=env, state_dir=folder)) as running:
        yield running


pytestmark = pytest.mark.asyncio(loop_scope="module")


async def _until(session: parley.Session, kind: type[events.Event], **wanted: str) -> None:
    async with asyncio.timeout(_LIMIT):
        async for event in session:
            if isinstance(event, kind) and all(getattr(event, key) == value for key, value in wanted.items()):
                return


async def _lost(stack: Guarded, *signals: signal.Signals) -> None:
    """Every worker goes, and another one comes first."""
    old = [worker for worker in stack.workers if worker.running]
    await stack.start_worker()
    for worker in old:
        worker.stopping = True
        for number in signals:
            worker.signal(number)
        await worker.process.wait()


class _HangUp(Exception):  # noqa: N818 - nothing went wrong
    """A caller that goes without a word."""


async def _play(stack: Guarded) -> None:
    """What services do: calls with tools, moves, recoveries, questions about sessions, endings of every kind."""
    first, second = (str(gateway.ready["address"]) for gateway in stack.gateways)
    # A tool with partial results, which the caller hangs up on: it is cancelled, and undone.
    async with parley.connect(first, profile="support") as session:
        await session.send_text("where is my order 4711")
        await _until(session, events.ToolActivity, phase="STARTED")
        await eventually(lambda: live_tools.Order(stack.state_dir, "4711").notes, timeout=_LIMIT)
    await eventually(lambda: len(live_tools.Order(stack.state_dir, "4711").notes) > 2, timeout=_LIMIT)
    async with parley.connect([first, second], profile="support") as session:
        await session.update_context(tools=["lookup_order"])
        await session.send_text("where is my order 4712")
        await eventually(lambda: live_tools.Order(stack.state_dir, "4712").notes, timeout=_LIMIT)
        # Nobody knows what became of the call: the worker says so in its claim.
        await stack.start_tools()
        stack.tools[0].stopping = True
        stack.tools[0].signal(signal.SIGKILL)
        await _until(session, events.ToolActivity, phase="FINISHED")
        await _lost(stack, signal.SIGTERM)
        await session.send_text("what can you do")
        await _until(session, events.TurnComplete)
        await _lost(stack, signal.SIGKILL)
        await session.send_text("hello again")
        await _until(session, events.TurnComplete)
        async with grpc.aio.insecure_channel(first) as channel:
            sessions = sessions_pb2_grpc.SessionServiceStub(channel)
            listed = await sessions.ListSessions(sessions_pb2.ListSessionsRequest())
            assert session.id in {one.session_id for one in listed.sessions}
            watch = sessions.WatchSession(sessions_pb2.WatchSessionRequest(session_id=session.id))
            await watch.read()
            await sessions.GetSessionTimeline(sessions_pb2.GetSessionTimelineRequest(session_id=session.id))
            await sessions.EndSession(sessions_pb2.EndSessionRequest(session_id=session.id))
            while (await watch.read()).type != sessions_pb2.SESSION_EVENT_TYPE_ENDED:
                pass
    # One whose caller and worker are both lost: a gateway ends it.
    for _ in range(2):
        with contextlib.suppress(_HangUp):
            async with parley.connect(first, profile="plain", request_id="lost") as session:
                raise _HangUp
    await _lost(stack, signal.SIGKILL)
    swept = [f"{gateway.ready['ops']}/debug/vars" for gateway in stack.gateways]

    async def ended() -> bool:
        return sum([(await get_json(url))["sessions_swept"] for url in swept]) > 0

    await eventually(ended, timeout=_LIMIT)
    await eventually(lambda: "STREAM.PURGE.KV_PARLEY_REQUESTS" in stack.trace(), timeout=_LIMIT)


async def _parley(stack: Guarded, *arguments: str, **env: str) -> tuple[int, Any]:
    """Exit status and document of an operator's command."""
    env = {f"PARLEY_FABRIC_{key}": value for key, value in env.items()}
    env |= {"PARLEY_FABRIC_NATS_URL": str(stack.nats.ready["url"]), "PARLEY_FABRIC_NATS_USER": "operator"}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "parley.cli", *arguments, "--json"),
        env={**os.environ, **env, "PARLEY_FABRIC_NATS_PASSWORD": PASSWORD.format("operator")},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(_LIMIT):
        out, _ = await process.communicate()
    return process.returncode or 0, json.loads(out) if out else None


async def _look_at(stack: Guarded) -> None:
    """What operators ask a deployment that runs. `parley top` and `session timeline` ask its gateways alone."""
    status, found = await _parley(stack, "doctor", "--gateway", str(stack.gateways[0].ready["address"]))
    assert (status, [each for each in found if each["level"] == "problem"]) == (0, [])
    assert {"workers", "backend", "tools", "gateways"} <= {each["about"] for each in found if each["level"] == "ok"}
    assert await _parley(stack, "fabric", "diff") == (0, [])


async def _prepare(folder: Path) -> str:
    """Streams of a deployment that is to come, made and changed by an operator; the trace."""
    empty = Guarded(StackConfig(state_dir=folder))
    empty.state_dir = folder
    try:
        await empty.start_nats()
        status, done = await _parley(empty, "fabric", "apply")
        assert (status, len(done["created"]), done["refused"], done["left"]) == (0, 5, [], [])
        status, done = await _parley(empty, "fabric", "apply", LOG_RETENTION="2h")
        assert (status, [each["stream"] for each in done["changed"]], done["left"]) == (0, ["PARLEY_LOG"], [])
        # One server cannot keep two copies: it is asked to, for every stream, and says so itself.
        status, done = await _parley(empty, "fabric", "apply", REPLICAS="2")
        assert (status, len(done["refused"])) == (1, 5)
        assert all("replicas" in each for each in done["refused"])
        return empty.trace()
    finally:
        await empty.stop()


async def test_all_the_work_is_done_and_no_more_is_allowed(stack: Guarded, tmp_path: Path) -> None:
    trace = await _prepare(tmp_path)
    try:
        await _play(stack)
        await _look_at(stack)
    finally:
        trace += stack.trace()
        refused = sorted({line.partition("cid:")[2] for line in trace.splitlines() if _REFUSED.search(line)})
        assert refused == []
    used, may = done(trace), allowed()
    assert used.keys() >= set(USERS) == may.keys()
    unused = [
        f"{user}: {pattern}"
        for user in USERS
        for way in ("publish", "subscribe")
        for pattern in may[user][way]
        if not any(matches(pattern, subject) for subject in used[user][way])
        and f"{user}: {pattern}" not in RARE
        and not (user in SERVICES and pattern.startswith(FIRST))
    ]
    assert unused == []


async def test_others_get_in_nowhere(stack: Guarded) -> None:
    """A service with another's subjects is refused, and so is who has no password."""
    problems: list[Exception] = []

    async def note(problem: Exception) -> None:
        problems.append(problem)

    url = stack.nats.ready["url"]
    with pytest.raises(nats.errors.Error):
        await nats.connect(url, allow_reconnect=False, max_reconnect_attempts=1)
    client = await nats.connect(url, user="tools", password=PASSWORD.format("tools"), error_cb=note)
    try:
        for subject in ("parley.session.ses_x.own", "parley.worker.wk-1.ctl", "$JS.API.STREAM.DELETE.PARLEY_SESSIONS"):
            problems.clear()
            await client.publish(subject, b"")
            await eventually(lambda: problems, timeout=_LIMIT)
            assert "permissions violation" in str(problems[0]).lower()
    finally:
        await client.close()
