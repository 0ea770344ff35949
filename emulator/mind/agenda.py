"""What the open turn still has to do, one thing after another, and what of it has to wait."""

from collections import deque
from collections.abc import Iterable

from emulator.mind import plan
from emulator.mind.plan import Op
from emulator.mind.speaker import Speaker
from emulator.tools.pending import Group


class Agenda:
    """Gives out what is to be done now. Times are in seconds of one clock."""

    def __init__(self, speaker: Speaker) -> None:
        self._speaker = speaker
        self._ops: deque[Op] = deque()
        self._until: float | None = None
        """When the pause or the playing that it is at will be over."""

    @property
    def deadline(self) -> float | None:
        """When it goes on by itself."""
        return self._speaker.deadline if self._speaker.speaking else self._until

    @property
    def awaiting(self) -> bool:
        """Whether it waits for results of function calls and for nothing else."""
        return bool(self._ops) and isinstance(self._ops[0], plan.Await) and not self._speaker.speaking

    def extend(self, ops: Iterable[Op]) -> None:
        """More to do, after the rest."""
        self._ops.extend(ops)

    def clear(self) -> None:
        """The turn is over."""
        self._ops.clear()
        self._until = None

    def due(self, now: float) -> Op | None:
        """What is to be done now; None where nothing is left or what comes first has to wait."""
        while self._ops and not self._speaker.speaking:
            op = self._ops[0]
            if isinstance(op, plan.Await) and not _answered(op.group):
                return None
            if not isinstance(op, plan.Pause | plan.Played):
                return self._ops.popleft()
            if self._until is None:
                self._until = self._end_of(op, now)
            if now < self._until:
                return None
            self._until = None
            self._ops.popleft()
        return None

    def _end_of(self, op: plan.Pause | plan.Played, now: float) -> float:
        return now + op.seconds if isinstance(op, plan.Pause) else self._speaker.heard_at


def _answered(group: Group) -> bool:
    """Whether each of its calls has its result."""
    return not group.remaining
