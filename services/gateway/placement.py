"""Which worker takes a session. Plain code: time and randomness are arguments."""

from __future__ import annotations

import random
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from parley.v1 import errors_pb2, fabric_pb2, fleet_pb2
from services.fabric.errors import ServiceError

FORGET_AFTER = 3.5
"""Seconds without an announcement (one a second) after which a worker is taken for gone."""


REMEMBER: Final = 60.0
"""Seconds for which a worker that fell silent counts as one of the fleet."""
PROVEN_SILENT: Final = 5.0
"""Seconds without an announcement after which a worker counts as gone if most others are heard."""
MOST: Final = 0.7
"""More than this part of the others must be heard: a sick message bus must not look like a dead fleet."""


@dataclass(slots=True)
class _Known:
    worker: fleet_pb2.Worker
    heard: float
    placed: int = 0
    """Sessions given to it since it last said how many it has."""

    @property
    def load(self) -> float:
        return (self.worker.sessions + self.placed) / self.worker.capacity if self.worker.capacity else 1.0


class WorkerTable:
    """The workers as they announce themselves."""

    def __init__(self, rng: random.Random) -> None:
        self._known: dict[str, _Known] = {}
        self._silent: dict[str, float] = {}
        """Workers that are not announced any more, and when they last were."""
        self._rng = rng

    def __len__(self) -> int:
        return len(self._known)

    def __contains__(self, worker: str) -> bool:
        return worker in self._known

    def heard(self, announcement: fabric_pb2.WorkerAnnouncement, now: float) -> None:
        """Take an announcement."""
        name = announcement.worker.worker
        self._silent.pop(name, None)
        if announcement.leaving:
            self._known.pop(name, None)
        elif name:
            self._known[name] = _Known(announcement.worker, now)

    def gone(self, worker: str) -> None:
        """Nobody answers there: forget it until it announces itself again."""
        self._known.pop(worker, None)
        self._silent.pop(worker, None)

    def forget_silent(self, now: float) -> None:
        """Forget who has not been heard for too long."""
        for name in [name for name, known in self._known.items() if now - known.heard > FORGET_AFTER]:
            self._silent[name] = self._known.pop(name).heard
        self._silent = {name: heard for name, heard in self._silent.items() if now - heard < REMEMBER}

    def is_silent(self, worker: str, now: float) -> bool:
        """Whether a worker has said nothing for so long that it counts as gone, while most of the others are heard."""
        if now - self._silent.get(worker, now) < PROVEN_SILENT:
            return False
        # Not who is known: nobody is forgotten while there is no connection, and then nobody is heard.
        heard = sum(now - known.heard <= FORGET_AFTER for name, known in self._known.items() if name != worker)
        others = len({*self._known, *self._silent} - {worker})
        return heard > MOST * others

    def has_room(self, worker: str) -> bool:
        """Whether it takes sessions, as far as it has said."""
        known = self._known.get(worker)
        return known is not None and not known.worker.draining and known.load < 1.0

    def check_other(self, worker: str) -> None:
        """ServiceError when nobody but this one takes a session, as far as they have said."""
        if not any(self.has_room(name) for name in self._known if name != worker):
            message = f"there is no worker but {worker} that takes sessions: start one, or undrain one"
            raise ServiceError(errors_pb2.ERROR_REASON_NO_CAPACITY, message)

    def choose(self, exclude: Collection[str] = ()) -> str:
        """The better of two picked at random (power of two choices). ServiceError when nobody can."""
        usable = [(name, known) for name, known in self._known.items() if name not in exclude and self.has_room(name)]
        if not usable:
            raise self._nobody(exclude)
        picked = usable if len(usable) <= 2 else self._rng.sample(usable, 2)
        least = min(known.load for _, known in picked)
        name, known = self._rng.choice([pair for pair in picked if pair[1].load == least])
        known.placed += 1
        return name

    def _nobody(self, exclude: Collection[str]) -> ServiceError:
        if any(name not in exclude for name in self._known):
            return ServiceError(errors_pb2.ERROR_REASON_NO_CAPACITY, "every worker is full or draining")
        return ServiceError(errors_pb2.ERROR_REASON_NO_WORKER, "no session worker is there")

    def workers(self, now: float) -> list[fleet_pb2.Worker]:
        """Everybody, by id, with the time since last heard."""
        listed = []
        for name in sorted(self._known):
            known = self._known[name]
            worker = fleet_pb2.Worker()
            worker.CopyFrom(known.worker)
            worker.since_heard.FromMilliseconds(max(0, round((now - known.heard) * 1000)))
            listed.append(worker)
        return listed
