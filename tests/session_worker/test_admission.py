"""Whether a worker takes one more session."""

from __future__ import annotations

from typing import Any

import pytest

from parley.v1 import errors_pb2
from services.fabric.errors import ServiceError
from services.session_worker.admission import KEPT, MOST_RECOVERIES, RETRY, Admission


def refused(act: Any, *args: Any, **options: Any) -> ServiceError:
    with pytest.raises(ServiceError) as refusal:
        act(*args, **options)
    assert refusal.value.reason == errors_pb2.ERROR_REASON_NO_CAPACITY
    return refusal.value


def test_it_takes_as_many_as_it_can() -> None:
    admission = Admission("wk", 2)
    admission.check("new", 0.0, held=1, here=())
    assert "full" in refused(admission.check, "new", 0.0, held=2, here=()).message


def test_one_that_is_here_is_not_taken_twice() -> None:
    assert refused(Admission("wk", 2).check, "s", 0.0, held=1, here={"s"}).retry_delay == RETRY


def test_a_place_that_is_kept_is_nobody_elses() -> None:
    admission = Admission("wk", 2)
    admission.reserve("s", 0.0, held=1, recovering=0)
    refused(admission.check, "new", 0.1, held=1, here=())
    refused(admission.reserve, "other", 0.1, held=1, recovering=0)
    admission.reserve("s", 1.0, held=1, recovering=0)  # asked for again: the same place
    assert admission.kept(1.0) == 1
    admission.check("s", 1.0, held=1, here=())
    admission.check_recovery("s", 1.0, recovering=MOST_RECOVERIES)
    assert admission.kept(1.0) == 0, "it is used"


def test_a_place_is_not_kept_for_ever() -> None:
    admission = Admission("wk", 1)
    admission.reserve("s", 0.0, held=0, recovering=0)
    admission.check("new", KEPT, held=0, here=())
    admission.check("s", KEPT, held=0, here=())
    refused(admission.check, "s", KEPT, held=1, here=())


def test_so_many_are_taken_over_at_once() -> None:
    admission = Admission("wk", 100)
    admission.check_recovery("s", 0.0, recovering=MOST_RECOVERIES - 1)
    assert refused(admission.check_recovery, "s", 0.0, recovering=MOST_RECOVERIES).retry_delay == RETRY
    assert refused(admission.reserve, "s", 0.0, held=0, recovering=MOST_RECOVERIES).retry_delay == RETRY
    admission.reserve("kept", 0.0, held=0, recovering=MOST_RECOVERIES - 1)
    refused(admission.check_recovery, "s", 0.0, recovering=MOST_RECOVERIES - 1)
    admission.check_recovery("kept", 0.0, recovering=MOST_RECOVERIES - 1)
    # A place that was kept too long ago is none.
    admission.reserve("late", 0.0, held=0, recovering=0)
    refused(admission.check_recovery, "late", KEPT, recovering=MOST_RECOVERIES)
