"""What every render has to keep to. Each policy yields a sentence for each place that breaks it. Plain code: no I/O."""

from __future__ import annotations

import ipaddress
import re
import urllib.parse
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import timedelta
from typing import Any, Final

from emulator.settings import EmulatorSettings
from services.fabric.settings import ServiceSettings
from services.gateway.settings import GatewaySettings
from services.session_worker.settings import WorkerSettings
from services.tools.settings import ToolsSettings
from tests.helm.chart import Manifest, component, of_kind, pods

MARGIN: Final = 20
"""Seconds that services may need after their drain (tests/helm/test_policies.py says of what)."""
SETTINGS: Final[dict[str, Any]] = {
    "gateway": GatewaySettings,
    "worker": WorkerSettings,
    "tools": ToolsSettings,
    "emulator": EmulatorSettings,
}
SERVICES: Final = ("gateway", "worker", "tools")
_EVERYWHERE: Final = re.compile(r"^(?:0\.0\.0\.0|\[::\]):(\d+)$")
"""Every address of the pod."""

Policy = Callable[[list[Manifest]], Iterator[str]]
POLICIES: Final[dict[str, Policy]] = {}


def policy(check: Policy) -> Policy:
    """Register it under its name."""
    POLICIES[check.__name__] = check
    return check


def violations(manifests: list[Manifest]) -> list[str]:
    """Of all policies."""
    return [f"{name}: {sentence}" for name, check in POLICIES.items() for sentence in check(manifests)]


def containers(manifests: Iterable[Manifest]) -> Iterator[tuple[str, Manifest, Manifest]]:
    """Place, pod and container."""
    for place, pod in pods(manifests):
        for container in pod.get("initContainers", []) + pod["containers"]:
            yield f"{place}/{container['name']}", pod, container


@policy
def runs_as_nobody_and_writes_nothing(manifests: list[Manifest]) -> Iterator[str]:
    """Non-root, no privileges, read-only root, no token."""
    for place, pod, container in containers(manifests):
        outer, inner = pod.get("securityContext", {}), container.get("securityContext", {})
        # Kubernetes refuses to start root then, whether the user is the chart's, the platform's or the image's.
        if not outer.get("runAsNonRoot") or outer.get("runAsUser") == 0:
            yield f"{place} may run as root"
        if outer.get("seccompProfile") != {"type": "RuntimeDefault"}:
            yield f"{place} has no seccomp profile"
        if not inner.get("readOnlyRootFilesystem"):
            yield f"{place} can write to its image"
        if inner.get("allowPrivilegeEscalation") is not False or inner.get("capabilities") != {"drop": ["ALL"]}:
            yield f"{place} keeps privileges"
        if inner.get("privileged") or pod.get("hostNetwork") or pod.get("hostPID"):
            yield f"{place} reaches the node"
        if pod.get("automountServiceAccountToken") is not False:
            yield f"{place} gets a token"
        for volume in pod.get("volumes", []):
            if "hostPath" in volume or ("emptyDir" in volume and not volume["emptyDir"].get("sizeLimit")):
                yield f"{place}: volume {volume['name']} is the node's, or without a limit"
    for account in of_kind(manifests, "ServiceAccount"):
        if account.get("automountServiceAccountToken") is not False:
            yield f"ServiceAccount/{account['metadata']['name']} gives tokens"


@policy
def says_which_image(manifests: list[Manifest]) -> Iterator[str]:
    """A tag or a digest, and never `latest`."""
    for place, _, container in containers(manifests):
        image = str(container["image"])
        tagged = "@sha256:" in image or ":" in image.rpartition("/")[2]
        if not tagged or image.endswith(":latest"):
            yield f"{place}: {image}"


@policy
def has_limits(manifests: list[Manifest]) -> Iterator[str]:
    """Of CPU and memory, and requests no larger."""
    for place, _, container in containers(manifests):
        resources = container.get("resources", {})
        limits, requests = resources.get("limits", {}), resources.get("requests", {})
        for kind in ("cpu", "memory"):
            if kind not in limits or kind not in requests:
                yield f"{place}: no {kind} in limits and requests"
            elif amount(requests[kind]) > amount(limits[kind]):
                yield f"{place}: asks for more {kind} than its limit"


def amount(quantity: str) -> float:
    """Cores or bytes."""
    match = re.fullmatch(r"(\d+)(m|Mi|Gi)?", str(quantity))
    assert match is not None, quantity
    return int(match[1]) * {None: 1, "m": 0.001, "Mi": 2**20, "Gi": 2**30}[match[2]]


