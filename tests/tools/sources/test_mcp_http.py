"""MCP servers by streamable HTTP: the SDK's own, and endpoints that behave as no server should."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from services.fabric import telemetry
from tests.support.children import bound
from tests.support.eventually import eventually
from tests.tools.sources.conftest import EXAMPLES, FAILED, SUCCEEDED, UNKNOWN, http_server, running

SECRET = "t0ken-of-the-server"
PACKED = gzip.compress(b" " * 20_000_000)
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def source(url: str, **settings: Any) -> dict[str, Any]:
    return {"name": "far", "kind": "mcp_http", "url": url, **settings}


async def test_server_of_the_sdk_comes_and_goes(tmp_path: Path) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
    command = bound(sys.executable, EXAMPLES / "notes_mcp.py", "--http", port)
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, stderr=log, stdout=log)  # noqa: ASYNC220 - it starts at once
        try:
            settings = source(f"http://127.0.0.1:{port}/mcp", refresh="1s")
            async with running(tmp_path, [settings], longest_pause=1.0) as sources:
                # It takes a second to start: until then it is a problem, and then it is not.
                await eventually(lambda: sources.names == ["add_note", "read_notes"], timeout=60)
                assert sources.registry.problems == []
                added = await sources.output("add_note", {"topic": "parking", "text": "Bring coins."})
                assert added["notes"][-1] == "Bring coins."
                assert "no notes about moon" in (await sources.call("read_notes", {"topic": "moon"})).error
                process.kill()
                process.wait()
                read = await sources.call("add_note", {"topic": "parking", "text": "x"})
                assert read.outcome in (FAILED, UNKNOWN), read
                assert "far" in read.error or "cannot be reached" in read.error
                tool = sources.registry.get("read_notes")
                assert tool is not None
                await eventually(lambda: bool(tool.unavailable()), timeout=60)
                process = subprocess.Popen(command, stderr=log, stdout=log)  # noqa: ASYNC220
                await sources.available("read_notes")
                assert (await sources.output("read_notes", {"topic": "parking"}))["topic"] == "parking"
        finally:
            process.kill()
            process.wait()


class Endpoint:
    """Speaks just enough of the protocol, and misbehaves call by call."""

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()
        self.headers: list[dict[str, str]] = []
        self.meta: dict[str, Any] = {}
        self.session = "one"
        self.app = web.Application(client_max_size=10_000_000)
        self.app.router.add_post("/mcp", self.post)
        self.app.router.add_get("/mcp", self.get)
        self.app.router.add_delete("/mcp", self.delete)

    async def get(self, _: web.Request) -> web.Response:
        return web.Response(status=405)

    async def delete(self, _: web.Request) -> web.Response:
        self.seen["deleted"] += 1
        return web.Response()

    async def post(self, request: web.Request) -> web.StreamResponse:
        message = await request.json()
        self.headers.append(dict(request.headers))
        number, method = message.get("id"), message["method"]
        self.seen[method] += 1

        def result(value: Any) -> web.Response:
            return web.json_response({"jsonrpc": "2.0", "id": number, "result": value})

        opening = method in ("initialize", "server/discover")
        if not opening and request.headers.get("Mcp-Session-Id") != self.session:
            return web.Response(status=404)
        match method:
            case "server/discover":
                return web.Response(status=400)
            case "initialize":
                info = {"name": "far", "version": "1"}
                answer = result({"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}, "serverInfo": info})
                answer.headers["Mcp-Session-Id"] = self.session
                return answer
            case "tools/list":
                names = ("fine", "html", "huge", "status", "away", "hang_up", "gateway", "cut", "words", "busy")
                names += ("packed", "fault", "edge")
                return result({"tools": [{"name": name, "inputSchema": {"type": "object"}} for name in names]})
            case "tools/call":
                self.meta = message["params"].get("_meta", {})
                return await self.call(request, message["params"]["name"], result)
        return web.Response(status=202)

    async def call(self, request: web.Request, name: str, result: Any) -> web.StreamResponse:
        self.seen[name] += 1
        assert request.transport is not None
        match name:
            case "html":
                return web.Response(text="<html>", content_type="text/html")
            case "huge":
                return result({"content": [{"type": "text", "text": "x" * 3_000_000}]})
            case "status":
                return web.Response(status=401, text=f"who is {request.headers.get('Authorization')}?")
            case "away":
                raise web.HTTPTemporaryRedirect("http://127.0.0.1:1/mcp?secret=1")
            case "hang_up":
                request.transport.abort()
            case "gateway":
                return web.Response(status=504)
            case "packed":
                return web.Response(
                    body=PACKED, headers={"Content-Type": "application/json", "Content-Encoding": "gzip"}
                )
            case "fault":
                return web.Response(status=500, text="oops")
            case "edge":
                told = [{"type": "text", "text": "x" * 1990 + str(request.headers.get("Authorization"))}]
                return result({"content": told, "isError": True})
            case "busy":
                return web.Response(status=429)
            case "words":
                return web.json_response(
                    {"jsonrpc": "2.0", "id": None, "error": {"code": 7, "message": "no"}}, status=400
                )
            case "cut":
                response = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": "1000"})
                await response.prepare(request)
                await response.write(b"{")
                request.transport.close()
                return response
        return result({"content": [{"type": "text", "text": json.dumps(name)}]})


async def test_request_that_fails_is_that_requests_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAR_TOKEN", SECRET)
    monkeypatch.setattr("services.tools.sources.breaker.Breaker.open", False)
    headers = {"Authorization": {"env": "FAR_TOKEN", "prefix": "Bearer "}, "X-Team": "blue"}
    stories = {
        "fine": (SUCCEEDED, "fine"),
        "html": (FAILED, "Unexpected content type: text/html"),
        "huge": (UNKNOWN, "the tool ran, but the answer has more than 1048576 bytes; ask for less"),
        "status": (FAILED, "the MCP server refused the request (HTTP 401)"),
        "away": (FAILED, "not followed"),
        "hang_up": (UNKNOWN, "the MCP server did not answer; whether it had its effect is unknown"),
        "gateway": (UNKNOWN, "the MCP server did not answer (HTTP 504)"),
        "busy": (FAILED, "not run: the MCP server did not take the call (HTTP 429)"),
        "cut": (UNKNOWN, "whether it had its effect is unknown"),
        "words": (FAILED, "no"),
        "packed": (UNKNOWN, "the MCP server answered in an encoding that was not asked for"),
        "fault": (UNKNOWN, "the MCP server did not answer (HTTP 500); whether it had its effect is unknown"),
        "edge": (FAILED, "xxx"),  # what it was sent stands where its words are cut
    }
    endpoint = Endpoint()
    with capture_logs() as logs:
        async with http_server(endpoint.app) as address:
            async with running(tmp_path, [source(f"{address}/mcp", headers=headers)]) as sources:
                assert sources.registry.problems == []
                results = await asyncio.gather(*(sources.call(name) for name in stories for _ in range(2)))
                for number, result in enumerate(results):
                    name = [*stories][number // 2]
                    outcome, said = stories[name]
                    assert result.outcome == outcome, (name, result)
                    assert said in (result.output_json or result.error), (name, result)
                    assert "secret=1" not in result.error
                    assert SECRET[:4] not in result.error
                with telemetry.within(telemetry.context_from({"traceparent": TRACEPARENT})):
                    await sources.output("fine")
                assert endpoint.headers[-1]["traceparent"] == TRACEPARENT
                assert endpoint.meta["traceparent"] == TRACEPARENT
                assert endpoint.seen["initialize"] == 1  # the connection held
                assert all(headers["Authorization"] == f"Bearer {SECRET}" for headers in endpoint.headers)
                assert all(headers["X-Team"] == "blue" for headers in endpoint.headers)
            assert endpoint.seen["deleted"] == 1
    assert SECRET not in repr(logs)


async def test_server_that_forgot_the_session_is_connected_anew(tmp_path: Path) -> None:
    endpoint = Endpoint()
    async with (
        http_server(endpoint.app) as address,
        running(tmp_path, [source(f"{address}/mcp")], longest_pause=0.2) as sources,
    ):
        await sources.output("fine")
        endpoint.session = "two"
        assert (await sources.call("fine")).error == "not run: the MCP server did not take the call (HTTP 404)"

        async def works() -> bool:
            return (await sources.call("fine")).outcome == SUCCEEDED

        await eventually(works, timeout=30)
        assert endpoint.seen["initialize"] == 2


@pytest.mark.parametrize(
    ("path", "problem"),
    [("/html", "Unexpected content type: text/html"), ("/refused", "refused the request (HTTP 403)"), ("/none", "")],
)
async def test_address_that_is_no_server_says_so(tmp_path: Path, path: str, problem: str) -> None:
    app = web.Application()

    async def html(_: web.Request) -> web.Response:
        return web.Response(text="<html>", content_type="text/html")

    async def refused(_: web.Request) -> web.Response:
        return web.Response(status=403, text="<html>")

    app.router.add_post("/html", html)
    app.router.add_post("/refused", refused)
    async with http_server(app) as address, running(tmp_path, [source(f"{address}{path}")]) as sources:
        [said] = sources.registry.problems
        assert said.startswith("source far: ")
        assert problem in said
