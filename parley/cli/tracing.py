"""The caller's own span, so that a trace begins where the conversation does."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from parley._version import __version__
from parley.cli._failures import CliError

if TYPE_CHECKING:
    from opentelemetry.trace import Span

SERVICE_NAME = "parley-caller"


def checked_endpoint(endpoint: str) -> str:
    """An OTLP/gRPC address as given; empty stays empty. CliError (2) when it is not http(s)://HOST:PORT."""
    try:
        parts = urlsplit(endpoint)
        usable = (
            parts.scheme in {"http", "https"}
            and bool(parts.hostname and parts.port)
            and "@" not in parts.netloc
            and (parts.path, parts.query, parts.fragment) in {("", "", ""), ("/", "", "")}
            and not any(map(str.isspace, endpoint))
        )
    except ValueError:
        usable = False
    if endpoint and not usable:
        raise CliError(
            f"--otlp-endpoint (or OTEL_EXPORTER_OTLP_ENDPOINT) must be http://HOST:PORT or https://HOST:PORT, "
            f"not {endpoint!r}",
            2,
        )
    return endpoint


class CallerSpan:
    """The trace that a call runs in."""

    def __init__(self, trace_id: str, traceparent: str | None, span: "Span | None" = None) -> None:
        self.trace_id = trace_id
        """32 hexadecimal digits."""
        self.traceparent = traceparent
        """What to send; None: OpenTelemetry's current context says it."""
        self._span = span

    def set(self, key: str, value: str) -> None:
        """An attribute, where there is a span."""
        if self._span is not None:
            self._span.set_attribute(key, value)


@asynccontextmanager
async def caller_span(endpoint: str, profile: str) -> AsyncIterator[CallerSpan]:
    """A span `talk` that is exported to the OTLP/gRPC `endpoint` on leaving; without one only a new trace id.

    Without an endpoint OpenTelemetry is not even imported: twenty calls at once on two cores would feel it.
    """
    if not endpoint:
        trace_id = secrets.token_hex(16)
        yield CallerSpan(trace_id, f"00-{trace_id}-{secrets.token_hex(8)}-01")
        return
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.trace import SpanKind

    resource = Resource.create({"service.name": SERVICE_NAME, "service.version": __version__})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    exporter = OTLPSpanExporter(endpoint=endpoint, insecure=not endpoint.startswith("https://"), timeout=5)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    try:
        attributes = {"rpc.system": "grpc", "rpc.method": "parley.v1.LiveService/Converse", "parley.profile": profile}
        tracer = provider.get_tracer("parley", __version__)
        with tracer.start_as_current_span("talk", kind=SpanKind.CLIENT, attributes=attributes) as span:
            yield CallerSpan(f"{span.get_span_context().trace_id:032x}", None, span)
    finally:
        # It blocks until the span is exported, possibly to a receiver on this very event loop.
        await asyncio.to_thread(provider.shutdown)