@policy
def is_probed(manifests: list[Manifest]) -> Iterator[str]:
    """Liveness never asks for what others must do: it is /livez; readiness is /readyz or gRPC health."""
    for deployment in of_kind(manifests, "Deployment"):
        for place, _, container in containers([deployment]):
            ready, live = container.get("readinessProbe"), container.get("livenessProbe")
            if not ready or not live:
                yield f"{place} is not probed"
                continue
            if component(deployment) not in SERVICES:
                continue
            if live.get("httpGet", {}).get("path") != "/livez":
                yield f"{place}: alive is what answers /livez"
            if ready.get("httpGet", {}).get("path") != "/readyz" and "grpc" not in ready:
                yield f"{place}: ready is /readyz or gRPC health"
            if container.get("startupProbe", {}).get("httpGet", {}).get("path") != "/livez":
                yield f"{place}: nothing waits for its start"


@policy
def ports_are_listened_on(manifests: list[Manifest]) -> Iterator[str]:
    """Every port of a container is one that its settings make it listen on; probes and Services name those."""
    for deployment in of_kind(manifests, "Deployment"):
        name = component(deployment)
        if name not in SERVICES:
            continue
        for place, _, container in containers([deployment]):
            env = environment(container)
            ports = {port["name"]: port["containerPort"] for port in container["ports"]}
            listens = {"ops": env.get(f"PARLEY_{name.upper()}_OPS_LISTEN", "")}
            if name != "worker":
                listens["grpc"] = env.get(f"PARLEY_{name.upper()}_LISTEN", "")
            if listens.get("grpc", "").startswith("127.0.0.1:"):
                del listens["grpc"]  # nobody outside the pod gets there
            for port, address in listens.items():
                match = _EVERYWHERE.match(address)
                if match is None or ports.get(port) != int(match[1]):
                    yield f"{place}: port {port} is {ports.get(port)}, but it listens on {address!r}"
            if ports.keys() != listens.keys():
                yield f"{place}: ports {sorted(ports)}, listens for {sorted(listens)}"
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                asked = container.get(probe, {})
                used = asked.get("httpGet", {}).get("port") or asked.get("grpc", {}).get("port")
                if asked and used not in (*ports, *ports.values()):
                    yield f"{place}: {probe} asks port {used}"
    for service in of_kind(manifests, "Service"):
        selector = service["spec"]["selector"]
        for deployment in of_kind(manifests, "Deployment"):
            if deployment["spec"]["selector"]["matchLabels"] == selector:
                known = {p["name"] for _, _, c in containers([deployment]) for p in c["ports"]}
                for port in service["spec"]["ports"]:
                    if port["targetPort"] not in known:
                        yield f"Service/{service['metadata']['name']}: no port {port['targetPort']}"
                break
        else:
            yield f"Service/{service['metadata']['name']} selects nothing"


def environment(container: Mapping[str, Any]) -> dict[str, str]:
    """Its variables; those from Secrets as empty texts."""
    return {variable["name"]: variable.get("value", "") for variable in container.get("env", [])}


@policy
def every_variable_is_a_setting(manifests: list[Manifest]) -> Iterator[str]:
    """Of the service, and none is set twice."""
    for deployment in of_kind(manifests, "Deployment"):
        name = component(deployment)
        for place, _, container in containers([deployment]):
            names = [variable["name"] for variable in container.get("env", [])]
            for twice in sorted({one for one in names if names.count(one) > 1}):
                yield f"{place}: {twice} is set twice"
            if name not in SETTINGS:
                continue
            fields = SETTINGS[name].model_fields
            prefix = f"PARLEY_{name.upper()}_"
            for variable in names:
                if not variable.startswith("PARLEY_"):
                    continue
                if not variable.startswith(prefix) or variable.removeprefix(prefix).lower() not in fields:
                    yield f"{place}: {variable} is no setting"


@policy
def secrets_are_references(manifests: list[Manifest]) -> Iterator[str]:
    """No secret stands in a manifest, but in a development release."""
    dev = any(component(deployment) == "nats" for deployment in of_kind(manifests, "Deployment"))
    for place, _, container in containers(manifests):
        for variable in container.get("env", []):
            secret = re.search(r"PASSWORD|API_KEY$|TOKEN|SECRET", variable["name"])
            if secret and "value" in variable and not dev:
                yield f"{place}: {variable['name']} stands in the manifest"
    if not dev and of_kind(manifests, "Secret"):
        yield "a Secret is made"


