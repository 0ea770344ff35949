"""Every documented render keeps to every policy, and every policy notices when it is broken."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from tests.helm.chart import DOCUMENTED, Manifest, component, named, of_kind, over, pods, render, values_of
from tests.helm.policies import POLICIES, SERVICES, SETTINGS, environment, violations


@pytest.mark.parametrize("name", DOCUMENTED)
def test_documented_renders_keep_to_the_policies(name: str) -> None:
    assert violations(render(values_of(*DOCUMENTED[name]))) == []


def _pod(manifests: list[Manifest], name: str) -> Any:
    return named(manifests, "Deployment", name)["spec"]["template"]["spec"]


def _container(manifests: list[Manifest], name: str) -> Any:
    return _pod(manifests, name)["containers"][0]


def _set(place: Callable[[list[Manifest]], Any], key: str, value: Any) -> Callable[[list[Manifest]], None]:
    def break_it(manifests: list[Manifest]) -> None:
        found = place(manifests)
        if value is None:
            del found[key]
        else:
            found[key] = value

    return break_it


def _worker(manifests: list[Manifest]) -> Any:
    return _container(manifests, "worker")


def _rules(manifests: list[Manifest]) -> Any:
    return named(manifests, "NetworkPolicy", "gateway")["spec"]["ingress"][1]


def _worker_egress(manifests: list[Manifest]) -> Any:
    return named(manifests, "NetworkPolicy", "worker")["spec"]["egress"][-1]


def _scaler(seconds: int) -> Manifest:
    (found,) = of_kind(render(values_of("production", "autoscaling")), "HorizontalPodAutoscaler")
    scaler = copy.deepcopy(found)
    scaler["spec"]["behavior"]["scaleDown"]["policies"][0]["periodSeconds"] = seconds
    return scaler


BREAKS: list[tuple[str, Callable[[list[Manifest]], None]]] = [
    ("runs_as_nobody_and_writes_nothing", _set(lambda m: _pod(m, "gateway")["securityContext"], "runAsNonRoot", False)),
    ("runs_as_nobody_and_writes_nothing", _set(lambda m: _pod(m, "gateway")["securityContext"], "runAsUser", 0)),
    (
        "runs_as_nobody_and_writes_nothing",
        _set(lambda m: _worker(m)["securityContext"], "readOnlyRootFilesystem", None),
    ),
    ("runs_as_nobody_and_writes_nothing", _set(lambda m: _pod(m, "tools"), "automountServiceAccountToken", None)),
    ("runs_as_nobody_and_writes_nothing", _set(lambda m: _pod(m, "tools")["volumes"][0], "emptyDir", {})),
    ("says_which_image", _set(_worker, "image", "parley-worker")),
    ("says_which_image", _set(_worker, "image", "host:5000/parley-worker")),
    ("says_which_image", _set(_worker, "image", "parley-worker:latest")),
    ("has_limits", _set(lambda m: _worker(m)["resources"]["limits"], "memory", None)),
    ("has_limits", _set(lambda m: _worker(m)["resources"]["limits"], "memory", "64Mi")),
    ("is_probed", _set(_worker, "readinessProbe", None)),
    ("is_probed", _set(lambda m: _worker(m)["livenessProbe"]["httpGet"], "path", "/readyz")),
    ("ports_are_listened_on", _set(lambda m: _worker(m)["ports"][0], "containerPort", 9090)),
    ("ports_are_listened_on", _set(lambda m: _worker(m)["livenessProbe"]["httpGet"], "port", "metrics")),
    (
        "ports_are_listened_on",
        _set(lambda m: named(m, "Service", "gateway-headless")["spec"]["ports"][0], "targetPort", "http"),
    ),
    (
        "ports_are_listened_on",
        _set(lambda m: named(m, "Service", "gateway-headless")["spec"], "selector", {"app": "tools"}),
    ),
    (
        "every_variable_is_a_setting",
        lambda m: _worker(m)["env"].append({"name": "PARLEY_WORKER_CAPACTY", "value": "1"}),
    ),
    ("every_variable_is_a_setting", lambda m: _worker(m)["env"].append({"name": "PARLEY_GATEWAY_ID", "value": "x"})),
    ("every_variable_is_a_setting", lambda m: _worker(m)["env"].append(_worker(m)["env"][0])),
    ("secrets_are_references", lambda m: _worker(m)["env"].append({"name": "GEMINI_API_KEY", "value": "k"})),
    ("a_pod_may_finish_its_drain", _set(lambda m: _pod(m, "worker"), "terminationGracePeriodSeconds", 30)),
    ("a_pod_may_finish_its_drain", _set(lambda m: _container(m, "gateway"), "lifecycle", None)),
    (
        "a_rollout_loses_no_room",
        _set(lambda m: named(m, "Deployment", "worker")["spec"]["strategy"]["rollingUpdate"], "maxUnavailable", 1),
    ),
    ("nodes_can_be_drained", _set(lambda m: named(m, "PodDisruptionBudget", "worker")["spec"], "minAvailable", 3)),
    ("nodes_can_be_drained", _set(lambda m: named(m, "PodDisruptionBudget", "worker")["spec"], "maxUnavailable", 0)),
    (
        "nodes_can_be_drained",
        _set(lambda m: named(m, "PodDisruptionBudget", "worker")["spec"], "unhealthyPodEvictionPolicy", None),
    ),
    ("pods_are_spread", _set(lambda m: _pod(m, "gateway"), "topologySpreadConstraints", [])),
    ("the_network_is_closed", _set(_rules, "from", [])),
    ("the_network_is_closed", _set(_rules, "ports", None)),
    ("the_network_is_closed", _set(_rules, "from", [{"namespaceSelector": {}}])),
    ("the_network_is_closed", _set(_rules, "from", [{"ipBlock": {"cidr": "0.0.0.0/1"}}])),
    ("the_network_is_closed", _set(lambda m: named(m, "NetworkPolicy", "tools")["spec"], "policyTypes", ["Ingress"])),
    ("public_is_not_private", _set(lambda m: _worker_egress(m)["to"][0]["ipBlock"], "except", [])),
    (
        "services_may_connect_where_they_are_told",
        lambda m: _worker(m)["env"].append({"name": "PARLEY_WORKER_OTLP_METRICS_ENDPOINT", "value": "http://a:1"}),
    ),
    ("the_test_gets_in", lambda m: named(m, "Pod", "test")["metadata"]["labels"].clear()),
    ("scalers_wait_as_long_as_they_may", lambda m: m.append(_scaler(1801))),
    (
        "changes_roll_out",
        _set(lambda m: named(m, "Deployment", "gateway")["spec"]["template"]["metadata"], "annotations", {}),
    ),
    ("what_is_named_is_there", _set(lambda m: _pod(m, "gateway"), "serviceAccountName", "default")),
    ("what_is_named_is_there", lambda m: m.remove(named(m, "ConfigMap", "gateway-profiles"))),
    ("names_fit", lambda m: m.append(copy.deepcopy(m[0]))),
]


@pytest.mark.parametrize(("policy", "break_it"), BREAKS)
def test_a_policy_notices(policy: str, break_it: Callable[[list[Manifest]], None]) -> None:
    manifests = copy.deepcopy(render(values_of("production")))
    break_it(manifests)
    assert any(violation.startswith(f"{policy}: ") for violation in violations(manifests))


def test_every_policy_is_shown_to_notice() -> None:
    assert {policy for policy, _ in BREAKS} == POLICIES.keys()


def test_budgets_and_network_policies_are_for_all_three() -> None:
    manifests = render(values_of("production"))
    for kind in ("PodDisruptionBudget", "NetworkPolicy", "ServiceAccount"):
        assert {m["metadata"]["name"].rpartition("-")[2] for m in of_kind(manifests, kind)} == {
            "gateway",
            "worker",
            "tools",
        }
    assert len(pods(manifests)) == 4  # and the test of the release


@pytest.mark.parametrize("name", ["gateway", "worker", "tools"])
def test_only_workers_know_the_key_of_the_model(name: str) -> None:
    container = _container(render(values_of("production")), name)
    assert any("GEMINI_API_KEY" in variable["name"] for variable in container["env"]) is (name == "worker")


@pytest.mark.parametrize(
    ("files", "more"),
    [
        ("autoscaling", {"worker": {"drainSeconds": 3600}}),
        ("keda", {"worker": {"drainSeconds": 3600}}),
        ("jaeger", {"tools": {"settings": {"otlp_metrics_endpoint": "http://collector.monitoring:4318"}}}),
        ("jaeger", {"otlp": {"endpoint": ""}, "worker": {"settings": {"otlp_metrics_endpoint": "http://a.b:4318"}}}),
        ("monitoring", {"gemini": {"baseUrl": "http://live.example.com"}}),
        ("gateway-api", {}),
    ],
)
def test_other_values_keep_to_the_policies(files: str, more: dict[str, Any]) -> None:
    assert violations(render(over(values_of("production", files), more))) == []


@pytest.mark.parametrize("more", [{"tools": {"settings": {"orders_db": "/tmp/mine.sqlite3"}}}])
def test_settings_go_before_what_a_development_release_sets(more: dict[str, Any]) -> None:
    manifests = render(over(values_of("dev"), more))
    assert violations(manifests) == []
    assert environment(_container(manifests, "tools"))["PARLEY_TOOLS_ORDERS_DB"] == "/tmp/mine.sqlite3"


@pytest.mark.parametrize(("family", "host"), [("IPv4", "0.0.0.0"), ("IPv6", "[::]")])
def test_services_listen_on_addresses_of_the_pods_family(family: str, host: str) -> None:
    more = {"ipFamily": family, "tools": {"apiKeysSecret": {"name": "tool-callers"}}}
    for base in ("production", "dev"):
        manifests = render(over(values_of(base), more))
        assert violations(manifests) == []
        _take(manifests)
        for service, ports in (("gateway", (50051, 8080)), ("worker", (8080,)), ("tools", (50052, 8080))):
            env = environment(_container(manifests, service))
            listens = {value for name, value in env.items() if name.endswith("_LISTEN")}
            assert listens == {f"{host}:{port}" for port in ports}
    emulator, jaeger = (environment(_container(manifests, name)) for name in ("emulator", "jaeger"))
    assert (emulator["PARLEY_EMULATOR_HOST"], jaeger["JAEGER_LISTEN_HOST"]) == (host.strip("[]"), host)


IDS = ("runAsUser", "runAsGroup", "fsGroup")


@pytest.mark.parametrize("base", ["production", "dev"])
def test_the_user_of_pods_is_fixed_or_the_platforms_to_choose(base: str) -> None:
    """OpenShift refuses pods that name another user than one of their project's."""
    for _, pod in pods(render(values_of(base))):
        assert [pod["securityContext"][key] for key in IDS] == [65532] * 3
    for _, pod in pods(render(values_of(base, "openshift"))):
        assert pod["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    # A YAML file's large numbers are floats to a template.
    for _, pod in pods(render(over(values_of(base), {"podSecurityContext": dict.fromkeys(IDS, 1_000_650_000)}))):
        assert [pod["securityContext"][key] for key in IDS] == [1_000_650_000] * 3


def test_the_port_of_dns_is_that_of_its_pods() -> None:
    for files, port in (("production",), 53), (("production", "openshift"), 5353):
        rule = named(render(values_of(*files)), "NetworkPolicy", "worker")["spec"]["egress"][0]
        assert rule["ports"] == [{"port": port, "protocol": protocol} for protocol in ("UDP", "TCP")]


def test_the_pod_of_helm_test_stays_for_its_log() -> None:
    """`helm test --logs` reads it when hooks that succeeded are deleted, before Helm 4.1."""
    annotations = named(render(values_of("production")), "Pod", "test")["metadata"]["annotations"]
    assert annotations["helm.sh/hook-delete-policy"] == "before-hook-creation"


@pytest.mark.parametrize("name", DOCUMENTED)
def test_services_take_the_values_of_their_variables(name: str) -> None:
    _take(render(values_of(*DOCUMENTED[name])))


def _take(manifests: list[Manifest]) -> None:
    """Services' own settings, from the variables of their pods; ValidationError."""
    for deployment in of_kind(manifests, "Deployment"):
        service = component(deployment)
        if service in SERVICES:
            env = environment(_container([deployment], service))
            given = {key.removeprefix(f"PARLEY_{service.upper()}_").lower(): value for key, value in env.items()}
            SETTINGS[service](**{key: value for key, value in given.items() if not key.endswith("_ca_file")})


@pytest.mark.parametrize("opened", [False, True])
def test_the_port_of_the_tools_is_open_to_callers_with_keys_alone(opened: bool) -> None:
    more = {
        "tools": {"apiKeysSecret": {"name": "tool-callers"}},
        "networkPolicy": {"toolCallers": [{"podSelector": {}}]},
    }
    manifests = render(over(values_of("production"), more if opened else {}))
    assert violations(manifests) == []
    env = environment(_container(manifests, "tools"))
    assert env["PARLEY_TOOLS_LISTEN"] == ("0.0.0.0:50052" if opened else "127.0.0.1:50052")
    assert ("PARLEY_TOOLS_API_KEYS_FILE" in env) is opened
    services = {manifest["metadata"]["name"] for manifest in of_kind(manifests, "Service")}
    assert ("prod-parley-tools" in services) is opened
    ports = [
        port["port"] for rule in named(manifests, "NetworkPolicy", "tools")["spec"]["ingress"] for port in rule["ports"]
    ]
    assert ports == (["ops", "grpc"] if opened else ["ops"])
