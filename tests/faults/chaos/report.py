"""What a run of chaos has seen: faults by kind and state of the turn, gaps by cause, violations. Plain code."""

from __future__ import annotations

import math
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from parley import events
from tests.faults.call import STATES

_SHOWN = 20
"""Violations that are printed in full."""


@dataclass
class Report:
    """What happened."""

    kinds: tuple[str, ...]
    """Every kind of fault that can happen."""
    at_least: int = 0
    """Faults that each kind needs, or the run proves too little."""
    at_once: int = 0
    """Calls that must be open at once, if only for a while."""
    faults: Counter[str] = field(default_factory=Counter)
    """By kind: those that hit a session, and those that are many in a row, of which each is counted by itself too."""
    in_vain: Counter[str] = field(default_factory=Counter)
    """By kind: those that hit nobody, as far as is known."""
    states: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    """By kind: sessions that were hit, by the state of their turn."""
    gaps: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """Seconds, by cause."""
    sessions: int = 0
    open_at_once: list[int] = field(default_factory=list)
    """Calls that were open, looked at now and then."""
    questions: int = 0
    answers: int = 0
    unknown_outcomes: int = 0
    """Questions that were answered with an excuse, because nobody knows what became of their tool."""
    cut_short: int = 0
    """Answers of which the caller lacks the end, or the model the question: a gap names that."""
    lost_questions: int = 0
    """Questions of which the model heard nothing: a gap names all of them."""
    not_let_in: int = 0
    """Opens that found nobody, and were tried again."""
    excused: float = 0.0
    """Seconds of the callers' audio that gaps named."""
    named: Counter[str] = field(default_factory=Counter)
    """Gaps, by direction, class and reason."""
    violations: list[str] = field(default_factory=list)

    def hit(self, kind: str, states: Iterable[str]) -> None:
        """One fault, and the states of the sessions that it hit. One that hit nobody proves nothing."""
        found = Counter(states)
        (self.faults if found else self.in_vain)[kind] += 1
        self.states[kind].update(found)

    def broken(self, what: str) -> None:
        """A promise was not kept. Said at once: the run goes on for long."""
        self.violations.append(what)
        print(f"VIOLATION {what[:500]}", file=sys.stderr, flush=True)

    def take(self, got: Sequence[events.Event]) -> None:
        """A call is over, with everything it got."""
        self.sessions += 1
        cause = ""
        for event in got:
            match event:
                case events.LinkRotating():
                    cause = event.cause
                case events.LinkRecovered() if event.gap:  # else a link that was there was asked again
                    self.gaps[cause or "UNKNOWN"].append(event.gap.total_seconds())
                case events.StreamResumed():
                    self.gaps["STREAM"].append(event.gap.total_seconds())
                    self.named.update(f"UPLINK {one.media_class} {one.reason}" for one in event.dropped)
                case events.Gap():
                    self.named[f"{event.direction} {event.media_class} {event.reason}"] += 1
                case _:
                    pass

    @property
    def few(self) -> dict[str, int]:
        """Kinds that happened too rarely."""
        return {kind: self.faults[kind] for kind in self.kinds if self.faults[kind] < self.at_least}

    @property
    def most_at_once(self) -> int:
        """Calls that were open at once."""
        return max(self.open_at_once, default=0)

    @property
    def good(self) -> bool:
        """Every promise was kept, and put to the test often enough, among enough calls."""
        enough = not self.few and self.most_at_once >= self.at_once
        return bool(self.answers) and not self.violations and enough

    def lines(self) -> Iterator[str]:
        """For people."""
        least = min(self.open_at_once, default=0)
        yield (
            f"{self.sessions} sessions, {least} to {self.most_at_once} at once, "
            f"{self.questions} questions, {self.answers} answers "
            f"({self.unknown_outcomes} of unknown outcome, {self.cut_short} cut short), "
            f"{self.lost_questions} questions lost, "
            f"{self.not_let_in} opens tried again, {len(self.violations)} violations"
        )
        named = ", ".join(f"{count} {name}" for name, count in sorted(self.named.items())) or "none"
        yield f"losses that callers were told of: {named}; {self.excused:.2f} s of their audio"
        yield ""
        yield f"{'faults':<24}{'count':>6}   sessions hit: " + "".join(f"{state:>15}" for state in STATES)
        for kind in sorted({*self.kinds, *self.faults}):
            hit = self.states.get(kind, Counter())
            yield f"{kind:<24}{self.faults[kind]:>6}{'':>17}" + "".join(f"{hit[state] or '':>15}" for state in STATES)
        if self.in_vain:
            vain = ", ".join(f"{count} {kind}" for kind, count in sorted(self.in_vain.items()))
            yield f"not counted, because they hit nobody: {vain}"
        yield ""
        yield f"{'gap by cause':<24}{'count':>6}{'p50':>10}{'p99':>10}{'longest':>10}  seconds"
        for cause, gaps in sorted(self.gaps.items()):
            row = (percentile(gaps, 50), percentile(gaps, 99), max(gaps))
            yield f"{cause:<24}{len(gaps):>6}" + "".join(f"{seconds:>10.2f}" for seconds in row)
        for violation in self.violations[:_SHOWN]:
            yield f"\nVIOLATION {violation}"
        if self.few:
            yield f"\nfewer than {self.at_least} faults of: {self.few}"
        if self.most_at_once < self.at_once:
            yield f"\nfewer than {self.at_once} calls at once"


def percentile(values: Sequence[float], percent: float) -> float:
    """Nearest rank."""
    ordered = sorted(values)
    return ordered[max(1, math.ceil(len(ordered) * percent / 100)) - 1]
