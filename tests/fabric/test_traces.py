"""Exporting never hurts: whatever the collector does, spans are made at once, few wait, and what is lost is counted."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.trace import INVALID_SPAN_ID

from parley.cli.otlp import OtlpReceiver
from services.fabric import traces
from services.fabric.telemetry import _flat
from services.fabric.traces import Traces, span_id
from tests.support.eventually import eventually
from tests.support.ports import reserved
from tests.support.silent_server import SilentServer

LIMIT = 15.0
"""Seconds, generously, for an end that may take 3; the SDK alone takes 30."""


def begun(endpoint: str) -> tuple[Traces, Callable[[], dict[str, float]]]:
    reader = InMemoryMetricReader()
    running = Traces(endpoint, Resource.create({"service.name": "tested"}), MeterProvider([reader]))
    return running, lambda: _flat(reader)


def count(counters: dict[str, float], name: str, label: str = "") -> float:
    return sum(value for key, value in counters.items() if key.startswith(name) and label in key)


async def ended(running: Traces) -> None:
    async with asyncio.timeout(LIMIT):
        await asyncio.to_thread(running.shutdown)


async def test_a_collector_that_hangs_or_is_away_costs_spans_and_they_are_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(traces, "_QUEUE", 300)
    async with SilentServer() as hanging:
        with reserved("0") as nobody:
            both = [begun(hanging.endpoint), begun(f"http://{nobody}")]
            for running, _ in both:
                tracer = running.provider.get_tracer("t")
                for _ in range(2000):
                    tracer.start_span("one").end()
            for _, counters in both:
                found = counters()
                processed = "otel.sdk.processor.span.processed"
                assert count(found, processed, "error.type=queue_full") > 0, found
                assert count(found, processed) >= 2000 - 300, "what does not wait was handed over, or is counted"
            exported = "otel.sdk.exporter.span.exported"
            for _, counters in both:
                # Before the end: a batch that is to be tried again then, the SDK counts as exported.
                await eventually(lambda counters=counters: count(counters(), exported, "error.type=") > 0)
            await asyncio.gather(*(ended(running) for running, _ in both))
    await eventually(lambda: not [thread for thread in threading.enumerate() if thread.name == "last export"])


async def test_what_waits_is_exported_at_the_end() -> None:
    async with OtlpReceiver() as receiver:
        running, counters = begun(receiver.endpoint)
        for number in range(300):
            running.provider.get_tracer("t").start_span(f"span {number}").end()
        await ended(running)
        assert receiver.received == 300
    assert count(counters(), "otel.sdk.processor.span.processed", "queue_full") == 0


def test_a_span_may_be_given_its_id() -> None:
    running, _ = begun("http://127.0.0.1:9")
    tracer = running.provider.get_tracer("t")
    with span_id(0xABC):
        assert tracer.start_span("one").get_span_context().span_id == 0xABC
    assert tracer.start_span("two").get_span_context().span_id not in (0xABC, INVALID_SPAN_ID)
    running.provider.shutdown()
