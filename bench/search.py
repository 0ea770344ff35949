"""The search for the largest number that holds. Plain code: asked for the next probe, told how it went."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Probe:
    """What to try."""

    n: int
    proof: bool = False
    """For longer: it is the answer if it holds."""


class Search:
    """Doubles until it fails, halves the gap to within 5 %, then has the result proved; lower if need be, by twice as
    much each time, so that it ends soon on a machine that others use.

    A probe that fails is repeated once: a hiccup of the machine is not the limit of what is measured.
    """

    def __init__(self, start: int, limit: int) -> None:
        """Probes are from 1 to `limit`; `start` is the first."""
        self._limit = limit
        self._good = 0
        self._bad: int | None = None
        self._probe: Probe | None = Probe(min(start, limit))
        self._failed = False
        self._retreat = 0

    @property
    def probe(self) -> Probe | None:
        """What to try next; None when the search is over."""
        return self._probe

    @property
    def found(self) -> int:
        """The largest number that held; proved once the search is over. 0: none did."""
        return self._good

    def report(self, *, held: bool) -> None:
        """How `probe` went."""
        probe = self._probe
        assert probe is not None
        if not held and not self._failed:
            self._failed = True
            return
        self._failed = False
        if probe.proof:
            if not held:
                self._retreat = 2 * self._retreat or self._step
                self._good = max(0, self._good - self._retreat)
            self._probe = None if held or not self._good else Probe(self._good, proof=True)
            return
        if held:
            self._good = probe.n
        else:
            self._bad = probe.n
        self._probe = self._next()

    @property
    def _step(self) -> int:
        return max(1, self._good // 20)

    def _next(self) -> Probe | None:
        if self._bad is None:
            done = self._good == self._limit
            return Probe(self._good, proof=True) if done else Probe(min(2 * self._good, self._limit))
        if self._bad - self._good > self._step:
            return Probe((self._good + self._bad) // 2)
        return Probe(self._good, proof=True) if self._good else None
