"""What became of each payment: by its claim, by the database, and by what the model knows. Plain code."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

REFUND, VOUCHER = "refund_order", "send_voucher"
Paid = tuple[str, str]
"""Tool and order: each is asked for once."""
_IN_WORDS = re.compile(r"\[The function (\w+)\((\{[^{}]*\})\) (returned|failed:) ([^\]]*)\]")
_NO_ANSWER = "the connection was lost before the result"
"""How a response begins that only lets a model go on that waits in vain."""
_SHOWN = 20
"""Violations that are printed in full."""


@dataclass(frozen=True)
class Claimed:
    """A call by its claim."""

    key: str
    paid: Paid
    outcome: str
    """`SUCCEEDED`, `FAILED`, `UNKNOWN` ..; empty while it is not known."""
    output: Any = None
    error: str = ""
    killed: bool = False
    """The process that ran it is gone."""


@dataclass(frozen=True)
class Row:
    """A payment in the database."""

    key: str
    paid: Paid
    reference: Any
    """Number of the refund, code of the voucher."""


@dataclass(frozen=True)
class Answer:
    """What the model was told of a call."""

    ok: bool
    value: Any
    call_id: str = field(default="", compare=False)
    """Empty: it was told in words."""


@dataclass
class Told:
    """What the model knows of one payment."""

    calls: list[str] = field(default_factory=list)
    """Ids under which it asked for it."""
    answers: list[Answer] = field(default_factory=list)


def told(context: Iterable[Mapping[str, Any]]) -> defaultdict[Paid, Told]:
    """By payment, from the emulator's account of what the model knows."""
    found: defaultdict[Paid, Told] = defaultdict(Told)
    calls: dict[str, Paid] = {}
    for entry in context:
        match entry["kind"]:
            case "tool_call":
                calls[entry["id"]] = paid = (entry["name"], str(entry["args"]["order_id"]))
                found[paid].calls.append(entry["id"])
            case "tool_response":
                response = entry["response"]
                ok = "output" in response
                value = response["output"] if ok else response["error"]
                if ok or not str(value).startswith(_NO_ANSWER):
                    found[calls[entry["id"]]].answers.append(Answer(ok, value, entry["id"]))
            case "text" | "turn":
                for name, arguments, how, value in _IN_WORDS.findall(entry["text"]):
                    ok = how == "returned"
                    paid = (name, str(json.loads(arguments)["order_id"]))
                    found[paid].answers.append(Answer(ok, json.loads(value) if ok else value))
            case _:
                pass
    return found


