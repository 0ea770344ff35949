"""Traces and metrics: set-up of what sends them, and W3C context in and out of the carriers that Parley uses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_INSTANCE_ID, SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from parley._version import __version__
from services.fabric.meters import Meters

_W3C = TraceContextTextMapPropagator()
TRACEPARENT = "traceparent"


class Telemetry:
    """The providers of a process. Without an endpoint spans are not recorded, but context still travels; metrics are
    counted in any case, for whoever scrapes them."""

    def __init__(self, service: str, instance: str, endpoint: str, metrics_endpoint: str = "") -> None:
        """`endpoint`, `metrics_endpoint`: OTLP/gRPC addresses that take traces and metrics; empty: nowhere."""
        self._provider: TracerProvider | None = None
        resource = Resource.create({SERVICE_NAME: service, SERVICE_INSTANCE_ID: instance, SERVICE_VERSION: __version__})
        self.meters = Meters(resource, metrics_endpoint)
        if not endpoint:
            return
        self._provider = TracerProvider(resource=resource)
        exporter = OTLPSpanExporter(endpoint=endpoint, insecure=endpoint.startswith("http://"), timeout=5)
        # Bounded: a slow collector costs spans, never a call.
        self._provider.add_span_processor(
            BatchSpanProcessor(exporter, max_queue_size=4096, schedule_delay_millis=500, export_timeout_millis=5000)
        )
        trace.set_tracer_provider(self._provider)

    def shutdown(self) -> None:
        """Export what waits (blocks up to 5 s) and stop."""
        if self._provider is not None:
            self._provider.shutdown()
        self.meters.shutdown()


def tracer() -> trace.Tracer:
    """The tracer of Parley."""
    return trace.get_tracer("parley", __version__)


def traceparent(context: Context | None = None) -> str:
    """The W3C header of a context (default: the current one); empty when there is no trace."""
    carrier: dict[str, str] = {}
    _W3C.inject(carrier, context)
    return carrier.get(TRACEPARENT, "")


def headers(context: Context | None = None) -> dict[str, str]:
    """NATS headers that carry a context (default: the current one)."""
    carrier: dict[str, str] = {}
    _W3C.inject(carrier, context)
    return carrier


def context_from(carrier: Mapping[str, str] | None) -> Context:
    """The remote context in NATS headers or the like; an empty one when there is none."""
    return _W3C.extract(carrier or {}, Context())


def context_from_metadata(metadata: Iterable[tuple[str, str | bytes]], fallback: str = "") -> Context:
    """The caller's context: gRPC metadata first, `open.traceparent` (fallback) when metadata has none."""
    carrier = {key: value for key, value in metadata if key in _W3C.fields and isinstance(value, str)}
    if TRACEPARENT not in carrier and fallback:
        carrier = {TRACEPARENT: fallback}
    return _W3C.extract(carrier, Context())
