"""Which trace the spans of a session belong to, and that there are not too many."""

from __future__ import annotations

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from parley.v1 import fabric_pb2, live_pb2
from services.fabric import names, telemetry
from services.fabric.telemetry import SESSION_TRACEPARENT
from services.session_worker import events
from services.session_worker.session_trace import MOST, SessionTrace
from tests.session_worker.conftest import TOKEN, FakeLink, Rig
from tests.session_worker.test_link_spans import PARENT, TRACE, the_span, the_spans, trace_of
from tests.session_worker.test_session import DONE, text
from tests.session_worker.test_takeover import conversation, lose, take_over
from tests.support.eventually import eventually

OTHER = "1111111111111111111111111111aaaa"


async def answered(rig: Rig, session: str, link: FakeLink, number: int, exporter: InMemorySpanExporter) -> ReadableSpan:
    """A question and its answer; the turn's span."""
    await rig.send(session, text(number, "how are you"))
    await eventually(lambda: len(link.texts) == number)
    link.says(events.OutputTranscript("fine", False, ""), DONE)
    return (await the_spans(exporter, names.SPAN_TURN, number))[-1]


def linked(span: ReadableSpan) -> set[str]:
    """The traces that it links to."""
    return {format(link.context.trace_id, "032x") for link in span.links}


@pytest.mark.parametrize("rig", [{"trace_length": "1ms"}], indirect=True)
async def test_a_long_session_goes_on_in_a_linked_trace(rig: Rig, exporter: InMemorySpanExporter) -> None:
    session, link = await rig.open(headers=PARENT)
    first = await answered(rig, session, link, 1, exporter)
    second = await answered(rig, session, link, 2, exporter)
    assert len({TRACE, trace_of(first), trace_of(second)}) == 3
    spans = await the_spans(exporter, names.SPAN_ROLLOVER, 4)
    by_trace = {trace: [span for span in spans if trace_of(span) == trace] for trace in map(trace_of, spans)}
    [leaves] = by_trace[TRACE]
    assert linked(leaves) == {trace_of(first)}
    assert [linked(span) for span in by_trace[trace_of(first)]] == [{TRACE}, {trace_of(second)}]
    [root] = by_trace[trace_of(second)]
    assert root.parent is None
    assert root.context is not None
    assert second.parent is not None
    assert second.parent.span_id == root.context.span_id
    parts = [span.attributes[names.TRACE_PART] for span in by_trace[trace_of(first)] if span.attributes]
    assert parts == [2, 2]
    await eventually_written(rig, session, trace_of(second), part=3)


async def eventually_written(rig: Rig, session: str, trace: str, part: int) -> None:
    async def written() -> bool:
        checkpoint = await rig.records.read_checkpoint(session)
        return checkpoint is not None and trace in checkpoint.traceparent and checkpoint.trace_part == part

    await eventually(written)


async def test_a_trace_that_nobody_records_goes_on(rig: Rig, exporter: InMemorySpanExporter) -> None:
    held = SessionTrace(fabric_pb2.OpenSession(session_id="ses_1"), 0.0)
    held.begin(telemetry.context_from({"traceparent": f"00-{TRACE}-b7ad6b7169203331-00"}))
    before = held.context
    held.roll_over(0.0)
    assert held.context is before
    assert exporter.get_finished_spans() == ()


async def attach(rig: Rig, session: str, trace: str) -> None:
    request = fabric_pb2.AttachSession(
        session_id=session, gateway="gw-test", tenant="acme", principal="bot", presented_token_sha256=TOKEN
    )
    headers = {SESSION_TRACEPARENT: f"00-{trace}-00000000000000bb-01"}
    assert (await rig.control(headers, attach=request)).HasField("attached")
    rig.generation += 1


async def test_a_caller_that_comes_back_with_another_trace_has_the_rest_in_it(
    rig: Rig, exporter: InMemorySpanExporter
) -> None:
    session, link = await rig.open(headers=PARENT)
    await answered(rig, session, link, 1, exporter)
    await attach(rig, session, OTHER)
    turn = await answered(rig, session, link, 2, exporter)
    assert trace_of(turn) == OTHER
    assert turn.parent is not None
    assert turn.parent.span_id == 0xBB
    leaves, enters = await the_spans(exporter, names.SPAN_ROLLOVER, 2)
    assert (trace_of(leaves), linked(leaves)) == (TRACE, {OTHER})
    assert (trace_of(enters), linked(enters)) == (OTHER, {TRACE})