@dataclass
class Books:
    """All payments of a run."""

    sessions: int = 0
    questions: int = 0
    issued: int = 0
    """Calls as the model made them: one comes again, under another id, where an answer begins anew."""
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By tool and outcome. `NOT BEGUN`: the model was told that it has not been run."""
    rows_of_unknown: Counter[str] = field(default_factory=Counter)
    """By tool: calls of unknown outcome that did run."""
    rows: Counter[str] = field(default_factory=Counter)
    strikes: Counter[str] = field(default_factory=Counter)
    """By kind."""
    told_again: int = 0
    """Words that told an outcome once more: they come with a question whose answer was cut off more than once, as the
    question does (ARCHITECTURE.md says where that cannot be helped)."""
    rotations: Counter[str] = field(default_factory=Counter)
    """Links that followed one that ended, by cause."""
    wanted: Mapping[str, int] = field(default_factory=dict)
    """Strikes of each kind, at least."""
    violations: list[str] = field(default_factory=list)
    _claims: dict[str, Claimed] = field(default_factory=dict)

    @property
    def calls(self) -> int:
        """Payments that were asked for."""
        return self.outcomes.total()

    @property
    def unknown(self) -> int:
        """Calls of unknown outcome."""
        return sum(count for (_, outcome), count in self.outcomes.items() if outcome == "UNKNOWN")

    @property
    def kills(self) -> int:
        """Of any process."""
        return self.strikes["worker killed"] + self.strikes["tools killed"]

    def session_over(
        self,
        name: str,
        asked: Sequence[Paid],
        issued: Mapping[Paid, int],
        claims: Sequence[Claimed],
        known: Mapping[Paid, Told],
        *,
        finished: bool = True,
    ) -> None:
        """Take a conversation in. `issued`: how often the model made each call, on any link; `finished`: it did not
        break off, so that everything must have been answered."""
        self.sessions += 1
        by_call: defaultdict[Paid, list[Claimed]] = defaultdict(list)
        for claim in claims:
            by_call[claim.paid].append(claim)
            self._claims[claim.key] = claim
        self.issued += sum(issued.values())
        for paid in asked:
            of_it = known.get(paid, Told())
            self.told_again += max(0, sum(not answer.call_id for answer in of_it.answers) - 1)
            problems = [*self._settled(paid, by_call.pop(paid, []), of_it.answers)]
            if finished:
                problems += _answered(of_it, issued.get(paid, 0))
            self.violations += (f"{paid} of {name}: {problem}" for problem in problems)
        if by_call:
            self.violations.append(f"{name}: claims of calls that nobody asked for: {by_call}")

    def _settled(self, paid: Paid, claims: list[Claimed], heard: Sequence[Answer]) -> Iterator[str]:
        if len(claims) > 1:
            yield f"has {len(claims)} claims: {claims}"
        if not claims:
            # What never began has none.
            self.outcomes[paid[0], "NOT BEGUN"] += 1
            if any(answer.ok or not str(answer.value).startswith("not run") for answer in heard):
                yield f"has no claim, and the model was told {heard}"
            return
        claim = claims[0]
        begun = not (claim.outcome == "FAILED" and claim.error.startswith("not run"))
        self.outcomes[paid[0], claim.outcome if begun else "NOT BEGUN"] += 1
        said = Answer(True, claim.output) if claim.outcome == "SUCCEEDED" else Answer(False, claim.error)
        if any(answer != said for answer in heard):
            yield f"the model was told {heard}, and it is {said}"
        if claim.outcome == "UNKNOWN" and not claim.killed:
            yield "its outcome is unknown, and its process is there"
        if claim.outcome not in ("SUCCEEDED", "UNKNOWN") and begun:
            yield f"ended with {claim.outcome or 'no outcome'}: {claim.error}"

    def balance(self, rows: Iterable[Row]) -> None:
        """Hold the databases against the claims, in the end."""
        by_key: defaultdict[str, list[Row]] = defaultdict(list)
        for row in rows:
            by_key[row.key].append(row)
            self.rows[row.paid[0]] += 1
        for key, paid in by_key.items():
            if key not in self._claims:
                self.violations.append(f"paid without a claim: {paid}")
        for claim in self._claims.values():
            self.violations += (f"{claim.paid}: {problem}" for problem in self._paid(claim, by_key[claim.key]))
        if self.unknown > self.kills:
            self.violations.append(f"{self.unknown} unknown outcomes of {self.kills} kills")

    def _paid(self, claim: Claimed, rows: list[Row]) -> Iterator[str]:
        if len(rows) > 1:
            yield f"was paid {len(rows)} times"
        if any(row.paid != claim.paid for row in rows):
            yield f"paid something else: {rows}"
        if claim.outcome == "SUCCEEDED":
            reference = claim.output["refund_id" if claim.paid[0] == REFUND else "code"]
            if [row.reference for row in rows[:1]] != [reference]:
                yield f"succeeded as {reference}, and the database has {rows}"
        elif claim.outcome == "UNKNOWN":
            self.rows_of_unknown[claim.paid[0]] += len(rows)
        elif rows:
            yield f"was paid, and the outcome is {claim.outcome}"

    @property
    def few(self) -> dict[str, int]:
        """Strikes that there were fewer of than wanted."""
        return {kind: self.strikes[kind] for kind, least in self.wanted.items() if self.strikes[kind] < least}

    @property
    def good(self) -> bool:
        """Everything adds up, and was put to the test."""
        return bool(self.calls) and not self.violations and not self.few

    def lines(self) -> Iterator[str]:
        """For people."""
        again = self.issued - self.calls
        yield (
            f"{self.sessions} sessions, {self.questions} questions, {self.calls} calls, made again {again} times; "
            f"{self.told_again} outcomes told again"
        )
        for title, counts in (("struck at a commit", self.strikes), ("links that followed", self.rotations)):
            yield f"{title}: " + (", ".join(f"{count} {kind}" for kind, count in sorted(counts.items())) or "none")
        outcomes = sorted({outcome for _, outcome in self.outcomes})
        yield f"\n{'calls':<16}" + "".join(f"{outcome.lower():>12}" for outcome in outcomes) + f"{'rows':>12}"
        for tool in (REFUND, VOUCHER):
            row = "".join(f"{self.outcomes[tool, outcome]:>12}" for outcome in outcomes)
            ran = f"   = succeeded + {self.rows_of_unknown[tool]} unknown that did run"
            yield f"{tool:<16}{row}{self.rows[tool]:>12}{ran}"
        yield f"\n{self.unknown} unknown outcomes, {self.kills} kills; {len(self.violations)} violations"
        for violation in self.violations[:_SHOWN]:
            yield f"\nVIOLATION {violation}"
        if self.few:
            yield f"\nfewer than {self.wanted} of: {self.few}"


def _answered(known: Told, issued: int) -> Iterator[str]:
    """It has one answer: a response on the link that made the call, or words. Of a call that was made again, because
    its answer began anew, the newest is answered; a second answer for the one of before would be one too many."""
    by_response = Counter(answer.call_id for answer in known.answers if answer.call_id)
    in_words = len(known.answers) - by_response.total()
    if twice := [call_id for call_id, count in by_response.items() if count > 1]:
        yield f"{twice} got more than one response: {known}"
    if not known.answers:
        yield f"the model made the call {issued} times and has no answer: {known}"
    elif not in_words and known.calls[-1] not in by_response:
        yield f"{known.calls[-1]} got no answer: {known}"
