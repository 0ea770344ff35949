"""HTTP services behind an OpenAPI document, on real sockets: the model gets short errors, and nobody else notices."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
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
from tests.tools.sources.conftest import (
    EXAMPLES,
    FAILED,
    MAX_RESULT,
    SUCCEEDED,
    TIMED_OUT,
    UNKNOWN,
    http_server,
    running,
)

SECRET = "k3y-of-the-shop"
PACKED = gzip.compress(b" " * 20_000_000)
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Shop:
    """A service that behaves as its path says."""

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()
        self.requests: list[web.Request] = []
        self.app = web.Application()
        self.app.router.add_route("*", "/{what:.*}", self.serve)
        self.elsewhere = ""
        self.cancelled = asyncio.Event()

    async def serve(self, request: web.Request) -> web.StreamResponse:
        what = request.match_info["what"]
        self.seen[what] += 1
        self.requests.append(request)
        match what:
            case "json":
                return web.json_response({"method": request.method, "query": dict(request.query)})
            case "echo":
                return web.json_response({"headers": dict(request.headers), "key": request.query.get("key")})
            case "text":
                return web.Response(text="x" * 90_000)
            case "html" | "html_post" | "login":
                return web.Response(text="<html>Log in</html>", content_type="text/html")
            case "picture" | "picture_post":
                return web.Response(body=b"\x89PNG", content_type="image/png")
            case "empty":
                return web.Response(status=204)
            case "lies" | "lies_post":
                return web.Response(text="{not json", content_type="application/json")
            case "nan" | "nan_post":
                return web.Response(text='{"a": NaN}', content_type="application/json")
            case "large" | "large_post":
                return web.json_response(["x" * 1000] * 1000)
            case "endless":
                response = web.StreamResponse(headers={"Content-Type": "application/json"})
                await response.prepare(request)
                while True:
                    await response.write(b" " * 65536)
            case "missing" | "missing_post":
                return web.json_response({"error": {"message": "no such thing; try 4711"}}, status=404)
            case "invalid":
                return web.json_response({"detail": [{"loc": ["body", "day"], "msg": "is over"}]}, status=422)
            case "edge":
                words = "x" * 390 + str(request.query.get("key"))
                return web.json_response({"message": words}, status=400)
            case "packed":
                return web.Response(
                    body=PACKED, headers={"Content-Type": "application/json", "Content-Encoding": "gzip"}
                )
            case "page" | "page_post":
                return web.Response(text="<html>" + "x" * 100_000, status=500, content_type="text/html")
            case "moved" | "moved_post":
                raise web.HTTPTemporaryRedirect("/json")
            case "away":
                raise web.HTTPTemporaryRedirect(f"{self.elsewhere}/json?from=here")
            case "see_other" | "see_other_post":
                raise web.HTTPSeeOther("/json")
            case "hangs":
                try:
                    await asyncio.sleep(60)
                except asyncio.CancelledError:
                    self.cancelled.set()
                    raise
            case "hang_up" | "hang_up_post":
                assert request.transport is not None
                request.transport.abort()
            case "flaky":
                if self.seen[what] < 3:
                    return web.Response(status=503)
                return web.json_response({"after": self.seen[what]})
            case "busy" | "busy_post":
                return web.Response(status=503)
            case "gateway_post":
                return web.Response(status=504)
        return web.Response(status=500)


def document(address: str, *paths: str, **post: Any) -> dict[str, Any]:
    get = {"parameters": [{"name": "q", "in": "query", "schema": {"type": "string"}}]}
    every: dict[str, Any] = {f"/{path}": {"get": {"operationId": path, **get}} for path in paths}
    every |= {f"/{path}": {"post": {"operationId": path}} for path in post}
    return {"openapi": "3.1.0", "servers": [{"url": address}], "paths": every}


def source(folder: Path, content: dict[str, Any], **settings: Any) -> dict[str, Any]:
    (folder / "shop.json").write_text(json.dumps(content))
    return {"name": "shop", "kind": "openapi", "document": "shop.json", **settings}


async def test_service_that_misbehaves_disturbs_no_other_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_KEY", SECRET)
    stories = {
        "json": (SUCCEEDED, '{"method":"GET","query":{"q":"a b&c","key":"[secret]"}}'),
        "text": (SUCCEEDED, "cut off: "),
        "empty": (SUCCEEDED, '{"status":204}'),
        "html": (FAILED, "127.0.0.1 answered with a web page instead of JSON (HTTP 200)"),
        "picture": (FAILED, "127.0.0.1 answered with image/png, not with JSON"),
        "lies": (FAILED, "says that it answers in JSON, but does not"),
        "nan": (FAILED, "JSON cannot say"),
        "large": (FAILED, f"the answer has more than {MAX_RESULT} bytes; ask for less"),
        "endless": (FAILED, f"the answer has more than {MAX_RESULT} bytes; ask for less"),
        "missing": (FAILED, "no such thing; try 4711 (HTTP 404 Not Found)"),
        "invalid": (FAILED, "body.day: is over (HTTP 422 Unprocessable Entity)"),
        "page": (FAILED, "127.0.0.1 refused the request (HTTP 500 Internal Server Error)"),
        "moved": (FAILED, "redirected the request (HTTP 307), which is not followed"),
        "hangs": (TIMED_OUT, "no result within 1 s"),
        "flaky": (SUCCEEDED, '{"after":3}'),
        "busy": (FAILED, "not run: 127.0.0.1 is overloaded (HTTP 503)"),
        "busy_post": (FAILED, "not run: 127.0.0.1 is overloaded (HTTP 503)"),
        "gateway_post": (UNKNOWN, "did not answer (HTTP 504); whether it had its effect is unknown"),
        "edge": (FAILED, "xxx"),  # what it was sent stands where its words are cut
        "packed": (FAILED, f"the answer has more than {MAX_RESULT} bytes; ask for less"),
        "missing_post": (FAILED, "no such thing; try 4711 (HTTP 404 Not Found)"),
        "moved_post": (FAILED, "redirected the request (HTTP 307), which is not followed"),
        # They may have had their effect: who asks again is to know that.
        "html_post": (
            UNKNOWN,
            "answered with a web page instead of JSON (HTTP 200); whether it had its effect is unknown",
        ),
        "picture_post": (UNKNOWN, "answered with image/png, not with JSON; whether it had its effect is unknown"),
        "lies_post": (UNKNOWN, "says that it answers in JSON, but does not; whether it had its effect is unknown"),
        "nan_post": (UNKNOWN, "the tool ran, but result.a is nan, which JSON cannot say"),
        "large_post": (UNKNOWN, f"more than {MAX_RESULT} bytes; ask for less; whether it had its effect is unknown"),
        "page_post": (UNKNOWN, "(HTTP 500 Internal Server Error); whether it had its effect is unknown"),
        "see_other_post": (UNKNOWN, "(HTTP 303), which is not followed; whether it had its effect is unknown"),
        "hang_up": (FAILED, "127.0.0.1 did not answer ("),
        "hang_up_post": (UNKNOWN, "whether it had its effect is unknown"),
    }
    shop = Shop()
    posts = dict.fromkeys(name for name in stories if name.endswith("_post"))
    with capture_logs() as logs:
        async with http_server(shop.app) as address:
            content = document(address, *(stories.keys() - posts.keys()), "echo", **posts)
            settings = source(tmp_path, content, auth={"api_key": {"env": "SHOP_KEY"}, "name": "key", "in": "query"})
            # One breaker a source: here each story is to be heard.
            monkeypatch.setattr("services.tools.sources.breaker.Breaker.open", False)
            settings["tools"] = {"hangs": {"timeout": "1s"}}
            async with running(tmp_path, [settings]) as sources:
                assert sources.registry.problems == []
                wanted = {name: {} if name in posts else {"q": "a b&c"} for name in stories}
                results = await asyncio.gather(*(sources.call(name, wanted[name]) for name in stories))
                for (name, (outcome, said)), result in zip(stories.items(), results, strict=True):
                    assert result.outcome == outcome, (name, result)
                    assert said in (result.output_json or result.error), (name, result)
                    assert SECRET[:4] not in repr(result)
                assert shop.seen["busy"] == 3  # idempotent: tried again
                assert all(shop.seen[name] == 1 for name in posts)
                await asyncio.wait_for(shop.cancelled.wait(), 10)  # the deadline ends the request
                with telemetry.within(telemetry.context_from({"traceparent": TRACEPARENT, "tracestate": "us=1"})):
                    echoed = await sources.output("echo")
                assert echoed["key"] == "[secret]"
                assert (echoed["headers"]["traceparent"], echoed["headers"]["tracestate"]) == (TRACEPARENT, "us=1")
                declared = sources.registry.get("json")
                assert declared is not None
                assert list(declared.parameters["properties"]) == ["q"]
    assert SECRET not in repr(logs)


@pytest.mark.parametrize("auth", [{"bearer": {"file": "token"}}, {"api_key": {"file": "token"}}])
async def test_credentials_come_from_a_file_and_go_where_they_belong(tmp_path: Path, auth: dict[str, Any]) -> None:
    (tmp_path / "token").write_text(f"{SECRET}\n")
    shop = Shop()
    async with http_server(shop.app) as address:
        content = document(address, "json")
        content["components"] = {"securitySchemes": {"k": {"type": "apiKey", "in": "header", "name": "X-Key"}}}
        named = {"name": "X-Key", "in": "header", "schema": {"type": "string"}}
        content["paths"]["/json"]["get"]["parameters"].append(named)
        async with running(tmp_path, [source(tmp_path, content, auth=auth)]) as sources:
            tool = sources.registry.get("json")
            assert tool is not None
            assert ("X-Key" in tool.parameters["properties"]) == ("bearer" in auth)
            await sources.output("json")
            headers = shop.requests[0].headers
            assert headers.get("Authorization" if "bearer" in auth else "X-Key") == (
                f"Bearer {SECRET}" if "bearer" in auth else SECRET
            )


async def test_redirects_are_followed_within_the_service_only(tmp_path: Path) -> None:
    shop, other = Shop(), Shop()
    async with http_server(shop.app) as address, http_server(other.app) as elsewhere:
        shop.elsewhere = elsewhere
        content = document(address, "moved", "away", "see_other")
        content["paths"]["/moved"]["post"] = {"operationId": "moved_post"}
        content["paths"]["/see_other"]["post"] = {"operationId": "see_other_post"}
        async with running(tmp_path, [source(tmp_path, content, redirects="same_origin")]) as sources:
            assert (await sources.output("moved"))["method"] == "GET"
            assert (await sources.output("see_other"))["method"] == "GET"
            assert (await sources.output("moved_post"))["method"] == "POST"
            for name in ("away", "see_other_post"):
                assert "to where it is not followed" in (await sources.call(name)).error
            assert not other.seen


async def test_post_carries_the_key_of_the_call(tmp_path: Path) -> None:
    shop = Shop()
    async with (
        http_server(shop.app) as address,
        running(tmp_path, [source(tmp_path, document(address, echo=None))]) as sources,
    ):
        told = await sources.output("echo", idempotency_key="claim-7")
        assert told["headers"]["Idempotency-Key"] == "claim-7"


async def test_breaker_spares_a_service_that_is_down_and_lets_it_come_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.tools.sources.breaker.PAUSE", 0.3)
    monkeypatch.setattr("services.tools.sources.breaker.Breaker.__init__.__defaults__", (5, 0.3))
    shop = Shop()
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
    settings = source(tmp_path, document(f"http://127.0.0.1:{port}", "json"), retries=0)
    async with running(tmp_path, [settings]) as sources:
        for _ in range(5):
            assert (await sources.call("json")).error == "not run: 127.0.0.1 cannot be reached"
        assert (await sources.call("json")).error.startswith("not run: shop keeps failing; try again in ")
        async with http_server(shop.app, port):

            async def works() -> bool:
                return (await sources.call("json")).outcome == SUCCEEDED

            await eventually(works, timeout=30)
            for _ in range(3):
                assert await works()


async def test_document_behind_an_address_is_waited_for(tmp_path: Path) -> None:
    shop = Shop()
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    content = document("/v2", "json") | {"servers": [{"url": "/{base}", "variables": {"base": {"default": ""}}}]}

    async def give(_: web.Request) -> web.Response:
        return web.json_response(content)

    settings = {"name": "shop", "kind": "openapi", "document": f"{address}/openapi.json"}
    app = web.Application()
    app.router.add_get("/openapi.json", give)
    app.router.add_get("/json", shop.serve)
    async with running(tmp_path, [settings]) as sources:
        [problem] = sources.registry.problems
        assert problem == "source shop: the document cannot be fetched: ClientConnectorError"
        app.router.add_get("/{what}", shop.serve)
        async with http_server(app, port):
            await eventually(lambda: sources.names == ["json"], timeout=30)
            assert sources.registry.problems == []


@pytest.mark.parametrize(
    ("content", "settings", "problem"),
    [
        ({"swagger": "2.0"}, {}, "expected an OpenAPI document of version 3.0 or 3.1, found swagger: '2.0'"),
        ({"openapi": "3.1.0", "paths": {}}, {}, "the document's server '' is no http(s) address: set `base_url`"),
        ({"openapi": "3.1.0", "paths": {}}, {"document": "none.json"}, "none.json cannot be read: No such file"),
        (
            {"openapi": "3.1.0", "paths": {}},
            {"auth": {"api_key": {"env": "HOME"}}},
            "does not say where the API key goes: set `name` and `in` of `auth`",
        ),
    ],
)
async def test_source_that_cannot_be_used_says_why(
    tmp_path: Path, content: dict[str, Any], settings: dict[str, Any], problem: str
) -> None:
    async with running(tmp_path, [source(tmp_path, content, **settings)]) as sources:
        assert sources.names == []
        [said] = sources.registry.problems
        assert problem in said


async def test_example_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOOKINGS_KEY", SECRET)
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
    command = bound(sys.executable, EXAMPLES / "bookings.py", port)
    process = subprocess.Popen(command, env={**os.environ, "BOOKINGS_KEY": SECRET})  # noqa: ASYNC220 - it starts at once
    settings = {
        "name": "bookings",
        "kind": "openapi",
        "document": str(EXAMPLES / "bookings.yaml"),
        "base_url": f"http://127.0.0.1:{port}",
        "auth": {"api_key": {"env": "BOOKINGS_KEY"}},
        "retries": 5,
    }
    try:
        async with running(tmp_path, [settings]) as sources:
            assert sources.registry.problems == []

            async def up() -> bool:
                return (await sources.call("list_rooms")).outcome == SUCCEEDED

            await eventually(up, timeout=60)
            rooms = await sources.output("list_rooms", {"min_seats": 7})
            assert rooms == {"rooms": [{"room": "green", "seats": 12}]}
            booking = {"room": "green", "day": "2026-12-01", "name": "Ada"}
            assert await sources.output("book_room", booking) == booking
            taken = await sources.call("book_room", booking | {"name": "Bob"})
            assert taken.error == "Ada has it on that day (HTTP 409 Conflict)"
            wrong = await sources.call("book_room", booking | {"day": "tomorrow"})
            assert wrong.error.startswith("wrong arguments: day: ")
            assert await sources.output("cancel_booking", {"room": "green", "day": "2026-12-01"}) == {"status": 204}
            assert await sources.output("book_room", booking | {"name": "Bob"}) == booking | {"name": "Bob"}
    finally:
        process.kill()
        process.wait()
