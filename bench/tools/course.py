"""The processes of `bench.tools`, and single measurements on them."""

import asyncio
import itertools
import json
import sys
import time
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Final, Self

import nats
import nats.errors
from nats.aio.client import Client

from bench.rig import ROOT, LoadError
from bench.tools import responder
from parley.cli.stack import Stack, StackConfig
from parley.v1 import fabric_pb2, live_pb2, sessions_pb2
from services.fabric import ids, subjects
from services.fabric.records import SessionRecords
from tests.support.children import bound
from tests.support.eventually import eventually

_LIMIT: Final = 20.0
"""Seconds for any answer."""
_CONFIG: Final = StackConfig(
    workers=0,
    gateways=0,
    gemini_base_url="https://localhost:1",  # nobody dials it: no emulator is wanted
    env={"PARLEY_TOOLS_MODULES": "bench.tools.functions"},
)


class Course:
    """``async with Course() as course``: nats-server, a tools service, and a process that answers bare requests."""

    async def __aenter__(self) -> Self:
        self._numbers = itertools.count(1)
        async with AsyncExitStack() as exits:
            stack = await exits.enter_async_context(Stack(_CONFIG))
            url = str(stack.nats.ready["url"])
            await self._start_responder(url, exits)
            self._client: Client = await nats.connect(url)
            exits.push_async_callback(self._client.close)
            await self._open_session()
            self._exits = exits.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._exits.__aexit__(kind, error, trace)

    async def _start_responder(self, url: str, exits: AsyncExitStack) -> None:
        process = await asyncio.create_subprocess_exec(
            *bound(sys.executable, "-m", "bench.tools.responder", url),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            cwd=ROOT,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        exits.push_async_callback(process.wait)
        exits.callback(process.stdin.close)
        async with asyncio.timeout(_LIMIT):
            if not await process.stdout.readline():
                raise LoadError("the process that answers bare requests did not start")

    async def _open_session(self) -> None:
        """A session for claims to belong to; no worker has it."""
        records = SessionRecords(self._client.jetstream())
        await records.ensure(1)
        self._session = ids.session_id()
        record = fabric_pb2.OwnRecord(session=sessions_pb2.Session(session_id=self._session))
        self._own = await records.create_own(self._session, record)

    def _request(self, tool: str, arguments: str = "{}", **fields: Any) -> fabric_pb2.ToolCallRequest:
        return fabric_pb2.ToolCallRequest(
            schema_version=1,
            name=tool,
            arguments_json=arguments,
            execution_id=f"exe_{ids.sortable_id()}",
            session_id=self._session,
            idempotency_key=f"key{next(self._numbers)}",
            **fields,
        )

    async def _answer(self, subject: str, payload: bytes) -> bytes:
        try:
            return (await self._client.request(subject, payload, timeout=_LIMIT)).data
        except (nats.errors.Error, TimeoutError) as error:
            raise LoadError(f"{subject}: {error or type(error).__name__}") from error

    async def _result(self, request: fabric_pb2.ToolCallRequest) -> tuple[Any, int]:
        """What a tool returned, and the nanoseconds from the request to the reply. LoadError."""
        payload = request.SerializeToString()
        began = time.perf_counter_ns()
        answer = await self._answer(subjects.tool_call(request.name), payload)
        took = time.perf_counter_ns() - began
        reply = fabric_pb2.ToolCallReply.FromString(answer)
        if reply.outcome != live_pb2.TOOL_OUTCOME_SUCCEEDED:
            raise LoadError(f"{request.name} failed: {reply.error}")
        return json.loads(reply.output_json), took

    async def bare(self) -> int:
        """Nanoseconds of a request to a process that answers at once, of the size that a call has. LoadError."""
        payload = self._request("run").SerializeToString()
        began = time.perf_counter_ns()
        await self._answer(responder.SUBJECT, payload)
        return time.perf_counter_ns() - began

    async def call(self, tool: str, *, claimed: bool = False) -> int:
        """Nanoseconds of a call without what the function took. LoadError."""
        fence: dict[str, Any] = {"own_revision": self._own, "epoch": 1, "turn": 1} if claimed else {}
        request = self._request(tool, **fence)
        output, took = await self._result(request)
        return took - int(output["nanoseconds"])

    async def cancel(self, tool: str) -> int:
        """Nanoseconds from the moment at which a cancellation is published until the function knows. LoadError."""
        request = self._request(tool)
        hanging = asyncio.create_task(self._answer(subjects.tool_call(tool), request.SerializeToString()))
        try:
            await self._until(request.execution_id, "began")
            published = time.monotonic_ns()
            await self._client.publish(subjects.tool_cancel(request.execution_id), b"")
            reply = fabric_pb2.ToolCallReply.FromString(await hanging)
        finally:
            hanging.cancel()
            await asyncio.wait({hanging})
        if reply.outcome != live_pb2.TOOL_OUTCOME_CANCELLED:
            raise LoadError(f"{tool} was cancelled and ended with {reply}")
        return int((await self._until(request.execution_id, "cancelled_at"))["cancelled_at"]) - published

    async def runs(self) -> int:
        """How often functions ran that do not hang. LoadError."""
        return int((await self._told(""))["runs"])

    async def _told(self, execution: str) -> Any:
        return (await self._result(self._request("told", json.dumps({"execution_id": execution}))))[0]

    async def _until(self, execution: str, what: str) -> Any:
        async def told() -> Any:
            found = await self._told(execution)
            return found if found[what] else None

        return await eventually(told, _LIMIT)
