"""Where metrics are counted and read: one OpenTelemetry provider a process, read by Prometheus and sent by OTLP.

Nothing on a media path pays for a metric. What is frequent is counted in plain numbers where it happens; those are read
on the event loop, all at once, when somebody asks (`Meters.measure`), because collections run in threads of their own.
What is rare (a turn, a link, a tool call) is told here as it happens: `count`, `record`.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Mapping
from functools import cache, partial
from typing import Any, Final, cast

from opentelemetry import metrics as otel
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import CallbackOptions, Counter, Histogram, Meter, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

from parley._version import __version__
from services.fabric.metrics import ALL, OTHER, Metric, Words

CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4
"""Of `Meters.exposition`."""
EXPORT_EVERY: Final = 30.0
"""Seconds between two exports by OTLP."""
_EXPORT_TIMEOUT: Final = 5.0
_LOOP_TIMEOUT: Final = 1.0
"""Seconds that a collection waits for the event loop; then it takes the numbers of the time before."""

Labels = Mapping[str, str]
Sample = tuple[Metric, float, Labels]
"""An observed metric, its value now, and its labels."""
Table = Mapping[str, tuple[Metric, Labels]]
"""Which metric a count of `/debug/vars` is, by its name there."""


def count(metric: Metric, amount: float = 1, labels: Labels | None = None) -> None:
    """Add to a counter that is told of each event. Some tens of microseconds: not for a media path."""
    cast("Counter", _told(metric)).add(amount, bounded(metric, labels or {}))


def record(metric: Metric, value: float, labels: Labels | None = None) -> None:
    """Add a value to a histogram. Some tens of microseconds: not for a media path."""
    cast("Histogram", _told(metric)).record(value, bounded(metric, labels or {}))


def bounded(metric: Metric, labels: Labels) -> dict[str, str]:
    """The labels with words of the metric's vocabulary only. KeyError: it has no such label."""
    return {label: _word(metric.labels[label], word) for label, word in labels.items()}


_chosen: dict[int, set[str]] = {}
"""Names of operators that have come, by vocabulary."""


def _word(words: Words, word: str) -> str:
    if words.words:
        return word if word in words.words else OTHER
    known = _chosen.setdefault(id(words), set())
    if word not in known and len(known) < words.most:
        known.add(word)
    return word if word in known else OTHER


def samples(counts: Mapping[str, Any], table: Table) -> Iterable[Sample]:
    """Counts of `/debug/vars` as metrics; those that are not in the table are for people only."""
    for name, (metric, labels) in table.items():
        if name in counts:
            yield metric, float(counts[name]), labels


def _meter() -> Meter:
    return otel.get_meter("parley", __version__)


@cache
def _told(metric: Metric) -> Counter | Histogram:
    """The instrument, of whatever provider there is or will be."""
    assert not metric.observed, f"{metric.name} is read from plain numbers"
    if metric.kind == "counter":
        return _meter().create_counter(metric.name, metric.unit, metric.description)
    return _meter().create_histogram(
        metric.name, metric.unit, metric.description, explicit_bucket_boundaries_advisory=metric.buckets
    )


class Meters:
    """The metrics of a process."""

    def __init__(self, resource: Resource, otlp_endpoint: str = "", *, export_every: float = EXPORT_EVERY) -> None:
        """`otlp_endpoint`: OTLP/gRPC address that takes metrics; empty: nowhere. `export_every`: seconds."""
        self._take: Callable[[], Iterable[Sample]] = tuple
        self._loop: asyncio.AbstractEventLoop | None = None
        self._observed: dict[str, list[Observation]] = {}
        self._registry = CollectorRegistry()
        readers: list[MetricReader] = [PrometheusMetricReader(scope_info_enabled=False, registry=self._registry)]
        if otlp_endpoint:
            exporter = OTLPMetricExporter(
                endpoint=otlp_endpoint,
                insecure=otlp_endpoint.startswith("http://"),
                timeout=_EXPORT_TIMEOUT,
            )
            readers.append(PeriodicExportingMetricReader(exporter, export_every * 1000, _EXPORT_TIMEOUT * 1000))
        self.provider = MeterProvider(readers, resource)
        """Whoever has metrics of its own (the SDK of traces) may count here, too."""
        otel.set_meter_provider(self.provider)

    def measure(self, take: Callable[[], Iterable[Sample]]) -> None:
        """Read the observed metrics with `take`, which is called on the running event loop, whenever somebody asks."""
        self._take, self._loop = take, asyncio.get_running_loop()
        meter = self.provider.get_meter("parley", __version__)
        create = {"counter": meter.create_observable_counter, "gauge": meter.create_observable_gauge}
        observed = [metric for metric in ALL.values() if metric.observed]
        for metric in observed:
            observe = partial(self._observe, metric.name, first=metric is observed[0])
            create[metric.kind](metric.name, [observe], metric.unit, metric.description)

    async def exposition(self) -> bytes:
        """Every metric as Prometheus reads it (`CONTENT_TYPE`)."""
        return await asyncio.to_thread(generate_latest, self._registry)

    def shutdown(self) -> None:
        """Send what is to be sent (blocks up to 5 s), and stop."""
        self.provider.shutdown()

    def _observe(self, name: str, _options: CallbackOptions, *, first: bool) -> Iterable[Observation]:
        if first:  # of a collection: instruments are asked in the order in which they were made
            self._refresh_from_thread()
        return self._observed.get(name, ())

    def _refresh(self) -> None:
        sums: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
        for metric, value, labels in self._take():
            series = sums.setdefault(metric.name, {})
            key = tuple(bounded(metric, labels).items())  # several may count as `OTHER`
            series[key] = series.get(key, 0.0) + value
        # Replaced, never changed: threads read it.
        self._observed = {
            name: [Observation(value, dict(key)) for key, value in series.items()] for name, series in sums.items()
        }

    def _refresh_from_thread(self) -> None:
        """On the event loop, whose numbers no other thread may look at."""
        assert self._loop is not None
        done = threading.Event()

        def refresh() -> None:
            self._refresh()
            done.set()

        try:
            self._loop.call_soon_threadsafe(refresh)
        except RuntimeError:
            return  # it is closed: the process ends
        done.wait(_LOOP_TIMEOUT)
