"""Where the spans of a process go. A collector that is away, slow or silent costs spans, and nothing else.

Spans wait in a bounded queue for a thread that exports them. What does not get there is counted by the SDK's own
metrics: `otel.sdk.processor.span.processed{error.type=queue_full}`, `otel.sdk.exporter.span.exported{error.type=...}`.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.metrics import MeterProvider
from opentelemetry.sdk.environment_variables import OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

_QUEUE: Final = 4096
"""Spans: some minutes of 100 sessions."""
_BATCH: Final = 128
"""Spans of one export. Encoding them holds the interpreter: no longer than a call can do without it."""
_EVERY_MS: Final = 500
_TIMEOUT: Final = 5
"""Seconds for one export, tries included."""
_LAST_EXPORT: Final = 2.0
"""Seconds that a process which ends waits for what is in the queue."""
_CLOSING: Final = 0.5
"""Seconds for an export that was cut off to return."""


_wanted: ContextVar[int] = ContextVar("wanted span id", default=0)


class _Ids(RandomIdGenerator):
    def generate_span_id(self) -> int:
        return _wanted.get() or super().generate_span_id()


@contextmanager
def span_id(wanted: int) -> Iterator[None]:
    """The spans that are started here have this id: there should be one."""
    token = _wanted.set(wanted)
    try:
        yield
    finally:
        _wanted.reset(token)


class Traces:
    """The tracer provider of a process, and its exporter."""

    def __init__(self, endpoint: str, resource: Resource, meters: MeterProvider) -> None:
        """`endpoint`: OTLP/gRPC. `meters`: get the counts."""
        os.environ.setdefault(OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED, "true")
        self._exporter = OTLPSpanExporter(
            endpoint=endpoint, insecure=endpoint.startswith("http://"), timeout=_TIMEOUT, meter_provider=meters
        )
        self.provider = TracerProvider(
            resource=resource, shutdown_on_exit=False, id_generator=_Ids(), meter_provider=meters
        )
        self.provider.add_span_processor(
            BatchSpanProcessor(
                self._exporter,
                max_queue_size=_QUEUE,
                max_export_batch_size=_BATCH,
                schedule_delay_millis=_EVERY_MS,
                meter_provider=meters,
            )
        )

    def shutdown(self) -> None:
        """Export what waits, and stop; blocks up to 3 s, whatever the collector does."""
        # The SDK would give a collector that hangs half a minute, in which the process has nothing else to do.
        closing = threading.Thread(target=self.provider.shutdown, name="last export", daemon=True)
        closing.start()
        closing.join(_LAST_EXPORT)
        if closing.is_alive():
            self._exporter.shutdown()  # what is under way fails at once, and so does the rest
            closing.join(_CLOSING)
