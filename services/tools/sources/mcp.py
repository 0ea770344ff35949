"""MCP servers as sources, by the official SDK: connected, listed, followed, called."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import mcp_types as types
import structlog
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client
from mcp.client.subscriptions import ListenNotSupportedError, SubscriptionLost
from mcp.shared import _otel
from opentelemetry.trace import NoOpTracer
from pydantic import TypeAdapter, ValidationError

from parley._version import __version__
from services.fabric.process import stop_tasks
from services.tools import arguments, schema
from services.tools.context import ToolContext, ToolError, ToolUnavailableError
from services.tools.registry import Offer
from services.tools.results import ResultError
from services.tools.sources import mcp_answers
from services.tools.sources.file import McpHttpSettings, McpSettings, McpStdioSettings
from services.tools.sources.guard import Guard
from services.tools.sources.mcp_http import NOT_ANSWERED, NOT_SENT, http_client
from services.tools.sources.mcp_stdio import MAX_MESSAGE, TOO_LARGE, StdioServer
from services.tools.sources.mcp_streams import ToolSieve, first_problem, watched
from services.tools.sources.remote import MAX_TOOLS, Catalogue, Described
from services.tools.sources.secrets import Secrets
from services.tools.sources.source import Source, SourceError, TakeOffer

log = structlog.get_logger()

# The SDK's spans and logs hold what servers say, which may be a secret that they were sent. What matters becomes an
# answer or a SourceError; the context of our own span goes on to the server all the same.
_otel._tracer = NoOpTracer()
for _name in ("mcp", "client"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)

_CONNECT: Final = 30.0
"""Seconds for the handshake and the first list of tools."""
_LIST: Final = 15.0
_AT_MOST_EVERY: Final = 1.0
"""Seconds between two lists: a server may say as often as it likes that its tools changed."""
_MAX_PAGES: Final = 64
_GONE: Final = frozenset({types.CONNECTION_CLOSED, NOT_ANSWERED, types.REQUEST_TIMEOUT})
_ANSWER: Final = TypeAdapter[types.CallToolResult | types.InputRequiredResult](
    types.CallToolResult | types.InputRequiredResult
)


class McpSource(Source):
    """One MCP server. A connection is one run; when it is lost the run fails, and the keeper begins another one."""

    def __init__(self, settings: McpStdioSettings | McpHttpSettings, folder: Path, *, max_result_bytes: int) -> None:
        """`folder`: what relative paths count from."""
        super().__init__(settings.name)
        self._settings = settings
        self._folder = folder
        self._max_result_bytes = max_result_bytes
        self._connection: _Connection | None = None

    def reason(self) -> str:
        """Why the server cannot be called; empty when it can."""
        if self._connection is not None and not self._connection.lost:
            return ""
        return f"its source {self.name} is not connected at the moment"

    async def run(self, offer: TakeOffer) -> None:
        """Connect, and follow the server's list of tools until the connection is lost. SourceError."""
        secrets = Secrets(self._folder)
        guard = Guard(self.name, secrets, retries=self._settings.retries)
        doubt = asyncio.Event()
        connection = _Connection(doubt)
        try:
            async with asyncio.timeout(_CONNECT) as limit, self._connected(secrets, connection):
                described = await connection.tools()
                limit.reschedule(None)
                self._connection = connection
                while True:
                    offer(self._offer(described, guard, connection.sieve.malformed))
                    described = await self._change(connection, doubt)
        except TimeoutError:
            raise SourceError(f"no answer within {_CONNECT:g} s") from None
        except (MCPError, ValidationError, BaseExceptionGroup) as error:
            raise _as_source_error(error, connection.lost, secrets.hide) from error
        finally:
            self._connection = None

    async def _change(self, connection: _Connection, doubt: asyncio.Event) -> list[types.Tool]:
        """The tools when they are worth another look: the server says so, something went wrong, or time has passed."""
        pause = self._settings.refresh.total_seconds()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_AT_MOST_EVERY):
                await connection.over.wait()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, pause - _AT_MOST_EVERY)):
                await doubt.wait()
        doubt.clear()
        if connection.over.is_set():
            raise SourceError(connection.lost)
        return await connection.tools()

    def _offer(self, tools: list[types.Tool], guard: Guard, malformed: Mapping[str, str]) -> Offer:
        catalogue = Catalogue(self._settings, guard, self)
        for name, problem in malformed.items():
            catalogue.problem(f"its declaration is malformed: {problem}", name)
        if len(tools) > MAX_TOOLS:
            catalogue.problem(f"it has {len(tools)} tools or more; at most {MAX_TOOLS} are served")
        for tool in tools:
            if tool.execution is not None and tool.execution.task_support == "required":
                catalogue.problem("it can be called as a task only, which is not served", tool.name)
                continue
            try:
                sender = _Sender(self, tool, self._max_result_bytes, guard.hide)
            except schema.SchemaError as error:
                catalogue.problem(f"of its answers, {error}", tool.name)
                continue
            catalogue.add(
                Described(
                    name=tool.name,
                    description=tool.description or tool.title or "",
                    parameters=dict(tool.input_schema),
                    idempotent=self._settings.trust_annotations and _says_idempotent(tool.annotations),
                    send=sender.send,
                    reports=True,
                )
            )
        return catalogue.offer()

    def session(self) -> _Connection:
        """The connection of now. ToolUnavailableError when there is none."""
        if self._connection is None or self._connection.lost:
            raise ToolUnavailableError(f"not run: {self.name} is not connected at the moment", may_have_run=False)
        return self._connection

    @asynccontextmanager
    async def _connected(self, secrets: Secrets, connection: _Connection) -> AsyncIterator[None]:
        async with contextlib.AsyncExitStack() as stack:
            transport, watch = await self._transport(secrets, connection, stack)
            connection.watched = watch is not None
            client = Client(
                watched(transport, connection.sieve, connection.closed),
                cache=None,
                client_info=types.Implementation(name="parley", version=__version__),
                message_handler=connection.hear,
                read_timeout_seconds=_LIST,
            )
            tasks = [asyncio.create_task(watch(), name=f"watch {self.name}")] if watch else []
            try:
                connection.client = await stack.enter_async_context(client)
                connection.sieve.version = lambda: client.protocol_version
                tasks.append(asyncio.create_task(connection.listen(), name=f"listen to {self.name}"))
                yield
            finally:
                self._connection = None
                await stop_tasks(tasks)

    async def _transport(
        self, secrets: Secrets, connection: _Connection, stack: contextlib.AsyncExitStack
    ) -> tuple[AbstractAsyncContextManager[Any], Callable[[], Any] | None]:
        settings: McpSettings = self._settings
        if isinstance(settings, McpHttpSettings):
            headers = {name: secrets.resolve(value) for name, value in settings.headers.items()}
            client = await stack.enter_async_context(http_client(headers, connection.doubtful))
            return streamable_http_client(settings.url, http_client=client, max_sse_event_size=MAX_MESSAGE), None
        assert isinstance(settings, McpStdioSettings)
        server = StdioServer(
            self.name,
            [settings.command, *settings.args],
            {name: secrets.resolve(value) for name, value in settings.env.items()},
            None if settings.cwd is None else self._folder / settings.cwd,
            secrets.hide,
        )

        async def watch() -> None:
            connection.lose(await server.ended())

        return server, watch


