"""`Converse`: from the first message to the end of the stream."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from typing import Final

import grpc
import grpc.aio
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import SpanKind, Status, StatusCode

from parley.v1 import errors_pb2, live_pb2
from services.fabric import logs, metrics, names, telemetry
from services.fabric.auth import Authenticator, Identity
from services.fabric.errors import ServiceError
from services.fabric.meters import record
from services.fabric.span_budget import SpanBudget
from services.gateway import calls
from services.gateway.opening import Opener, Session
from services.gateway.session_config import check_open
from services.gateway.session_timeline import GatewayTimeline
from services.gateway.settings import GatewaySettings
from services.gateway.stream import Call, Stream
from services.gateway.streams import Streams
from services.gateway.uplink_check import parse

SERVICE = "parley.v1.LiveService"
_RPC: Final = {names.RPC_SYSTEM: "grpc", names.RPC_METHOD: f"{SERVICE}/Converse"}
_REFUSALS: Final = 300
"""Spans a minute of calls that were refused at once: who knocks without a key is not to fill the queue of spans."""


class LiveService:
    """Serves `Converse` on bytes: responses pass as the worker wrote them, requests are parsed once to be checked."""

    def __init__(
        self,
        settings: GatewaySettings,
        authenticator: Authenticator,
        opener: Opener,
        streams: Streams,
        timeline: GatewayTimeline,
    ) -> None:
        self._timeline = timeline
        self._settings = settings
        self._authenticator = authenticator
        self._opener = opener
        self._streams = streams
        self._open_calls = 0
        self._refusals = SpanBudget(_REFUSALS)
        self.draining = False

    @property
    def open_calls(self) -> int:
        """Calls that have not returned, opening ones included."""
        return self._open_calls

    def handler(self) -> grpc.GenericRpcHandler:
        """For the gRPC server."""
        converse: grpc.RpcMethodHandler[bytes, bytes] = grpc.stream_stream_rpc_method_handler(self._converse)
        return grpc.method_handlers_generic_handler(SERVICE, {"Converse": converse})

    async def _converse(self, _requests: object, context: Call) -> None:
        self._open_calls += 1
        try:
            await self._serve(context)
        except ServiceError as error:
            await calls.abort(context, error)
        except asyncio.CancelledError:
            calls.count_expired(context)
            raise
        except (calls.CallerGoneError, grpc.aio.BaseError):
            calls.count_expired(context)  # nobody is there to be told anything
        except Exception as error:  # noqa: BLE001 - the last line of defence: logged with an id
            await calls.abort(context, calls.internal_error(error))
        finally:
            self._open_calls -= 1

    async def _serve(self, context: Call) -> None:
        caller, opening, parent = await self._asked(context)
        span = telemetry.tracer().start_span(names.SPAN_OPEN, parent, SpanKind.SERVER, attributes=_RPC)
        stream, began, outcome = self._streams.create(), time.monotonic(), "gone"
        try:
            try:
                with trace.use_span(span, record_exception=False, set_status_on_exception=False):
                    session = await self._open(stream, caller, opening)
                    await context.write(_opened(session).SerializeToString())
                    outcome = "opened"
            except BaseException as error:
                _note_failure(span, error)
                outcome = "refused" if isinstance(error, ServiceError) else "gone"
                raise
            finally:
                span.end()
                record(metrics.OPEN, time.monotonic() - began, {names.OUTCOME: outcome})
            if self.draining:
                self._streams.tell_to_go(stream, self._settings.shutdown_grace.total_seconds())
            trace_id = logs.follow(stream.session, trace.set_span_in_context(span))
            try:
                error_or_ok = await stream.pump(context, self._streams.keep)
            finally:
                logs.forget(stream.session, trace_id)
            self._timeline.detached(stream, error_or_ok)
        except BaseException as error:
            self._timeline.detached(stream, error)
            raise
        finally:
            self._close_when_open(stream)
        if error_or_ok is not None:
            self._note_end(stream, caller, error_or_ok)
            raise error_or_ok

    async def _asked(self, context: Call) -> tuple[Identity, live_pb2.Open, Context]:
        """Who opens what, in which context. ServiceError."""
        began = time.time_ns()
        parent, caller = Context(), None
        try:
            metadata = calls.metadata_of(context)
            parent = telemetry.context_from_metadata(metadata)
            caller = self._authenticator.identify(metadata)
            self._admit()
            first = parse(await self._first_message(context))
            parent = telemetry.context_from_metadata(metadata, first.open.traceparent)
            opening = check_open(first, self._settings.backend)
        except ServiceError as error:
            self._note_refusal(parent, began, caller, error)
            raise
        return caller, opening, parent

    def _note_refusal(self, parent: Context, began: int, caller: Identity | None, error: ServiceError) -> None:
        """The span of a call that was refused before anything was done for it."""
        if not self._refusals.takes(time.monotonic()):
            return
        span = telemetry.tracer().start_span(
            names.SPAN_OPEN, parent, SpanKind.SERVER, attributes=_RPC, start_time=began
        )
        if caller is not None:
            span.set_attribute(names.TENANT, caller.tenant)
        _note_failure(span, error)
        span.end()

    def _note_end(self, stream: Stream, caller: Identity, error: ServiceError) -> None:
        """The span that tells why a stream ended, whose own span is long over."""
        span = telemetry.tracer().start_span(names.SPAN_END, stream.trace, SpanKind.SERVER, attributes=_RPC)
        span.set_attributes({names.SESSION_ID: stream.session, names.TENANT: caller.tenant})
        _note_failure(span, error)
        span.end()

    def _admit(self) -> None:
        if self.draining:
            raise ServiceError(errors_pb2.ERROR_REASON_GATEWAY_DRAINING, "this gateway is going away; use another one")
        if self._open_calls > self._settings.max_streams:
            raise ServiceError(
                errors_pb2.ERROR_REASON_NO_CAPACITY,
                f"this gateway has as many streams as it takes ({self._settings.max_streams})",
                retry_delay=timedelta(seconds=2),
            )

    async def _first_message(self, context: Call) -> bytes:
        # The read is not cancelled when it takes too long: it ends by itself with the call.
        reading = asyncio.ensure_future(context.read())
        reading.set_name("read first message")
        self._streams.keep(reading)
        done, _ = await asyncio.wait({reading}, timeout=self._settings.open_timeout.total_seconds())
        if not done:
            seconds = self._settings.open_timeout.total_seconds()
            raise ServiceError(errors_pb2.ERROR_REASON_OPEN_TIMEOUT, f"no `open` came within {seconds:g} s")
        raw: object = reading.result()
        if raw is grpc.aio.EOF:
            raise ServiceError(
                errors_pb2.ERROR_REASON_OPEN_MISPLACED, "the stream ended before `open`", {"open": "required"}
            )
        assert isinstance(raw, bytes)
        return raw

    async def _open(self, stream: Stream, caller: Identity, opening: live_pb2.Open) -> Session:
        span = trace.get_current_span()
        span.set_attributes({names.TENANT: caller.tenant, names.PROFILE: opening.profile})
        task = asyncio.create_task(self._opener.open(stream, caller, opening), name="open")
        self._streams.keep(task)
        stream.opening = task
        session = await asyncio.shield(task)
        span.set_attributes({names.SESSION_ID: session.session_id, names.WORKER: session.worker})
        return session

    def _close_when_open(self, stream: Stream) -> None:
        """Close a stream; one that is still being opened when its caller leaves, as soon as that is over."""
        if stream.opening is None or stream.opening.done():
            self._streams.close(stream)
        else:
            stream.opening.add_done_callback(lambda _: self._streams.close(stream))


def _opened(session: Session) -> live_pb2.ConverseResponse:
    opened = live_pb2.Opened(
        session_id=session.session_id,
        resume_token=session.resume_token,
        next_uplink_seq=session.attached.next_uplink_seq,
        existing=session.existing,
        resume_window=session.attached.resume_window,
    )
    return live_pb2.ConverseResponse(opened=opened)


def _note_failure(span: trace.Span, error: BaseException) -> None:
    if isinstance(error, ServiceError):
        span.set_attribute(names.ERROR_REASON, error.reason_name)
        span.set_status(Status(StatusCode.ERROR, error.message))
    else:
        span.set_attribute(names.ERROR_TYPE, type(error).__name__)
        span.set_status(Status(StatusCode.ERROR))
