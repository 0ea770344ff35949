"""A Jaeger that runs for the time of a test, or one that runs anyway; and what its query API says."""

from __future__ import annotations

import asyncio
import json
import os
import urllib.parse
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.jaeger.obtain import URL, obtain
from tests.support.counts import get_json
from tests.support.eventually import eventually
from tests.support.ports import reserved

OTLP: Final = "PARLEY_JAEGER_OTLP"
"""Where one that runs anyway takes OTLP/gRPC; without it, port 4317 of the same host."""
_READY: Final = 60.0
_STOP: Final = 10.0

# Nothing but OTLP in, nothing that stays, no address beyond the loopback. Not the memory storage: it compares the word
# that the API has for `error=true` with a truth value, and finds nothing.
_CONFIG: Final = """
service:
  extensions: [jaeger_storage, jaeger_query]
  pipelines:
    traces: {{receivers: [otlp], exporters: [jaeger_storage_exporter]}}
  telemetry:
    metrics: {{level: none}}
extensions:
  jaeger_storage:
    backends:
      here: {{badger: {{ephemeral: true}}}}
  jaeger_query:
    storage: {{traces: here}}
    http: {{endpoint: "{http}"}}
    grpc: {{endpoint: "{grpc}"}}
receivers:
  otlp:
    protocols:
      grpc: {{endpoint: "{otlp}"}}
exporters:
  jaeger_storage_exporter: {{trace_storage: here}}
"""


@dataclass(frozen=True)
class Jaeger:
    """Where it is."""

    url: str
    """Of the query service."""
    otlp: str
    """`http://HOST:PORT` for OTLP/gRPC."""

    async def get(self, path: str, **query: str | int) -> Any:
        """`data` of an answer of the query API (`/api/...`)."""
        answer = await get_json(f"{self.url}/api/{path}?{urllib.parse.urlencode(query)}")
        assert not answer.get("errors"), answer["errors"]
        return answer["data"]

    async def search(self, service: str, **tags: str) -> list[dict[str, Any]]:
        """Traces with a span of this service that has these tags; dots in their names are written `__`."""
        named = {name.replace("__", "."): value for name, value in tags.items()}
        found: list[dict[str, Any]] = await self.get(
            "traces", service=service, tags=json.dumps(named), lookback="1h", limit=100
        )
        return found

    async def trace(self, trace_id: str) -> list[dict[str, Any]]:
        """The spans of one trace, by begin, each with the name of its `service`."""
        [found] = await self.get(f"traces/{trace_id}")
        services = {key: process["serviceName"] for key, process in found["processes"].items()}
        spans = [{**span, "service": services[span["processID"]]} for span in found["spans"]]
        return sorted(spans, key=lambda span: int(span["startTime"]))


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[Jaeger]:
    """One that runs; UnavailableError when there is none to be had."""
    if url := os.environ.get(URL):
        host = urllib.parse.urlsplit(url).hostname
        yield Jaeger(url.rstrip("/"), os.environ.get(OTLP) or f"http://{host}:4317")
        return
    binary = await asyncio.to_thread(obtain)
    with reserved() as http, reserved() as grpc, reserved() as otlp:
        addresses = {"http": http, "grpc": grpc, "otlp": otlp}
    config = folder / "jaeger.yaml"
    config.write_text(_CONFIG.format(**addresses))
    with (folder / "jaeger.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(str(binary), "--config", str(config), stdout=log, stderr=log)
    jaeger = Jaeger(f"http://{addresses['http']}", f"http://{addresses['otlp']}")
    try:

        async def ready() -> bool:
            assert process.returncode is None, (folder / "jaeger.log").read_text()[-2000:]
            with suppress(OSError):
                await jaeger.get("services")
                return True
            return False

        await eventually(ready, _READY)
        yield jaeger
    finally:
        if process.returncode is None:
            process.terminate()
        try:
            async with asyncio.timeout(_STOP):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
