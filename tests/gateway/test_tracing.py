from __future__ import annotations

from collections.abc import Iterator

import grpc.aio
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from parley._connect import open_channel
from parley.v1 import live_pb2
from services.fabric import telemetry
from services.fabric.span_budget import SpanBudget
from services.fabric.telemetry import SESSION_TRACEPARENT
from services.gateway.server import Gateway
from tests.gateway.conftest import StartGateway, converse, open_request, opened, refusal
from tests.gateway.fake_worker import FakeWorker
from tests.support.eventually import eventually
from tests.support.nats import NatsServer

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
    assert headers[SESSION_TRACEPARENT] == f"00-{TRACE}-{opening.context.span_id:016x}-01"


async def test_the_open_message_carries_the_trace_where_metadata_does_not(
    channel: grpc.aio.Channel, spans: InMemorySpanExporter
) -> None:
    await opened(converse(channel), open_request(traceparent=CALLER))
    await eventually(lambda: len(spans.get_finished_spans()) == 2)
    assert format(named(spans, "parley.open").context.trace_id, "032x") == TRACE


async def test_instrumentation_of_grpc_makes_no_span_as_long_as_the_call(
    monkeypatch: pytest.MonkeyPatch, nats: NatsServer, worker: FakeWorker, start_gateway: StartGateway
) -> None:
    # It takes the place of these functions.
    for name in ("server", "insecure_channel"):
        monkeypatch.setattr(grpc.aio, name, lambda *_, **__: pytest.fail("this call would be wrapped"))
    gateway = await start_gateway(nats.url)
    async with open_channel(gateway.address) as channel:
        await opened(converse(channel), open_request())


async def test_a_call_without_a_key_is_refused_in_its_callers_trace(
    channel: grpc.aio.Channel, spans: InMemorySpanExporter
) -> None:
    call = converse(channel, key="wrong", metadata=[("traceparent", CALLER)])
    await refusal(call)
    await eventually(spans.get_finished_spans)
    span = named(spans, "parley.open")
    assert format(span.context.trace_id, "032x") == TRACE
    assert span.attributes is not None
    assert span.attributes["parley.error.reason"] == "CREDENTIAL_INVALID"
    assert "parley.tenant" not in span.attributes


async def test_who_knocks_again_and_again_does_not_fill_the_traces(
    channel: grpc.aio.Channel, spans: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch, gateway: Gateway
) -> None:
    gateway._live._refusals = SpanBudget(3)
    for _ in range(5):
        await refusal(converse(channel, key="wrong"))
    assert [span.name for span in spans.get_finished_spans()] == ["parley.open"] * 3


async def test_a_stream_that_ends_with_an_error_says_so_in_its_trace(
    channel: grpc.aio.Channel, spans: InMemorySpanExporter
) -> None:
    call = converse(channel, metadata=[("traceparent", CALLER)])
    session = await opened(call, open_request())
    await call.write(live_pb2.ConverseRequest(seq=7, text=live_pb2.TextInput(text="out of order")))
    await refusal(call)
    span = named(spans, "parley.end")
    assert span.attributes is not None
    assert span.attributes["session.id"] == session.session_id
    assert span.attributes["parley.error.reason"] == "SEQUENCE_BROKEN"
    assert span.parent is not None
    assert span.parent.span_id == named(spans, "parley.open").context.span_id


async def test_a_refusal_is_on_the_span(channel: grpc.aio.Channel, spans: InMemorySpanExporter) -> None:
    call = converse(channel)
    await call.write(open_request(profile="nope", traceparent="rubbish"))
    await refusal(call)
    span = named(spans, "parley.open")
    assert span.attributes is not None
    assert span.attributes["parley.error.reason"] == "PROFILE_UNKNOWN"
    assert not span.status.is_ok
    assert span.parent is None
