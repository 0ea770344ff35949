"""Deployments, Services and nodes: what is wanted, and the loop that brings it about."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.helm.chart import component, of_kind
from tests.helm.rollout.pod import Manifest, Pod
from tests.helm.rollout.service import Service
from tests.helm.rollout.strategy import PodView, may_evict, rolling_update
from tests.support.eventually import eventually

NODES: Final = ("node-a", "node-b", "node-c")
_ROUND: Final = 0.1
_ROLLED_OUT: Final = 300.0
"""Seconds that a rollout may take."""
_EVICT_AGAIN: Final = 0.5


@dataclass
class Deployment:
    """What is wanted of one, and its pods."""

    manifest: Manifest
    replicas: int
    pods: list[Pod] = field(default_factory=list)
    """All that are not gone."""

    @property
    def template(self) -> Manifest:
        """Of the newest pods."""
        found: Manifest = self.manifest["spec"]["template"]
        return found

    @property
    def there(self) -> list[Pod]:
        """Pods that have not been told to go."""
        return [pod for pod in self.pods if not pod.terminating]

    def views(self) -> list[PodView]:
        """As the controllers see them."""
        least = float(self.manifest["spec"].get("minReadySeconds", 0))
        return [
            PodView(
                pod.name,
                pod.template == self.template,
                pod.ready,
                pod.ready and pod.ready_for() >= least,
                time.monotonic() - pod.born,
            )
            for pod in self.there
        ]

    @property
    def rolled_out(self) -> bool:
        """As many new pods as wanted work, and no other is left."""
        views = self.views()
        return len(views) == len(self.pods) == self.replicas and all(view.current and view.available for view in views)


class Cluster:
    """`async with` runs it; `apply` says what is wanted."""

    def __init__(self, folder: Path, secrets: Mapping[str, Mapping[str, str]]) -> None:
        """`secrets`: by name, what the release refers to."""
        self._folder = folder
        self._files: dict[tuple[str, str], Mapping[str, str]] = {("Secret", n): data for n, data in secrets.items()}
        self.deployments: dict[str, Deployment] = {}
        """By component."""
        self._budgets: dict[str, Manifest] = {}
        self.services: dict[str, Service] = {}
        """By component."""
        self._cordoned: set[str] = set()
        self._numbers = itertools.count(1)
        self._going: set[asyncio.Task[None]] = set()
        self._loop_task: asyncio.Task[None] | None = None
        self.terminated: list[Pod] = []
        """Pods that are gone, but for the end of the play."""

    async def __aenter__(self) -> Cluster:
        self._loop_task = asyncio.create_task(self._run(), name="controllers")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._loop_task is not None:
            self._loop_task.cancel()
            await asyncio.gather(self._loop_task, return_exceptions=True)
        for task in self._going:
            task.cancel()
        await asyncio.gather(*self._going, return_exceptions=True)
        for service in self.services.values():
            await service.stop()
        await asyncio.gather(*(pod.kill() for d in self.deployments.values() for pod in d.pods))

    # What is wanted

    async def apply(self, manifests: Iterable[Manifest], only: Iterable[str] = ()) -> None:
        """As `kubectl apply`; `only`: these components' Deployments."""
        manifests = list(manifests)
        for config in of_kind(manifests, "ConfigMap"):
            self._files["ConfigMap", config["metadata"]["name"]] = config.get("data") or {}
        for budget in of_kind(manifests, "PodDisruptionBudget"):
            self._budgets[component(budget)] = budget["spec"]
        for manifest in of_kind(manifests, "Deployment"):
            name = component(manifest)
            if only and name not in only:
                continue
            replicas = int(manifest["spec"]["replicas"])
            if name in self.deployments:
                self.deployments[name].manifest, self.deployments[name].replicas = manifest, replicas
            else:
                self.deployments[name] = Deployment(manifest, replicas)
        for manifest in of_kind(manifests, "Service"):
            name = component(manifest)
            if name not in self.services and manifest["spec"].get("clusterIP") != "None":
                self.services[name] = Service(lambda spec=manifest["spec"]: self._endpoints(spec))  # type: ignore[misc]
                await self.services[name].start()

    async def rolled_out(self, *names: str) -> None:
        """Until these are as wanted, with nothing left of what was before."""
        await eventually(lambda: all(self.deployments[name].rolled_out for name in names), timeout=_ROLLED_OUT)

    def scale(self, name: str, replicas: int) -> None:
        """As an autoscaler does it."""
        self.deployments[name].replicas = replicas

    async def drain(self, node: str) -> None:
        """As `kubectl drain`: no new pods on it, and those that are there are evicted as their budgets allow."""
        self._cordoned.add(node)
        try:
            async with asyncio.timeout(_ROLLED_OUT):
                while left := [
                    (name, pod) for name, d in self.deployments.items() for pod in d.pods if pod.node == node
                ]:
                    for name, pod in left:
                        if not pod.terminating and self._may_evict(name, pod):
                            self._delete(pod)
                    await asyncio.sleep(_EVICT_AGAIN)
        finally:
            self._cordoned.discard(node)

    def _may_evict(self, name: str, pod: Pod) -> bool:
        deployment, budget = self.deployments[name], self._budgets.get(name)
        return budget is None or may_evict(
            deployment.views(),
            pod.name,
            replicas=deployment.replicas,
            max_unavailable=int(budget["maxUnavailable"]),
            always_unready=budget.get("unhealthyPodEvictionPolicy") == "AlwaysAllow",
        )

    def pods_of(self, name: str) -> list[Pod]:
        """That are not gone."""
        return self.deployments[name].pods

    def _endpoints(self, spec: Manifest) -> list[str]:
        wanted: dict[str, Any] = spec["selector"]
        (port,) = spec["ports"]
        return [
            f"{pod.ip}:{pod.port(port['targetPort'])}"
            for deployment in self.deployments.values()
            for pod in deployment.pods
            if pod.ready and wanted.items() <= pod.labels.items()
        ]

    # How it comes about

    async def _run(self) -> None:
        while True:
            for name, deployment in self.deployments.items():
                self._round(name, deployment)
            await asyncio.sleep(_ROUND)

    def _round(self, name: str, deployment: Deployment) -> None:
        self.terminated += [pod for pod in deployment.pods if pod.gone]
        deployment.pods = [pod for pod in deployment.pods if not pod.gone]
        strategy = deployment.manifest["spec"]["strategy"]["rollingUpdate"]
        step = rolling_update(
            deployment.views(),
            replicas=deployment.replicas,
            surge=int(strategy["maxSurge"]),
            unavailable=int(strategy["maxUnavailable"]),
        )
        for pod in deployment.pods:
            if pod.name in step.delete:
                self._delete(pod)
        for _ in range(step.start):
            self._create(name, deployment)

    def _create(self, name: str, deployment: Deployment) -> None:
        number = next(self._numbers)
        digest = hashlib.sha256(json.dumps(deployment.template, sort_keys=True).encode()).hexdigest()[:8]
        nodes = [node for node in NODES if node not in self._cordoned]
        used = [pod.node for pod in deployment.there]
        pod = Pod(
            f"{name}-{digest}-{number}",
            deployment.template,
            ip=f"127.0.{10 + number // 250}.{1 + number % 250}",
            node=min(nodes, key=used.count),  # spread
            files=self._files,
            folder=self._folder,
        )
        deployment.pods.append(pod)
        pod.start()

    def _delete(self, pod: Pod) -> None:
        pod.told_to_go()
        task = asyncio.create_task(pod.terminate(), name=f"terminate {pod.name}")
        self._going.add(task)
        task.add_done_callback(self._going.discard)
