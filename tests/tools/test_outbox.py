"""What a function says before it ends leaves within bounds, the newest first."""

import json
import math
from dataclasses import dataclass, field

import pytest

from parley.v1 import fabric_pb2, live_pb2
from services.tools.outbox import HELD_BACK, INTERVAL, MAX_MESSAGE, MAX_REPORTS, Outbox

SILENT, UNSET = live_pb2.RESPONSE_SCHEDULING_SILENT, live_pb2.RESPONSE_SCHEDULING_UNSPECIFIED


@dataclass
class Told:
    """An outbox, and what left it."""

    outbox: Outbox = field(default_factory=Outbox)
    now: float = 100.0
    reports: list[fabric_pb2.ToolReport] = field(default_factory=list)

    def partial(self, value: object, scheduling: live_pb2.ResponseScheduling = UNSET) -> None:
        self.outbox.partial(json.dumps(value), scheduling, self.now)

    def wait(self, seconds: float) -> None:
        """Take whatever is due until then."""
        end = self.now + seconds
        while (due := self.outbox.due()) is not None and due <= end:
            self.now = max(self.now, due)
            report = self.outbox.take(self.now)
            assert report is not None
            self.reports.append(report)
        self.now = end

    @property
    def said(self) -> list[object]:
        return [
            json.loads(report.partial.output_json) if report.HasField("partial") else report.progress.message
            for report in self.reports
        ]


def test_progress_leaves_at_once_and_then_at_its_pace_the_newest_first() -> None:
    told = Told()
    told.outbox.progress("one", 0.1)
    told.wait(0)
    assert told.said == ["one"]
    for number in range(50):
        told.outbox.progress(f"more {number}", 0.2)
    told.wait(INTERVAL - 0.001)
    assert told.said == ["one"]
    told.wait(1)
    assert told.said == ["one", "more 49"]
    assert [report.number for report in told.reports] == [1, 2]
    assert told.outbox.due() is None


def test_a_partial_result_is_held_back_a_moment() -> None:
    told = Told()
    told.partial({"found": 1}, SILENT)
    told.wait(HELD_BACK - 0.001)
    assert told.said == []
    told.partial({"found": 2}, SILENT)  # does not wait longer for coming later
    told.wait(0.001)
    assert told.said == [{"found": 2}]
    assert told.reports[0].partial.scheduling == SILENT


def test_both_kinds_take_turns() -> None:
    told = Told()
    told.outbox.progress("begun", None)
    told.partial({"found": 1})
    told.wait(INTERVAL * 3)
    assert told.said == ["begun", {"found": 1}]
    assert not told.reports[0].progress.HasField("fraction")
    told.partial({"found": 2})
    told.outbox.progress("going on", None)
    told.wait(HELD_BACK)
    assert told.said[2:] == ["going on"]
    told.wait(INTERVAL)
    assert told.said[3:] == [{"found": 2}]


@pytest.mark.parametrize(("given", "sent"), [(-1, 0), (0.5, 0.5), (7, 1), (math.inf, 1), (-math.inf, 0)])
def test_fractions_are_within_bounds(given: float, sent: float) -> None:
    told = Told()
    told.outbox.progress("", given)
    told.wait(0)
    assert told.reports[0].progress.fraction == sent


def test_a_fraction_that_is_no_number_and_words_that_are_no_text() -> None:
    told = Told()
    told.outbox.progress("a\ud800b" + "x" * 1000, math.nan)
    told.wait(0)
    [report] = told.reports
    assert not report.progress.HasField("fraction")
    assert report.progress.message == "a?b" + "x" * (MAX_MESSAGE - 3)


def test_who_has_much_to_say_says_it_more_slowly_and_not_for_ever() -> None:
    told = Told()
    pauses = []
    for number in range(2 * MAX_REPORTS):
        told.outbox.progress(str(number), None)
        due = told.outbox.due()
        if due is None:
            break
        pauses.append(max(0.0, due - told.now))
        told.wait(pauses[-1])
    assert len(told.reports) == MAX_REPORTS
    assert pauses[1] == pytest.approx(INTERVAL)
    assert pauses[150] == pytest.approx(2 * INTERVAL)
    assert pauses[350] == pytest.approx(8 * INTERVAL)