@policy
def a_pod_may_finish_its_drain(manifests: list[Manifest]) -> Iterator[str]:
    """The grace period covers preStop, drain and a margin."""
    for deployment in of_kind(manifests, "Deployment"):
        name = component(deployment)
        if name not in SERVICES:
            continue
        pod = deployment["spec"]["template"]["spec"]
        container = pod["containers"][0]
        waits = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        drain = _drain(name, environment(container))
        if waits < 1:
            yield f"{name}: nothing waits before SIGTERM"
        if pod["terminationGracePeriodSeconds"] < waits + drain + MARGIN:
            yield f"{name}: {pod['terminationGracePeriodSeconds']} s are less than {waits} + {drain:g} + {MARGIN}"


def _drain(name: str, env: Mapping[str, str]) -> float:
    text = env[f"PARLEY_{name.upper()}_SHUTDOWN_GRACE"]
    grace = type("_Grace", (ServiceSettings,), {})(shutdown_grace=text).shutdown_grace
    assert isinstance(grace, timedelta)
    return grace.total_seconds()


@policy
def a_rollout_loses_no_room(manifests: list[Manifest]) -> Iterator[str]:
    """New pods come first."""
    for deployment in of_kind(manifests, "Deployment"):
        strategy = deployment["spec"]["strategy"]
        if component(deployment) in SERVICES and (
            strategy.get("type") != "RollingUpdate"
            or strategy["rollingUpdate"].get("maxUnavailable") != 0
            or strategy["rollingUpdate"].get("maxSurge", 0) < 1
        ):
            yield f"{component(deployment)}: {strategy}"


@policy
def nodes_can_be_drained(manifests: list[Manifest]) -> Iterator[str]:
    """A budget lets at least one pod go, and unready ones always."""
    for budget in of_kind(manifests, "PodDisruptionBudget"):
        spec, name = budget["spec"], budget["metadata"]["name"]
        if "minAvailable" in spec or spec.get("maxUnavailable", 0) < 1:
            yield f"{name} may block a drain for ever"
        if spec.get("unhealthyPodEvictionPolicy") != "AlwaysAllow":
            yield f"{name} keeps pods that are not ready"


@policy
def pods_are_spread(manifests: list[Manifest]) -> Iterator[str]:
    """Over zones and nodes."""
    for deployment in of_kind(manifests, "Deployment"):
        if component(deployment) not in SERVICES:
            continue
        spread = deployment["spec"]["template"]["spec"].get("topologySpreadConstraints", [])
        keys = {constraint["topologyKey"] for constraint in spread}
        if keys != {"topology.kubernetes.io/zone", "kubernetes.io/hostname"}:
            yield f"{component(deployment)}: spread over {sorted(keys)}"
        for constraint in spread:
            if constraint["labelSelector"]["matchLabels"] != deployment["spec"]["selector"]["matchLabels"]:
                yield f"{component(deployment)}: spreads other pods"


@policy
def the_network_is_closed(manifests: list[Manifest]) -> Iterator[str]:
    """No rule for everybody, everywhere, or every port. Only workers, and only on the endpoint's port, reach public
    addresses, because Google's change; private ones are excepted."""
    for rules in of_kind(manifests, "NetworkPolicy"):
        name, spec = rules["metadata"]["name"], rules["spec"]
        if not spec.get("podSelector", {}).get("matchLabels") or spec.get("policyTypes") != ["Ingress", "Egress"]:
            yield f"{name} does not close its pods, or closes others"
        for way, peers in (("ingress", "from"), ("egress", "to")):
            for rule in spec.get(way, []):
                if not rule.get(peers) or not rule.get("ports") or not all("port" in port for port in rule["ports"]):
                    yield f"{name}: a rule of its {way} is for everybody, or for every port"
                for peer in rule.get(peers, []):
                    if _is_everybody(peer) and not (
                        component(rules) == "worker" and way == "egress" and len(rule["ports"]) == 1
                    ):
                        yield f"{name}: {peer} is everybody"


def _is_everybody(peer: Mapping[str, Any]) -> bool:
    block = peer.get("ipBlock")
    if block is None:
        namespaces = peer.get("namespaceSelector")
        return not peer or (namespaces is not None and not any(namespaces.values()))
    network = ipaddress.ip_network(block["cidr"])
    # A quarter of all addresses is no place.
    return network.prefixlen < 4


