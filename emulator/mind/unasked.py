"""What the model does without being asked: when the conversation begins, and when a time has come."""

from emulator.scenarios.scenario import Scenario
from emulator.scenarios.script import Rule


class Unasked:
    """The rules of one connection that wait for no sentence. Times are in seconds of one clock."""

    def __init__(self, scenario: Scenario, *, begins: bool) -> None:
        """``begins``: whether the conversation does; one that is resumed has begun already."""
        self._at_start = scenario.unasked("start") if begins else []
        self._timers = scenario.unasked("timer")
        self._due: list[tuple[float, Rule]] = []

    @property
    def deadline(self) -> float | None:
        """When the next of them is due."""
        return min(at for at, _ in self._due) if self._due else None

    def start(self, now: float) -> list[Rule]:
        """The connection was set up."""
        self._due = [(now + rule.after.total_seconds(), rule) for rule in self._timers if rule.after]
        return self._at_start

    def due(self, now: float) -> list[Rule]:
        """Those whose time has come; some come again."""
        found = [(at, rule) for at, rule in self._due if at <= now]
        for entry in found:
            at, rule = entry
            self._due.remove(entry)
            if rule.every:
                self._due.append((max(at, now - rule.every.total_seconds()) + rule.every.total_seconds(), rule))
        return [rule for _, rule in sorted(found, key=lambda entry: entry[0])]
