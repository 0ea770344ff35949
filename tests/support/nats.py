"""A real nats-server with JetStream, for one test or for many."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from tests.support.children import bound

_START_LIMIT = 30.0


class NatsServer:
    """The process. It keeps port and store when it is started again."""

    def __init__(self, directory: Path, **options: object) -> None:
        """`options`: of the configuration file, besides the tests' own."""
        self._directory = directory
        self._options = options
        self._port = -1
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self._port}"

    def start(self) -> None:
        ports = self._directory / "ports"
        shutil.rmtree(ports, ignore_errors=True)
        ports.mkdir()
        config = self._directory / "nats.conf"
        config.write_text(
            json.dumps(
                {
                    "host": "127.0.0.1",
                    "port": self._port,
                    "ports_file_dir": str(ports),
                    "jetstream": {"store_dir": str(self._directory / "store")},
                    **self._options,
                }
            )
        )
        binary = Path(sys.executable).with_name("nats-server")
        with (self._directory / "nats.log").open("ab") as log:
            self._process = subprocess.Popen(bound(binary, "-c", config), stdout=log, stderr=log)
        limit = time.monotonic() + _START_LIMIT
        while not (urls := self._listening(ports)):
            if self._process.poll() is not None or time.monotonic() > limit:
                raise AssertionError((self._directory / "nats.log").read_text())
            time.sleep(0.01)
        self._port = int(urls[0].rpartition(":")[2])

    @staticmethod
    def _listening(ports: Path) -> list[str]:
        for file in ports.glob("*.ports"):
            with contextlib.suppress(ValueError):  # half written
                urls: list[str] = json.loads(file.read_text()).get("nats", [])
                return urls
        return []

    def kill(self) -> None:
        """As a crash does it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def forget(self) -> None:
        """Lose the store of a stopped server."""
        shutil.rmtree(self._directory / "store", ignore_errors=True)

    def freeze(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)


@contextlib.contextmanager
def running_nats_server(**options: object) -> Iterator[NatsServer]:
    """For fixtures that many tests share."""
    with tempfile.TemporaryDirectory(prefix="parley-nats-", ignore_cleanup_errors=True) as directory:
        server = NatsServer(Path(directory), **options)
        try:
            server.start()
            yield server
        finally:
            server.kill()


@contextlib.asynccontextmanager
async def nats_server(**options: object) -> AsyncIterator[NatsServer]:
    """For one test."""
    with contextlib.ExitStack() as stack:
        yield await asyncio.to_thread(stack.enter_context, running_nats_server(**options))
