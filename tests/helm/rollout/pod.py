"""A pod as its kubelet runs it: a process with a loopback address, probes, preStop, SIGTERM, and SIGKILL in the end."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import aiohttp
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from parley.cli._child import Child

_RESTART_AFTER: Final = 1.0
"""Seconds after which a container that ended is started again; doubled each time, as Kubernetes does from 10 s on."""
Manifest = dict[str, Any]


class Pod:
    """One pod. `start`, then `terminate`; `gone` when nothing of it is left."""

    def __init__(
        self,
        name: str,
        template: Manifest,
        *,
        ip: str,
        node: str,
        files: Mapping[tuple[str, str], Mapping[str, str]],
        folder: Path,
    ) -> None:
        """`files`: contents of ConfigMaps and Secrets, by kind and name. `folder`: for what it mounts and logs."""
        self.name = name
        self.template = template
        self.ip = ip
        self.node = node
        self._files = files
        self._folder = folder / name
        self._spec: Manifest = template["spec"]
        self._container: Manifest = self._spec["containers"][0]
        self._started = False
        self._probed_ready = False
        self._ready_since: float | None = None
        self.born = time.monotonic()
        self.terminating = False
        self.killed = False
        """Its grace period was not enough."""
        self.restarts = 0
        self.status: int | None = None
        """Exit status of the container that ended last."""
        self._child: Child | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._gone = asyncio.Event()

    # State

    @property
    def labels(self) -> dict[str, str]:
        """What selectors look at."""
        return dict(self.template["metadata"]["labels"])

    @property
    def ready(self) -> bool:
        """Work may be sent to it."""
        return self._started and self._probed_ready and not self.terminating

    def ready_for(self) -> float:
        """Seconds; 0 while it is not."""
        return time.monotonic() - self._ready_since if self.ready and self._ready_since is not None else 0.0

    @property
    def gone(self) -> bool:
        """Nothing of it is left."""
        return self._gone.is_set()

    async def wait_gone(self) -> None:
        """Until then."""
        await self._gone.wait()

    def port(self, name: str | int) -> int:
        """Of the container."""
        if isinstance(name, int):
            return name
        return next(int(port["containerPort"]) for port in self._container["ports"] if port["name"] == name)

    # Life

    def start(self) -> None:
        """Begin; nobody waits for it but its probes."""
        self._folder.mkdir(parents=True)
        self._tasks = [
            asyncio.create_task(work, name=f"{self.name} {what}")
            for what, work in (("container", self._run()), ("probes", self._probe()))
        ]

    async def _run(self) -> None:
        wait = _RESTART_AFTER
        while not self.terminating:
            self._child = await Child.start(
                self.name,
                [sys.executable, "-P", "-m", "parley.cli", *self._container["args"]],
                self._environment(),
                self._folder / "log",
            )
            self._child.drain()
            self.status = await self._child.process.wait()
            self._started = self._probed_ready = False
            if self.terminating:
                return
            self.restarts += 1
            await asyncio.sleep(wait)
            wait *= 2

    def _environment(self) -> dict[str, str]:
        # Its own network is a loopback address: there it listens, whatever the manifest says of its addresses.
        mounts = self._mounts()
        env = {"HOME": str(self._folder), "PYTHONUNBUFFERED": "1", "PATH": str(Path(sys.executable).parent)}
        # The tests run from a checkout.
        env["PYTHONPATH"] = str(Path(__file__).resolve().parents[3])
        for variable in self._container["env"]:
            value = variable.get("value")
            if value is None:
                reference = variable["valueFrom"]["secretKeyRef"]
                value = self._files["Secret", reference["name"]][reference["key"]]
            for path, folder in mounts.items():
                if value == path or value.startswith(f"{path}/"):
                    value = str(folder) + value[len(path) :]
            if variable["name"].endswith("_LISTEN"):
                value = f"{self.ip}:{value.rpartition(':')[2]}"
            env[variable["name"]] = value
        return env

    def _mounts(self) -> dict[str, Path]:
        volumes = {volume["name"]: volume for volume in self._spec.get("volumes", [])}
        mounts = {}
        for mount in self._container.get("volumeMounts", []):
            folder = self._folder / mount["name"]
            folder.mkdir(exist_ok=True)
            volume = volumes[mount["name"]]
            if "configMap" in volume:
                contents = self._files["ConfigMap", volume["configMap"]["name"]]
            elif "secret" in volume:
                contents = self._files["Secret", volume["secret"]["secretName"]]
            else:
                contents = {}
            for file, text in contents.items():
                (folder / file).write_text(text, encoding="utf-8")
            mounts[mount["mountPath"]] = folder
        return mounts

    def told_to_go(self) -> None:
        """From this moment on it is no endpoint, and no controller counts it; `terminate` is what follows."""
        self.terminating = True

    async def terminate(self) -> None:
        """preStop, SIGTERM, and SIGKILL when the grace period is over. Returns when it is gone."""
        grace = float(self._spec["terminationGracePeriodSeconds"])
        waits = float(self._container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0))
        try:
            async with asyncio.timeout(grace):
                await asyncio.sleep(waits)
                await self._signal(signal.SIGTERM)
                await self._ended()
        except TimeoutError:
            self.killed = True
            await self._signal(signal.SIGKILL)
            await self._ended()
        await self._finish()

    async def kill(self) -> None:
        """At once, for the end of the play."""
        self.terminating = True
        await self._signal(signal.SIGKILL)
        await self._finish()

    async def _signal(self, number: signal.Signals) -> None:
        if self._child is not None:
            self._child.signal(number)

    async def _ended(self) -> None:
        if self._child is not None:
            await self._child.process.wait()

    async def _finish(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._child is not None:
            self._child.signal(signal.SIGKILL)
            await self._child.gone()
        self._gone.set()

    # Probes

    async def _probe(self) -> None:
        await asyncio.gather(self._until_started(), self._keep_asking_ready(), self._keep_asking_alive())

    async def _until_started(self) -> None:
        while True:
            if not self._started and self._child is not None:
                self._started = await self._ask(self._container["startupProbe"])
            await asyncio.sleep(float(self._container["startupProbe"].get("periodSeconds", 10)))

    async def _keep_asking_ready(self) -> None:
        probe = self._container["readinessProbe"]
        failures = 0
        while True:
            await asyncio.sleep(float(probe.get("periodSeconds", 10)))
            if not self._started:
                continue
            failures = 0 if await self._ask(probe) else failures + 1
            if failures == 0 and not self._probed_ready:
                self._probed_ready, self._ready_since = True, time.monotonic()
            elif failures >= probe.get("failureThreshold", 3):
                self._probed_ready = False

    async def _keep_asking_alive(self) -> None:
        probe = self._container["livenessProbe"]
        failures = 0
        while True:
            await asyncio.sleep(float(probe.get("periodSeconds", 10)))
            if not self._started or self.terminating:
                continue
            failures = 0 if await self._ask(probe) else failures + 1
            if failures >= probe.get("failureThreshold", 3):
                await self._signal(signal.SIGKILL)
                failures = 0

    async def _ask(self, probe: Manifest) -> bool:
        limit = float(probe.get("timeoutSeconds", 1))
        with contextlib.suppress(OSError, TimeoutError, aiohttp.ClientError, grpc.aio.AioRpcError):
            async with asyncio.timeout(limit):
                if "grpc" in probe:
                    return await self._ask_grpc(f"{self.ip}:{probe['grpc']['port']}", limit)
                get = probe["httpGet"]
                url = f"http://{self.ip}:{self.port(get['port'])}{get['path']}"
                async with aiohttp.ClientSession() as http, http.get(url) as response:
                    return 200 <= response.status < 400
        return False

    @staticmethod
    async def _ask_grpc(address: str, limit: float) -> bool:
        async with grpc.aio.insecure_channel(address) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=limit)
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