class _Connection:
    """The server while it is connected."""

    def __init__(self, doubt: asyncio.Event) -> None:
        self._doubt = doubt
        self.client: Client | None = None
        self.sieve = ToolSieve()
        self.watched = False
        """Somebody else knows why the connection ended."""
        self.lost = ""
        """Why nothing can be sent any more."""
        self.over = asyncio.Event()

    def closed(self) -> None:
        """Nothing more will come. Why, may show in a moment."""
        self.lost = self.lost or "the connection was closed"
        if not self.watched:
            self.lose(self.lost)

    def lose(self, reason: str) -> None:
        """The connection is over."""
        self.lost = reason
        self.over.set()
        self._doubt.set()

    def doubtful(self, reason: str) -> None:
        """Something went wrong: have a look whether the server is there."""
        log.info("MCP server in doubt", reason=reason)
        self._doubt.set()

    async def hear(self, message: Any) -> None:
        """What the server says unasked."""
        if isinstance(message, types.ToolListChangedNotification):
            self._doubt.set()

    async def listen(self) -> None:
        """Servers of the newest protocol have to be asked to say when their tools change."""
        assert self.client is not None
        while True:
            try:
                async with self.client.listen(tools_list_changed=True) as events:
                    async for _ in events:
                        self._doubt.set()
            except ListenNotSupportedError:
                return
            except (MCPError, SubscriptionLost, TimeoutError) as error:
                log.debug("MCP server does not tell of changes", error=type(error).__name__)
            await asyncio.sleep(_LIST)

    async def tools(self) -> list[types.Tool]:
        """All of them, up to a bound. MCPError, ValidationError."""
        assert self.client is not None
        self.sieve.malformed.clear()
        found: list[types.Tool] = []
        cursor: str | None = None
        for _ in range(_MAX_PAGES):
            page = await self.client.list_tools(cursor=cursor, cache_mode="bypass")
            found += page.tools
            cursor = page.next_cursor
            if cursor is None or len(found) > MAX_TOOLS:
                break
        return found


