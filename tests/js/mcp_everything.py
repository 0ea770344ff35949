"""The MCP project's reference server, over stdio and streamable HTTP: `make test-js`, which has node and installs it.

It has every kind of tool that the protocol knows; ours are the expectations.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from bench.processes import tree
from parley.v1 import fabric_pb2
from services.tools.execute import Execution, Result
from tests.support.children import bound
from tests.support.eventually import eventually
from tests.tools.sources.conftest import FAILED, SUCCEEDED, TIMED_OUT, Running, running

SERVER = Path(__file__).parent / "node_modules" / "@modelcontextprotocol" / "server-everything" / "dist" / "index.js"
TOOLS = {
    *("echo", "get-annotated-message", "get-env", "get-resource-links", "get-resource-reference"),
    *("get-structured-content", "get-sum", "get-tiny-image", "gzip-file-as-resource"),
    *("toggle-simulated-logging", "toggle-subscriber-updates", "trigger-long-running-operation"),
}
AS_A_TASK = "source everything, tool 'simulate-research-query': it can be called as a task only, which is not served"
SECRET = "s3cr3t-of-the-server"


@dataclass
class Everything:
    """The server, and what was made of it."""

    sources: Running
    log: Path
    """What it said; empty over stdio, where that is ours."""


def node() -> str:
    found = shutil.which("node")
    assert found is not None, "node is not on the PATH"
    assert SERVER.is_file(), f"{SERVER} is not there; `make test-js` installs it"
    return found


@asynccontextmanager
async def over_stdio(folder: Path) -> AsyncIterator[Everything]:
    (folder / "token").write_text(SECRET)
    command = {"command": node(), "args": [str(SERVER), "stdio"], "env": {"TOKEN": {"file": "token"}}}
    before = set(tree(os.getpid()))
    settings = {"name": "everything", "kind": "mcp_stdio", "refresh": "1h", "trust_annotations": True, **command}
    async with running(folder, [settings]) as sources:
        assert set(tree(os.getpid())) > before
        yield Everything(sources, folder / "none")
    await eventually(lambda: set(tree(os.getpid())) <= before, timeout=15)


@asynccontextmanager
async def over_http(folder: Path) -> AsyncIterator[Everything]:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
    log = folder / "log"
    with log.open("w") as output:
        process = subprocess.Popen(  # noqa: ASYNC220 - it starts at once
            bound(node(), SERVER, "streamableHttp"), stdout=output, stderr=output, env={**os.environ, "PORT": str(port)}
        )
    try:
        await eventually(lambda: "listening on port" in log.read_text(), timeout=60)
        url = f"http://127.0.0.1:{port}/mcp"
        settings = {"name": "everything", "kind": "mcp_http", "url": url, "refresh": "1h", "trust_annotations": True}
        async with running(folder, [settings]) as sources:
            yield Everything(sources, log)
        # Its session is not left behind.
        await eventually(lambda: "session termination request" in log.read_text(), timeout=15)
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()


TRANSPORTS = {"stdio": over_stdio, "http": over_http}


@asynccontextmanager
async def everything_by(transport: str, folder: Path) -> AsyncIterator[Everything]:
    """The server, when all of its tools are there that can be."""
    async with TRANSPORTS[transport](folder) as everything:
        await eventually(lambda: set(everything.sources.names) == TOOLS, timeout=60)
        yield everything


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_its_tools_are_served_and_the_one_that_cannot_be_is_named(transport: str, tmp_path: Path) -> None:
    async with everything_by(transport, tmp_path) as everything:
        sources = everything.sources
        # It comes in after the others, when the server says that its list has changed: nobody asks for an hour.
        await eventually(lambda: sources.registry.problems == [AS_A_TASK], timeout=60)
        assert set(sources.names) == TOOLS
        assert sources.registry.remarks == []
        hints = {name: tool.idempotent for name in TOOLS if (tool := sources.registry.get(name)) is not None}
        assert hints["echo"]
        assert not hints["toggle-simulated-logging"]
        declared = sources.registry.get("get-sum")
        assert declared is not None
        assert "$schema" not in declared.parameters
        assert set(declared.parameters["properties"]) == {"a", "b"}


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_texts_numbers_structures_and_pictures_come_back(transport: str, tmp_path: Path) -> None:
    async with everything_by(transport, tmp_path) as everything:
        sources = everything.sources
        assert await sources.output("echo", {"message": "hello"}) == {"text": "Echo: hello"}
        sums = await asyncio.gather(*(sources.output("get-sum", {"a": one, "b": 1.5}) for one in range(20)))
        assert [found["text"] for found in sums] == [f"The sum of {one} and 1.5 is {one + 1.5:g}." for one in range(20)]
        weather = await sources.output("get-structured-content", {"location": "Chicago"})
        assert set(weather) == {"temperature", "conditions", "humidity"}
        picture = await sources.output("get-tiny-image")
        assert picture["attachments"] == [{"type": "image", "mime_type": "image/png", "bytes": 4035}]
        links = await sources.output("get-resource-links", {"count": 2})
        assert [one["type"] for one in links["attachments"]] == ["resource_link"] * 2
        embedded = await sources.output("get-resource-reference", {"resourceType": "Text", "resourceId": 1})
        assert "This is a plaintext resource" in embedded["text"]
        said = await sources.output("get-annotated-message", {"messageType": "success", "includeImage": True})
        assert [one["type"] for one in said["attachments"]] == ["image"]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_what_goes_wrong_is_said_to_the_model(transport: str, tmp_path: Path) -> None:
    async with everything_by(transport, tmp_path) as everything:
        sources = everything.sources
        wrong = await sources.call("get-sum", {"a": "x"})
        assert wrong.outcome == FAILED
        assert "b: is required" in wrong.error
        assert 'a: "x" is not of type "number"' in wrong.error
        refused = await sources.call("get-resource-reference", {"resourceType": "Text", "resourceId": -1})
        assert (refused.outcome, refused.error) == (
            FAILED,
            "Invalid resourceId: -1. Must be a finite positive integer.",
        )
        unknown = await sources.call("simulate-research-query", {"topic": "x"})
        assert unknown.error == "there is no tool 'simulate-research-query'"
        assert (await sources.output("echo", {"message": "still there"}))["text"] == "Echo: still there"


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_its_environment_is_ours_to_give(transport: str, tmp_path: Path) -> None:
    async with everything_by(transport, tmp_path) as everything:
        env = (await everything.sources.output("get-env"))["text"]
        assert SECRET not in env
        if everything.log.name == "none":
            assert json.loads(env)["TOKEN"] == "[secret]"
            assert not [name for name in json.loads(env) if name.startswith("PARLEY_")]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_long_operation_tells_how_far_it_is(transport: str, tmp_path: Path) -> None:
    async with everything_by(transport, tmp_path) as everything:
        result, reports = await listened_to(everything.sources, {"duration": 1.5, "steps": 3})
        assert (result.outcome, json.loads(result.output_json)["text"]) == (
            SUCCEEDED,
            "Long running operation completed. Duration: 1.5 seconds, Steps: 3.",
        )
        fractions = [report.progress.fraction for report in reports]
        assert fractions
        assert fractions == sorted(fractions)
        assert {round(3 * fraction, 3) for fraction in fractions} <= {1, 2, 3}


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_long_operation_that_nobody_waits_for_disturbs_no_other(transport: str, tmp_path: Path) -> None:
    async with everything_by(transport, tmp_path) as everything:
        sources = everything.sources
        began = time.monotonic()
        hanging = asyncio.create_task(sources.call("trigger-long-running-operation", {"duration": 60, "steps": 2}))
        too_slow = await sources.call(
            "trigger-long-running-operation", {"duration": 60}, timeout=timedelta(seconds=0.5)
        )
        assert too_slow.outcome == TIMED_OUT
        hanging.cancel()
        await asyncio.wait({hanging})
        assert (await sources.output("echo", {"message": "quick"}))["text"] == "Echo: quick"
        assert time.monotonic() - began < 50
        await eventually(lambda: sources.executor.overrunning == 0, timeout=15)


async def listened_to(sources: Running, arguments: dict[str, Any]) -> tuple[Result, list[fabric_pb2.ToolReport]]:
    """Call the long operation and hear what it says meanwhile."""
    reports: list[fabric_pb2.ToolReport] = []

    async def keep(report: fabric_pb2.ToolReport) -> None:
        reports.append(report)

    execution = sources.admit("trigger-long-running-operation", arguments)
    assert isinstance(execution, Execution)
    execution.context.reports.listen(keep)
    try:
        return await sources.executor.run(execution), reports
    finally:
        await execution.context.reports.close()
