"""One session: the thin shell that connects a link, the caller's uplink and downlink, tools and records.

What decides is elsewhere and plain: `turns`, `coverage`, `input_queue`, `downlink`, `departure`, fabric's `sequence`.
`parts` says what a session is made of; this module is its life, from the open or the takeover to its end.
"""

from __future__ import annotations

import asyncio
import contextlib
import time

import structlog
from opentelemetry.context import Context

from parley.v1 import errors_pb2, fabric_pb2, live_pb2
from services.fabric import logs
from services.fabric.errors import ServiceError
from services.session_worker import responses, restoring
from services.session_worker.departure import MOVED, Departure, Plan, Standing, Step
from services.session_worker.ending import EndCause
from services.session_worker.parts import Parts
from services.session_worker.release import release
from services.session_worker.shared import Services
from services.session_worker.takeover import Inherited

log = structlog.get_logger()


class BusyError(Exception):
    """Something is in progress: the session stays for now."""


class Session:
    """A conversation that this worker owns."""

    def __init__(self, spec: fabric_pb2.OpenSession, services: Services, inherited: Inherited | None = None) -> None:
        """`inherited`: it was another worker's."""
        self.spec = spec
        self.id = spec.session_id
        self._services = services
        self._inherited = inherited
        self._taken_over = inherited is not None
        self._parts = Parts(spec, services, inherited)
        self.epoch = self._parts.epoch
        self._ending = self._parts.ending
        self._ownership = self._parts.ownership
        self._departure = Departure()
        self._leaving = False
        """It is being let go, or has been: nothing comes in any more."""
        self._releasing = False
        self._verifying: asyncio.Task[None] | None = None
        self.stale_uplink = 0

    # Opening and attaching

    async def open(self, parent: Context, session_context: Context) -> fabric_pb2.Attached:
        """Write the ownership, connect the link, attach the stream. ServiceError; nothing is left behind then."""
        parts = self._parts
        parts.trace.begin(session_context)
        try:
            await parts.ownership.take()
            parts.record()  # while the link is dialled: without a checkpoint nobody could take the session over
            await parts.links.open(parent)
            attached = self._attached(await parts.attachment.open())
        except BaseException:
            await self._undo_open()
            raise
        parts.links.start()
        parts.standby.start(parts.links.run())
        parts.tasks.keep(parts.feeder.run(), "feed")
        return attached

    async def _undo_open(self) -> None:
        parts = self._parts
        self._services.writer.forget(parts.downlink)

        async def undo() -> None:
            await parts.tasks.stop()
            await parts.links.close()
            try:
                await self._ownership.undo()
                logs.forget(self.id, parts.trace.log_id)
            except ServiceError as error:
                log.warning("a failed open left records behind", session=self.id, error=str(error))
                self._services.leftovers.again(self.id, self._ownership.undo)

        # Also when the process is told to stop again and again meanwhile; bounded by JetStream's time limits.
        undoing = asyncio.create_task(undo(), name="session undo")
        while not undoing.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.shield(undoing)

    async def take_over(self, asked: Context, stream: Context) -> fabric_pb2.Attached:
        """Go on where another worker ended; the link follows. ServiceError; `own` names this worker all the same.

        `asked`: context of the request; `stream`: of the open of the stream, where that is news."""
        assert self._inherited is not None
        inherited, self._inherited = self._inherited, None
        self._parts.timeline.worker_lost(inherited.request)
        attached = self._attached(await restoring.restore(self._parts, inherited, stream))
        restoring.bring_link(self._parts, inherited, asked)
        if inherited.gateway not in ("", inherited.request.gateway):
            silence = inherited.request.silence.ToTimedelta().total_seconds()
            self._parts.look_for_gateway(inherited.gateway, time.monotonic() - silence, elsewhere=True)
        return attached

    @property
    def recovering(self) -> bool:
        """It was taken over, and its link is not there yet."""
        return self._taken_over and self.ending is None and self._parts.links.number == 0

    async def attach(self, request: fabric_pb2.AttachSession, stream: Context) -> fabric_pb2.Attached:
        """Let a stream take the session over, that was opened in this context. ServiceError when it may not."""
        if self.ending is not None:
            raise ServiceError(errors_pb2.ERROR_REASON_SESSION_ENDED, f"session {self.id} is over")
        if self._leaving:
            raise _moving(self.id)
        parts = self._parts
        before = parts.attachment.stream
        # Else it is a stream that goes on as it was.
        anew = bool(request.presented_token_sha256 or request.new_token_sha256)
        first_downlink_seq = await parts.attachment.take_over(request, parts.numbering if anew else None)
        if before is not None and before[0] != request.gateway:
            parts.look_for_gateway(*before, elsewhere=True)
        if anew:
            parts.intake.renumbered()
            parts.trace.attached(stream)
        parts.feeder.attached()
        return self._attached(first_downlink_seq)

    def _attached(self, first_downlink_seq: int) -> fabric_pb2.Attached:
        parts = self._parts
        return fabric_pb2.Attached(
            epoch=self.epoch,
            attach_generation=parts.attachment.generation,
            next_uplink_seq=parts.uplink.received + 1,
            next_downlink_seq=first_downlink_seq,
            resume_window=responses.duration(parts.attachment.window),
        )

    # Uplink

    def on_uplink(self, envelope: fabric_pb2.UplinkEnvelope, now: float) -> None:
        """Take what the gateway sent. Called from the NATS callback: never waits."""
        parts = self._parts
        if self.ending is not None or self._leaving:
            self.stale_uplink += 1
            return
        attachment = parts.attachment
        if envelope.epoch != self.epoch or envelope.attach_generation != attachment.generation:
            self.stale_uplink += 1
            return
        attachment.heard(now, leaving=envelope.detached)
        parts.intake.take(envelope, now)
        everything = parts.uplink.received >= envelope.last_seq
        if envelope.half_closed and everything and attachment.half_close(now):
            parts.intake.all_came(now)
            parts.feeder.half_closed()
        if envelope.detached:
            attachment.detach(now)

    # Time

    def tick(self, now: float) -> None:
        """What is due: holes, status, a silent gateway, the resume window. Called every 50 ms for every session."""
        parts = self._parts
        if self.ending is not None or self._leaving or parts.standby.lapsed:
            return
        connected = self._services.bus.connected.is_set()
        if connected and parts.attachment.in_touch(now):
            parts.intake.tick(now)
        else:
            parts.uplink.wait_anew(now)
        parts.intake.tell_losses(now)
        # Silence needs no answer, and what is too old is given to nobody: they are acked although no turn ends.
        parts.checkpoints.tick(now)
        parts.links.tick(now)
        parts.standby.tick(now, detached_since=parts.attachment.detached_since, busy=parts.busy)
        parts.dialogue.expire_calls(now)
        if parts.downlink.attached:
            parts.intake.ask_for_missing(now)
            parts.attachment.tick(
                now,
                connected=connected,
                busy=parts.busy,
                last_event=now if len(parts.uplink.queue) else parts.turns.last_event,
            )
        elif parts.attachment.abandoned(now):
            self.finish(live_pb2.END_REASON_ABANDONED, "nobody came back within the resume window")

    # Out of touch

    def lapse(self, since: float) -> None:
        """The process has been out of touch with NATS since then (monotonic seconds): have no effect from here on."""
        if self.ending is not None:
            if not self._ending.disposed:
                self._parts.downlink.muted = not self._ending.recorded
            return
        if self._leaving:
            return  # without a link, and silent until `own` has been written
        if self._verifying is not None:
            self._verifying.cancel()
        self._parts.standby.lapse(since)

    def verify(self, at_once: asyncio.Semaphore) -> None:
        """In touch again: go on if the session is still ours, else end it without a word."""
        if self.ending is not None or self._leaving:
            return
        if self._verifying is not None:
            self._verifying.cancel()
        self._verifying = self._parts.tasks.keep(self._verify(at_once), "verify")

    async def _verify(self, at_once: asyncio.Semaphore) -> None:
        async with at_once:
            stood_still = await self._parts.standby.verify()
            now = time.monotonic()
            self._parts.attachment.stood_still(stood_still, now)
            self._parts.uplink.wait_anew(now)

    @property
    def trace_id(self) -> str:
        """Of the trace that its lines in the log belong to; until it is disposed of."""
        return self._parts.trace.log_id

    @property
    def state(self) -> str:
        """For the metrics: one of `measures.SESSION_STATES`."""
        if self.ending is not None:
            return "ending"
        if self.recovering:
            return "recovering"
        return "attached" if self._parts.downlink.attached else "detached"

    @property
    def link_state(self) -> str:
        """For the metrics: one of `measures.LINK_STATES`; empty when the session ends."""
        if self.ending is not None:
            return ""
        parts = self._parts
        if parts.standby.lapsed:
            return "lapsed"
        if parts.standby.parked:
            return "parked"
        if (link := parts.links.in_use) is None:
            return "replacing"
        return "connected" if link.leaving is None else "leaving"

    @property
    def waiting(self) -> dict[str, int]:
        """For the metrics: what waits in its queues."""
        if self._ending.disposed:
            return {}
        parts = self._parts
        return {
            "input_waiting": len(parts.uplink.queue),
            "log_waiting": parts.recorder.waiting,
            "downlink_waiting": parts.downlink.waiting,
            "downlink_ring_bytes": parts.downlink.ring_bytes,
        }

    @property
    def lost(self) -> bool:
        """It is somebody else's, or nobody's: its records are, too."""
        return self._ownership.lost or (self.ending is not None and self.ending.elsewhere)

    def bus_was_lost(self, since: float) -> None:
        """This process had no connection to NATS since then (monotonic seconds)."""
        if self.ending is None:
            self._parts.timeline.bus_lost(since)

    # Leaving

    @property
    def plan(self) -> Plan | None:
        """Why it is to leave this worker; None when it is not."""
        return self._departure.plan

    def to_leave(self, plan: Plan | None) -> None:
        """Leave this worker as planned, or stay."""
        self._departure.plan = plan
        if plan is None:
            self.ask_to_move(ask=False)

    def next_step(self, now: float) -> Step:
        """What to do about leaving."""
        if self.ending is not None or self._leaving or self.plan is None:
            return Step.STAY
        return self._departure.step(now, self._standing(now))

    def ask_to_move(self, *, ask: bool) -> None:
        """Have the gateway move the session; it is told with every status until it has."""
        downlink, wish = self._parts.downlink, None
        if ask and self.plan is not None:
            forced = self._departure.forced(time.monotonic())
            wish = fabric_pb2.MoveWish(to_worker=self.plan.to_worker, force=forced)
        if downlink.wish != wish:
            downlink.wish = wish
            downlink.tell()
            self._parts.wake()

    async def let_go(self, to_worker: str = "", *, force: bool) -> None:
        """Leave the session to another worker. BusyError: not now. Else it is gone from here, whatever this raises:
        FencedError when it was somebody else's already, ServiceError when it is not known whether its record says so.
        """
        now = time.monotonic()
        if self._leaving or self.ending is not None:
            raise BusyError(self.id)
        if not (force or self._departure.forced(now) or self._standing(now).quiet):
            raise BusyError(self.id)
        plan = self.plan or Plan(MOVED, now)
        self._leaving = self._releasing = self._ending.leaving = True
        timeline = self._parts.timeline
        try:
            await release(self._parts, plan.cause, to_worker or plan.to_worker)
        except ServiceError as error:
            timeline.released(plan.cause, now, error.message)
            raise
        else:
            timeline.released(plan.cause, now)
        finally:
            self._releasing = False

    def _standing(self, now: float) -> Standing:
        parts = self._parts
        linked = parts.links.at_rest or parts.standby.parked
        quiet = (
            linked
            and not parts.standby.lapsed
            and not parts.busy
            and not parts.links.calls_out
            and parts.recorder.idle
            and parts.downlink.delivered
            and not parts.uplink.missing()  # speech may wait behind it
            and not parts.feeder.behind
            and not parts.journal.speaking(now)
        )
        covered = parts.journal.position >= parts.journal.answered_position
        return Standing(attached=parts.downlink.attached, quiet=quiet, covered=covered)

    # Ending

    @property
    def ending(self) -> EndCause | None:
        """Set once: why the session ends."""
        return self._ending.cause

    @property
    def over(self) -> bool:
        """It ends, and wants `close`."""
        return self.ending is not None and not self._releasing

    def finish(self, reason: live_pb2.EndReason, message: str) -> None:
        """Begin to end the session: tell the caller, stop the work. ServiceError when it is being moved."""
        if self._leaving:
            raise _moving(self.id)
        self._ending.finish(reason, message)

    async def abandon(self) -> None:
        """Leave it as it is written: the process ends."""
        if not self._ending.disposed:
            self._ending.let_go("the process ends")
            await self._ending.close()

    async def close(self) -> None:
        """Stop every task, close the link, replace the record by a tombstone. Never raises."""
        await self._ending.close()

    def lingers(self, now: float) -> bool:
        """The end is not yet with the gateway, and there is still reason to wait for that."""
        return self._ending.lingers(now)

    def dispose(self) -> None:
        """Nothing of this session is sent any more."""
        self._ending.disposed = True
        self._parts.dissolve()


def _moving(session: str) -> ServiceError:
    return ServiceError(errors_pb2.ERROR_REASON_WORKER_LOST, f"session {session} is being moved; try again")
