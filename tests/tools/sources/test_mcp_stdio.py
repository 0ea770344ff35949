"""MCP servers that are processes of ours, among them one that does everything that none should."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from parley.v1 import fabric_pb2
from services.fabric.process import resident_bytes
from services.tools.execute import Call, Execution
from tests.support.eventually import eventually
from tests.tools.sources.conftest import EXAMPLES, FAILED, SUCCEEDED, TIMED_OUT, UNKNOWN, UNRULY, running

SECRET = 's3cr3t-"quoted"-token'


def unruly(folder: Path, *flags: str, **settings: Any) -> dict[str, Any]:
    command = {"command": sys.executable, "args": [str(UNRULY), str(folder), *flags]}
    return {"name": "unruly", "kind": "mcp_stdio", **command, **settings}


def seen(folder: Path, name: str) -> int:
    path = folder / name
    return len(path.read_text()) if path.exists() else 0


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


async def test_server_that_misbehaves_call_by_call_disturbs_no_other_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNRULY_TOKEN", SECRET)
    monkeypatch.setenv("PARLEY_TOOLS_NATS_PASSWORD", "not-for-you")
    env = {"TOKEN": {"env": "UNRULY_TOKEN"}}
    source = unruly(tmp_path, env=env, trust_annotations=True, exclude=["secret_*"])
    stories: list[tuple[str, dict[str, Any], int, str]] = [
        ("echo", {"text": "hello"}, SUCCEEDED, '{"text":"hello"}'),
        ("noise", {}, SUCCEEDED, '{"text":"noise"}'),
        ("flood", {}, SUCCEEDED, '{"text":"flood"}'),
        ("huge", {}, UNKNOWN, "the tool ran, but the answer has more than 1048576 bytes; ask for less"),
        ("big", {}, SUCCEEDED, "cut off: "),
        ("fails", {}, FAILED, "no seats left on that day"),
        ("silent_error", {}, FAILED, "did not say why"),
        ("refuse", {}, FAILED, "not on a Sunday"),
        ("not_mcp", {}, UNKNOWN, "the tool ran, but its answer is no MCP"),
        ("wants_input", {}, UNKNOWN, "the tool ran, but its answer is no MCP"),
        ("lies", {}, UNKNOWN, "the tool ran, but its answer is not what it declares: n: "),
        ("keeps_its_word", {}, SUCCEEDED, '{"n":3}'),
        ("promises", {}, UNKNOWN, "the tool ran, but its answer has no structured content"),
        ("odd_name_here", {}, SUCCEEDED, "odd name/here"),
        ("slow_pattern", {"text": "a" * 60 + "!"}, FAILED, "wrong arguments: text: "),
    ]
    async with running(tmp_path, [source]) as sources:
        results = await asyncio.gather(*(sources.call(name, arguments) for name, arguments, _, _ in stories))
        for (name, _, outcome, said), result in zip(stories, results, strict=True):
            assert result.outcome == outcome, (name, result)
            assert said in (result.output_json or result.error), (name, result)
            assert len(result.error) < 600
        mixed = await sources.output("mixed")
        assert mixed["text"] == "see\ninside"
        assert [block["type"] for block in mixed["attachments"]] == ["image", "resource_link", "resource"]
        assert mixed["attachments"][0] == {"type": "image", "mime_type": "image/png", "bytes": 3000}

        # What it is sent it may send back; the model does not see it, and the server does not see what is ours.
        told = (await sources.output("token"))["text"]
        assert told.startswith("the token is [secret], and ")
        assert "NATS_PASSWORD" not in told

        # Wrong arguments are not sent at all.
        before = seen(tmp_path, "called-echo")
        for wrong in ({}, {"text": 3}, {"text": "x", "more": 1}, {"text": "x" * 101}):
            refused = await sources.call("echo", wrong)
            assert refused.error.startswith("wrong arguments: "), refused
        assert "the arguments are: text" in (await sources.call("echo", {"text": "x", "more": 1})).error
        assert seen(tmp_path, "called-echo") == before
        assert seen(tmp_path, "started") == 1

        problems = "\n".join(sources.registry.problems)
        for name in ("no_schema", "elsewhere", "no_object", "x" * 80, "deep", "laughs", "lied_answer", "echo"):
            assert f"source unruly, tool {name!r}: " in problems
        assert "tool 'takes_a_task': it can be called as a task only, which is not served" in problems
        assert len(sources.registry.problems) == 9
        unheeded = {"echo": "maxLength of text", "slow_pattern": "pattern of text"}
        assert sources.registry.remarks == [
            f"source unruly, tool {name!r}: models do not heed {what}; wrong arguments are refused all the same"
            for name, what in unheeded.items()
        ]
        odd = sources.registry.get("odd_name_here")
        assert odd is not None
        assert "$schema" not in odd.parameters
        looks, echo = sources.registry.get("looks"), sources.registry.get("echo")
        assert looks is not None
        assert looks.idempotent
        assert echo is not None
        assert not echo.idempotent


async def test_operator_picks_and_hints(tmp_path: Path) -> None:
    hints = {"looks": {"idempotent": True, "behavior": "non_blocking", "timeout": "3s"}, "nobody": {}}
    source = unruly(
        tmp_path, prefix="u.", include=["l*", "echo", "sleep"], exclude=["lie*"], timeout="200ms", tools=hints
    )
    async with running(tmp_path, [source]) as sources:
        assert sources.names == ["u.echo", "u.looks", "u.sleep"]
        looks, echo = sources.registry.get("u.looks"), sources.registry.get("u.echo")
        assert looks is not None
        assert echo is not None
        assert (looks.idempotent, looks.behavior, looks.timeout and looks.timeout.total_seconds()) == (
            True,
            "non_blocking",
            3,
        )
        assert (echo.idempotent, echo.timeout and echo.timeout.total_seconds()) == (False, 0.2)
        assert any("tool 'nobody': `tools` has hints for it" in remark for remark in sources.registry.remarks)
        assert (await sources.call("u.sleep")).outcome == TIMED_OUT
        await eventually(lambda: seen(tmp_path, "cancelled") == 1, timeout=30)  # the deadline is the server's too


async def test_readonly_hint_counts_only_where_the_server_is_trusted(tmp_path: Path) -> None:
    async with running(tmp_path, [unruly(tmp_path)]) as sources:
        looks = sources.registry.get("looks")
        assert looks is not None
        assert not looks.idempotent


async def test_cancelled_call_is_cancelled_at_the_server(tmp_path: Path) -> None:
    async with running(tmp_path, [unruly(tmp_path)]) as sources:
        waiting = asyncio.create_task(sources.call("sleep", execution_id="mine"))
        await eventually(lambda: seen(tmp_path, "called-sleep") == 1, timeout=30)
        assert sources.executor.cancel("mine")
        await waiting
        await eventually(lambda: seen(tmp_path, "cancelled") == 1, timeout=30)
        await eventually(lambda: sources.executor.overrunning == 0, timeout=30)
        assert await sources.output("echo", {"text": "still there"}) == {"text": "still there"}


async def test_progress_of_a_server_is_told_without_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNRULY_TOKEN", SECRET)
    reports: list[fabric_pb2.ToolReport] = []

    async def keep(report: fabric_pb2.ToolReport) -> None:
        reports.append(report)

    async with running(tmp_path, [unruly(tmp_path, env={"TOKEN": {"env": "UNRULY_TOKEN"}})]) as sources:
        execution = sources.executor.admit(Call("reports", "{}", "x"))
        assert isinstance(execution, Execution)
        assert execution.tool.reports
        execution.context.reports.listen(keep)
        result = await sources.executor.run(execution)
        await execution.context.reports.close()
        assert result.outcome == SUCCEEDED, result
    told = [(report.progress.message, report.progress.fraction) for report in reports]
    assert told == [("1 [secret]", 0.25), ("2 [secret]", 0.5), ("3 [secret]", 0.0)]
    assert not reports[2].progress.HasField("fraction")


@pytest.mark.parametrize("fatal", ["die", "endless"])
async def test_server_that_dies_is_started_again_and_what_it_was_doing_is_unknown(tmp_path: Path, fatal: str) -> None:
    async with running(tmp_path, [unruly(tmp_path, tools={"looks": {"idempotent": True}})]) as sources:
        memory = resident_bytes()
        pid = int((tmp_path / "pid").read_text())
        running_call = asyncio.create_task(sources.call("sleep"))
        await eventually(lambda: seen(tmp_path, "called-sleep") == 1, timeout=30)
        fatal_call = await sources.call(fatal)
        for result in (fatal_call, await running_call):
            assert result.outcome == UNKNOWN, result
            assert "whether it had its effect is unknown" in result.error
        await eventually(lambda: gone(pid), timeout=30)
        assert resident_bytes() < memory + 30_000_000
        tool = sources.registry.get("echo")
        assert tool is not None  # still known, so that sessions that name it can be opened
        await sources.available("echo")
        assert await sources.output("echo", {"text": "back"}) == {"text": "back"}
        assert seen(tmp_path, "started") == 2
        assert sources.keeper.restarts == 1
        assert not any("its process ended" in problem for problem in sources.registry.problems)


async def test_tool_of_a_server_that_is_away_is_refused_at_once(tmp_path: Path) -> None:
    source = unruly(tmp_path)
    async with running(tmp_path, [source]) as sources:
        os.kill(int((tmp_path / "pid").read_text()), 9)
        tool = sources.registry.get("echo")
        assert tool is not None
        await eventually(lambda: bool(tool.unavailable()), timeout=30)
        refused = await sources.call("echo", {"text": "hello"})
        assert refused.outcome == FAILED
        assert refused.error == (
            "not run: the tool 'echo' is not available: its source unruly is not connected at the moment"
        )
        await sources.available("echo")


async def test_list_changes_are_followed_however_often_they_are_announced(tmp_path: Path) -> None:
    async with running(tmp_path, [unruly(tmp_path)]) as sources:
        await sources.output("grow")
        await sources.available("grown")
        (tmp_path / "tools.json").unlink()
        listed = seen(tmp_path, "listed")
        assert listed <= 4  # 200 announcements
        await sources.call("grow", execution_id="again")
        assert await sources.output("grown") == {"text": "grown"}


async def test_tool_that_the_server_takes_back_is_gone(tmp_path: Path) -> None:
    (tmp_path / "tools.json").write_text('{"name": "grown", "inputSchema": {"type": "object"}}')
    async with running(tmp_path, [unruly(tmp_path, refresh="1s")]) as sources:
        assert "grown" in sources.names
        (tmp_path / "tools.json").unlink()  # and does not say so
        await eventually(lambda: "grown" not in sources.names, timeout=30)


async def test_standard_error_goes_to_the_log_within_bounds_and_without_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNRULY_TOKEN", SECRET)
    with capture_logs() as logs:
        async with running(
            tmp_path, [unruly(tmp_path, env={"TOKEN": {"env": "UNRULY_TOKEN", "prefix": "T "}})]
        ) as sources:
            await sources.output("talk")
            lines = await eventually(
                lambda: [log["text"] for log in logs if log["event"] == "MCP server says"], timeout=30
            )
            assert lines[0] == "line 0 of T [secret]"
            await sources.output("talk")
    assert len([log for log in logs if log["event"] == "MCP server says"]) < 100
    assert SECRET not in repr(logs)


async def test_stubborn_server_and_its_children_are_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.tools.sources.mcp_stdio._GRACE", 0.2)
    async with running(tmp_path, [unruly(tmp_path, "--stubborn")]) as sources:
        assert "echo" in sources.names
    pids = [int((tmp_path / name).read_text()) for name in ("pid", "child")]
    await eventually(lambda: all(map(gone, pids)), timeout=30)


async def test_sources_that_cannot_start_are_named_and_the_rest_is_served(tmp_path: Path) -> None:
    (tmp_path / "speechless.py").write_text("print('hello'); input()")
    (tmp_path / "chatty.py").write_text("while True: print('hello', flush=True)")

    def source(name: str, *command: str, **more: Any) -> dict[str, Any]:
        return {"name": name, "kind": "mcp_stdio", "command": command[0], "args": command[1:], **more}

    async with running(
        tmp_path,
        [
            source("nowhere", "/no/such/program"),
            source("ends", sys.executable, "-c", "raise SystemExit(4)"),
            source("chatty", sys.executable, "chatty.py", cwd="."),
            source("poor", sys.executable, "-c", "", env={"TOKEN": {"env": "NOT_SET_ANYWHERE"}}),
            source("lost", sys.executable, "-c", "", env={"TOKEN": {"file": "no/such/secret"}}),
            {"name": "module", "kind": "python", "module": "services.tools.examples.weather", "prefix": "py_"},
            unruly(tmp_path, include=["echo"]),
            unruly(tmp_path, include=["echo"]) | {"name": "second"},
        ],
    ) as sources:
        assert sources.names == ["echo", "py_get_weather"]
        await sources.available("echo")
        problems = "\n".join(sources.registry.problems)
        for said in (
            "source nowhere: /no/such/program cannot be started: No such file or directory",
            "source ends: its process ended with status 4",
            "source chatty: it wrote more than 100 lines that are no messages to its standard output",
            "source poor: the environment variable NOT_SET_ANYWHERE is not set",
            "no/such/secret cannot be read: No such file or directory",
            "source second, tool 'echo': the name 'echo' is taken by source unruly, tool 'echo'",
        ):
            assert said in problems


async def test_example_server_over_stdio(tmp_path: Path) -> None:
    source = {"name": "notes", "kind": "mcp_stdio", "command": sys.executable, "args": [str(EXAMPLES / "notes_mcp.py")]}
    async with running(tmp_path, [source]) as sources:
        assert sources.registry.problems == []
        added = await sources.output("add_note", {"topic": "parking", "text": "Bring coins."})
        assert added["notes"][-1] == "Bring coins."
        assert await sources.output("read_notes", {"topic": "parking"}) == added
        missing = await sources.call("read_notes", {"topic": "moon"})
        assert missing.outcome == FAILED
        assert "no notes about moon; there are notes about: parking" in missing.error
