"""Bad input of every kind: what the model is told, what the operator sees, and that nobody else notices.

One table. Each of its stories is told while others call their tools without a pause: of the same module in threads, of
another module, of an MCP server, of an HTTP service. None of their calls may fail.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import re
import sys
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from parley.v1 import live_pb2
from services.tools.execute import Call, Execution, Refusal, Result
from tests.support.eventually import eventually
from tests.tools.sources import rough_tools
from tests.tools.sources.conftest import (
    FAILED,
    MAX_RESULT,
    SUCCEEDED,
    TIMED_OUT,
    UNKNOWN,
    UNRULY,
    Running,
    http_server,
    running,
)
from tests.tools.sources.test_openapi_http import Shop, document

_NUMBERS = itertools.count()
NEIGHBOURS: dict[str, dict[str, Any]] = {
    "bystander": {},
    "get_weather": {"city": "paris"},
    "calm_echo": {"text": "hello"},
    "json": {},
}
RAISED = "tool raised"
ROUGH = "rough_tools.py"


@dataclass(frozen=True)
class Story:
    """A call, and what becomes of it."""

    tool: str
    arguments: Any
    told: str
    """What the model is told: a regular expression for all of it."""
    outcome: live_pb2.ToolOutcome = FAILED
    refusal: Refusal | None = None
    operator: str = ""
    """What the log says besides that the call has ended: an event; for an exception, with its traceback."""
    timeout: float = 30.0


def arguments(text: Any, told: str, tool: str = "order") -> Story:
    return Story(tool, text, told, refusal=Refusal.WRONG_ARGUMENTS)


LINE = {"item": "pen", "count": 1}
DEEP = '{"lines": ' + "[" * 200_000 + "]" * 200_000 + "}"

STORIES: dict[str, Story] = {
    # Arguments
    "missing": arguments({}, "wrong arguments: lines: is required"),
    "missing inside": arguments({"lines": [LINE, {"item": "pen"}]}, r"wrong arguments: lines\[1\]\.count: is required"),
    "mistyped": arguments({"lines": "pen"}, 'wrong arguments: lines: input should be a valid array, got "pen"'),
    "text for a number": arguments(
        {"lines": [{"item": "pen", "count": "1"}]},
        r'wrong arguments: lines\[0\]\.count: input should be a valid integer, got "1"',
    ),
    "out of range": arguments(
        {"lines": [{"item": "pen", "count": 100}]},
        r"wrong arguments: lines\[0\]\.count: input should be less than or equal to 99, got 100",
    ),
    "huge text": arguments(
        {"lines": [{"item": "x" * 900_000, "count": 1}]},
        r"wrong arguments: lines\[0\]\.item: does not satisfy maxLength: x+\" is longer than 40 characters",
    ),
    "many faults": arguments({"lines": [{}] * 250_000}, r"wrong arguments: lines\[0\]\.item: .*; and 45 more"),
    "huge number": arguments('{"lines": [], "express": 1e400}', r"wrong arguments: not JSON \(1e400 is too large a.*"),
    "endless digits": arguments('{"lines": [], "express": ' + "9" * 5000 + "}", "wrong arguments: .*"),
    "deep": arguments(DEEP, "wrong arguments: nested too deeply"),
    "deep but well-formed": arguments(
        '{"lines": [' + '{"item":"pen","count":1,"parts":[' * 2000 + "]}" * 2000 + "]}", "wrong arguments: .*"
    ),
    "unknown": arguments(
        {"lines": [], "colour": 1},
        "wrong arguments: colour: is not an argument; the arguments are: lines, express",
    ),
    "unknown of one that takes none": arguments(
        {"colour": 1}, "wrong arguments: colour: is not an argument; the tool takes no arguments", "bystander"
    ),
    "no object": arguments("[1]", "wrong arguments: expected a JSON object, got an array"),
    "not JSON": arguments("{'lines': []}", r"wrong arguments: not JSON \(.*\)"),
    "NaN": arguments('{"lines": NaN}', r"wrong arguments: not JSON \(NaN is no number in JSON\)"),
    "half a character": arguments('{"lines": [{"item": "\\ud83d", "count": 1}]}', "wrong arguments: .*Unicode.*"),
    "half a character for a server": arguments('{"text": "\\ud83d"}', "wrong arguments: .*Unicode.*", "calm_echo"),
    "a server's, mistyped": arguments({"text": 7}, 'wrong arguments: text: 7 is not of type "string"', "calm_echo"),
    "a server's, missing": arguments({}, "wrong arguments: text: is required", "calm_echo"),
    "a server's, unknown": arguments(
        {"text": "x", "more": 1},
        "wrong arguments: more: is not an argument; the arguments are: text",
        "calm_echo",
    ),
    "no such tool": Story("nothing", {}, "there is no tool 'nothing'", refusal=Refusal.UNKNOWN_TOOL),
    # Results
    **{
        f"{what} from a {where}": Story(tool, {"what": what}, f"the tool ran, but {told}", UNKNOWN)
        for tool, where in (("returns", "coroutine"), ("returns_from_thread", "thread"))
        for what, told in {
            "nan": r"result\.a\[0\] is nan, which JSON cannot say",
            "bytes": r"result\.picture is of type bytes, which JSON cannot say",
            "cyclic": r"result\.a\[0\] contains itself",
            "deep": "the result is nested more than 28 deep",
            "50 MB": "the result is too large: more than 100000 bytes of JSON; ask for less",
            "endless": "the result is too large: more than 100000 bytes of JSON; ask for less",
            "set": "result is of type set, which JSON cannot say",
            "key": "result has a key of type tuple; JSON has strings only",
            "function": "result is of type builtin_function_or_method, which JSON cannot say",
            "half a character": "the result holds text that is not valid Unicode",
            "huge number": "result is an integer too large for JSON",
        }.items()
    },
    **{
        f"50 MB of text from a {where}": Story(
            tool, {"what": "50 MB of text"}, r'{"result":"x{99000,}\[... cut off: 499\d+ more characters\]"}', SUCCEEDED
        )
        for tool, where in (("returns", "coroutine"), ("returns_from_thread", "thread"))
    },
    # Functions that raise
    **{
        f"{what} in a {where}": Story(tool, {"what": what}, told, operator=operator)
        for tool, where in (("raises", "coroutine"), ("raises_in_thread", "thread"))
        for what, told, operator in (
            ("ValueError", r"ValueError: invalid literal for int\(\) with base 10: 'not a number'", RAISED),
            ("RecursionError", "RecursionError: maximum recursion depth exceeded.*", RAISED),
            ("MemoryError", "(MemoryError|OverflowError).*", RAISED),
            ("unprintable", "Unprintable", RAISED),
            ("long", "ValueError: (x ){200,}.*", RAISED),
            ("exit", "SystemExit: 3", RAISED),
            ("interrupt", "KeyboardInterrupt", RAISED),
            ("generator exit", "GeneratorExit", RAISED),
            ("not a ToolError", "no such table; say so", ""),
        )
    },
    # Functions that do not end as they should
    "hangs": Story("hangs", {}, "no result within 0.2 s", TIMED_OUT),
    "ignores its cancellation": Story("deaf", {}, "no result within 0.2 s", TIMED_OUT),
    "ignores its cancellation in a thread": Story(
        "deaf_thread",
        {},
        "no result within 0.2 s",
        TIMED_OUT,
        operator="function overruns; its thread cannot be stopped",
    ),
    "cancels itself": Story("cancels_itself", {}, "the function cancelled itself"),
    "exits in a task that it left": Story(
        "exits",
        {"where": "task"},
        '{"result":"soon"}',
        SUCCEEDED,
        operator="task of a tool raised out of its event loop",
    ),
    "leaks tasks": Story(
        "leaks", {"count": 100}, '{"result":100}', SUCCEEDED, operator="function left tasks running; they are cancelled"
    ),
    "blocks its loop": Story(
        "blocks",
        {"seconds": 60},
        "no result within 0.3 s",
        TIMED_OUT,
        operator="function blocks its event loop",
        timeout=0.3,
    ),
    # An MCP server
    "a server that floods": Story("flood", {}, '{"text":"flood"}', SUCCEEDED),
    "a server that writes what is no message": Story(
        "noise",
        {},
        '{"text":"noise"}',
        SUCCEEDED,
        operator="MCP server writes what is no message to its standard output",
    ),
    "a server with a huge answer": Story(
        "huge", {}, "the tool ran, but the answer has more than 1048576 bytes; ask for less", UNKNOWN
    ),
    "a server that lies about its schema": Story(
        "lies", {}, "the tool ran, but its answer is not what it declares: n: .*", UNKNOWN
    ),
    "a server that dies": Story(
        "die",
        {},
        "unruly did not answer: .*; whether it had its effect is unknown",
        UNKNOWN,
        operator="tool source is down",
    ),
    # An HTTP service
    "a service that is slow": Story("hangs_http", {}, "no result within 0.3 s", TIMED_OUT, timeout=0.3),
    "a service that redirects": Story(
        "moved", {}, r"127\.0\.0\.1 redirected the request \(HTTP 307\), which is not followed"
    ),
    "a service that answers in HTML": Story(
        "html", {}, r"127\.0\.0\.1 answered with a web page instead of JSON \(HTTP 200\)"
    ),
    "a service that hangs up": Story(
        "hang_up_post",
        {},
        r"127\.0\.0\.1 did not answer \(.*\); whether it had its effect is unknown",
        UNKNOWN,
        operator="tool source failed",
    ),
    "a service that does not end": Story("endless_http", {}, "the answer has more than 100000 bytes; ask for less"),
    "a service that lies": Story("lies_http", {}, r"127\.0\.0\.1 says that it answers in JSON, but does not"),
}


@contextlib.asynccontextmanager
async def everything(folder: Path) -> AsyncIterator[Running]:
    """All the sources, well-behaved and not."""
    shop = Shop()
    async with http_server(shop.app) as address:
        bad = ("moved", "html")
        content = document(address, "json", *bad, hang_up_post=None)
        for name, path in (("hangs_http", "hangs"), ("lies_http", "lies"), ("endless_http", "endless")):
            content["paths"][f"/{path}"] = {"get": {"operationId": name}}
        (folder / "shop.json").write_text(json.dumps(content))
        for name in ("unruly", "calm"):
            (folder / name).mkdir()
        servers = [
            {"name": name, "kind": "mcp_stdio", "command": sys.executable, "args": [str(UNRULY), str(folder / name)]}
            for name in ("unruly", "calm")
        ]
        sources: list[dict[str, Any]] = [
            {"name": "rough", "kind": "python", "module": rough_tools.__name__},
            {
                "name": "weather",
                "kind": "python",
                "module": "services.tools.examples.weather",
                "tools": {"get_weather": {"timeout": "60s"}},  # on a busy machine its own 2 s are not enough
            },
            {**servers[0], "exclude": ["echo"]},
            {**servers[1], "prefix": "calm_", "include": ["echo"]},
            {"name": "shop", "kind": "openapi", "document": "shop.json"},
        ]
        async with running(folder, sources, longest_pause=0.1) as found:
            for name in NEIGHBOURS:
                await found.available(name)
            yield found


@contextlib.asynccontextmanager
async def undisturbed(sources: Running) -> AsyncIterator[None]:
    """Somebody calls each of the neighbours again and again; none of the calls fails, and none waits for the end."""
    ended: Counter[str] = Counter()
    failed: list[tuple[str, Result]] = []

    async def call(name: str) -> None:
        while True:
            result = await sources.call(name, NEIGHBOURS[name], execution_id=f"neighbour{next(_NUMBERS)}")
            ended[name] += 1
            if result.outcome != SUCCEEDED:
                failed.append((name, result))

    callers = [asyncio.create_task(call(name)) for name in NEIGHBOURS]
    try:
        await eventually(lambda: len(ended) == len(NEIGHBOURS), timeout=60)
        yield
        before = Counter(ended)
        await eventually(lambda: all(ended[name] > before[name] for name in NEIGHBOURS), timeout=60)
    finally:
        for caller in callers:
            caller.cancel()
        await asyncio.wait(callers)
    assert not failed


async def told(sources: Running, story: Story) -> Result:
    text = story.arguments if isinstance(story.arguments, str) else json.dumps(story.arguments)
    call = Call(story.tool, text, f"story{next(_NUMBERS)}", timedelta(seconds=story.timeout))
    admitted = sources.executor.admit(call)
    return await sources.executor.run(admitted) if isinstance(admitted, Execution) else admitted


@pytest.fixture(autouse=True)
def released() -> Any:
    rough_tools.RELEASE.clear()
    yield
    rough_tools.RELEASE.set()


ALONE = ("blocks its loop", "a server that dies", "a server that floods")
"""Stories that would be heard in others."""


def at_once() -> list[dict[str, Story]]:
    """Stories to be told together."""
    together = [name for name in STORIES if name not in ALONE]
    groups = [together[first : first + 12] for first in range(0, len(together), 12)]
    return [{name: STORIES[name] for name in group} for group in (*groups, *([name] for name in ALONE))]


async def test_bad_input_is_told_to_the_model_and_the_operator_and_disturbs_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One breaker a source: here each story is to be heard.
    monkeypatch.setattr("services.tools.sources.breaker.Breaker.open", False)
    async with everything(tmp_path) as sources:
        for stories in at_once():
            with capture_logs() as logs:
                async with undisturbed(sources):
                    results = await asyncio.gather(*(told(sources, story) for story in stories.values()))
                    wanted = {story.operator for story in stories.values()} - {""}
                    await eventually(lambda: wanted <= {entry["event"] for entry in logs}, timeout=30)  # noqa: B023
                rough_tools.RELEASE.set()  # what still hangs ends
                await eventually(lambda: sources.executor.overrunning == 0, timeout=30)
                rough_tools.RELEASE.clear()
            for (name, story), result in zip(stories.items(), results, strict=True):
                assert (result.outcome, result.refusal) == (story.outcome, story.refusal), (name, result)
                said = result.error or result.output_json
                assert re.fullmatch(story.told, said), (name, said[:700])
                assert len(said) < (600 if result.error else MAX_RESULT), name
                assert "Traceback" not in said, name
                assert ROUGH not in said, name
            # The operator has the cause of what the functions did not mean to say, and only of that.
            raised = [entry["error_type"] for entry in logs if entry["event"] == RAISED]
            assert all(
                entry.get("exc_info") or "rough_tools" in entry["exception"] for entry in logs if "error_type" in entry
            )
            meant = zip(stories.values(), results, strict=True)
            assert Counter(raised) == Counter(result.error_type for story, result in meant if story.operator == RAISED)
            await sources.available("flood")  # a server that died is back before the next story
            for task in rough_tools.LEFT:
                if task.done() and not task.cancelled():
                    task.exception()


async def test_loop_that_is_blocked_refuses_at_once_and_what_ran_there_goes_on(tmp_path: Path) -> None:
    source = {"name": "rough", "kind": "python", "module": rough_tools.__name__}
    async with running(tmp_path, [source]) as sources:
        rough_tools.COUNT.clear()
        waiting = asyncio.create_task(sources.call("waits", execution_id="waiting"))
        await eventually(lambda: rough_tools.COUNT.get("waits") == 1, timeout=30)
        blocking = asyncio.create_task(sources.call("blocks", {"seconds": 60}))
        await eventually(lambda: sources.registry.problems, timeout=30)
        [problem] = sources.registry.problems
        assert re.fullmatch(
            rf"module {re.escape(rough_tools.__name__)}: its event loop is blocked by blocks \(.*:\d+ in \w+\);"
            " its tools wait",
            problem,
        )
        refused = await sources.call("neighbour")
        assert refused.refusal is Refusal.UNAVAILABLE
        assert refused.error == ("not run: the tool 'neighbour' is not available: another call blocks its event loop")
        assert (await sources.call("bystander")).outcome == SUCCEEDED  # in a thread
        assert not waiting.done()
        rough_tools.RELEASE.set()
        assert (await blocking).outcome == SUCCEEDED
        await sources.available("neighbour")
        assert sources.registry.problems == []
        assert (await sources.call("neighbour")).outcome == SUCCEEDED
        assert sources.executor.cancel("waiting")
        assert (await waiting).outcome == live_pb2.TOOL_OUTCOME_CANCELLED
