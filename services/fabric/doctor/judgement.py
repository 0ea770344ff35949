"""What is found in a deployment, and what it means. Plain code: facts in, findings out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

from parley.v1 import fleet_pb2
from services.fabric.topology import Difference, Weight

NATS_TESTED: Final = (2, 15)
"""Version of nats-server that fences were tested with; older ones may take a write that they should refuse."""
MAX_PAYLOAD: Final = 4 * 1024 * 1024
"""Bytes of the largest message that a caller may send, and of the largest log entry."""
CLOCK_SKEW: Final = 2.0
"""Seconds. Nothing of Parley compares clocks; traces, logs and tokens do."""
LOOP_LAG: Final = 0.25
"""Seconds; five times what a call may be delayed at half load."""
_FULL: Final = 0.8
_RTT: Final = 0.05


class Level(Enum):
    """How bad it is."""

    OK = "ok"
    NOTE = "note"
    """Not looked at, or worth knowing."""
    WARNING = "warning"
    """It works, and may not for long."""
    PROBLEM = "problem"
    """It does not work, or a promise does not hold."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor's."""

    level: Level
    about: str
    """What was looked at: nats, streams, workers, ..."""
    message: str
    mend: str = ""
    """What to do about it."""


@dataclass(frozen=True, slots=True)
class Instance:
    """A running process, as far as it tells."""

    kind: str
    name: str
    version: str


@dataclass(frozen=True, slots=True)
class WorkerAnswer:
    """What a worker said when it was asked."""

    worker: fleet_pb2.Worker
    answers: bool
    """On its own subject."""
    backend: str | None = None
    """What its model's endpoint said to it; empty: it took the set-up; None: not asked."""


@dataclass(frozen=True, slots=True)
class ToolsAnswer:
    """What the tools services serve, and what the catalog says that they do."""

    instances: Sequence[Instance]
    served: frozenset[str] = field(default_factory=frozenset)
    declared: frozenset[str] = field(default_factory=frozenset)


def nats(url: str, version: str, max_payload: int, round_trip: float) -> Iterator[Finding]:
    """`round_trip`: seconds."""
    about = "nats"
    told = f"{url}: nats-server {version}, round trip {round_trip * 1000:.1f} ms"
    numbers = release(version)
    if numbers is not None and numbers < NATS_TESTED:
        tested = ".".join(map(str, NATS_TESTED))
        yield Finding(
            Level.WARNING, about, f"{told}; Parley is tested with {tested}", f"update it to {tested} or newer"
        )
    elif round_trip > _RTT:
        yield Finding(Level.WARNING, about, f"{told}: media crosses it twice", "run NATS near the services")
    else:
        yield Finding(Level.OK, about, told)
    if max_payload < MAX_PAYLOAD:
        message = f"max_payload is {max_payload}: callers' messages may have {MAX_PAYLOAD} bytes, and would be refused"
        yield Finding(Level.PROBLEM, about, message, f"set `max_payload: {MAX_PAYLOAD}` in the server's configuration")


def permissions(heard: Iterable[str]) -> Iterator[Finding]:
    """`heard`: what the server said beside its answers."""
    for text in dict.fromkeys(heard):
        if "permissions violation" in text.lower():
            message = f"{text.removeprefix('nats: ')}: the doctor may not see all that is there"
            yield Finding(Level.PROBLEM, "nats", message, "see PARLEY_FABRIC_NATS_USER, or let that user do this")


def stream(name: str, info: Mapping[str, Any] | None, listed: Iterable[Difference]) -> Iterator[Finding]:
    """`info`: the server's description; None: there is none."""
    about, fine = "streams", True
    for each in listed:
        fine = False
        level = {Weight.BROKEN: Level.PROBLEM, Weight.WEAKER: Level.WARNING, Weight.OTHER: Level.NOTE}[each.weight]
        yield Finding(level, about, str(each), each.mend)
    if info is None:
        return
    state, config, cluster = info.get("state", {}), info.get("config", {}), info.get("cluster") or {}
    limit, used = config.get("max_bytes", -1), state.get("bytes", 0)
    if limit > 0 and used > _FULL * limit:
        fine = False
        message = f"{name} is {used / limit:.0%} full; when it is full, sessions cannot be opened"
        yield Finding(Level.WARNING, about, message, "raise its max_bytes, or see whether records stay (RUNBOOK)")
    if cluster and not cluster.get("leader"):
        fine = False
        yield Finding(Level.PROBLEM, about, f"{name} has no leader", "see whether most servers of its group run")
    for peer in cluster.get("replicas") or ():
        if peer.get("offline") or not peer.get("current", True):
            fine = False
            what = "is offline" if peer.get("offline") else "lags behind"
            yield Finding(Level.WARNING, about, f"{name}: the copy on {peer.get('name')} {what}", "look at that server")
    if fine:
        copies = config.get("num_replicas", 1)
        yield Finding(Level.OK, about, f"{name}: {copies} {'copy' if copies == 1 else 'copies'}, {used} bytes")


