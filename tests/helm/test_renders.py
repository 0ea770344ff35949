"""What the chart renders with the documented values: lint, golden renders, Kubernetes' own schemas, the real helm."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import helm_python
import pytest
import yaml

from parley._version import __version__
from services.gateway.profiles import load_profile
from tests.helm import golden, kubernetes
from tests.helm.chart import (
    CHART,
    DOCUMENTED,
    NAMESPACE,
    OPTIONS,
    RELEASE,
    ROOT,
    VALUES,
    comparable,
    helm,
    named,
    of_kind,
    render,
    render_by_command,
    values_of,
)

KUBERNETES = (kubernetes.OLDEST, "1.34", "1.37")
each = pytest.mark.parametrize("name", DOCUMENTED)


def test_every_values_file_is_documented_here() -> None:
    assert {path.stem for path in VALUES.glob("*.yaml")} == {file for files in DOCUMENTED.values() for file in files}


@each
def test_lint_has_nothing_to_say(name: str) -> None:
    found = helm_python.lint(str(CHART), values_of(*DOCUMENTED[name]), strict=True)
    said = [message for message in found["messages"] if "icon is recommended" not in str(message)]
    assert (said, found["errors"]) == ([], [])


@each
def test_render_is_the_golden_one(name: str) -> None:
    """`make golden-helm` accepts a change; the diff of the golden file is what a reviewer reads."""
    assert golden.today(name) == (golden.FOLDER / f"{name}.yaml").read_text(encoding="utf-8")


@each
@pytest.mark.parametrize("version", KUBERNETES)
def test_kubernetes_takes_it(name: str, version: str) -> None:
    kubernetes.validate(render(values_of(*DOCUMENTED[name])), version)


def test_kubernetes_would_not_take_anything() -> None:
    deployment = named(render(values_of("dev")), "Deployment", "worker")
    deployment["spec"]["template"]["spec"]["terminationGracePeriod"] = 30
    with pytest.raises(kubernetes.ValidationError):
        kubernetes.validate([deployment], kubernetes.OLDEST)


@pytest.mark.skipif(helm() is None, reason="there is no helm: `make helm` gets it, where Go is")
@each
def test_the_command_renders_the_same(name: str) -> None:
    values = values_of(*DOCUMENTED[name])
    assert comparable(render_by_command(values)) == comparable(render(values))


@pytest.mark.skipif(helm() is None, reason="there is no helm: `make helm` gets it, where Go is")
@each
def test_the_command_lints_it(name: str) -> None:
    files = [argument for file in DOCUMENTED[name] for argument in ("--values", str(VALUES / f"{file}.yaml"))]
    command = [str(helm()), "lint", "--strict", *OPTIONS, str(CHART), *files]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_chart_and_product_have_one_version() -> None:
    chart: dict[str, Any] = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    assert (chart["version"], chart["appVersion"]) == (__version__, __version__)
    assert "dependencies" not in chart


def test_schema_knows_the_settings_of_today() -> None:
    command = [sys.executable, "scripts/generate_values_schema.py", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_development_profiles_are_those_of_the_command() -> None:
    ours, theirs = CHART / "files/profiles", ROOT / "parley/cli/profiles"
    assert {p.name: p.read_text() for p in ours.iterdir()} == {p.name: p.read_text() for p in theirs.glob("*.yaml")}


@each
def test_a_gateway_reads_the_rendered_profiles(name: str, tmp_path: Path) -> None:
    profiles = named(render(values_of(*DOCUMENTED[name])), "ConfigMap", "gateway-profiles")["data"]
    assert profiles
    for file, text in profiles.items():
        (tmp_path / file).write_text(text)
        assert load_profile(tmp_path / file).model


def test_another_profile_is_another_release_of_the_gateways_alone() -> None:
    before = render(values_of("production"))
    after = render({**values_of("production"), "profiles": {"support": {"model": "gemini-3.8-live"}}})
    changed = {m["metadata"]["name"] for m in of_kind(after, "Deployment") if m not in before}
    assert changed == {"prod-parley-gateway"}


@pytest.mark.parametrize(
    ("url", "ports"),
    [
        ("nats://a", [4222]),
        ("nats://a:4222,nats://b:4222", [4222]),
        ("nats://a:1,tls://b:2, nats://c:3".replace(" ", ""), [1, 2, 3]),
    ],
)
def test_network_policies_follow_the_addresses(url: str, ports: list[int]) -> None:
    values = {**values_of("production"), "nats": {"url": url, "replicas": 1}}
    rules = named(render(values), "NetworkPolicy", "tools")["spec"]["egress"]
    assert [port["port"] for port in rules[1]["ports"]] == ports


def test_rules_and_dashboards_arrive_as_they_are() -> None:
    """Braces of Prometheus and Grafana, too, which are those of templates."""
    manifests = render(values_of("production", "monitoring"))
    (rule,) = of_kind(manifests, "PrometheusRule")
    files = sorted((CHART / "files/rules").glob("*.yaml"))
    groups = [group for file in files for group in yaml.safe_load(file.read_text(encoding="utf-8"))["groups"]]
    release = f'namespace="{NAMESPACE}", app_kubernetes_io_instance="{RELEASE}"'
    for each in (each for group in groups for each in group["rules"]):
        each["expr"] = each["expr"].replace('job!=""', release)
        each["labels"] |= {"namespace": NAMESPACE, "app_kubernetes_io_instance": RELEASE}
    assert rule["spec"]["groups"] == groups
    for file in (CHART / "files/dashboards").glob("*.json"):
        data = named(manifests, "ConfigMap", f"prod-parley-dashboard-{file.stem}")["data"]
        assert json.loads(data[file.name]) == json.loads(file.read_text(encoding="utf-8"))


def test_large_numbers_reach_the_services_as_such() -> None:
    values = {**values_of("dev"), "gateway": {"settings": {"uplink_ring_bytes": 10_485_760, "max_streams": 500}}}
    env = named(render(values), "Deployment", "gateway")["spec"]["template"]["spec"]["containers"][0]["env"]
    found = {variable["name"]: variable.get("value") for variable in env}
    assert (found["PARLEY_GATEWAY_UPLINK_RING_BYTES"], found["PARLEY_GATEWAY_MAX_STREAMS"]) == ("10485760", "500")


@pytest.mark.parametrize(
    ("workers", "capacity", "drain", "surge"),
    [(1, 100, 60, 1), (4, 100, 60, 1), (12, 100, 60, 3), (100, 100, 60, 25), (100, 400, 20, 12), (40, 500, 30, 6)],
)
def test_surge_is_what_the_others_can_take(workers: int, capacity: int, drain: int, surge: int) -> None:
    more = {"replicas": workers, "capacity": capacity, "drainSeconds": drain}
    deployment = named(render({**values_of("production"), "worker": more}), "Deployment", "worker")
    assert deployment["spec"]["strategy"]["rollingUpdate"]["maxSurge"] == surge
    # Half of the drain is enough for the links of all that leave at once, at five a second and worker.
    assert surge * capacity <= workers * 5 * drain / 2
    # The next ones do not leave before: Kubernetes counts no pod that is on its way out.
    ready = deployment["spec"]["minReadySeconds"]
    assert surge * capacity <= workers * 5 * ready
    assert ready <= max(3, drain / 2)
    assert deployment["spec"]["progressDeadlineSeconds"] > ready
