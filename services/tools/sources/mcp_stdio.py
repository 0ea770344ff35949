"""The transport of an MCP server that is a process of ours: started, listened to within bounds, and ended for certain.

Not the SDK's: that one holds a line of any length in memory, gives standard error away unbounded, and does not tell
that or how the process ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final

import anyio
import structlog
from anyio.abc import ObjectReceiveStream, ObjectSendStream
from mcp.client.stdio import get_default_environment
from mcp.shared.message import SessionMessage
from mcp_types import INTERNAL_ERROR, ErrorData, JSONRPCError, jsonrpc_message_adapter

from services.fabric.process import stop_tasks
from services.tools.sources.pace import Pace
from services.tools.sources.source import SourceError

log = structlog.get_logger()

MAX_MESSAGE: Final = 1024 * 1024
"""Bytes of one message; a longer one is not kept."""
TOO_LARGE: Final = f"the answer has more than {MAX_MESSAGE} bytes; ask for less"
_LONGEST_LINE: Final = 64 * MAX_MESSAGE
"""Bytes after which a line that does not end is the end of its process."""
_MAX_NOISE: Final = 100
"""Lines that are no messages, after which a process is no MCP server."""
_STDERR_LINE: Final = 500
"""Characters of a line on its standard error that are logged."""
_LONGEST_NOTE: Final = 64 * 1024
"""Bytes of a line there that is waited for to end."""
_GRACE: Final = 1.0
"""Seconds that a process has to end after its input was closed, and again after SIGTERM."""
_REPLY_ID: Final = re.compile(rb'"id"\s*:\s*(\d{1,15})\s*[,}]')
_SHOWN: Final = 256
"""Bytes at both ends of a message that is too long, in which its id is looked for."""

Incoming = SessionMessage | Exception


class StdioServer:
    """A process, and the streams that the SDK talks to it over. To be entered once."""

    def __init__(
        self,
        source: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        cwd: Path | None,
        hide: Callable[[str], str],
    ) -> None:
        """`environment` beside PATH, HOME and the like; `hide` takes secrets out of what is logged."""
        self._source = source
        self._command = command
        self._environment = environment
        self._cwd = cwd
        self._hide = hide
        self._process: asyncio.subprocess.Process | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._noise = 0
        self._closed = False
        self._ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def ended(self) -> str:
        """Why the process does not talk any more, once it does not."""
        return await asyncio.shield(self._ended)

    async def __aenter__(
        self,
    ) -> tuple[ObjectReceiveStream[Incoming], ObjectSendStream[SessionMessage]]:
        """Start the process. SourceError when that is not possible."""
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=get_default_environment() | dict(self._environment),
                cwd=self._cwd,
                limit=MAX_MESSAGE,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise SourceError(f"{self._command[0]} cannot be started: {reason}") from None
        # No buffer: what the SDK has not taken yet stays in the pipe, and then the process has to wait.
        to_sdk, incoming = anyio.create_memory_object_stream[Incoming](0)
        outgoing, from_sdk = anyio.create_memory_object_stream[SessionMessage](0)
        self._streams = (to_sdk, incoming, outgoing, from_sdk)
        self._tasks = [
            asyncio.create_task(self._read(to_sdk), name=f"stdout of {self._source}"),
            asyncio.create_task(self._write(from_sdk), name=f"stdin of {self._source}"),
            asyncio.create_task(self._log_stderr(), name=f"stderr of {self._source}"),
        ]
        return incoming, outgoing

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the process and whatever it started."""
        try:
            if self._closed:
                # It ended, or is about to: how it did is worth knowing.
                await asyncio.wait({self._ended}, timeout=_GRACE)
            await self._stop()
        finally:
            self._signal(signal.SIGKILL)  # also when the waiting was cut short
            for stream in self._streams:
                stream.close()
            if not self._ended.done():
                self._ended.set_result("it was stopped")

    async def _stop(self) -> None:
        process = self._process
        assert process is not None
        assert process.stdin is not None
        process.stdin.close()
        if not await self._gone():
            self._signal(signal.SIGTERM)
            if not await self._gone():
                self._signal(signal.SIGKILL)
                await self._gone()
        # What it left behind holds the pipes open.
        self._signal(signal.SIGKILL)
        await stop_tasks(self._tasks)

    async def _gone(self) -> bool:
        assert self._process is not None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_GRACE):
                await self._process.wait()
        return self._process.returncode is not None

    def _signal(self, number: signal.Signals) -> None:
        # The whole group, which it leads: start_new_session.
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)

    def _end(self, reason: str) -> None:
        if not self._ended.done():
            self._ended.set_result(reason)

    async def _read(self, to_sdk: ObjectSendStream[Incoming]) -> None:
        assert self._process is not None
        reason = ""
        try:
            while (message := await self._message()) is not None:
                await to_sdk.send(message)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            return
        except _UnusableError as error:
            reason = str(error)
        finally:
            # Now every call that waits is told that the connection is closed.
            self._closed = True
            await to_sdk.aclose()
        if not reason:
            # Its end of the pipe may be closed a moment before it has ended.
            reason = "it closed its standard output"
            if await self._gone():
                reason = f"its process ended with status {self._process.returncode}"
        self._end(reason)
        self._signal(signal.SIGKILL)

    async def _message(self) -> SessionMessage | None:
        """The next one; None at the end. _UnusableError."""
        while (line := await self._line()) is not None:
            try:
                return SessionMessage(jsonrpc_message_adapter.validate_json(line, by_name=False))
            except ValueError:
                if line.strip():
                    self._noise += 1
            if self._noise == 1:
                log.warning("MCP server writes what is no message to its standard output", source=self._source)
            if self._noise > _MAX_NOISE:
                raise _UnusableError(
                    f"it wrote more than {_MAX_NOISE} lines that are no messages to its standard output"
                )
        return None

    async def _line(self) -> bytes | None:
        assert self._process is not None
        stdout = self._process.stdout
        assert stdout is not None
        head, tail, size = b"", b"", 0
        while True:
            try:
                line = await stdout.readuntil(b"\n")
            except asyncio.IncompleteReadError:
                return None
            except ConnectionError:
                return None
            except asyncio.LimitOverrunError as error:
                piece = await stdout.readexactly(error.consumed)
                head, tail, size = head or piece[:_SHOWN], piece[-_SHOWN:], size + len(piece)
                if size > _LONGEST_LINE:
                    raise _UnusableError(f"it wrote a line of more than {_LONGEST_LINE} bytes") from None
                continue
            if not size:
                return line
            return _instead_of(head, (tail + line)[-_SHOWN:])

    async def _write(self, from_sdk: ObjectReceiveStream[SessionMessage]) -> None:
        assert self._process is not None
        stdin = self._process.stdin
        assert stdin is not None
        try:
            async for message in from_sdk:
                stdin.write(message.message.model_dump_json(by_alias=True, exclude_unset=True).encode() + b"\n")
                await stdin.drain()
        except (ConnectionError, RuntimeError):
            # It does not listen any more. That its output ends too is what tells everybody.
            self._signal(signal.SIGTERM)
        finally:
            await from_sdk.aclose()

    async def _log_stderr(self) -> None:
        assert self._process is not None
        stderr = self._process.stderr
        assert stderr is not None
        pace, dropped, rest = Pace(rate=5, burst=50), 0, b""
        over = False
        while not over:
            try:
                data = await stderr.read(64 * 1024)
            except ConnectionError:
                data = b""
            over = not data
            # Whole lines, so that no secret is cut in two, unless one has no end.
            *lines, rest = (rest + data).split(b"\n")
            if rest and (over or len(rest) > _LONGEST_NOTE):
                lines, rest = [*lines, rest], b""
            for line in lines:
                if not pace.allows(time.monotonic()):
                    dropped += 1
                    continue
                text = self._hide(line.decode(errors="replace").rstrip())[:_STDERR_LINE]
                log.info("MCP server says", source=self._source, text=text, left_out=dropped)
                dropped = 0
            await asyncio.sleep(0)


class _UnusableError(Exception):
    """The process does what no MCP server may do."""


def _instead_of(head: bytes, tail: bytes) -> bytes:
    """What is handed on instead of a message that is too long: an error for its request, where that can be told."""
    found = _REPLY_ID.search(head) or _REPLY_ID.search(tail)
    if found is None:
        return b"\n"
    error = ErrorData(code=INTERNAL_ERROR, message=TOO_LARGE)
    return JSONRPCError(jsonrpc="2.0", id=int(found[1]), error=error).model_dump_json(by_alias=True).encode()
