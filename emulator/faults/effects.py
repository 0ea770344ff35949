"""What each fault does once it fires. No I/O."""

import copy
import itertools
import math
import random
from collections.abc import Callable, Hashable
from datetime import timedelta
from typing import Any

from emulator.actions import Action, Close, ForgetHandles, Reset, Send, SendRaw, Wire
from emulator.api import protocol
from emulator.errors import Refusal
from emulator.faults import specs
from emulator.faults.base import Lasting, LinkFault
from emulator.faults.closes import CLOSES
from emulator.faults.disturbed import Disturbed
from emulator.faults.frames import OVERSIZED, odd
from emulator.faults.outflow import Outflow
from emulator.faults.timetable import Later, Timetable

_ERROR = {"error": {"code": 503, "message": "The service is currently unavailable.", "status": "UNAVAILABLE"}}
_LATE_SETUP = timedelta(seconds=5)

End = Callable[[list[Lasting]], list[Action]]
"""How what lasts ends, beside the other faults that last still. The effects keep it, so it must not keep them."""


class Effects:
    """What faults have done to one connection so far, and what of it lasts."""

    def __init__(self, later: Timetable, stream: random.Random) -> None:
        self.outflow = Outflow()
        self.mind: Disturbed | None = None
        """From the setup on."""
        self.call: dict[str, Any] = {}
        """The latest message with function calls."""
        self.sent_elsewhere = 0
        """Frames of faults that the client has been sent already, by the process that it had connected with."""
        self._later = later
        self._stream = stream
        self._numbers = itertools.count()
        self._lasting: dict[Hashable, tuple[int, Lasting, End]] = {}

    def answer_setup(self, fault: specs.FaultySetup, complete: Action, now: float) -> list[Action]:
        """What comes instead of setupComplete."""
        by = _LATE_SETUP if fault.by is None and fault.answer == "late" else fault.by or timedelta(0)
        answers: dict[str, list[Action]] = {
            "late": [complete],
            "omitted": [],
            "error": [Send(_ERROR)],
            "closed": [Close(refusal(fault.preset))],
        }
        self.outflow.hold(answers[fault.answer], now + by.total_seconds())
        self.outflow.silent = fault.answer == "error"
        return self.outflow.tick(now)

    def stop(self, key: Hashable) -> None:
        """What a fault does that lasts is over."""
        if key in self._lasting:
            *_, end = self._lasting.pop(key)
            self._later.at(0.0, lambda _: end(self._left))

    def of(self, fault: LinkFault, key: Hashable, now: float) -> list[Action]:
        """What ``fault`` does now; ``key`` names what of it lasts."""
        if isinstance(fault, Lasting):
            begin, end = self._change(fault, now)
            self._last(key, fault, end, now)
            return begin
        return self._once(fault, now)

    def _last(self, key: Hashable, fault: Lasting, end: End, now: float) -> None:
        number = next(self._numbers)
        self._lasting[key] = (number, fault, end)
        if fault.for_ is None:
            return

        def over(_: float) -> list[Action]:
            # Fired again meanwhile, it lasts longer.
            if self._lasting.get(key, (None,))[0] != number:
                return []
            del self._lasting[key]
            return end(self._left)

        self._later.at(now + fault.for_.total_seconds(), over)

    @property
    def _left(self) -> list[Lasting]:
        return [fault for _, fault, _ in self._lasting.values()]

    def _change(self, fault: Lasting, now: float) -> tuple[list[Action], End]:
        """How a lasting fault begins and how it ends."""
        out = self.outflow
        match fault:
            case specs.HalfOpen():
                return [Wire(reading=False, writing=False)], _thaw
            case specs.StopReading():
                return [Wire(reading=False)], _thaw
            case specs.Pongs(delay=delay):
                late = math.inf if delay is None else delay.total_seconds()
                return [Wire(pong_delay=late)], lambda _: [Wire(pong_delay=0.0)]
            case specs.Drip(rate=rate):
                return [Wire(bytes_per_second=rate)], lambda _: [Wire(bytes_per_second=math.inf)]
            case specs.Delay(by=by):
                out.delay = by.total_seconds()
                return [], lambda _: _set(out, "delay", 0.0)
            case specs.NotResumable():
                begin = self._queue(fault, [Send({"sessionResumptionUpdate": {"resumable": False}})], now)
                out.without_handles = True
                return begin, lambda _: _set(out, "without_handles", False)
            case specs.Mute() | specs.Stall():
                mind = self._thinking()
                mind.silence(keeps=fault.for_ is not None)
                return [], lambda _: mind.speak()
        out.silent = True
        return [], lambda _: _set(out, "silent", False)

    def _once(self, fault: LinkFault, now: float) -> list[Action]:
        out = self.outflow
        match fault:
            case specs.GoAway():
                return self._go_away(fault, now)
            case specs.Close(preset=preset, code=code, reason=reason):
                return [Close(refusal(preset, code, reason))]
            case specs.Reset(how=how):
                return [Reset(orderly=how == "fin")]
            case specs.Frame(what=what, raw=raw, size=size):
                return self._queue(fault, [SendRaw(odd(what, raw=raw, size=size))], now)
            case specs.Burst(frames=frames, what=what):
                return self._queue(fault, [SendRaw(odd(what, raw="", size=OVERSIZED))] * frames, now)
            case specs.Duplicate(frames=frames, kind=kind):
                out.double(frames, kind)
            case specs.Drop(frames=frames, kind=kind):
                out.drop(frames, kind)
            case specs.Reorder(frames=frames, within=within):
                out.reverse(frames, within.total_seconds())
            case specs.DuplicateCall(id=which):
                return out.queue(self._call_again(new=which == "new"), now)
            case specs.IgnoreResponses(responses=responses):
                self._thinking().deaf_to_responses += responses
            case specs.LoseHandles(which=which):
                return [ForgetHandles(newest_only=which == "newest")]
            case specs.CancelCalls():
                self._thinking().trouble("cancel_calls")
            case specs.Interrupt():
                self._thinking().trouble("interrupt")
            case specs.EmptyTurns(turns=turns):
                for _ in range(turns):
                    self._thinking().trouble("empty_turn")
        return []

    def _go_away(self, fault: specs.GoAway, now: float) -> list[Action]:
        left = fault.time_left
        body = {} if left is None else {"timeLeft": protocol.seconds(left.total_seconds())}
        then: dict[str, Later] = {
            "normal": lambda _: [],
            "silence": lambda _: _set(self.outflow, "silent", True),
            "close": lambda _: [Close(refusal(fault.preset))],
            "reset": lambda _: [Reset()],
        }
        wait = fault.wait
        if wait is None:
            wait = timedelta(0) if left is None or fault.then == "silence" else left
        self._later.at(now + wait.total_seconds(), then[fault.then])
        return self._queue(fault, [Send({"goAway": body})], now)

    def _queue(self, fault: LinkFault, frames: list[Action], now: float) -> list[Action]:
        """Frames of a fault's own."""
        known = min(self.sent_elsewhere, len(frames)) if fault.on == "connect" else 0
        self.sent_elsewhere -= known
        return self.outflow.queue(frames[known:], now)

    def _call_again(self, *, new: bool) -> list[Action]:
        if not self.call:
            return []
        again = copy.deepcopy(self.call)
        if new:
            for call in again["toolCall"].get("functionCalls", ()):
                call["id"] = f"call_{self._stream.getrandbits(64):016x}"
        return [Send(again)]

    def _thinking(self) -> Disturbed:
        assert self.mind is not None  # such faults have no moment before the setup
        return self.mind


def refusal(preset: str, code: int | None = None, reason: str | None = None) -> Refusal:
    """A close by name, with other words where they are given."""
    known = CLOSES[preset]
    return Refusal(known.code if code is None else code, known.text if reason is None else reason)


def _thaw(left: list[Lasting]) -> list[Action]:
    """The socket is read, and written to, unless another fault still keeps it from that."""
    frozen = any(isinstance(fault, specs.HalfOpen) for fault in left)
    unread = frozen or any(isinstance(fault, specs.StopReading) for fault in left)
    return [Wire(reading=not unread, writing=not frozen)]


def _set(outflow: Outflow, name: str, value: float | bool) -> list[Action]:
    setattr(outflow, name, value)
    return []
