"""Sources in the real service on a real nats-server: catalog and endpoints follow them, secrets stay inside."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import nats as nats_py
from nats.aio.client import Client
from nats.errors import NoRespondersError

from services.fabric.catalog import Catalog
from tests.support.children import bound
from tests.support.eventually import eventually
from tests.support.nats import nats_server
from tests.tools.conftest import ROOT, tools_process
from tests.tools.sources.conftest import EXAMPLES, UNRULY
from tests.tools.test_service import call, output

SECRET = "very-secret-token"


async def served(client: Client) -> set[str]:
    info = json.loads((await client.request("$SRV.INFO.parley-tools", b"")).data)
    return {endpoint["metadata"]["tool"] for endpoint in info["endpoints"]}


async def in_catalog(client: Client) -> set[str]:
    return {tool.declaration.name for tool in await Catalog(client.jetstream()).all()}


def holds(question: Callable[[Client], Coroutine[Any, Any, set[str]]], client: Client, name: str, there: bool) -> Any:
    async def ask() -> bool:
        return (name in await question(client)) == there

    return ask


async def test_catalog_and_endpoints_follow_the_sources(tmp_path: Path) -> None:
    unruly = {
        "name": "unruly",
        "kind": "mcp_stdio",
        "command": sys.executable,
        "args": [str(UNRULY), str(tmp_path)],
        "env": {"TOKEN": {"file": "token"}},
        "refresh": "1s",
        "tools": {"looks": {"idempotent": True}},
        "exclude": ["token"],
    }
    (tmp_path / "token").write_text(SECRET)
    away = {**unruly, "name": "away", "command": "/no"}
    (tmp_path / "sources.yaml").write_text(json.dumps({"sources": [unruly, away]}))
    async with nats_server() as own:
        with tools_process(own.url, tmp_path, sources=str(tmp_path / "sources.yaml"), modules="") as tools:
            client = await nats_py.connect(own.url)
            assert output(await call(client, "echo", {"text": "hello"})) == {"text": "hello"}
            looks = await Catalog(client.jetstream()).get("looks")
            assert looks is not None
            assert looks.idempotent
            assert tools.counts()["problems"] == 10
            assert {"echo", "looks"} <= await served(client)

            # The server has one tool more, then one less.
            output(await call(client, "grow"))
            await eventually(holds(served, client, "grown", True), timeout=60)
            await eventually(holds(in_catalog, client, "grown", True), timeout=60)
            assert output(await call(client, "grown")) == {"text": "grown"}
            calls = tools.counts()["calls"]
            (tmp_path / "tools.json").unlink()
            await eventually(holds(in_catalog, client, "grown", False), timeout=60)
            await eventually(holds(served, client, "grown", False), timeout=60)
            assert tools.counts()["calls"] == calls

            # The server is away: no calls are taken, but the tools stay known. Then it is back.
            pid = int((tmp_path / "pid").read_text())
            os.kill(pid, signal.SIGKILL)
            seen_away = False

            async def back() -> bool:
                nonlocal seen_away
                try:
                    reply = await call(client, "echo", {"text": "x"})
                except NoRespondersError:
                    seen_away = True
                    return False
                seen_away |= "is not connected at the moment" in reply.error
                return reply.output_json == '{"text":"x"}' and int((tmp_path / "pid").read_text()) != pid

            await eventually(back, timeout=60)
            assert seen_away
            assert "echo" in await in_catalog(client)
            await eventually(holds(served, client, "echo", True), timeout=60)

            # Nothing that anybody reads holds the secret.
            output(await call(client, "talk"))
            assert SECRET not in tools.log.read_text()
            tools.terminate()
            assert tools.wait(30) == 0
            assert SECRET not in tools.log.read_text()
            await client.close()
    await eventually(lambda: not Path(f"/proc/{(tmp_path / 'pid').read_text()}").exists())


def check(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = bound(sys.executable, "-m", "parley.cli", "tools", "check", *arguments)
    environment = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    environment |= {"PARLEY_TOOLS_MODULES": "", "BOOKINGS_KEY": SECRET, "HOME": str(folder)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


def test_check_prints_what_would_be_served(tmp_path: Path) -> None:
    checked = check(tmp_path, EXAMPLES / "sources.yaml")
    assert checked.returncode == 0, checked.stderr
    assert "book_room  (source bookings, tool 'book_room'; idempotent, 5 s)\n" in checked.stdout
    assert "notes_read_notes  (source notes, tool 'read_notes'; idempotent)\n" in checked.stdout
    assert checked.stderr.splitlines()[-1] == "5 tools, 0 problems, 4 remarks"


def test_check_fails_when_something_cannot_be_served(tmp_path: Path) -> None:
    path = tmp_path / "sources.yaml"
    path.write_text("sources: [{name: a, kind: mcp_stdio, command: /no}, {name: b, kind: python, module: no.such}]")
    checked = check(tmp_path, path)
    assert checked.returncode == 1
    assert "problem: source a: /no cannot be started: No such file or directory\n" in checked.stderr
    assert "problem: module no.such cannot be loaded: ModuleNotFoundError" in checked.stderr
    path.write_text("sources: [{name: a, kind: nothing}]")
    checked = check(tmp_path, path)
    assert checked.returncode == 78
    assert checked.stderr.startswith(f"{path}:1: sources[0]: ")
