"""Queries of a release see its own series alone: two releases in a namespace do not disturb each other."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

import pytest
import yaml

from tests.fabric.test_observability import by_name, labels_of
from tests.helm.chart import CHART, NAMESPACE, ROOT, Manifest, named, of_kind, over, render, values_of

LABEL: Final = "app_kubernetes_io_instance"
"""What Prometheus makes of a pod's label app.kubernetes.io/instance, by a PodMonitor or by a labelmap."""
_STRING: Final = re.compile(r'"[^"]*"')
_GROUPING: Final = re.compile(r"\b(?:by|without|on|ignoring)\s*\([^)]*\)")
_SERIES: Final = re.compile(r"\b(?:parley|process)_\w+(?:\{[^}]*\})?")
_MATCHER: Final = re.compile(r'(\w+)\s*=\s*"([^"]*)"')


def selectors(query: str) -> list[dict[str, str]]:
    """The equalities of every selector of a series."""
    return [dict(_MATCHER.findall(series)) for series in _SERIES.findall(_GROUPING.sub("", query))]


def released(release: str = "first", **more: Any) -> list[Manifest]:
    """What asks Prometheus, or is asked."""
    return render(over(values_of("production", "monitoring", "keda"), more), release=release)


def queries(manifests: list[Manifest]) -> Iterator[tuple[str, str]]:
    """Every query to Prometheus, by who asks."""
    for scaled in of_kind(manifests, "ScaledObject"):
        for trigger in scaled["spec"]["triggers"]:
            yield scaled["metadata"]["name"], trigger["metadata"]["query"]
    for rules in of_kind(manifests, "PrometheusRule"):
        for group in rules["spec"]["groups"]:
            for rule in group["rules"]:
                yield rule["alert"], rule["expr"]


def test_every_selector_is_found() -> None:
    query = 'sum by (parley_reason) (rate(parley_a_total{x="y", z=~"w"}[5m])) / on (parley_b) (parley_c > 0)'
    assert selectors(query) == [{"x": "y"}, {}]


@pytest.mark.parametrize("release", ["first", "second"])
def test_queries_are_for_the_series_of_the_release(release: str) -> None:
    found = list(queries(released(release)))
    assert len(found) > 20
    wanted = {"namespace": NAMESPACE, LABEL: release}
    wide = [(who, query) for who, query in found for each in selectors(query) if not wanted.items() <= each.items()]
    assert wide == []
    assert all(selectors(query) for _, query in found)


def test_alerts_say_of_which_release_they_are() -> None:
    """A sum keeps no label of its series, and two releases must not be taken for one."""
    (rules,) = of_kind(released(), "PrometheusRule")
    for rule in (rule for group in rules["spec"]["groups"] for rule in group["rules"]):
        assert rule["labels"].items() >= {"namespace": NAMESPACE, LABEL: "first"}.items()
        assert rule["labels"]["severity"]


def test_series_have_the_label_that_queries_ask_for() -> None:
    manifests = released()
    (monitor,) = of_kind(manifests, "PodMonitor")
    brought = monitor["spec"]["podTargetLabels"]
    assert LABEL in {re.sub(r"[^A-Za-z0-9_]", "_", label) for label in brought}
    assert "namespaceSelector" not in monitor["spec"]  # its own namespace, which `namespace` is then
    for service in ("gateway", "worker", "tools"):
        labels = named(manifests, "Deployment", f"first-parley-{service}")["spec"]["template"]["metadata"]["labels"]
        assert labels["app.kubernetes.io/instance"] == "first"
        assert monitor["spec"]["selector"]["matchLabels"].items() <= labels.items()


def test_no_series_is_no_figure() -> None:
    """KEDA takes nothing for none, and would stop workers."""
    (scaled,) = of_kind(released(), "ScaledObject")
    assert [trigger["metadata"]["ignoreNullValues"] for trigger in scaled["spec"]["triggers"]] == ["false"]


def test_rules_work_without_a_release() -> None:
    """As `rule_files`: what the chart replaces is true of every series that is scraped."""
    for path in (CHART / "files/rules").glob("*.yaml"):
        for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]:
            for rule in group["rules"]:
                series = _SERIES.findall(_GROUPING.sub("", rule["expr"]))
                assert series
                assert [each for each in series if '{job!=""' not in each] == [], rule["alert"]


def test_the_example_of_an_adapter_serves_what_the_autoscaler_asks_for() -> None:
    manifests = render(values_of("production", "autoscaling", "monitoring"))
    (scaler,) = of_kind(manifests, "HorizontalPodAutoscaler")
    (asked,) = scaler["spec"]["metrics"]
    example = yaml.safe_load((ROOT / "deploy/examples/prometheus-adapter.yaml").read_text(encoding="utf-8"))
    (rule,) = example["rules"]["custom"]
    assert (asked["type"], asked["pods"]["metric"]) == ("Pods", {"name": rule["name"]["as"]})

    series, _, matchers = rule["seriesQuery"].partition("{")
    metric = by_name()[series]
    assert metric.kind == "gauge"
    # A PodMonitor says of which pod a series is, by these labels; none of the metric's own has their names.
    by_label = {label: each["resource"] for label, each in rule["resources"]["overrides"].items()}
    assert by_label == {"namespace": "namespace", "pod": "pod"}
    assert not by_label.keys() & labels_of(metric).keys()
    assert matchers == ",".join(f'{label}!=""' for label in by_label) + "}"

    # What the adapter asks Prometheus for the pods of the Deployment: sums over the metric's own labels.
    assert labels_of(metric)
    query = rule["metricsQuery"].replace("<<.Series>>", series).replace("<<.GroupBy>>", "pod")
    query = query.replace("<<.LabelMatchers>>", f'namespace="{NAMESPACE}",pod=~"a|b"')
    assert query == f'sum({series}{{namespace="{NAMESPACE}",pod=~"a|b"}}) by (pod)'
    # It is the autoscaler that keeps releases apart: it asks for pods with the labels that the Deployment selects.
    worker = named(manifests, "Deployment", scaler["spec"]["scaleTargetRef"]["name"])
    assert worker["spec"]["selector"]["matchLabels"]["app.kubernetes.io/instance"] == "prod"


def test_the_example_of_an_adapter_asks_the_prometheus_of_the_other_examples() -> None:
    example = yaml.safe_load((ROOT / "deploy/examples/prometheus-adapter.yaml").read_text(encoding="utf-8"))
    address = f"{example['prometheus']['url']}:{example['prometheus']['port']}"
    assert values_of("keda")["worker"]["autoscaling"]["keda"]["serverAddress"] == address
