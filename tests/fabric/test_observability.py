"""The dashboard and the alert rules: every metric, label and word in them is one that the code knows."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.fabric import names
from services.fabric.metrics import ALL, CAUSES, LOST, Metric
from tests.support.prometheus import prometheus_names

ROOT = Path(__file__).parents[2]
FILES = ROOT / "deploy" / "helm" / "parley" / "files"
_METRIC = re.compile(r"\b(?:parley|process)_\w+")
_SELECTOR = re.compile(r"\b((?:parley|process)_\w+)\{([^}]*)\}")
_MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"')
_GROUPING = re.compile(r"\b(?:by|without)\s*\(([^)]*)\)")
SCRAPED = {"job", "instance", "le"}
"""Labels that Prometheus adds."""


def by_name() -> dict[str, Metric]:
    """Metrics by every name under which a query may find them."""
    found: dict[str, Metric] = {}
    for metric in ALL.values():
        name = prometheus_names()[metric.name]
        for ending in ("_bucket", "_count", "_sum") if metric.kind == "histogram" else ("",):
            found[name + ending] = metric
    return found


def labels_of(metric: Metric) -> dict[str, frozenset[str]]:
    return {label.replace(".", "_"): words.words for label, words in metric.labels.items()}


def problems(query: str) -> Iterator[str]:
    """What is wrong with a PromQL expression, as far as names and words go."""
    known = by_name()
    labels = {label for metric in ALL.values() for label in labels_of(metric)}
    text = re.sub(r"\{[^}]*\}", "", re.sub(r'"[^"]*"', "", query))
    used = [word for word in _METRIC.findall(text) if word not in labels]
    yield from (f"no metric {name}" for name in used if name not in known)
    of_query = {label for name in used if name in known for label in labels_of(known[name])} | SCRAPED
    for listed in _GROUPING.findall(query):
        yield from (f"no label {label.strip()}" for label in listed.split(",") if label.strip() not in of_query)
    for name, selector in _SELECTOR.findall(query):
        if name not in known:
            continue
        for label, operator, value in _MATCHER.findall(selector):
            if label in SCRAPED:
                continue
            words = labels_of(known[name]).get(label)
            if words is None:
                yield f"{name} has no label {label}"
            elif words and value:
                asked = value.split("|") if "~" in operator else [value]
                yield from (f"{label} is never {word}" for word in asked if word not in words)


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((FILES / "rules" / "parley.yaml").read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    document = json.loads((FILES / "dashboards" / "parley.json").read_text(encoding="utf-8"))
    return [panel for panel in document["panels"] if panel["type"] != "row"]


def queries() -> list[tuple[str, str]]:
    found = [(f"alert {rule['alert']}", rule["expr"]) for rule in rules()]
    return found + [(f"panel {panel['title']}", target["expr"]) for panel in panels() for target in panel["targets"]]


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ('rate(parley_turns_total{parley_outcome="completed"}[5m])', []),
        ("parley_turn_total", ["no metric parley_turn_total"]),
        ('parley_turns_total{parley_outcome="done"}', ["parley_outcome is never done"]),
        ('parley_turns_total{parley_outcome=~"completed|done"}', ["parley_outcome is never done"]),
        ('parley_turns_total{parley_reason="x"}', ["parley_turns_total has no label parley_reason"]),
        ("sum by (parley_reason) (parley_turns_total)", ["no label parley_reason"]),
        ("parley_hop_duration_seconds", ["no metric parley_hop_duration_seconds"]),
        ('parley_tools_calls_total{gen_ai_tool_name="mine"}', []),
    ],
)
def test_a_name_or_word_that_the_code_does_not_know_is_seen(query: str, told: list[str]) -> None:
    assert list(problems(query)) == told


def test_every_query_asks_for_what_there_is() -> None:
    found = {name: list(problems(query)) for name, query in queries()}
    assert {name: told for name, told in found.items() if told} == {}


def test_brackets_are_closed() -> None:
    for name, query in queries():
        text = re.sub(r'"[^"]*"', "", query)
        assert [text.count(each) for each in "([{"] == [text.count(each) for each in ")]}"], name


def test_every_metric_is_on_the_dashboard() -> None:
    shown = {word for panel in panels() for target in panel["targets"] for word in _METRIC.findall(target["expr"])}
    known = by_name()
    missing = ALL.keys() - {known[name].name for name in shown if name in known}
    assert missing == set()


def test_every_alert_says_how_bad_it_is_what_it_means_and_what_to_do() -> None:
    runbook = (ROOT / "RUNBOOK.md").read_text(encoding="utf-8")
    entries = dict(re.findall(r"^### (Parley\w+)\n\n(.+?)(?=\n\n#|\Z)", runbook, re.MULTILINE | re.DOTALL))
    named = [rule["alert"] for rule in rules()]
    assert len(named) == len(set(named))
    assert entries.keys() == set(named)
    for rule in rules():
        assert rule["labels"]["severity"] in ("critical", "warning"), rule["alert"]
        assert rule["annotations"].keys() == {"summary", "description"}, rule["alert"]
        assert rule["expr"].strip(), rule["alert"]


def test_the_runbook_explains_every_cause_of_a_pause_and_every_reason_of_a_loss() -> None:
    runbook = (ROOT / "RUNBOOK.md").read_text(encoding="utf-8")
    parts = dict(re.findall(r"^## (.+?)\n\n(.+?)(?=\n\n## |\Z)", runbook, re.MULTILINE | re.DOTALL))
    assert set(re.findall(r"^\| `([A-Z_]+)` \|", parts["A call paused"], re.MULTILINE)) == CAUSES.words
    assert set(re.findall(r"`([A-Z_]+)`", parts["Words that callers lost"])) >= LOST.labels[names.REASON].words


def test_panels_have_ids_and_places_of_their_own() -> None:
    document = json.loads((FILES / "dashboards" / "parley.json").read_text(encoding="utf-8"))
    assert len({panel["id"] for panel in document["panels"]}) == len(document["panels"])
    places = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in document["panels"]}
    assert len(places) == len(document["panels"])


def test_the_metric_that_workers_scale_by_is_one() -> None:
    values = yaml.safe_load((FILES.parent / "values.yaml").read_text(encoding="utf-8"))
    assert values["worker"]["autoscaling"]["metric"] in by_name()
