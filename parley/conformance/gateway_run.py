"""Runs a gateway's checks from the caller's side, and ends the sessions that they open."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any, Final

import grpc
import grpc.aio

from parley import errors
from parley._connect import call_metadata, open_channel
from parley._status import FirstStatus, Status
from parley.conformance.gateway_checks import PROFILE, Expected, GatewayCheck, Opened, Over, Refused
from parley.conformance.outcome import Outcome
from parley.conformance.steps import Violation
from parley.v1 import live_pb2 as pb
from parley.v1 import sessions_pb2
from parley.v1.sessions_pb2_grpc import SessionServiceStub

METHOD: Final = "/parley.v1.LiveService/Converse"
END_LIMIT: Final = 10.0
"""Seconds that ending a session of ours may take."""


async def run_gateway_checks(
    checks: Sequence[GatewayCheck], target: str, *, api_key: str, profile: str, limit: float
) -> AsyncIterator[Outcome]:
    """One outcome a check, in their order. `limit`: seconds that each may take."""
    async with open_channel(target) as channel:
        for check in checks:
            started = time.monotonic()
            trial = _Trial(channel, check, api_key, profile)
            problem = ""
            try:
                async with asyncio.timeout(limit):
                    await trial.run()
            except Violation as violation:
                problem = str(violation)
            except TimeoutError:
                problem = f"not over within {limit:g} s"
            finally:
                await trial.clean_up()
            yield Outcome(check.name, not problem, problem or check.what, time.monotonic() - started)


class _Call:
    """One stream, on bytes, so that what is no message can be sent too."""

    def __init__(self, channel: grpc.aio.Channel, api_key: str) -> None:
        self.call: Any = channel.stream_stream(METHOD)(metadata=call_metadata(api_key or None))
        self._status = FirstStatus(self.call)
        self.opened: pb.Opened | None = None
        self.ended = False

    async def write(self, message: pb.ConverseRequest | bytes) -> None:
        """Send a message; that the call is over already is the reader's business."""
        raw = message if isinstance(message, bytes) else message.SerializeToString()
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            await self.call.write(raw)

    async def done_writing(self) -> None:
        """Half-close."""
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            await self.call.done_writing()

    async def read_opened(self) -> pb.Opened:
        """The answer to `open`. Violation when it is another one."""
        with contextlib.suppress(grpc.aio.AioRpcError):
            async for raw in self.call:
                self._take(raw)
                if self.opened is None:
                    raise Violation("the first response is not `opened`")
                return self.opened
        raise Violation(f"expected `opened`, got {_say(await self.status())}")

    async def read_to_the_end(self) -> Status:
        """Read everything; how it ended."""
        with contextlib.suppress(grpc.aio.AioRpcError):
            async for raw in self.call:
                self._take(raw)
        return await self.status()

    async def status(self) -> Status:
        """How the call ended."""
        with contextlib.suppress(grpc.aio.AioRpcError):
            await self.call.code()
        status = await self._status.settled()
        assert status is not None
        return status

    def _take(self, raw: bytes) -> None:
        response = pb.ConverseResponse.FromString(raw)
        if response.HasField("opened"):
            self.opened = response.opened
        self.ended = self.ended or response.HasField("ended")


