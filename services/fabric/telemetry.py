"""Traces and metrics: set-up of what sends them, and W3C context in and out of the carriers that Parley uses."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from opentelemetry import context as current
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import SERVICE_INSTANCE_ID, SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from parley._version import __version__
from services.fabric.meters import Meters
from services.fabric.traces import Traces

_W3C = TraceContextTextMapPropagator()
TRACEPARENT: Final = "traceparent"
TRACESTATE: Final = "tracestate"
_SESSION: Final = "parley-open-"
"""Prefix of the NATS headers with the context that a session's spans belong to: that of its open. Without the prefix
they are the context of the request itself."""
SESSION_TRACEPARENT: Final = _SESSION + TRACEPARENT


class Telemetry:
    """The providers of a process. Without an endpoint spans are not recorded, but context still travels; metrics are
    counted in any case, for whoever scrapes them."""

    def __init__(self, service: str, instance: str, endpoint: str, metrics_endpoint: str = "") -> None:
        """`endpoint`, `metrics_endpoint`: OTLP/gRPC addresses that take traces and metrics; empty: nowhere."""
        self._traces: Traces | None = None
        resource = Resource.create({SERVICE_NAME: service, SERVICE_INSTANCE_ID: instance, SERVICE_VERSION: __version__})
        self.meters = Meters(resource, metrics_endpoint)
        if not endpoint:
            return
        self._traces = Traces(endpoint, resource, self.meters.provider)
        trace.set_tracer_provider(self._traces.provider)

    def shutdown(self) -> None:
        """Export what waits, and stop. Blocks up to 3 s for the traces, and 5 s for the metrics."""
        if self._traces is not None:
            self._traces.shutdown()
        self.meters.shutdown()


def tracer() -> trace.Tracer:
    """The tracer of Parley."""
    return trace.get_tracer("parley", __version__)


def trace_id(context: Context | None = None) -> str:
    """The trace of a context (default: the current one), 32 hexadecimal digits; empty when there is none."""
    found = trace.get_current_span(context).get_span_context()
    return trace.format_trace_id(found.trace_id) if found.is_valid else ""


def headers(context: Context | None = None, *, session: Context | None = None) -> dict[str, str]:
    """NATS headers that carry a context (default: the current one), and that of the session which the request is about;
    empty when there is no trace."""
    carrier: dict[str, str] = {}
    _W3C.inject(carrier, context)
    if session is not None:
        of_session: dict[str, str] = {}
        _W3C.inject(of_session, session)
        carrier |= {_SESSION + key: value for key, value in of_session.items()}
    return carrier


def context_from(carrier: Mapping[str, str] | None) -> Context:
    """The remote context in NATS headers or the like; an empty one when there is none."""
    return _W3C.extract(carrier or {}, Context())


def session_context_from(carrier: Mapping[str, str] | None) -> Context:
    """The context of the session in NATS headers; an empty one when there is none."""
    carrier = carrier or {}
    return context_from({key: carrier[_SESSION + key] for key in _W3C.fields if _SESSION + key in carrier})


def span_context(context: Context) -> trace.SpanContext:
    """The ids in a context; not valid where there is no trace."""
    return trace.get_current_span(context).get_span_context()


def unrecorded(context: Context) -> trace.Span:
    """In place of a span that is not made: what happens under it belongs to the same trace, and nobody records it."""
    parent = span_context(context)
    return trace.NonRecordingSpan(
        trace.SpanContext(
            parent.trace_id,
            parent.span_id,
            is_remote=False,
            trace_flags=trace.TraceFlags(0),
            trace_state=parent.trace_state,
        )
    )


@contextmanager
def within(context: Context) -> Iterator[None]:
    """What is done here, and by tasks that are begun here, has this context."""
    token = current.attach(context)
    try:
        yield
    finally:
        current.detach(token)


def context_from_metadata(metadata: Iterable[tuple[str, str | bytes]], fallback: str = "") -> Context:
    """The caller's context: gRPC metadata first, `open.traceparent` (fallback) when metadata has none."""
    carrier = {key: value for key, value in metadata if key in _W3C.fields and isinstance(value, str)}
    if TRACEPARENT not in carrier and fallback:
        carrier = {TRACEPARENT: fallback}
    return _W3C.extract(carrier, Context())
