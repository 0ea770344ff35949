"""Lets the sessions of this worker go to others: all of them when it drains, one when an operator moves it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final

import structlog

from services.fabric.errors import ServiceError
from services.fabric.records import FencedError
from services.session_worker.departure import MOVED, Line, Plan, Step, drain_plan
from services.session_worker.session import BusyError, Session

log = structlog.get_logger()

MOVE_TIME: Final = 10.0
"""Seconds in which a session that an operator moves may wait for a quiet moment."""
_MOVE_LIMIT: Final = 20.0
"""Seconds after which it stays, because nobody can take it."""
_HURRY: Final = 1.0
"""Seconds that gateways have left to find places when there is no time any more."""
_LOOK_EVERY: Final = 0.1


class Departures:
    """Of one worker's sessions."""

    def __init__(
        self,
        sessions: Mapping[str, Session],
        keep: Callable[[Coroutine[Any, Any, None], str], asyncio.Task[None]],
    ) -> None:
        """`keep`: run this beside."""
        self._sessions = sessions
        self._keep = keep
        self._drain: Plan | None = None
        self._moves: dict[str, float] = {}
        """Sessions that an operator moves, and until when."""
        self._line = Line()
        self._looked = 0.0
        self.let_go = 0
        """Sessions that have left this worker."""

    @property
    def draining(self) -> bool:
        """Every session is to go, and none is to come."""
        return self._drain is not None

    def drain(self, seconds: float, *, exits: bool) -> None:
        """Have every session go; `exits`: the process ends then."""
        if self._drain is None or exits:
            self._drain = drain_plan(time.monotonic(), seconds, exits=exits)
            self._plan_all(self._drain)

    def undrain(self) -> None:
        """Keep those that are still here."""
        self._drain = None
        self._plan_all(None)

    def hurry(self) -> None:
        """The process ends now."""
        now = time.monotonic()
        self._drain = Plan("DRAIN", now, now + _HURRY)
        self._plan_all(self._drain)

    def move(self, session: Session, to_worker: str) -> None:
        """Have one session go, to this worker if it names one."""
        now = time.monotonic()
        if not self.draining:
            session.to_leave(Plan(MOVED, now + MOVE_TIME, to_worker=to_worker))
            self._moves[session.id] = now + _MOVE_LIMIT

    def tick(self, now: float) -> None:
        """See who can go. Called all the time."""
        if now - self._looked < _LOOK_EVERY or not (self.draining or self._moves):
            return
        self._looked = now
        for session_id, until in list(self._moves.items()):
            session = self._sessions.get(session_id)
            if session is None or now >= until:
                self._stay(session_id)
        for session in self._sessions.values():
            if session.plan is None and self._drain is not None:
                session.to_leave(self._drain)
            self._look_at(session, now)

    def gone(self, session_id: str) -> None:
        """It is not here any more."""
        self._moves.pop(session_id, None)
        self._line.out(session_id)

    async def release(self, session: Session, to_worker: str = "", *, force: bool) -> None:
        """Let it go now. Errors as of `Session.let_go`."""
        await session.let_go(to_worker, force=force)
        self.let_go += 1
        log.info("session let go", session=session.id, to=to_worker or "anybody")

    def _look_at(self, session: Session, now: float) -> None:
        step = session.next_step(now)
        if step is Step.STAY:
            if session.plan is not None:
                session.ask_to_move(ask=False)
                self._line.out(session.id)
        elif not self._line.admits(session.id, now):
            session.ask_to_move(ask=False)
        elif step is Step.ASK:
            session.ask_to_move(ask=True)
        else:
            self._keep(self._release(session), "let a session go")

    async def _release(self, session: Session) -> None:
        """By itself: there is no gateway, or no time."""
        try:
            await self.release(session, force=False)
        except BusyError:
            pass
        except (FencedError, ServiceError) as error:
            log.warning("session let go without a record of it", session=session.id, error=str(error))

    def _plan_all(self, plan: Plan | None) -> None:
        self._moves.clear()
        for session in self._sessions.values():
            session.to_leave(plan)

    def _stay(self, session_id: str) -> None:
        self.gone(session_id)
        session = self._sessions.get(session_id)
        if session is not None:
            session.to_leave(self._drain)
