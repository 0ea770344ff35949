"""The tests of the policy fail where a promise is taken away: without that they would prove nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from _pytest.outcomes import Failed

from tests.support import sabotage_tools as sabotage
from tests.tools import test_limits as limits
from tests.tools.sources import rough_tools
from tests.tools.sources import test_bad_input as bad_input
from tests.tools.sources import test_python_policy as policy
from tests.tools.sources.conftest import running

Check = Callable[[Path], Awaitable[None]]
_LIMIT = 4.0
"""Seconds after which a check that waits for what does not come has noticed, too."""


def secretive(folder: Path) -> dict[str, Any]:
    (folder / "key").write_text(policy.SECRET)
    return {**policy.SOURCE, "secrets": {"API_KEY": {"file": "key"}, "PEM": {"file": "key"}}}


async def runs_once(folder: Path) -> None:
    await policy.test_what_is_not_idempotent_is_never_run_again(folder, "charge")


async def runs_once_in_a_thread(folder: Path) -> None:
    await policy.test_what_is_not_idempotent_is_never_run_again(folder, "charge_thread")


async def result_has_no_secret(folder: Path) -> None:
    await policy.test_function_gets_its_secret_and_nobody_else(
        folder, secretive(folder), "result", '{"key":"<[secret]>","[secret]":["[secret]"]}'
    )


async def error_has_no_secret(folder: Path) -> None:
    await policy.test_function_gets_its_secret_and_nobody_else(
        folder, secretive(folder), "exception", "ValueError: [secret] is wrong"
    )


async def logs_have_no_secret(folder: Path) -> None:
    await policy.test_logs_hold_no_secret(folder, secretive(folder))


async def tenant_starves_nobody(_folder: Path) -> None:
    await limits.test_one_tenant_that_calls_all_it_can_does_not_starve_another()


async def tool_keeps_its_limit(_folder: Path) -> None:
    await limits.test_calls_over_a_tools_own_limit_wait_their_turn()


async def tenants_have_their_own(folder: Path) -> None:
    await policy.test_tenants_of_a_source_and_of_a_tool(folder)


async def breaker_opens(folder: Path) -> None:
    await policy.test_breaker_spares_what_a_module_stands_on(folder)


async def block_is_survived(folder: Path) -> None:
    """Nobody waits longer than the call may take, which here is less than the function takes."""
    async with running(folder, [policy.SOURCE]) as sources:
        result = await bad_input.told(sources, bad_input.Story("blocks", {"seconds": 1}, "", timeout=0.1))
        assert result.outcome == bad_input.TIMED_OUT
        rough_tools.RELEASE.set()


async def block_is_noticed(folder: Path) -> None:
    await bad_input.test_loop_that_is_blocked_refuses_at_once_and_what_ran_there_goes_on(folder)


SEEN: list[tuple[Callable[[pytest.MonkeyPatch], None], Check]] = [
    (sabotage.retries_everything, runs_once),
    (sabotage.retries_everything, runs_once_in_a_thread),
    (sabotage.sure_of_itself, runs_once),
    (sabotage.nothing_hidden, result_has_no_secret),
    (sabotage.nothing_hidden, error_has_no_secret),
    (sabotage.nothing_hidden_in_logs, logs_have_no_secret),
    (sabotage.no_limits, tenant_starves_nobody),
    (sabotage.no_limits, tool_keeps_its_limit),
    (sabotage.last_come_first_served, tool_keeps_its_limit),
    (sabotage.no_permissions, tenants_have_their_own),
    (sabotage.no_breaker, breaker_opens),
    (sabotage.one_loop, block_is_survived),
    (sabotage.no_watch, block_is_noticed),
]


@pytest.fixture(autouse=True)
def fresh() -> Any:
    rough_tools.COUNT.clear()
    rough_tools.RELEASE.clear()
    yield
    rough_tools.RELEASE.set()


@pytest.mark.parametrize("check", dict.fromkeys(check for _, check in SEEN))
async def test_promise_is_kept(tmp_path: Path, check: Check) -> None:
    await check(tmp_path)


@pytest.mark.parametrize(("taken", "check"), SEEN)
async def test_promise_that_is_broken_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken: Callable[[pytest.MonkeyPatch], None], check: Check
) -> None:
    taken(monkeypatch)
    checking = asyncio.create_task(check(tmp_path))
    done, _ = await asyncio.wait({checking}, timeout=_LIMIT)
    if not done:
        checking.cancel()
        rough_tools.RELEASE.set()
        await asyncio.wait({checking})
        return
    with pytest.raises((AssertionError, ValueError, Failed)):
        await checking
