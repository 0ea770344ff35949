"""The questions of an operator, asked with the command, of real processes."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

import parley
from parley.cli.stack import Stack, StackConfig

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(120)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack() -> AsyncIterator[Stack]:
    async with Stack(StackConfig(env={"PARLEY_WORKER_RESUME_WINDOW": "500ms"})) as running:
        yield running


def gateway(stack: Stack) -> str:
    return str(stack.gateways[0].ready["address"])


def tools(stack: Stack) -> str:
    """The internal address, as `parley up` prints it."""
    return str(stack.tools[0].ready["address"])


async def start(*arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "parley.cli", *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def ask(*arguments: str) -> tuple[int, Any, str]:
    """Exit status, the JSON document and stderr."""
    process = await start(*arguments, "--json")
    async with asyncio.timeout(30):
        out, err = await process.communicate()
    return process.returncode or 0, json.loads(out) if out else None, err.decode()


async def test_a_session_is_found_by_its_label_and_watched_to_its_end(stack: Stack) -> None:
    target = gateway(stack)
    mine = 'labels.team = "watched" AND '

    async def listed(text: str) -> list[str]:
        status, sessions, err = await ask("session", "list", "--target", target, "--filter", mine + text)
        assert status == 0, err
        return [session["session_id"] for session in sessions]

    with pytest.raises(ConnectionError):
        async with parley.connect(target, profile="support", labels={"team": "watched"}) as session:
            await session.send_text("hello")
            assert await listed("state = ATTACHED AND worker != nobody") == [session.id]
            assert await listed("state = DETACHED") == []
            watch = await start("session", "watch", session.id, "--target", target, "--json")
            assert watch.stdout is not None
            async with asyncio.timeout(30):
                first = json.loads(await watch.stdout.readline())
            assert (first["event"], first["session"]["state"]) == ("CURRENT", "SESSION_STATE_ATTACHED")
            raise ConnectionError("the caller is gone in the middle")
    async with asyncio.timeout(30):
        out, err = await watch.communicate()
    events = [json.loads(line) for line in out.splitlines()]
    assert [event["event"] for event in events] == ["DETACHED", "ENDED"], err
    assert events[-1]["session"]["end_reason"] == "END_REASON_ABANDONED"
    assert (watch.returncode, err) == (0, b"")
    assert await listed("end_reason = ABANDONED") == [session.id]


async def test_a_tool_is_called_at_the_tools_service_and_nowhere_else(stack: Stack) -> None:
    call = ("tools", "call", "lookup_order", "--args", '{"order_id": "4711"}', "--target")
    status, answer, err = await ask(*call, tools(stack))
    assert (status, answer["outcome"], answer["output"]["arrives"]) == (0, "SUCCEEDED", "friday"), err
    status, answer, err = await ask("tools", "call", "lookup_order", "--target", tools(stack), "--args", "{}")
    assert (status, answer) == (1, None)
    assert "arguments.order_id: " in err
    assert "[INVALID_ARGUMENT/ARGUMENTS_INVALID]" in err
    status, answer, err = await ask(*call, gateway(stack))
    assert (status, answer) == (1, None)
    assert "call the tools service on its internal address [UNIMPLEMENTED/NOT_IMPLEMENTED]" in err
    # Listed are the same tools at both.
    for target in (gateway(stack), tools(stack)):
        status, listed, err = await ask("tools", "list", "--target", target)
        assert status == 0, err
        assert {"lookup_order", "get_weather"} <= {tool["declaration"]["name"] for tool in listed}
