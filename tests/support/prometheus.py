"""What Prometheus makes of the catalogue of metrics, and of what a process says."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from services.fabric.metrics import ALL, Metric


@cache
def prometheus_names() -> dict[str, str]:
    """The name of each metric as Prometheus shows it: made by the exporter itself. A histogram's is without the
    endings `_bucket`, `_sum` and `_count`."""
    return {metric.name: _name(metric) for metric in ALL.values()}


def _name(metric: Metric) -> str:
    registry = CollectorRegistry()
    provider = MeterProvider([PrometheusMetricReader(True, scope_info_enabled=False, registry=registry)])
    meter = provider.get_meter("x")

    def observe(_options: CallbackOptions) -> Iterable[Observation]:
        return [Observation(1)]

    if metric.kind == "histogram":
        meter.create_histogram(metric.name, metric.unit).record(1)
    elif metric.kind == "counter":
        meter.create_observable_counter(metric.name, [observe], metric.unit)
    else:
        meter.create_observable_gauge(metric.name, [observe], metric.unit)
    (family,) = registry.collect()
    provider.shutdown()
    return f"{family.name}_total" if family.type == "counter" else family.name


def samples_in(text: str) -> list[Sample]:
    """Every sample of an exposition."""
    return [sample for family in text_string_to_metric_families(text) for sample in family.samples]


def reference() -> str:
    """The table of docs/metrics.md."""
    lines = ["| Prometheus | OpenTelemetry | kind | labels | meaning |", "|---|---|---|---|---|"]
    for metric in ALL.values():
        labels = ", ".join(f"`{label.replace('.', '_')}`" for label in metric.labels)
        text = metric.description.replace("|", "\\|")
        shown = f"`{prometheus_names()[metric.name]}`"
        lines.append(f"| {shown} | `{metric.name}` | {metric.kind} | {labels} | {text} |")
    return "\n".join(lines)
