import asyncio
import io

import pytest
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Link, SpanKind, StatusCode
from rich.console import Console

from parley.cli.otlp import OtlpReceiver
from parley.cli.tracetree import trace_tree
from parley.cli.tracing import caller_span


def provider(service, endpoint):
    made = TracerProvider(resource=Resource.create({"service.name": service}), shutdown_on_exit=False)
    made.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint, insecure=True)))
    return made


async def flush(*providers):
    for one in providers:
        await asyncio.to_thread(one.shutdown)


async def test_spans_arrive_with_service_parent_attributes_events_and_links():
    async with OtlpReceiver() as receiver:
        front, back = provider("front", receiver.endpoint), provider("back", receiver.endpoint)
        tracer = front.get_tracer("t")
        other = tracer.start_span("other")
        other.end()
        with tracer.start_as_current_span("outer", kind=SpanKind.SERVER) as outer:
            attributes = {"n": 1, "list": ["a", "b"], "yes": True}
            with back.get_tracer("t").start_as_current_span(
                "inner", attributes=attributes, links=[Link(other.get_span_context())]
            ) as inner:
                inner.add_event("first audio", {"ms": 2.5})
                inner.set_status(StatusCode.ERROR, "broke")
        await flush(front, back)
        trace_id = f"{outer.get_span_context().trace_id:032x}"
        await receiver.wait_for(lambda: len(receiver.trace(trace_id)) == 2)
        first, second = receiver.trace(trace_id)
    assert (first.name, first.kind, first.service, first.parent_id) == ("outer", "SERVER", "front", "")
    assert (second.name, second.service, second.parent_id) == ("inner", "back", first.span_id)
    assert second.attributes == {"n": 1, "list": ["a", "b"], "yes": True}
    assert (second.events[0].name, second.events[0].attributes) == ("first audio", {"ms": 2.5})
    assert second.links == ((f"{other.get_span_context().trace_id:032x}", f"{other.get_span_context().span_id:016x}"),)
    assert (second.status, second.status_message) == ("ERROR", "broke")
    assert receiver.services(trace_id) == {"front", "back"}
    assert second.duration_ms <= first.duration_ms


async def test_the_receiver_is_bounded_and_counts_what_it_forgot():
    async with OtlpReceiver(max_spans=3) as receiver:
        sender = provider("s", receiver.endpoint)
        for n in range(5):
            sender.get_tracer("t").start_span(f"span {n}").end()
        await flush(sender)
        await receiver.wait_for(lambda: receiver.received == 5)
    assert [span.name for span in receiver.spans] == ["span 2", "span 3", "span 4"]
    assert receiver.dropped == 2


async def test_waiting_has_a_limit():
    async with OtlpReceiver() as receiver:
        with pytest.raises(TimeoutError):
            await receiver.wait_for(lambda: False, timeout=0.02)
        await receiver.settle(quiet=0.02)


async def test_the_callers_span_is_a_client_span_and_current_inside():
    from opentelemetry import trace

    async with OtlpReceiver() as receiver:
        async with caller_span(receiver.endpoint, "support") as span:
            assert f"{trace.get_current_span().get_span_context().trace_id:032x}" == span.trace_id
            assert span.traceparent is None
            span.set("session.id", "ses_1")
        await receiver.wait_for(lambda: bool(receiver.trace(span.trace_id)))
        (talked,) = receiver.trace(span.trace_id)
    assert (talked.name, talked.kind, talked.service) == ("talk", "CLIENT", "parley-caller")
    assert talked.attributes["session.id"] == "ses_1"


async def test_without_an_endpoint_there_is_a_trace_id_and_no_span():
    async with caller_span("", "support") as span:
        version, trace_id, parent, flags = span.traceparent.split("-")
    assert (version, len(trace_id), len(parent), flags) == ("00", 32, 16, "01")
    assert trace_id == span.trace_id


async def test_the_tree_shows_parents_orphans_and_errors():
    async with OtlpReceiver() as receiver:
        sender = provider("worker", receiver.endpoint)
        tracer = sender.get_tracer("t")
        with tracer.start_as_current_span("root") as root:
            with tracer.start_as_current_span("child [red]") as child:
                child.set_status(StatusCode.ERROR, "broke")
            with tracer.start_as_current_span("unexported"):
                tracer.start_span("orphan").end()
        await flush(sender)
        trace_id = f"{root.get_span_context().trace_id:032x}"
        await receiver.wait_for(lambda: len(receiver.trace(trace_id)) == 4)
        spans = [span for span in receiver.trace(trace_id) if span.name != "unexported"]
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(trace_tree(spans))
    lines = console.export_text().splitlines()
    assert trace_id in lines[0]
    assert "worker" in lines[1]
    assert "root" in lines[1]
    assert "child [red]" in lines[2]
    assert "ERROR broke" in lines[2]
    assert lines[2].index("worker") > lines[1].index("worker")
    assert "is not here" in lines[3]
    assert trace_tree([]).label.plain == "no spans"
