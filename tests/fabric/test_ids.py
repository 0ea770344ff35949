import re
import time

import pytest

from services.fabric import ids, subjects


def test_later_ids_sort_later(monkeypatch: pytest.MonkeyPatch) -> None:
    start = time.time_ns()
    made = []
    for milliseconds in (0, 1, 2, 1000, 86_400_000, 10**12):
        monkeypatch.setattr(time, "time_ns", lambda now=start + milliseconds * 1_000_000: now)
        made.append(ids.session_id())
    assert made == sorted(made)
    assert len(set(made)) == len(made)


def test_ids_are_one_nats_token() -> None:
    for made in (ids.session_id(), ids.instance_id("worker"), ids.sortable_id()):
        assert re.fullmatch(r"[A-Za-z0-9_-]+", made)


def test_session_is_found_in_its_subjects() -> None:
    session = ids.session_id()
    assert subjects.session_of(subjects.uplink("worker-1", session)) == session
    assert subjects.session_of(subjects.downlink("gateway-1", session)) == session
