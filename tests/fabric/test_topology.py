"""What is wrong about a stream, and how much that matters."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from nats.js.api import StreamConfig

from services.fabric.topology import Weight, differences, every_stream, log_stream, mended, sessions_stream

MIB = 1024 * 1024
EVERY = every_stream(3, timedelta(hours=24), timedelta(hours=24))


def as_found(wanted: StreamConfig, **changes: Any) -> dict[str, Any]:
    """As a server describes a stream that was made of this: with its defaults, and its own fields."""
    made = {field: value for field, value in wanted.as_dict().items() if value is not None}
    defaults = {"retention": "limits", "max_consumers": -1, "max_msgs": -1, "compression": "none", "max_bytes": -1}
    return defaults | made | {"metadata": {"_nats.ver": "2.15.1"}} | changes


def told(wanted: StreamConfig, **changes: Any) -> dict[str, Weight]:
    return {each.field: each.weight for each in differences(as_found(wanted, **changes), wanted)}


@pytest.mark.parametrize("wanted", EVERY, ids=lambda wanted: wanted.name)
def test_a_stream_that_is_as_wanted_has_no_difference_and_a_missing_one_has_one(wanted: StreamConfig) -> None:
    assert differences(as_found(wanted), wanted) == []
    (missing,) = differences(None, wanted)
    assert (missing.weight, missing.field) == (Weight.BROKEN, "")
    assert str(missing).startswith(f"{wanted.name} is missing")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("subjects", ["parley.session.*"]),
        ("retention", "workqueue"),
        ("max_msgs_per_subject", -1),
        ("max_msgs_per_subject", 2),
        ("discard", "old"),
        ("discard_new_per_subject", False),
        ("allow_rollup_hdrs", False),
        ("allow_msg_ttl", False),
        ("allow_direct", False),
        ("max_msg_size", 1000),
        ("sealed", True),
        ("deny_purge", True),
    ],
)
def test_what_a_promise_rests_on_is_broken_without_it(field: str, value: Any) -> None:
    assert told(sessions_stream(3), **{field: value}) == {field: Weight.BROKEN}


@pytest.mark.parametrize(
    ("changes", "weight"),
    [
        ({"num_replicas": 1}, Weight.WEAKER),
        ({"num_replicas": 5}, Weight.OTHER),
        ({"max_bytes": 64 * MIB}, Weight.WEAKER),
        ({"max_msgs": 1000}, Weight.WEAKER),
        ({"storage": "memory"}, Weight.WEAKER),
        ({"max_age": 60 * 10**9}, Weight.WEAKER),
    ],
)
def test_less_than_was_asked_for_is_weaker_and_more_is_another_thing(changes: dict[str, Any], weight: Weight) -> None:
    assert told(sessions_stream(3), **changes) == dict.fromkeys(changes, weight)


@pytest.mark.parametrize(
    "changes",
    [
        {"max_bytes": -1},
        {"max_bytes": 4096 * MIB},
        {"max_msg_size": -1},
        {"compression": "s2"},
        {"allow_atomic": True},
        {"placement": {"cluster": "a"}},
    ],
)
def test_higher_limits_and_what_parley_does_not_care_about_are_no_difference(changes: dict[str, Any]) -> None:
    assert told(sessions_stream(3), **changes) == {}


def test_a_log_that_keeps_more_or_less_works() -> None:
    wanted = log_stream(1, timedelta(hours=24))
    assert told(wanted, max_age=0) == {"max_age": Weight.OTHER}
    assert told(wanted, max_age=3600 * 10**9) == {"max_age": Weight.WEAKER}
    assert told(wanted, max_msgs_per_subject=10) == {"max_msgs_per_subject": Weight.WEAKER}
    assert told(wanted, max_msgs_per_subject=10_000) == {"max_msgs_per_subject": Weight.OTHER}
    assert told(wanted, max_msgs_per_subject=-1) == {}


def test_differences_are_told_with_both_values_and_what_comes_of_them() -> None:
    wanted = sessions_stream(3)
    found = as_found(wanted, max_bytes=64 * MIB, discard_new_per_subject=False, subjects=["a", "b"], max_msgs=7)
    assert [str(each) for each in differences(found, wanted)] == [
        "PARLEY_SESSIONS: subjects is a, b, wanted parley.session.>: what Parley writes would not be stored, or stored "
        "elsewhere",
        "PARLEY_SESSIONS: discard_new_per_subject is false, wanted true: a tool call could be claimed twice, and have "
        "its effect twice",
        "PARLEY_SESSIONS: max_bytes is 64 MiB, wanted 512 MiB: it is full sooner, and then takes nothing",
        "PARLEY_SESSIONS: max_msgs is 7, wanted unlimited: it is full sooner, and then takes nothing",
    ]


def test_what_is_mended_is_as_wanted_and_the_rest_is_as_it_was() -> None:
    wanted = sessions_stream(3)
    found = as_found(wanted, max_bytes=64 * MIB, storage="memory", max_msgs=7, compression="s2", max_age=10**9)
    config = mended(found, differences(found, wanted))
    assert [each.field for each in differences(config, wanted)] == ["storage"]
    assert (config["compression"], config["storage"], config["max_msgs"], config["max_age"]) == ("s2", "memory", -1, 0)