async def test_a_caller_that_comes_back_with_the_same_trace_stays_in_it(
    rig: Rig, exporter: InMemorySpanExporter
) -> None:
    session, link = await rig.open(headers=PARENT)
    await attach(rig, session, TRACE)
    turn = await answered(rig, session, link, 1, exporter)
    assert trace_of(turn) == TRACE
    assert turn.parent is not None
    assert turn.parent.span_id == 0xBB
    assert names.SPAN_ROLLOVER not in {span.name for span in exporter.get_finished_spans()}


async def test_a_takeover_that_was_asked_for_in_an_older_trace_is_linked_to_it(
    rig: Rig, exporter: InMemorySpanExporter
) -> None:
    session, link = await conversation(rig, headers=PARENT)
    floor = rig.responses[-1].seq
    await lose(rig, session, link)
    asked = {"traceparent": f"00-{OTHER}-00000000000000aa-01"}
    await take_over(rig, session, headers=asked, floor=floor, uplink_acked_seq=1, uplink_sent_seq=1)
    span = await the_span(exporter, names.SPAN_RECOVER)
    assert (trace_of(span), linked(span)) == (TRACE, {OTHER})


async def test_what_was_in_progress_when_a_worker_died_has_a_span_all_the_same(
    rig: Rig, exporter: InMemorySpanExporter
) -> None:
    session, link = await conversation(rig, headers=PARENT)
    await rig.send(session, text(2, "a story please"))
    await eventually(lambda: len(link.texts) == 2)
    link.says(events.OutputTranscript("once", False, ""))

    async def begun() -> str:
        checkpoint = await rig.records.read_checkpoint(session)
        return "" if checkpoint is None or not checkpoint.HasField("begun") else checkpoint.turn_traceparent

    lost = await eventually(begun)
    floor = rig.responses[-1].seq
    await lose(rig, session, link)
    await take_over(rig, session, floor=floor, uplink_acked_seq=2, uplink_sent_seq=2)
    await the_span(exporter, names.SPAN_RECOVER)
    [stand_in] = [span for span in exporter.get_finished_spans() if (span.attributes or {}).get(names.STAND_IN)]
    assert lost.startswith(f"00-{TRACE}-")
    assert (stand_in.name, trace_of(stand_in)) == (names.SPAN_TURN, TRACE)
    assert stand_in.attributes is not None
    assert stand_in.attributes[names.TURN_NUMBER] == 2


async def test_spans_beyond_the_most_are_not_made_and_counted(exporter: InMemorySpanExporter) -> None:
    held = SessionTrace(fabric_pb2.OpenSession(session_id="ses_1", tenant="acme"), 3600.0)
    held.begin(telemetry.context_from({"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}))
    contexts = []
    for number in range(3 * MOST):
        with held.span(f"turn {number}") as span:
            contexts.append(span.get_span_context())
    made = len(exporter.get_finished_spans())
    assert 0 < made < MOST, "the rest is for what tells why a call paused or ended"
    assert {format(context.trace_id, "032x") for context in contexts} == {TRACE}
    assert [context.trace_flags.sampled for context in contexts] == [True] * made + [False] * (3 * MOST - made)
    for _ in range(3 * MOST):
        with held.span("rotate", vital=True):
            pass
    spans = exporter.get_finished_spans()
    assert len(spans) == MOST
    assert spans[made].attributes is not None
    assert spans[made].attributes[names.SPANS_SKIPPED] == 3 * MOST - made


async def test_the_end_of_a_session_says_why(rig: Rig, exporter: InMemorySpanExporter) -> None:
    session, _ = await rig.open(headers=PARENT)
    await rig.control(end=fabric_pb2.CloseSession(session_id=session, reason=live_pb2.END_REASON_OPERATOR))
    span = await the_span(exporter, names.SPAN_END)
    assert span.attributes is not None
    assert trace_of(span) == TRACE
    assert span.attributes[names.END_REASON] == "OPERATOR"