class _Trial:
    """One check."""

    def __init__(self, channel: grpc.aio.Channel, check: GatewayCheck, api_key: str, profile: str) -> None:
        self._channel = channel
        self._check = check
        self._api_key = api_key
        self._profile = profile
        self._calls: list[_Call] = []

    async def run(self) -> None:
        """Violation when the gateway answers otherwise."""
        check = self._check
        if check.attach is None:
            await self._judge(check.sent, check.expected)
            return
        first = self._filled(pb.ConverseRequest(open=pb.Open(request_id="*", profile=PROFILE)))
        other = self._call(self._api_key)
        await other.write(first)
        opened = await other.read_opened()
        if check.first_ended:
            await other.write(pb.ConverseRequest(seq=1, end=pb.End(reason="conformance")))
            await _check_end(other, Over(ended=True))
        await self._judge([check.attach(first.open, opened)], check.expected)
        if check.first is not None:
            await _check_end(other, check.first)
        elif not check.first_ended:
            await other.write(pb.ConverseRequest(seq=1, end=pb.End(reason="conformance")))
            await _check_end(other, Over(ended=True))

    async def _judge(self, sent: Iterable[pb.ConverseRequest | bytes], expected: Expected) -> None:
        call = self._call(self._api_key if self._check.api_key is None else self._check.api_key)
        for message in sent:
            await call.write(message if isinstance(message, bytes) else self._filled(message))
        if isinstance(expected, Opened):
            _check_opened(await call.read_opened(), expected)
            return
        if isinstance(expected, Over) and not expected.ended:
            await call.done_writing()
        await _check_end(call, expected, self._check.instead)

    def _call(self, api_key: str) -> _Call:
        call = _Call(self._channel, api_key)
        self._calls.append(call)
        return call

    def _filled(self, message: pb.ConverseRequest) -> pb.ConverseRequest:
        filled = pb.ConverseRequest()
        filled.CopyFrom(message)
        if filled.HasField("open"):
            if filled.open.request_id == "*":
                filled.open.request_id = f"conformance-{uuid.uuid4().hex}"
            if filled.open.profile == PROFILE:
                filled.open.profile = self._profile
        return filled

    async def clean_up(self) -> None:
        """Leave no session behind: it would keep a link to the model for the resume window."""
        for call in self._calls:
            call.call.cancel()
        sessions = {call.opened.session_id for call in self._calls if call.opened and not call.ended}
        for session in sessions:
            request = sessions_pb2.EndSessionRequest(session_id=session, reason="conformance")
            with contextlib.suppress(grpc.aio.AioRpcError):
                await SessionServiceStub(self._channel).EndSession(
                    request, metadata=call_metadata(self._api_key or None), timeout=END_LIMIT
                )


def _check_opened(opened: pb.Opened, expected: Opened) -> None:
    if not opened.session_id.startswith("ses_"):
        raise Violation(f"`session_id` is {opened.session_id!r}; it must begin with `ses_`")
    if not opened.resume_token:
        raise Violation("`resume_token` is empty")
    if opened.next_uplink_seq != 1:
        raise Violation(f"`next_uplink_seq` is {opened.next_uplink_seq}; nothing was sent, so it must be 1")
    if opened.existing is not expected.existing:
        raise Violation(f"`existing` is {opened.existing}; it must be {expected.existing}")
    if not opened.HasField("resume_window"):
        raise Violation("`resume_window` is not set")


async def _check_end(call: _Call, expected: Expected, instead: Refused | None = None) -> None:
    status = await call.read_to_the_end()
    if isinstance(expected, Over):
        if not status.ok:
            raise Violation(f"expected OK, got {_say(status)}")
        if call.ended is not expected.ended:
            raise Violation("OK without `ended`" if expected.ended else "a half-close ended the session")
        return
    assert isinstance(expected, Refused)
    wanted = f"expected {expected.code} ({expected.reason})"
    error = status.error()
    if instead is not None and (status.code.name, error.reason) == (instead.code, instead.reason):
        return
    if (status.code.name, error.reason) != (expected.code, expected.reason):
        raise Violation(f"{wanted}, got {_say(status)}")
    if expected.field and expected.field not in [violation.field for violation in error.field_violations]:
        raise Violation(f"BadRequest must name {expected.field}; it names {_fields(error) or 'nothing'}")


def _fields(error: errors.ParleyError) -> str:
    return ", ".join(violation.field for violation in error.field_violations)


def _say(status: Status) -> str:
    if status.ok:
        return "OK"
    error = status.error()
    return f"{status.code.name} ({error.reason or 'no reason'}: {status.message})"
