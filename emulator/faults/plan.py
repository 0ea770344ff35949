"""When each fault of one connection fires. No I/O; the connection performs what comes out."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from emulator.actions import Action, Close, Mind, Note, Send, SendRaw
from emulator.api.protocol import Event, ToolResponse
from emulator.deadlines import soonest
from emulator.faults import specs
from emulator.faults.base import LinkFault, Moment
from emulator.faults.disturbed import Disturbed
from emulator.faults.effects import Effects
from emulator.faults.frames import kinds
from emulator.faults.timetable import Timetable
from emulator.record import LinkRecord

_FRAMES: tuple[Moment, ...] = (
    "setup",
    "tool_call",
    "interrupted",
    "generation_complete",
    "turn_complete",
    "go_away",
)
"""Moments that are kinds of frames too."""
_NOTES = ("speech_began", "speech_ended", "turn_began")
"""Moments that no frame tells: they come as notes."""


class Budget(Protocol):
    """What a fault may still do beyond one connection."""

    def take(self) -> bool:
        """Whether it may hit one more connection, which it then does."""

    def give_back(self) -> None:
        """It did not hit after all."""


@dataclass(eq=False)
class _Armed:
    """A fault that may fire here."""

    fault: specs.AnyFault
    stream: random.Random
    budget: Budget | None
    met: int = 0
    """How often its moment has come."""
    hit: bool = False


class FaultPlan:
    """The :class:`emulator.actions.Part` of faults: the last one, so that it sees what really is to be sent.

    It begins with the upgrade request, before there is a link. What faults do brings about no further faults.
    """

    def __init__(
        self,
        conversation: str,
        scenario: str,
        dial: int,
        *,
        draw: Callable[..., random.Random],
        tell: Callable[[dict[str, Any]], None],
        moved: Callable[["FaultPlan"], None],
    ) -> None:
        self.conversation = conversation
        self.scenario = scenario
        self.wake: Callable[[], None] = _nobody
        """Tells the connection that ``deadline`` has changed by itself."""
        self._link = dial
        self._draw = draw
        self._tell = tell
        self._moved = moved
        self._armed: list[_Armed] = []
        self._past: set[Moment] = set()
        self._later = Timetable()
        self._effects = Effects(self._later, draw("faults", conversation, dial))
        self._record: LinkRecord | None = None
        self._unrecorded: list[tuple[float, dict[str, Any]]] = []
        self.frames = 0
        """That faults have sent before there was a link."""
        self._audible = False
        """Whether the turn under way has been heard."""

    def arm(self, fault: specs.AnyFault, budget: Budget | None = None) -> None:
        """It may fire from now on; at once where its moment comes only once and is past."""
        armed = _Armed(fault, self._draw("fault", self.conversation, self._link, len(self._armed)), budget)
        self._armed.append(armed)
        if fault.on in self._past:
            self._later.at(0.0, lambda now: self._meet(armed, now))
            self.wake()

    def disarm(self, budget: Budget) -> None:
        """It fires no more, and what of it lasts ends."""
        for armed in [armed for armed in self._armed if armed.budget is budget]:
            self._armed.remove(armed)
            self._effects.stop(armed)
        self.wake()

    def ended(self) -> None:
        """The connection is over: what was put off will not be, and is not kept for it."""
        self.wake = _nobody
        self._later.clear()

    @property
    def dial(self) -> int:
        """How often the conversation was dialled, this time included; once there is a link, its number."""
        return self._link

    def goes_on(self, frames: int) -> None:
        """The connection was accepted by another process, where faults sent so many frames: these are not sent again.

        What lasts begins anew.
        """
        self._effects.sent_elsewhere = frames

    def withdraw(self) -> list[dict[str, Any]]:
        """Before a setup was accepted: none of it counts. What had been told."""
        for armed in self._armed:
            if armed.hit and armed.budget is not None:
                armed.budget.give_back()
        self._armed.clear()
        return [told for _, told in self._unrecorded]

    def around(self, mind: Mind, *, conversation: str, link: int, record: LinkRecord) -> Mind:
        """The setup was accepted: the mind as faults may disturb it, on the conversation's ``link``-th connection."""
        self._record, self._link = record, link
        for at, told in self._unrecorded:
            record.event("fault", at=at, fault=told["fault"])
        self._unrecorded.clear()
        if conversation != self.conversation:
            self.conversation = conversation
            self._moved(self)
        self._effects.mind = Disturbed(mind)
        return self._effects.mind

    def at_upgrade(self, now: float) -> list[specs.AnyUpgradeFault]:
        """What is wrong with the upgrade."""
        found = []
        for armed in self._armed:
            if isinstance(armed.fault, specs.AnyUpgradeFault) and self._strikes(armed):
                self._note(armed, now)
                found.append(armed.fault)
        return found

    def happened(self, moment: Moment, now: float) -> list[Action]:
        """What a moment brings about."""
        if moment in ("connect", "setup"):
            self._past.add(moment)
        meant = [armed for armed in self._armed if armed.fault.on == moment]
        return self._counted([action for armed in meant for action in self._meet(armed, now)])

    @property
    def deadline(self) -> float | None:
        """When ``tick`` is wanted."""
        return soonest(self._effects.outflow.deadline, self._later.deadline)

    def apply(self, event: Event, now: float) -> list[Action]:
        """A client message."""
        return self.happened("tool_response", now) if isinstance(event, ToolResponse) else []

    def tick(self, now: float) -> list[Action]:
        """What is due, in the order in which it was."""
        done: list[Action] = []
        while (deadline := self.deadline) is not None and deadline <= now:
            if self._later.deadline == deadline:
                done += self._later.take()(now)
            else:
                done += self._effects.outflow.tick(deadline)
        return self._counted(done)

    def _counted(self, actions: list[Action]) -> list[Action]:
        if self._record is None:
            self.frames += sum(isinstance(action, Send | SendRaw) for action in actions)
        return actions

    def passing(self, action: Action, now: float) -> list[Action]:
        """What an action becomes on its way out."""
        match action:
            case Send(message):
                return self._send(action, message, now)
            case SendRaw() | Close():
                return self._effects.outflow.queue([action], now)
            case Note(what) if what in _NOTES:
                return [action, *self.happened(what, now)]
        return [action]

    def _send(self, action: Action, message: dict[str, Any], now: float) -> list[Action]:
        about = kinds(message)
        if "setup" in about and (armed := self._faulty_setup()) is not None:
            assert isinstance(armed.fault, specs.FaultySetup)
            self._note(armed, now)
            sent = self._effects.answer_setup(armed.fault, action, now)
        else:
            sent = self._effects.outflow.frame(action, about, now)
        if "tool_call" in about:
            self._effects.call = message
        moments: list[Moment] = [moment for moment in _FRAMES if moment in about]
        if "audio" in about and not self._audible:
            moments.append("first_audio")
        if "handle" in about and message["sessionResumptionUpdate"].get("newHandle"):
            moments.append("handle")
        self._audible = (self._audible or "audio" in about) and "turn_complete" not in about
        for moment in moments:
            sent = sent + self.happened(moment, now)
        return sent

    def _faulty_setup(self) -> _Armed | None:
        faulty = (armed for armed in self._armed if isinstance(armed.fault, specs.FaultySetup))
        return next((armed for armed in faulty if self._strikes(armed)), None)

    def _meet(self, armed: _Armed, now: float) -> list[Action]:
        """Its moment has come."""
        fault = armed.fault
        if not isinstance(fault, LinkFault) or not fault.concerns(self._link):
            return []
        armed.met += 1
        if not fault.at(armed.met) or not self._likely(armed):
            return []
        if fault.after:
            self._later.at(now + fault.after.total_seconds(), lambda now: self._fire(armed, fault, now))
            return []
        return self._fire(armed, fault, now)

    def _fire(self, armed: _Armed, fault: LinkFault, now: float) -> list[Action]:
        if armed not in self._armed or not self._allowed(armed):
            return []
        self._note(armed, now)
        return self._effects.of(fault, armed, now)

    def _strikes(self, armed: _Armed) -> bool:
        return armed.fault.concerns(self._link) and self._likely(armed) and self._allowed(armed)

    def _likely(self, armed: _Armed) -> bool:
        return armed.fault.chance == 1 or armed.stream.random() < armed.fault.chance

    def _allowed(self, armed: _Armed) -> bool:
        armed.hit = armed.hit or armed.budget is None or armed.budget.take()
        return armed.hit

    def _note(self, armed: _Armed, now: float) -> None:
        fault = armed.fault.told()
        told = {"conversation": self.conversation, "link": self._link, "at": round(now, 3), "fault": fault}
        if self._record is not None:
            self._record.event("fault", at=now, fault=fault)
        else:
            self._unrecorded.append((now, told))
        self._tell(told)


def _nobody() -> None:
    """There is no connection to be told."""