def workers(answers: Sequence[WorkerAnswer]) -> Iterator[Finding]:
    """Those that announced themselves."""
    about = "workers"
    if not answers:
        message = "no session worker announced itself: sessions cannot be opened"
        yield Finding(Level.PROBLEM, about, message, "start one, on the same NATS (PARLEY_WORKER_NATS_URL)")
        return
    for answer in answers:
        worker = answer.worker
        told = f"{worker.worker}: {worker.sessions}/{worker.capacity} sessions"
        lag = worker.loop_lag.ToTimedelta().total_seconds()
        if not answer.answers:
            message = f"{worker.worker} announces itself and does not answer"
            mend = "it hangs, or its NATS permissions are wrong: see its log"
            yield Finding(Level.PROBLEM, about, message, mend)
        elif lag > LOOP_LAG:
            message = f"{told}; its event loop runs {lag * 1000:.0f} ms late"
            yield Finding(Level.WARNING, about, message, "lower PARLEY_WORKER_CAPACITY, or give it a whole CPU")
        else:
            yield Finding(Level.OK, about, f"{told}{', draining' if worker.draining else ''}")
    free = [each.worker for each in answers if not each.worker.draining and each.worker.sessions < each.worker.capacity]
    if not free:
        message = "no worker takes sessions: every one is full or draining"
        yield Finding(Level.PROBLEM, about, message, "start another, or `parley worker undrain`")


def backend(answers: Sequence[WorkerAnswer]) -> Iterator[Finding]:
    """What the model's endpoint said to workers that were asked to try it."""
    for answer in answers:
        if answer.backend is None:
            continue
        worker = answer.worker.worker
        if answer.backend:
            mend = "see PARLEY_WORKER_GEMINI_API_KEY, _GEMINI_BASE_URL and _BACKEND of the workers, and their egress"
            yield Finding(Level.PROBLEM, "backend", f"{worker}: {answer.backend}", mend)
        else:
            yield Finding(Level.OK, "backend", f"{worker}: the model's endpoint took its key and a set-up")


def tools(answer: ToolsAnswer) -> Iterator[Finding]:
    """Tools services, and whether every tool of the catalog is served."""
    about = "tools"
    if answer.instances:
        yield Finding(Level.OK, about, f"{len(answer.instances)} instances serve {len(answer.served)} tools")
    elif answer.declared:
        message = f"no tools service answers, and {len(answer.declared)} tools are declared: calls of them fail"
        yield Finding(Level.PROBLEM, about, message, "start one, on the same NATS (PARLEY_TOOLS_NATS_URL)")
        return
    else:
        yield Finding(Level.NOTE, about, "no tools service, and no tools declared")
    if missing := sorted(answer.declared - answer.served):
        message = f"declared and served by nobody: {', '.join(missing)}"
        yield Finding(Level.WARNING, about, message, "see `problems` and `unavailable` in the tools service's log")


def versions(mine: str, instances: Iterable[Instance]) -> Iterator[Finding]:
    """Processes may differ by one release, in either direction."""
    found = [(each, release(each.version)) for each in instances]
    known = [numbers for _, numbers in found if numbers is not None]
    if not known:
        return
    newest, oldest = max(known), min(known)
    if _apart(newest, oldest):
        old = ", ".join(f"{each.kind} {each.name} ({each.version})" for each, numbers in found if numbers == oldest)
        message = f"more than one release apart: {old}, while others run {'.'.join(map(str, newest))}"
        yield Finding(Level.PROBLEM, "versions", message, "update one release at a time, tools before workers")
    elif newest != oldest:
        told = f"releases {'.'.join(map(str, oldest))} and {'.'.join(map(str, newest))} run together"
        yield Finding(Level.NOTE, "versions", f"{told}, which works")
    else:
        yield Finding(Level.OK, "versions", f"{len(known)} processes, all of release {'.'.join(map(str, newest))}")
    own = release(mine)
    if own is not None and _apart(newest, own):
        message = f"this command is {mine}, and the deployment is not"
        yield Finding(Level.WARNING, "versions", message, "use the `parley` of that release")


def clock(of: str, ahead: float) -> Finding:
    """`ahead`: seconds by which the clock of `of` is ahead of ours."""
    if abs(ahead) > CLOCK_SKEW:
        message = f"the clock of {of} is {abs(ahead):.1f} s {'ahead of' if ahead > 0 else 'behind'} this machine's"
        return Finding(Level.WARNING, "clocks", message, "synchronise both (NTP): traces and tokens depend on it")
    return Finding(Level.OK, "clocks", f"{of} and this machine agree")


def verdict(findings: Iterable[Finding]) -> int:
    """Exit status: 1 when there is a problem."""
    return int(any(finding.level is Level.PROBLEM for finding in findings))


def release(version: str) -> tuple[int, int] | None:
    """Major and minor number; None where there are none."""
    match = re.match(r"v?(\d+)\.(\d+)", version)
    return None if match is None else (int(match[1]), int(match[2]))


def _apart(newer: tuple[int, int], older: tuple[int, int]) -> bool:
    newer, older = max(newer, older), min(newer, older)
    return newer[0] != older[0] or newer[1] - older[1] > 1
