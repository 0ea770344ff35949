"""Metrics: bounded words, read without a cost for media, found by Prometheus and sent by OTLP."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent import futures
from contextlib import asynccontextmanager
from math import prod
from pathlib import Path

import grpc
import pytest
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as collector
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2_grpc
from opentelemetry.sdk.resources import Resource
from prometheus_client.parser import text_string_to_metric_families

from services.fabric import hops, meters, metrics, names
from services.fabric.hops import Hop
from services.fabric.meters import Labels, Meters, Sample, bounded
from services.fabric.metrics import ALL, OTHER, Metric, Words
from tests.support.eventually import eventually
from tests.support.prometheus import prometheus_names, reference

DOCUMENT = Path(__file__).parents[2] / "docs" / "metrics.md"
NEVER_A_LABEL = re.compile(r"session|tenant|principal|call\.id|execution|token\b|request_id|caller|trace|stream\.id")
MOST_SERIES = 2_000
"""Of one metric and process; histograms count as one."""


def test_labels_are_words_that_are_known_or_names_of_operators_up_to_a_bound() -> None:
    for metric in ALL.values():
        for label, words in metric.labels.items():
            assert bool(words.words) != bool(words.most), (metric.name, label)
            assert not NEVER_A_LABEL.search(label.replace("gen_ai.token.type", "")), (metric.name, label)
        series = prod(1 + (len(words.words) or words.most) for words in metric.labels.values())
        assert series <= MOST_SERIES, metric.name


def test_a_histogram_has_buckets_and_is_told_and_nothing_else_has_any() -> None:
    for metric in ALL.values():
        assert bool(metric.buckets) == (metric.kind == "histogram"), metric.name
        assert metric.buckets == tuple(sorted(metric.buckets))
        assert not (metric.buckets and metric.observed), metric.name


def test_what_is_not_in_the_vocabulary_counts_as_other() -> None:
    assert bounded(metrics.GAPS, {names.LINK_CAUSE: "GO_AWAY"}) == {names.LINK_CAUSE: "GO_AWAY"}
    assert bounded(metrics.GAPS, {names.LINK_CAUSE: "ses_1"}) == {names.LINK_CAUSE: OTHER}
    with pytest.raises(KeyError):
        bounded(metrics.GAPS, {names.SESSION_ID: "ses_1"})


def test_names_of_operators_are_known_up_to_their_bound() -> None:
    metric = Metric("x", "counter", "", "", {"tool": Words(most=2)})
    told = [bounded(metric, {"tool": name})["tool"] for name in ("a", "b", "c", "a", "d", "b")]
    assert told == ["a", "b", OTHER, "a", OTHER, "b"]


def test_the_reference_says_what_the_code_says() -> None:
    assert reference() in DOCUMENT.read_text(encoding="utf-8"), "docs/metrics.md: put in " + reference()


@pytest.fixture
async def made() -> AsyncIterator[Meters]:
    meters_ = Meters(Resource.create({"service.name": "x"}))
    yield meters_
    await asyncio.to_thread(meters_.shutdown)


async def test_numbers_are_read_on_the_event_loop_each_time_and_never_by_a_thread(made: Meters) -> None:
    held = [3, 4]
    seen: list[int] = []

    def take() -> Iterator[Sample]:
        seen.append(threading.get_ident())
        yield metrics.STREAMS, held[0], {}
        # Two of which the vocabulary knows neither.
        yield metrics.SWEPT, held[1], {}
        yield metrics.RECOVERIES, 1, {names.OUTCOME: "so"}
        yield metrics.RECOVERIES, 2, {names.OUTCOME: "la"}

    made.measure(take)
    first = (await made.exposition()).decode()
    assert "parley_gateway_streams 3.0" in first
    held[:] = [5, 6]
    text = (await made.exposition()).decode()
    assert "parley_gateway_streams 5.0" in text
    assert "parley_gateway_sessions_swept_total 6.0" in text
    assert 'parley_gateway_recoveries_total{parley_outcome="other"} 3.0' in text
    assert 'service_name="x"' in text
    assert set(seen) == {threading.get_ident()}
    assert list(text_string_to_metric_families(text))


async def test_events_are_counted_and_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, float, Labels]] = []

    class Instrument:
        def __init__(self, name: str) -> None:
            self.name = name

        def add(self, amount: float, labels: Labels) -> None:
            told.append((self.name, amount, labels))

        record = add

    monkeypatch.setattr(meters, "_told", lambda metric: Instrument(metric.name))
    meters.count(metrics.TURNS, 1, {names.OUTCOME: "completed"})
    meters.record(metrics.FIRST_AUDIO, 0.5)
    assert told == [("parley.turns", 1, {names.OUTCOME: "completed"}), ("parley.turn.first_audio.duration", 0.5, {})]


class Collector(metrics_service_pb2_grpc.MetricsServiceServicer):
    def __init__(self) -> None:
        self.points: dict[str, list[float]] = {}

    def Export(  # noqa: N802 - the name is OTLP's
        self, request: collector.ExportMetricsServiceRequest, _context: grpc.ServicerContext
    ) -> collector.ExportMetricsServiceResponse:
        for resource in request.resource_metrics:
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    data = metric.sum if metric.HasField("sum") else metric.gauge
                    self.points[metric.name] = [point.as_double for point in data.data_points]
        return collector.ExportMetricsServiceResponse()


@asynccontextmanager
async def collecting() -> AsyncIterator[tuple[Collector, str]]:
    server, servicer = grpc.server(futures.ThreadPoolExecutor(2)), Collector()
    metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield servicer, f"http://127.0.0.1:{port}"
    finally:
        await asyncio.to_thread(server.stop(None).wait)


async def test_a_collector_gets_what_the_loop_counts_and_the_last_of_it_at_the_end() -> None:
    async with collecting() as (collected, endpoint):
        made = Meters(Resource.create({}), endpoint, export_every=0.05)
        held = [1]
        seen: list[int] = []

        def take() -> Iterator[Sample]:
            seen.append(threading.get_ident())
            yield metrics.STREAMS, held[0], {}

        made.measure(take)
        await eventually(lambda: collected.points.get("parley.gateway.streams") == [1.0])
        held[0] = 2
        await asyncio.to_thread(made.shutdown)
        assert collected.points["parley.gateway.streams"] == [2.0]
        assert set(seen) == {threading.get_ident()}


async def test_without_a_collector_nothing_waits_but_the_end_which_is_bounded() -> None:
    made = Meters(Resource.create({}), "http://127.0.0.1:1", export_every=0.02)
    made.measure(lambda: [(metrics.STREAMS, 1, {})])
    assert b"parley_gateway_streams 1.0" in await made.exposition()
    async with asyncio.timeout(30):
        await asyncio.to_thread(made.shutdown)


def test_a_hop_follows_one_message_at_a_time_and_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    told: list[float] = []
    monkeypatch.setattr(hops.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(hops, "record", lambda metric, value, labels: told.append(round(value, 6)))
    hop = Hop("gateway_uplink")
    hop.entered("a")
    hop.entered("b")  # not followed: a is
    now[0] += 0.001
    hop.left("b")
    hop.left("a")
    assert told == [0.001]
    hop.entered("a")  # it rests
    hop.left("a")
    assert told == [0.001]
    now[0] += 0.201
    hop.entered("a")
    hop.dropped("b")
    hop.dropped("a")  # it waits for something else
    hop.left("a")
    hop.entered("b")
    now[0] += 10.1  # its stream is gone, and nobody said so
    hop.entered("c")
    hop.left("c")
    assert told == [0.001, 0.0]


def test_every_metric_has_a_name_of_prometheus() -> None:
    assert prometheus_names()[metrics.REFUSALS.name] == "parley_gateway_refusals_total"
    assert prometheus_names()[metrics.LOOP_LAG.name] == "parley_loop_lag_seconds"
    assert len(set(prometheus_names().values())) == len(ALL)
