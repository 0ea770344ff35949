"""A link that is replaced for its age, which is for the operator to set: the worker's setting `link_age`."""

from __future__ import annotations

import time

import pytest

from tests.session_worker.conftest import Rig
from tests.session_worker.test_questions_across_links import news
from tests.support.eventually import eventually

HOUR = 3600.0
LATER = 60.0
"""Seconds: more than the test takes by itself."""
old = pytest.mark.parametrize("rig", [{"link_age": f"{HOUR:.0f}s"}], indirect=True)


@old
async def test_a_link_that_is_as_old_as_one_may_be_is_replaced(rig: Rig) -> None:
    session, link = await rig.open()
    links = rig.worker.held(session)._parts.links
    links.tick(time.monotonic() + HOUR)
    assert not links.at_rest
    await eventually(lambda: len(news(rig)) == 2)
    rotating, recovered = news(rig)
    assert rotating.rotating.cause == "AGE"
    assert recovered.HasField("recovered")
    assert link.closed
    assert len(rig.dialer.links) == 2
    links.tick(time.monotonic() + HOUR - LATER)  # the next one is as young as the first was
    assert links.at_rest


@old
async def test_a_link_that_is_younger_stays(rig: Rig) -> None:
    session, link = await rig.open()
    links = rig.worker.held(session)._parts.links
    links.tick(time.monotonic() + HOUR - LATER)
    assert links.at_rest
    assert not link.closed


async def test_without_the_setting_no_link_is_too_old(rig: Rig) -> None:
    session, link = await rig.open()
    links = rig.worker.held(session)._parts.links
    links.tick(time.monotonic() + 1000 * HOUR)
    assert links.at_rest
    assert not link.closed
    assert news(rig) == []
