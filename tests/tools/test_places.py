"""Who runs, who waits, who is sent away: decided in plain code, so every rule is tried on random comings and goings."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from services.tools.places import Claimant, Full, Places


def claimant(tool: str = "t", tenant: str = "a", limit: int | None = None) -> Claimant:
    return Claimant(tool, tenant, limit)


def test_over_the_tools_limit_a_call_waits_and_is_called_when_one_leaves() -> None:
    places = Places(8, tool_limit=6, tenant_limit=8)
    for key in "123":
        assert places.ask(key, claimant(limit=1)) is None
    assert [places.has(key) for key in "123"] == [True, False, False]
    assert places.why("2") is Full.TOOL
    assert places.leave("1") == ["2"]  # the one that came first
    assert places.leave("3") == []  # it went away while it waited
    assert places.leave("2") == []
    assert places.waiting == 0


def test_over_the_process_limit_a_call_is_sent_away_at_once() -> None:
    places = Places(2, tool_limit=2, tenant_limit=2)
    assert places.ask("1", claimant("x", "a")) is None
    assert places.ask("2", claimant("y", "b")) is None
    assert places.ask("3", claimant("z", "c")) is Full.PROCESS
    assert places.waiting == 0


def test_one_tenant_and_one_tool_leave_room_for_the_others() -> None:
    places = Places(8, tool_limit=6, tenant_limit=6)
    greedy = [places.ask(f"g{number}", claimant(f"t{number}", "greedy")) for number in range(50)]
    assert greedy == [None] * 12 + [Full.TENANT] * 38  # six run, six wait
    slow = [places.ask(f"s{number}", claimant("slow", f"tenant{number}", 1)) for number in range(50)]
    assert slow == [None] * 3 + [Full.TOOL] * 47  # one runs; two places were left in the waiting room
    assert places.ask("quick", claimant("quick", "other")) is None
    assert places.has("quick")


def test_whoever_cannot_be_served_yet_does_not_hold_up_the_next() -> None:
    places = Places(4, tool_limit=4, tenant_limit=2)
    for key, tool, tenant in (("1", "slow", "a"), ("2", "other", "a"), ("3", "x", "b")):
        assert places.ask(key, claimant(tool, tenant, 1)) is None
    assert places.ask("first", claimant("slow", "b", 1)) is None  # waits for the tool
    assert places.ask("second", claimant("y", "a", 1)) is None  # waits for the tenant
    assert places.leave("2") == ["second"]
    assert places.leave("1") == ["first"]


CALLS = st.tuples(st.sampled_from("xyz"), st.sampled_from("abc"))
STEPS = st.lists(st.one_of(CALLS, st.integers(0, 30)), max_size=60)


@given(
    st.integers(1, 6),
    st.integers(1, 6),
    st.integers(1, 6),
    st.dictionaries(st.sampled_from("xyz"), st.integers(1, 4)),
    STEPS,
)
@settings(derandomize=True, max_examples=400, deadline=None)
def test_limits_hold_nobody_is_overtaken_and_no_place_is_left_empty(
    limit: int, tool_limit: int, tenant_limit: int, own: dict[str, int], steps: list[tuple[str, str] | int]
) -> None:
    places = Places(limit, tool_limit=tool_limit, tenant_limit=tenant_limit)
    inside: dict[str, Claimant] = {}
    for number, step in enumerate(steps):
        if isinstance(step, tuple):
            asked = Claimant(*step, own.get(step[0]))
            key = f"{number}"
            if places.ask(key, asked) is None:
                inside[key] = asked
            else:
                assert places.why(key) is None
                assert not places.has(key)
        elif inside:
            key = list(inside)[step % len(inside)]
            waited = [other for other in inside if not places.has(other)]
            del inside[key]
            called = places.leave(key)
            assert called == [other for other in waited if other in called]  # in the order of their arrival
        running = {key: asked for key, asked in inside.items() if places.has(key)}
        waiting = {key: asked for key, asked in inside.items() if not places.has(key)}
        tools, tenants = (Counter(getattr(asked, name) for asked in running.values()) for name in ("tool", "tenant"))
        most = {tool: own.get(tool, min(limit, tool_limit)) for tool in "xyz"}
        assert len(running) <= limit
        assert len(waiting) == places.waiting <= limit
        assert all(tools[tool] <= most[tool] for tool in tools)
        assert all(count <= tenant_limit for count in tenants.values())
        if len(running) < limit:  # then whoever waits, waits for its tool or its tenant
            for asked in waiting.values():
                assert tools[asked.tool] >= most[asked.tool] or tenants[asked.tenant] >= min(limit, tenant_limit)
