from __future__ import annotations

from collections.abc import Iterator

import grpc.aio
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from services.fabric import telemetry
from services.gateway.opening import OPEN_TRACEPARENT
from tests.gateway.conftest import converse, open_request, opened, refusal
from tests.gateway.fake_worker import FakeWorker
from tests.support.eventually import eventually

TRACE = "0af7651916cd43dd8448eb211c80319c"
CALLER = f"00-{TRACE}-b7ad6b7169203331-01"


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(telemetry, "tracer", lambda: provider.get_tracer("test"))
    yield exporter
    provider.shutdown()


def named(exporter: InMemorySpanExporter, name: str) -> ReadableSpan:
    (span,) = [span for span in exporter.get_finished_spans() if span.name == name]
    return span


async def test_the_caller_finds_open_and_place_in_its_own_trace(
    channel: grpc.aio.Channel, worker: FakeWorker, spans: InMemorySpanExporter
) -> None:
    other = CALLER.replace("0af7", "1111")
    call = converse(channel, metadata=[("traceparent", CALLER)])
    session = await opened(call, open_request(traceparent=other))
    await eventually(lambda: len(spans.get_finished_spans()) == 2)
    opening, placing = named(spans, "parley.open"), named(spans, "parley.place")
    assert opening.kind is trace.SpanKind.SERVER
    assert placing.kind is trace.SpanKind.CLIENT
    assert opening.context is not None
    assert placing.context is not None
    assert opening.parent is not None
    assert placing.parent is not None
    assert format(opening.parent.span_id, "016x") == "b7ad6b7169203331"
    assert placing.parent.span_id == opening.context.span_id
    assert opening.attributes is not None
    assert opening.attributes["session.id"] == session.session_id
    assert opening.attributes["parley.tenant"] == "acme"
    assert opening.attributes["parley.worker"] == worker.name
    (headers,) = worker.headers
    assert headers["traceparent"] == f"00-{TRACE}-{placing.context.span_id:016x}-01"
    assert headers[OPEN_TRACEPARENT] == f"00-{TRACE}-{opening.context.span_id:016x}-01"


async def test_the_open_message_carries_the_trace_where_metadata_does_not(
    channel: grpc.aio.Channel, spans: InMemorySpanExporter
) -> None:
    await opened(converse(channel), open_request(traceparent=CALLER))
    await eventually(lambda: len(spans.get_finished_spans()) == 2)
    assert format(named(spans, "parley.open").context.trace_id, "032x") == TRACE


async def test_a_refusal_is_on_the_span(channel: grpc.aio.Channel, spans: InMemorySpanExporter) -> None:
    call = converse(channel)
    await call.write(open_request(profile="nope", traceparent="rubbish"))
    await refusal(call)
    span = named(spans, "parley.open")
    assert span.attributes is not None
    assert span.attributes["parley.error.reason"] == "PROFILE_UNKNOWN"
    assert not span.status.is_ok
    assert span.parent is None