@policy
def public_is_not_private(manifests: list[Manifest]) -> Iterator[str]:
    """Where all public addresses are allowed, private ones are not."""
    private = [ipaddress.ip_network(n) for n in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16")]
    for rules in of_kind(manifests, "NetworkPolicy"):
        for rule in rules["spec"].get("egress", []):
            for peer in rule.get("to", []):
                if peer.get("ipBlock", {}).get("cidr") == "0.0.0.0/0":
                    excepted = [ipaddress.ip_network(n) for n in peer["ipBlock"].get("except", [])]
                    for network in private:
                        if network not in excepted:
                            yield f"{rules['metadata']['name']} reaches {network}"


@policy
def services_may_connect_where_they_are_told(manifests: list[Manifest]) -> Iterator[str]:
    """The port of each address in their settings is one that their NetworkPolicy lets them out to."""
    for rules in of_kind(manifests, "NetworkPolicy"):
        name = component(rules)
        ports = {port.get("port") for rule in rules["spec"]["egress"] for port in rule.get("ports", [])}
        for deployment in of_kind(manifests, "Deployment"):
            if component(deployment) != name:
                continue
            for variable, value in environment(deployment["spec"]["template"]["spec"]["containers"][0]).items():
                for address in value.split(",") if variable.endswith(_ADDRESSES) else ():
                    url = urllib.parse.urlsplit(address)
                    if address and (url.port or _PORTS[url.scheme]) not in ports:
                        yield f"{name} may not connect to {address} of {variable}"


_ADDRESSES: Final = ("_NATS_URL", "_ENDPOINT", "_BASE_URL")
_PORTS: Final = {"nats": 4222, "tls": 4222, "http": 80, "https": 443}


@policy
def the_test_gets_in(manifests: list[Manifest]) -> Iterator[str]:
    """Whoever else may call, the pod of `helm test` is a caller."""
    for pod in of_kind(manifests, "Pod"):
        for rules in of_kind(manifests, "NetworkPolicy"):
            if component(rules) == "gateway" and not any(
                _is_peer(peer, pod["metadata"]["labels"])
                for rule in rules["spec"]["ingress"]
                if any(port["port"] == "grpc" for port in rule.get("ports", []))
                for peer in rule.get("from", [])
            ):
                yield f"Pod/{pod['metadata']['name']} is no caller of {rules['metadata']['name']}"


def _is_peer(peer: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """A pod of the release's namespace."""
    selector = peer.get("podSelector")
    return (
        selector is not None
        and "namespaceSelector" not in peer
        and not selector.get("matchExpressions")
        and selector.get("matchLabels", {}).items() <= labels.items()
    )


@policy
def scalers_wait_as_long_as_they_may(manifests: list[Manifest]) -> Iterator[str]:
    """Kubernetes takes periods of half an hour and less, which its schemas do not say."""
    for scaler in of_kind(manifests, "HorizontalPodAutoscaler", "ScaledObject"):
        spec = scaler["spec"]
        behavior = spec.get("behavior") or spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
        for way in behavior.values():
            for each in way["policies"]:
                if not 0 < each["periodSeconds"] <= 1800:
                    yield f"{scaler['metadata']['name']}: a period of {each['periodSeconds']} s"


@policy
def changes_roll_out(manifests: list[Manifest]) -> Iterator[str]:
    """A ConfigMap that a service reads at start is in a checksum of its pods."""
    for deployment in of_kind(manifests, "Deployment"):
        template = deployment["spec"]["template"]
        mounted = [v["configMap"]["name"] for v in template["spec"].get("volumes", []) if "configMap" in v]
        sums = [key for key in template["metadata"].get("annotations", {}) if key.startswith("checksum/")]
        if mounted and not sums:
            yield f"{component(deployment)}: {mounted} may change unnoticed"


@policy
def what_is_named_is_there(manifests: list[Manifest]) -> Iterator[str]:
    """ConfigMaps and ServiceAccounts that pods name, Deployments that scalers do."""
    made = {(manifest["kind"], manifest["metadata"]["name"]) for manifest in manifests}
    for place, pod in pods(manifests):
        for volume in pod.get("volumes", []):
            if "configMap" in volume and ("ConfigMap", volume["configMap"]["name"]) not in made:
                yield f"{place}: no ConfigMap {volume['configMap']['name']}"
        account = pod.get("serviceAccountName")
        if account and ("ServiceAccount", account) not in made:
            yield f"{place}: no ServiceAccount {account}"
    for scaler in of_kind(manifests, "HorizontalPodAutoscaler", "ScaledObject"):
        target = scaler["spec"]["scaleTargetRef"]
        deployments = [d for d in of_kind(manifests, "Deployment") if d["metadata"]["name"] == target["name"]]
        if not deployments or "replicas" in deployments[0]["spec"]:
            yield f"{scaler['metadata']['name']} scales nothing, or something that says its number itself"


@policy
def names_fit(manifests: list[Manifest]) -> Iterator[str]:
    """Of DNS, as Services have them, and no two the same."""
    seen: set[tuple[str, str]] = set()
    for manifest in manifests:
        place = manifest["kind"], manifest["metadata"]["name"]
        if place in seen:
            yield f"{'/'.join(place)} twice"
        seen.add(place)
        if not re.fullmatch(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", place[1]):
            yield f"{'/'.join(place)} is no name"
