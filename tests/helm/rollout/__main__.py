"""`make rollout`: every rollout under load; 0 sessions may end, and no call may notice more than a planned move.

    python -m tests.helm.rollout [--calls 20] [--sabotage grace|prestop]

`--sabotage` sets the grace period or preStop of every pod to 0, and succeeds when callers complain of it.
"""

from __future__ import annotations

import argparse
import asyncio
import copy
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from parley import events
from parley.cli.stack import PACKAGED_PROFILES, Stack, StackConfig
from tests.helm.chart import Manifest, Values, of_kind, over, render
from tests.helm.rollout.cluster import NODES, Cluster
from tests.helm.rollout.load import Load
from tests.helm.rollout.pod import Pod
from tests.support.eventually import eventually

SERVICES: Final = ("gateway", "worker", "tools")


def release_values(nats: str, emulator: str) -> Values:
    """A small production release on a nats-server and an emulator of this machine."""
    return {
        "nats": {"url": nats, "replicas": 1},
        "gemini": {
            "baseUrl": emulator,
            "apiKeySecret": {"name": "gemini"},
            "caSecret": {"name": "emulator-ca"},
        },
        "callers": {"development": True},
        "profiles": _profiles(),
        "gateway": {"replicas": 2},
        "worker": {
            "replicas": 2,
            "capacity": 50,
            "settings": {"link_headers": {"x-emulator-conversation": "{session}"}},
        },
        "tools": {
            "replicas": 2,
            "modules": [f"services.tools.examples.{name}" for name in ("orders", "weather")],
            "settings": {"orders_db": "/tmp/orders.sqlite3"},
        },
    }


def _profiles() -> dict[str, Any]:
    import yaml

    return {path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) for path in PACKAGED_PROFILES.glob("*.yaml")}


def sabotaged(manifests: list[Manifest], what: str) -> list[Manifest]:
    """The same with nothing where time is given."""
    manifests = copy.deepcopy(manifests)
    for deployment in of_kind(manifests, "Deployment"):
        pod = deployment["spec"]["template"]["spec"]
        if what == "grace":
            pod["terminationGracePeriodSeconds"] = 0
        elif what == "prestop":
            del pod["containers"][0]["lifecycle"]
    return manifests


class Play:
    """One release, and what happens to it."""

    def __init__(self, cluster: Cluster, load: Load, values: Values, sabotage: str) -> None:
        self._cluster = cluster
        self._load = load
        self._values = values
        self._sabotage = sabotage
        self._began = time.monotonic()

    def rendered(self, more: Values) -> list[Manifest]:
        """The release with other values."""
        return sabotaged(render(over(self._values, more)), self._sabotage)

    def say(self, what: str) -> None:
        """One line."""
        print(
            f"{time.monotonic() - self._began:6.1f} s  {what}; {sum(self._load.answers.values())} answers, "
            f"{self._load.arrivals} new callers, {len(self._load.problems)} problems",
            flush=True,
        )

    async def update(self, name: str, number: int) -> None:
        """Another release of one Deployment."""
        before = set(self._cluster.pods_of(name))
        await self._cluster.apply(self.rendered({name: {"podAnnotations": {"release": str(number)}}}), only=[name])
        await self._cluster.rolled_out(name)
        assert not before & set(self._cluster.pods_of(name))
        self.say(f"rolled out {name}, release {number}")

    async def bad(self, name: str, more: Values) -> None:
        """A release that never gets ready, and back."""
        before = set(self._cluster.pods_of(name))
        await self._cluster.apply(self.rendered(more), only=[name])
        await eventually(lambda: set(self._cluster.pods_of(name)) - before != set(), timeout=30)
        (new,) = set(self._cluster.pods_of(name)) - before
        # Long enough for every probe of a pod that works to have said so.
        await eventually(lambda: time.monotonic() - new.born > 20 or new.ready, timeout=60)
        assert not new.ready
        assert before < set(self._cluster.pods_of(name)), "old pods went for one that does not work"
        self.say(f"a {name} that does not get ready ({new.restarts} restarts) replaces nothing")
        await self._cluster.apply(self.rendered({}), only=[name])
        await self._cluster.rolled_out(name)

    async def run(self) -> None:
        """Everything."""
        for number in (1, 2):
            for name in SERVICES:
                await self.update(name, number)
        if self._sabotage:
            return
        await self._cluster.drain(NODES[0])
        await self._cluster.rolled_out(*SERVICES)
        self.say(f"drained {NODES[0]}")
        self._cluster.scale("worker", 4)
        await self._cluster.rolled_out("worker")
        self.say("scaled out to 4 workers")
        self._cluster.scale("worker", 2)
        await self._cluster.rolled_out("worker")
        self.say("scaled in to 2 workers")
        await self.bad("worker", {"nats": {"url": "nats://127.0.0.1:1"}})
        await self.bad("tools", {"tools": {"modules": ["no.such.module"]}})
        await self.bad("gateway", {"gateway": {"settings": {}}, "profiles": {"support": {"model": "no-such-model"}}})


async def play(calls: int, sabotage: str) -> list[str]:
    """What was wrong."""
    with tempfile.TemporaryDirectory(prefix="parley-rollout-") as name:
        folder = Path(name)
        stack = Stack(StackConfig(state_dir=folder / "beside"))
        stack.state_dir = folder / "beside"
        stack.state_dir.mkdir()
        try:
            await stack.start_nats()
            emulator = await stack.start_emulator()
            values = release_values(stack.nats.ready["url"], emulator.ready["address"])
            authority = await asyncio.to_thread(Path(emulator.ready["ca_file"]).read_text)
            secrets = {"gemini": {"api-key": "emulator"}, "emulator-ca": {"ca.crt": authority}}
            async with Cluster(folder / "pods", secrets) as cluster:
                await cluster.apply(sabotaged(render(values), sabotage))
                await cluster.rolled_out(*SERVICES)
                address = cluster.services["gateway"].address
                await eventually(lambda: bool(cluster.services["gateway"].known), timeout=30)
                load = Load(stack, address, calls=calls, spoken=min(3, calls))
                await load.begin()
                play = Play(cluster, load, values, sabotage)
                try:
                    await play.run()
                finally:
                    await load.end()
                play.say("over")
                if not sabotage:
                    load.problems += _of_pods(cluster.terminated)
                    moves, resumes = load.least(events.LinkRecovered), load.least(events.StreamResumed)
                    print(f"{calls} calls, each moved {moves} times or more, and resumed {resumes} times or more")
                    if moves < 2 or resumes < 2:
                        load.problems.append("a call saw less than two workers, or two gateways, go")
                return load.problems
        finally:
            await stack.stop()


def _of_pods(terminated: list[Pod]) -> list[str]:
    """Pods that did not go by themselves, or not well."""
    killed = [f"{pod.name} was killed: its grace period was too short" for pod in terminated if pod.killed]
    return killed + [
        f"{pod.name} ended with status {pod.status}"
        for pod in terminated
        if pod.status not in (0, None) and not pod.restarts and not pod.killed
    ]


def main() -> int:
    """Exit status."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--calls", type=int, default=20)
    parser.add_argument("--sabotage", choices=("grace", "prestop"), default="")
    arguments = parser.parse_args()
    problems = asyncio.run(play(arguments.calls, arguments.sabotage))
    for problem in problems[:30]:
        print(problem[:1000], file=sys.stderr)
    if arguments.sabotage:
        print(f"without {arguments.sabotage}: {len(problems)} problems, as it should be" if problems else "unnoticed")
        return not problems
    print(f"{len(problems)} problems" if problems else "0 sessions ended; nobody noticed more than a planned move")
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
