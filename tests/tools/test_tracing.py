from datetime import timedelta

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode, get_current_span

from services.fabric import telemetry
from services.tools import tool
from services.tools.calls import CallCounts, call_span, run_counted
from services.tools.declare import declare
from services.tools.execute import Call, Execution, Executor
from services.tools.registry import Offer, Registry

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(telemetry, "tracer", lambda: provider.get_tracer("test"))
    return exporter


@tool
def trace_of(secret: str) -> str:
    """Returns the trace that the function runs in."""
    if secret == "raise":
        raise ValueError(secret)
    return format(get_current_span().get_span_context().trace_id, "032x")


async def traced(arguments_json: str) -> None:
    registry = Registry()
    registry.offer("tests", Offer([declare(trace_of)]))
    executor = Executor(registry, max_concurrency=1, default_timeout=timedelta(seconds=5), max_result_bytes=1024)
    call = Call("trace_of", arguments_json, "x1", session="ses_1", tenant="acme", call_id="fc_1")
    execution = executor.admit(call)
    assert isinstance(execution, Execution)
    with call_span(call, telemetry.context_from({"traceparent": PARENT}), {"messaging.system": "nats"}):
        result = await run_counted(executor, execution, CallCounts())
    if not result.error:
        assert "0af7651916cd43dd8448eb211c80319c" in result.output_json


async def test_execution_has_a_server_span_under_the_callers(spans: InMemorySpanExporter) -> None:
    await traced('{"secret": "tell"}')
    [span] = spans.get_finished_spans()
    assert span.name == "execute_tool trace_of"
    assert span.kind is SpanKind.SERVER
    assert span.parent is not None
    assert format(span.parent.span_id, "016x") == "b7ad6b7169203331"
    assert span.attributes == {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "trace_of",
        "gen_ai.tool.call.id": "fc_1",
        "parley.tool.execution": "x1",
        "session.id": "ses_1",
        "parley.tenant": "acme",
        "messaging.system": "nats",
        "parley.tool.outcome": "succeeded",
    }
    assert span.status.status_code is StatusCode.UNSET


@pytest.mark.parametrize(
    ("arguments", "kind"), [('{"secret": "raise"}', "ValueError"), ('{"secret": 4711}', "wrong_arguments")]
)
async def test_failed_execution_says_its_kind_and_nothing_of_its_content(
    spans: InMemorySpanExporter, arguments: str, kind: str
) -> None:
    await traced(arguments)
    [span] = spans.get_finished_spans()
    assert span.status.status_code is StatusCode.ERROR
    assert span.attributes is not None
    assert span.attributes["error.type"] == kind
    assert span.events == ()
    assert "raise" not in str(span.to_json()).replace("raises", "")
    assert "4711" not in span.to_json()