class _Sender:
    """Calls one tool."""

    def __init__(self, source: McpSource, tool: types.Tool, max_result_bytes: int, hide: Callable[[str], str]) -> None:
        """SchemaError when the schema of its answers is none. `hide`: takes secrets out of a text."""
        self._source = source
        self._name = tool.name
        self._max_result_bytes = max_result_bytes
        self._hide = hide
        self._check = None if tool.output_schema is None else arguments.SchemaCheck(dict(tool.output_schema))

    async def send(self, values: dict[str, Any], context: ToolContext) -> Any:
        """Call it. When this is cancelled, the server is told. ToolUnavailableError, ToolError."""
        result = await self._request(values, context)
        if isinstance(result, types.InputRequiredResult):
            raise ToolError("the tool asks for something that only a person could give; it cannot be used here")
        value = mcp_answers.value_of(result, self._max_result_bytes, self._hide)
        if self._check is not None:
            if result.structured_content is None:
                raise ResultError("its answer has no structured content, which it declares")
            if reason := self._not_as_declared(result.structured_content):
                raise ResultError(f"its answer is not what it declares: {reason}")
        return value

    def _not_as_declared(self, answer: Any) -> str:
        """What is wrong with an answer, without secrets; empty when nothing is."""
        assert self._check is not None
        try:
            self._check(answer)
        except arguments.ArgumentsError as error:
            # What is said repeats the beginnings of values: with half a secret nobody would know what it is.
            told = str(error).removeprefix("wrong arguments: ")
            text = json.dumps(answer)
            return told if self._hide(text) == text else ", ".join(place or "the whole" for place in error.violations)
        return ""

    async def _request(
        self, values: dict[str, Any], context: ToolContext
    ) -> types.CallToolResult | types.InputRequiredResult:
        connection = self._source.session()
        assert connection.client is not None
        # Not `Client.call_tool`: it checks answers with patterns that may take for ever, and asks people for input.
        request = types.CallToolRequest(params=types.CallToolRequestParams(name=self._name, arguments=values))

        async def report(progress: float, total: float | None, message: str | None) -> None:
            context.progress(self._hide(message or ""), progress / total if total else None)

        try:
            # The deadline is the executor's, which cancels.
            return await connection.client.session.send_request(
                request, _ANSWER, request_read_timeout_seconds=_FOREVER, progress_callback=report
            )
        except MCPError as error:
            raise self._failure(error) from None
        except ValidationError as error:
            raise ResultError(f"its answer is no MCP: {first_problem(error)}") from None

    def _failure(self, error: MCPError) -> Exception:
        message = " ".join(self._hide(error.error.message).split())
        if error.code == NOT_SENT:
            return ToolUnavailableError(f"not run: {message}", may_have_run=False)
        if error.code in _GONE or (error.code == types.PARSE_ERROR and TOO_LARGE not in message):
            reason = "the connection was lost" if error.code == types.CONNECTION_CLOSED else message
            return ToolUnavailableError(f"{self._source.name} did not answer: {reason}"[:300], may_have_run=True)
        if TOO_LARGE in message:
            return ResultError(TOO_LARGE)
        return ToolError(message or f"error {error.code}")


_FOREVER: Final = 24 * 3600.0


def _says_idempotent(annotations: types.ToolAnnotations | None) -> bool:
    return annotations is not None and bool(annotations.read_only_hint or annotations.idempotent_hint)


def _as_source_error(error: BaseException, lost: str, hide: Callable[[str], str]) -> BaseException:
    """What went wrong with a connection, from inside the SDK's task groups."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, SourceError | asyncio.CancelledError):
        return error
    if lost:
        return SourceError(lost)
    if isinstance(error, MCPError):
        return SourceError(hide(error.error.message)[:500])
    if isinstance(error, ValidationError):
        return SourceError(f"its answer is no MCP: {hide(first_problem(error))}")
    return SourceError(f"the connection failed: {type(error).__name__}")
