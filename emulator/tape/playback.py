"""One recorded connection played to one client: what to send, and when. No I/O; times are arguments, in seconds."""

import json
from collections import Counter
from dataclasses import dataclass
from typing import Any

from emulator.tape import shape
from emulator.tape.recording import Closed, Connection, FromClient, FromServer

Play = FromServer | Closed
"""What to do next: send a frame; close, or with no code, drop the connection."""


_SHOWN = 500
"""Characters of a message or a difference in a report."""


@dataclass(frozen=True)
class Manner:
    """How to play."""

    speed: float | None = 1.0
    """As many times as fast as recorded; None waits for nothing but the client."""
    strict: bool = False
    """Whether each client frame must have the shape of the recorded one."""
    unprompted: bool = False
    """Whether only the setup is waited for."""


class Mismatch(Exception):  # noqa: N818 - an outcome of the comparison, not a fault
    """A client frame that is not what was recorded."""

    def __init__(self, frame: int, expected: FromClient | None, got: Any, difference: str) -> None:
        super().__init__(f"client frame {frame}: {difference}")
        self.facts = {
            "frame": frame,
            "line": expected and expected.line,
            "difference": difference[:_SHOWN],
            "expected": expected and _shown(expected.message),
            "got": _shown(shape.without_blobs(got)),
        }


class Playback:
    """What the server did comes after what the client had done before it, and as long after it as in the recording.

    A frame counts towards those of its kind, in any order; audio by its bytes, however it is cut. When ``strict`` the
    order counts too.
    """

    def __init__(self, connection: Connection, manner: Manner) -> None:
        closes = [i for i, step in enumerate(connection.steps) if isinstance(step, Closed) and step.from_client]
        end = closes[0] if closes else len(connection.steps)
        self._steps = connection.steps[:end]
        answers = [step for step in connection.steps[end:] if isinstance(step, Closed) and not step.from_client]
        self.answer_to_close = answers[0] if answers else None
        """What the server answered when the client closed; None where the client did not, or got no answer."""
        self._expected = [step for step in self._steps if isinstance(step, FromClient)]
        self._manner = manner
        self._next = 0
        self._needed: Counter[str] = Counter()
        self._had: Counter[str] = Counter({step.kind: 0 for step in self._expected})
        self._cause: float | None = None
        """Recorded time of the client frame that was passed over last, until it has come."""
        self._base: tuple[float, float] | None = None
        """When the step before the next one happened here, and when in the recording."""
        self.received = 0
        """Frames of the client."""
        self.sent = 0

    def received_frame(self, data: str | bytes, now: float) -> None:
        """Take a frame of the client. Raises :class:`Mismatch` when strict."""
        message = _object(data)
        if self._manner.strict:
            self._compare(message)
        self.received += 1
        if (kind := shape.kind(message)) in self._had:
            self._had[kind] += shape.amount(message)
        self._pass_over(now)

    def due(self, now: float) -> float | None:
        """When to ask for the next :meth:`take`; None when the client must do something first, or nothing is left."""
        self._pass_over(now)
        if self._next == len(self._steps) or self._waiting():
            return None
        return self._time_of(self._steps[self._next].t, now)

    def take(self, now: float) -> Play | None:
        """The next thing to do, when it is due."""
        due = self.due(now)
        if due is None or due > now:
            return None
        step = self._steps[self._next]
        assert not isinstance(step, FromClient)
        self._next += 1
        # From when it was due: a timer that is late now must not make the rest later still.
        self._base = (due, step.t)
        self.sent += isinstance(step, FromServer)
        return step

    def progress(self) -> dict[str, Any]:
        """How far it is, and what it waits for."""
        recorded = sum(isinstance(step, FromServer) for step in self._steps)
        return {
            "sent": self.sent,
            "of": recorded,
            "received": self.received,
            "waiting_for": dict(self._needed - self._had),
        }

    def _time_of(self, recorded: float, now: float) -> float:
        """When something is to happen here that happened at ``recorded``."""
        if self._manner.speed is None or self._base is None:
            return now
        happened, base = self._base
        return happened + max(0.0, recorded - base) / self._manner.speed

    def _waits_for(self, step: FromClient) -> bool:
        return not self._manner.unprompted or step.kind == "setup"

    def _waiting(self) -> bool:
        return any(self._had[kind] < needed for kind, needed in self._needed.items())

    def _pass_over(self, now: float) -> None:
        """Go on to the next step of the server's for which the client has done enough."""
        while not self._waiting():
            if self._cause is not None:
                self._base, self._cause = (now, self._cause), None
            step = self._steps[self._next] if self._next < len(self._steps) else None
            if not isinstance(step, FromClient):
                return
            self._next += 1
            if self._waits_for(step):
                self._needed[step.kind] += step.amount
                self._cause = step.t

    def _compare(self, message: Any) -> None:
        number = self.received
        if number >= len(self._expected):
            raise Mismatch(number + 1, None, message, f"expected no more, got {shape.kind(message)}")
        expected = self._expected[number]
        if difference := shape.difference(expected.message, message):
            raise Mismatch(number + 1, expected, message, difference)


def _shown(message: Any) -> str:
    return json.dumps(message, separators=(",", ":"))[:_SHOWN]


def _object(data: str | bytes) -> Any:
    try:
        message = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return message if isinstance(message, dict) else None
