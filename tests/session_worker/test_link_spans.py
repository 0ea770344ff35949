"""Why a call paused, as its trace tells: a span for each time without a link, in the trace of the session."""

from __future__ import annotations

from collections.abc import Sequence

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from parley.v1 import errors_pb2
from services.fabric import names
from services.fabric.errors import ServiceError
from services.fabric.telemetry import SESSION_TRACEPARENT
from services.session_worker import events
from services.session_worker.closes import LinkFailure, Where, link_error
from services.session_worker.link import LinkClosedError
from tests.session_worker.conftest import Rig
from tests.session_worker.test_session import audio, text
from tests.session_worker.test_takeover import conversation, lose, take_over
from tests.support.eventually import eventually

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = {SESSION_TRACEPARENT: f"00-{TRACE}-b7ad6b7169203331-01"}
DROPPED = LinkClosedError(1011, "The service is currently unavailable.")


async def the_span(exporter: InMemorySpanExporter, name: str) -> ReadableSpan:
    def found() -> Sequence[ReadableSpan]:
        return [span for span in exporter.get_finished_spans() if span.name == name]

    await eventually(found)
    [span] = found()
    return span


async def the_spans(exporter: InMemorySpanExporter, name: str, count: int) -> list[ReadableSpan]:
    def found() -> list[ReadableSpan]:
        return [span for span in exporter.get_finished_spans() if span.name == name]

    await eventually(lambda: len(found()) == count)
    return found()


def trace_of(span: ReadableSpan) -> str:
    assert span.context is not None
    return format(span.context.trace_id, "032x")


async def test_a_rotation_says_why_how_and_for_how_long(rig: Rig, exporter: InMemorySpanExporter) -> None:
    session, link = await rig.open(headers=PARENT)
    link.says(events.HandleUpdate("good", True, None))
    await rig.send(session, text(1, "hello"), audio(2))
    await eventually(lambda: link.audio)
    link._events.put_nowait(DROPPED)
    span = await the_span(exporter, names.SPAN_ROTATE)
    assert trace_of(span) == TRACE
    found = dict(span.attributes or {})
    gap = found.pop(names.LINK_GAP_MS)
    assert isinstance(gap, float)
    assert gap > 0
    assert found == {
        names.SESSION_ID: session,
        names.TENANT: "acme",
        names.PROFILE: "",
        names.GEN_AI_MODEL: "gemini-3.8-live",
        names.LINK_CAUSE: "LINK_LOST",
        names.LINK: 2,
        names.LINK_METHOD: "RESUMED",
        names.LINK_STATE_RESTORED: True,
        names.LINK_TRIES: 1,
    }
    # The connection that it made is under it.
    connects = [each for each in exporter.get_finished_spans() if each.name == names.SPAN_CONNECT]
    assert span.context is not None
    assert [each.parent.span_id for each in connects if each.parent][-1] == span.context.span_id


async def test_a_takeover_is_a_recovery_in_the_same_trace(rig: Rig, exporter: InMemorySpanExporter) -> None:
    session, link = await conversation(rig, headers=PARENT)
    floor = rig.responses[-1].seq
    await lose(rig, session, link)
    asked = {"traceparent": f"00-{TRACE}-00000000000000aa-01"}
    await take_over(rig, session, headers=asked, floor=floor, uplink_acked_seq=1, uplink_sent_seq=1)
    span = await the_span(exporter, names.SPAN_RECOVER)
    assert trace_of(span) == TRACE
    assert span.parent is not None
    assert span.parent.span_id == 0xAA, "it lies under the span of whoever asked for it"
    assert span.attributes is not None
    assert span.attributes[names.LINK_CAUSE] == "WORKER_LOST"
    assert span.attributes[names.LINK_METHOD] == "RESUMED"


async def test_a_session_that_gets_no_link_says_so(rig: Rig, exporter: InMemorySpanExporter) -> None:
    _, link = await rig.open(headers=PARENT)
    failure = LinkFailure(Where.SETUP, 1007, "API key not valid. Please pass a valid API key.")
    rig.dialer.refuse = link_error(failure)
    assert isinstance(rig.dialer.refuse, ServiceError)
    assert rig.dialer.refuse.reason != errors_pb2.ERROR_REASON_UNSPECIFIED
    link._events.put_nowait(DROPPED)
    span = await the_span(exporter, names.SPAN_ROTATE)
    assert span.status.status_code is StatusCode.ERROR
    assert span.attributes is not None
    assert span.attributes[names.LINK_CAUSE] == "LINK_LOST"
    assert names.LINK_METHOD not in span.attributes
