from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support import sabotage_claims
from tests.support.children import bound
from tests.support.nats import NatsServer, running_nats_server

ROOT = Path(__file__).parents[2]
MODULES = "services.tools.examples.orders,services.tools.examples.weather,tests.tools.functions,tests.support.ledger"


@dataclass
class ToolsProcess:
    """The real service in a process of its own."""

    process: subprocess.Popen[str]
    log: Path
    orders_db: Path
    ops: str = ""
    address: str = ""
    id: str = ""

    def wait_ready(self) -> None:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.log.read_text()
        ready = json.loads(line)
        assert ready["ready"] == "tools"
        self.ops, self.address, self.id = ready["ops"], ready["address"], ready["id"]

    def counts(self) -> dict[str, Any]:
        with urllib.request.urlopen(f"{self.ops}/debug/vars?names") as answer:
            counts: dict[str, Any] = json.load(answer)
            return counts

    def kill(self) -> None:
        """As a crash does it."""
        self.process.kill()
        self.process.wait()

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def wait(self, timeout: float = 30) -> int:
        return self.process.wait(timeout)


@contextlib.contextmanager
def tools_process(
    nats_url: str,
    directory: Path,
    *,
    ready: bool = True,
    sabotage: str = "",
    environment: Mapping[str, str] | None = None,
    **settings: str,
) -> Iterator[ToolsProcess]:
    """`environment`: variables for its tools; `settings`: of the service."""
    variables = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "PARLEY_TOOLS_NATS_URL": nats_url,
        "PARLEY_TOOLS_MODULES": MODULES,
        "PARLEY_TOOLS_ORDERS_DB": str(directory / "state" / "orders.sqlite3"),
        sabotage_claims.VARIABLE: sabotage,
    }
    variables |= {f"PARLEY_TOOLS_{name.upper()}": value for name, value in settings.items()} | dict(environment or {})
    module, name = ("tests.support.sabotage_claims", "main") if sabotage else ("services.tools.cli", "command")
    log = directory / f"tools-{time.monotonic_ns()}.log"
    with log.open("w") as stderr:
        process = subprocess.Popen(
            bound(sys.executable, "-c", f"from {module} import {name}; {name}()"),
            env=variables,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
    tools = ToolsProcess(process, log, directory / "state" / "orders.sqlite3")
    try:
        if ready:
            tools.wait_ready()
        yield tools
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


@pytest.fixture(scope="package")
def nats() -> Iterator[NatsServer]:
    with running_nats_server() as server:
        yield server


@pytest.fixture(scope="package")
def service(nats: NatsServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ToolsProcess]:
    """One process for all tests that do not end it."""
    with tools_process(nats.url, tmp_path_factory.mktemp("tools"), id="tools-under-test") as tools:
        yield tools
