"""Faults of links: what is ordered from the emulator, and what of it has fired. Plain code."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from emulator.faults.text import parse

FAULTS: dict[str, tuple[str, ...]] = {
    "reset": ("reset",),
    "end of stream": ("reset how=fin",),
    "cap without goAway": ("close preset=deadline",),
    "1008 of goAway": ("close preset=go_away",),
    "1011, handle good": ("close preset=internal",),
    "1011, handle lost": ("lose_handles", "close preset=unavailable"),
    "handle expired": ("lose_handles", "reset"),
    "handle stale": ("lose_handles which=newest", "reset how=fin"),
    "goAway": ("go_away time_left=6s",),
    "goAway, no timeLeft": ("go_away",),
    "goAway, then close": ("go_away time_left=2s then=close",),
    "goAway, then silence": ("go_away time_left=3s then=silence",),
    "half-open": ("half_open",),
}
"""What is ordered at once, by kind; the last is what the link notices."""
STATES = {
    "speech_began": "caller speaks",
    "speech_ended": "model thinks",
    "turn_began": "model speaks",
    "first_audio": "model speaks",
    "tool_call": "tool pending",
    "tool_response": "tool pending",
    "generation_complete": "answer plays",
    "turn_complete": "idle",
    "handle": "idle",
}
"""State of the turn, by the emulator's moment."""


@dataclass(frozen=True, slots=True)
class Order:
    """A fault as it was ordered."""

    kind: str
    moment: str
    after_ms: int

    def __str__(self) -> str:
        return f"{self.kind} on={self.moment} after={self.after_ms}ms"

    def texts(self) -> list[str]:
        """What is ordered of the emulator, in the text form of docs/emulator-faults.md."""
        return [f"{fault} on={self.moment} after={self.after_ms}ms" for fault in FAULTS[self.kind]]


def fired(events: Iterable[dict[str, Any]], ordered: Iterable[Order]) -> Iterator[tuple[str, str]]:
    """Of what was ordered, what has fired by the emulator's record: kind, and state of the turn."""
    there = [event["fault"] for event in events if event["kind"] == "fault"]
    for order in ordered:
        (fault,) = parse(order.texts()[-1])
        told = fault.told()
        if told in there:
            there.remove(told)
            yield order.kind, STATES[order.moment]
