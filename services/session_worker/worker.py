"""The worker process: takes sessions, routes uplink to them, tells the fleet about itself, ends what is over."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Coroutine, Iterator
from typing import Any, Final

import nats.errors
import structlog
from google.protobuf.message import DecodeError
from nats.aio.msg import Msg
from opentelemetry.context import Context

from parley._version import __version__
from parley.v1 import errors_pb2, fabric_pb2, fleet_pb2, live_pb2
from services.fabric import logs, subjects
from services.fabric.errors import ServiceError
from services.fabric.process import LoopLag, stop_tasks
from services.fabric.records import FencedError
from services.session_worker import measured, responses, takeover
from services.session_worker.admission import Admission
from services.session_worker.backend_check import BackendCheck
from services.session_worker.commands import Commands
from services.session_worker.departures import Departures
from services.session_worker.ending import EndCause
from services.session_worker.measures import census
from services.session_worker.session import BusyError, Session
from services.session_worker.shared import Services

log = structlog.get_logger()

_TICK: Final = 0.05
_ANNOUNCE_EVERY: Final = 1.0
_ANNOUNCE_AT_MOST: Final = 0.5
_READS_AT_ONCE: Final = 32
"""Sessions whose `own` is read again at the same time."""
_PENDING_MESSAGES: Final = 65_536
_PENDING_BYTES: Final = 64 * 1024 * 1024
_LAST_WORDS: Final = 2.0
"""Seconds after the grace period in which sessions that are on their way out may go."""


class Worker:
    """All sessions of one process."""

    def __init__(self, services: Services, lag: LoopLag) -> None:
        self._services = services
        self.name = services.worker
        """As the fleet knows it."""
        self._lag = lag
        self._sessions: dict[str, Session] = {}
        self._closing: dict[str, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._opening: set[asyncio.Task[None]] = set()
        services.lifeline.on_lapse = self._lapse
        services.lifeline.on_return = self._verify
        self._announced = 0.0
        self._changed = True
        self._stopping = False
        self._admission = Admission(self.name, services.settings.capacity)
        self._departures = Departures(self._sessions, self._do)
        self._taking_over: set[str] = set()
        self._commands = Commands(self, BackendCheck(services.settings, services.dialer))
        self.opened = 0
        """Sessions opened since the start."""
        self.taken_over = 0
        """Sessions taken over since the start."""
        self.unroutable = 0
        """Uplink envelopes for sessions that are not here."""

    # Set-up

    async def subscribe(self) -> None:
        """One subscription each for uplink and commands, whatever the number of sessions."""
        client = self._services.bus.client
        await self._services.bus.subscribe_media(subjects.uplink_wildcard(self.name), self._on_uplink)
        for subject, callback in (
            (subjects.control(self.name), self._on_command),
            (subjects.WORKER_QUERY, self._on_query),
        ):
            await client.subscribe(
                subject, cb=callback, pending_msgs_limit=_PENDING_MESSAGES, pending_bytes_limit=_PENDING_BYTES
            )

    async def run(self) -> None:
        """Keep time for every session, for ever."""
        while True:
            await asyncio.sleep(_TICK)
            self._services.lifeline.holds()  # else the sessions are put down before anything of theirs is due
            now = time.monotonic()
            for session in list(self._sessions.values()):
                session.tick(now)
                if session.over and session.id not in self._closing:
                    self._closing[session.id] = asyncio.create_task(self._close(session), name="session close")
            self._departures.tick(now)
            due = _ANNOUNCE_AT_MOST if self._changed else _ANNOUNCE_EVERY
            if now - self._announced >= due:
                self._announced = now
                self._do(self._announce(), "announce")

    @property
    def counts(self) -> dict[str, int | float]:
        """For /debug/vars."""
        return {
            "sessions": len(self._sessions),
            "capacity": self._services.settings.capacity,
            "draining": self.draining,
            **census(self._sessions.values()),
            "sessions_opened": self.opened,
            "sessions_taken_over": self.taken_over,
            "sessions_let_go": self._departures.let_go,
            "places_kept": self._admission.kept(time.monotonic()),
            "opening": len(self._opening),
            "recovering": self.recovering,
            "closing": len(self._closing),
            "to_forget": len(self._services.leftovers),
            "unroutable_uplink": self.unroutable,
            "stale_uplink": sum(session.stale_uplink for session in self._sessions.values()),
            "loop_lag_seconds": round(self._lag.worst, 4),
        }

    @property
    def draining(self) -> bool:
        """It takes no more sessions, and those that it has go."""
        return self._departures.draining

    # Announcing

    def described(self) -> fleet_pb2.Worker:
        """As the fleet is told."""
        return fleet_pb2.Worker(
            worker=self.name,
            sessions=self._held_places + self._admission.kept(time.monotonic()),
            capacity=self._services.settings.capacity,
            loop_lag=responses.duration(self._lag.worst),
            draining=self.draining,
            version=__version__,
        )

    async def _announce(self, *, leaving: bool = False) -> None:
        self._changed = False
        if not self._services.bus.connected.is_set():
            return
        message = fabric_pb2.WorkerAnnouncement(schema_version=1, worker=self.described(), leaving=leaving)
        with contextlib.suppress(nats.errors.Error, TimeoutError):
            # A server that hangs takes nothing; the next announcement is as good.
            async with asyncio.timeout(_ANNOUNCE_AT_MOST):
                await self._services.bus.client.publish(subjects.FLEET_ANNOUNCE, message.SerializeToString())

    async def _on_query(self, _message: Msg) -> None:
        await self._announce()

    # Out of touch

    def _lapse(self, since: float) -> None:
        for session in self._sessions.values():
            session.lapse(since)

    def bus_was_lost(self, since: float) -> None:
        """This process had no connection to NATS since then (monotonic seconds)."""
        for session in self._sessions.values():
            session.bus_was_lost(since)

    def _verify(self) -> None:
        at_once = asyncio.Semaphore(_READS_AT_ONCE)
        for session in self._sessions.values():
            session.verify(at_once)

    # Uplink

    def _on_uplink(self, subject: str, payload: bytes) -> None:
        session = self._sessions.get(subjects.session_of(subject))
        if session is None:
            self.unroutable += 1
            return
        try:
            session.on_uplink(fabric_pb2.UplinkEnvelope.FromString(payload), time.monotonic())
        except DecodeError:
            self.unroutable += 1
            log.exception("unreadable uplink envelope", session=session.id)

    # Sessions

    async def _on_command(self, message: Msg) -> None:
        self._do(self._commands.answer(message), "command")

    def _do(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def held(self, session_id: str) -> Session:
        """The session, if it is here. ServiceError."""
        session = self._sessions.get(session_id)
        if session_id in self._taking_over:
            why = f"session {session_id} is being taken over; try again"
            raise ServiceError(errors_pb2.ERROR_REASON_WORKER_LOST, why)
        if session is None or session.lost:
            raise _unknown(session_id)
        return session

    def check_has(self, session_id: str) -> None:
        """ServiceError where the session is neither here nor about to be: `own` names this worker a moment before, and
        nobody may take that for a session that its owner does not have."""
        if session_id not in self._taking_over:
            self.held(session_id)

    def _admit(self, session_id: str) -> None:
        self._check_admits()
        here = self._sessions.keys() | self._taking_over
        self._admission.check(session_id, time.monotonic(), held=self._held_places, here=here)

    def _check_admits(self) -> None:
        """ServiceError while no session is taken at all."""
        why = ""
        if self.draining:
            why = "is draining"
        elif not self._services.lifeline.holds():
            why = "is out of touch with the message bus"
        if why:
            raise ServiceError(errors_pb2.ERROR_REASON_NO_CAPACITY, f"worker {self.name} {why}")

    @property
    def _held_places(self) -> int:
        return len(self._sessions) + len(self._opening)

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        task = asyncio.current_task()
        assert task is not None
        self._opening.add(task)
        try:
            yield
        finally:
            self._opening.discard(task)
            self._changed = True

    def reserve(self, session_id: str) -> None:
        """Keep a place for a session that another worker is about to let go. ServiceError."""
        self._check_admits()
        self._admission.reserve(session_id, time.monotonic(), held=self._held_places, recovering=self.recovering)

    async def open(self, spec: fabric_pb2.OpenSession, parent: Context, turns: Context) -> fabric_pb2.Attached:
        """Begin a session. `parent`: the trace of the open; `turns`: that of its turns. ServiceError."""
        self._admit(spec.session_id)
        session = Session(spec, self._services)
        lapses = self._services.lifeline.lapses
        with self._counted():
            attached = await session.open(parent, turns)
            self._hold(session, lapses)
            self.opened += 1
        log.info("session opened", session=session.id, tenant=spec.tenant, model=spec.config.model)
        return attached

    async def take_over(self, request: fabric_pb2.TakeOver, asked: Context, stream: Context) -> fabric_pb2.Attached:
        """Go on with another worker's session, as this request asks for, with a stream that was opened in this context.
        ServiceError."""
        self._admit(request.session_id)
        self._admission.check_recovery(request.session_id, time.monotonic(), recovering=self.recovering)
        services = self._services
        lapses = services.lifeline.lapses
        self._taking_over.add(request.session_id)
        try:
            with self._counted():
                inherited = await takeover.inherit(
                    request,
                    me=self.name,
                    bus=services.bus,
                    records=services.records,
                    backend=services.settings.backend,
                )
                session = Session(inherited.spec, services, inherited)
                attached = await session.take_over(asked, stream)
                self._hold(session, lapses)
                self.taken_over += 1
        finally:
            self._taking_over.discard(request.session_id)
        log.info("session taken over", session=session.id, before=request.from_worker, epoch=session.epoch)
        return attached

    def _hold(self, session: Session, lapses: int) -> None:
        """The session is here from now on. `lapses`: how many there had been when it was begun."""
        self._sessions[session.id] = session
        if self._services.lifeline.lapses != lapses:
            session.lapse(time.monotonic())
            session.verify(asyncio.Semaphore())

    @property
    def recovering(self) -> int:
        """Sessions that are being taken over, or whose link is not there yet."""
        return len(self._taking_over) + sum(session.recovering for session in self._sessions.values())

    # Draining and moving

    async def release(self, request: fabric_pb2.ReleaseSession) -> bool:
        """Let a session go to another worker; False: it is busy. ServiceError."""
        session = self.held(request.session_id)
        try:
            await self._departures.release(session, request.to_worker, force=request.force)
        except BusyError:
            return False
        except FencedError:
            raise _unknown(request.session_id) from None
        return True

    def move(self, session_id: str, to_worker: str) -> None:
        """Have a session leave at a good moment, for this worker if it is named. ServiceError."""
        self._departures.move(self.held(session_id), to_worker)

    async def set_draining(self, *, draining: bool) -> None:
        """Take no more sessions and let those go that are here, or stop doing so."""
        if draining:
            self._departures.drain(self._services.settings.shutdown_grace.total_seconds(), exits=False)
        elif not self._stopping:
            self._departures.undrain()
        log.info("draining" if self.draining else "not draining", sessions=len(self._sessions))
        await self._announce()

    # Ending

    async def _close(self, session: Session) -> None:
        assert session.ending is not None
        trace_id = session.trace_id
        try:
            await session.close()
            while session.lingers(time.monotonic()):
                await asyncio.sleep(_TICK)
            session.dispose()
        finally:
            self._sessions.pop(session.id, None)
            self._closing.pop(session.id, None)
            self._departures.gone(session.id)
            self._changed = True
        if not session.lost:  # else it goes on elsewhere, and so do its log and its request id
            self._tell_end(session, session.ending)
        logs.forget(session.id, trace_id)

    def _tell_end(self, session: Session, ending: EndCause) -> None:
        reason = live_pb2.EndReason.Name(ending.reason).removeprefix("END_REASON_")
        measured.session_ended(reason)
        log.info("session ended", session=session.id, reason=reason, message=ending.message)
        self._services.leftovers.add(session.id, session.spec.request_key)

    async def stop(self, grace: float, hurry: asyncio.Event | None = None) -> None:
        """Take nothing new, and let what is here go to other workers, within `grace` seconds and a moment; at once from
        `hurry` on. What is here still then goes on as after the death of this worker."""
        self._stopping = True
        self._departures.drain(grace, exits=True)
        await self._announce()
        await stop_tasks(self._opening)  # they are answered NO_CAPACITY, and the gateway tries another worker
        until = time.monotonic() + grace + _LAST_WORDS
        hurried = False
        while self._sessions and time.monotonic() < until:
            if hurry is not None and hurry.is_set() and not hurried:
                hurried = True
                self._departures.hurry()
                until = min(until, time.monotonic() + 2 * _LAST_WORDS)
            await asyncio.sleep(_TICK)
        await self._announce(leaving=True)
        await stop_tasks([*self._tasks, *self._closing.values()])
        if left := list(self._sessions.values()):
            log.warning("sessions are left to whoever takes them over", sessions=len(left))
            await asyncio.gather(*(session.abandon() for session in left))


def _unknown(session_id: str) -> ServiceError:
    return ServiceError(errors_pb2.ERROR_REASON_SESSION_UNKNOWN, f"there is no session {session_id}")
