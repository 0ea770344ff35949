"""Hands the caller's trace on. OpenTelemetry is used only where the caller uses it already."""

import sys
from collections.abc import Sequence

Metadata = list[tuple[str, str]]


def trace_metadata(traceparent: str | None) -> Metadata:
    """W3C trace context for gRPC metadata: `traceparent` if given, else OpenTelemetry's current context.

    Looking into `sys.modules` costs nothing and is enough: a caller with a current span has imported the API.
    """
    if traceparent:
        return [("traceparent", traceparent)]
    if "opentelemetry.context" not in sys.modules:
        return []
    from opentelemetry import propagate

    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    return [(key.lower(), value) for key, value in carrier.items()]


def traceparent_of(metadata: Sequence[tuple[str, str]]) -> str:
    """The W3C `traceparent` in metadata; empty when there is none."""
    return next((value for key, value in metadata if key == "traceparent"), "")
