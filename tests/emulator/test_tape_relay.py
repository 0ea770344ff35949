"""The recorder between clients and endpoints that do what they like: what passes, passes as it came."""

import asyncio
import json
import ssl
import struct
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import WSMsgType, web

from tests.emulator.behaviour import behaviour, patched
from tests.emulator.patience import LIMIT, Patience, in_time
from tests.emulator.taping import PATH, dialled, endpoint, lines, received, recording, upgraded
from tests.support.eventually import eventually

KEY = "AIzaSyD-0123456789abcdefghijklmnopqrstu"


async def echo(request: web.Request) -> web.StreamResponse:
    """Every frame back, as it was; a close with the same code and reason."""
    socket = upgraded(compress=request.query.get("deflate") == "1", protocols=("live.v2",))
    await socket.prepare(request)
    async for message in socket:
        await socket.send_frame(message.data, message.type)
    code = struct.pack("!H", socket.close_code) if socket.close_code else b""
    await socket.send_frame(code, WSMsgType.CLOSE)
    return socket


def frames(path: Path) -> list[tuple[Any, ...]]:
    """Direction, transport and frame of all but the handshakes and the recorder's own notes."""
    kept = [one for one in lines(path) if one["transport"] not in ("http-upgrade", "none")]
    return [(one["direction"][:6], one["transport"], one["frame"]) for one in kept]


def as_text(side: Any, data: bytes, _: WSMsgType) -> Any:
    return side.socket.send_frame(data, WSMsgType.TEXT)


@behaviour("tape.bytes", off=patched("emulator.tape.sides.Side.send", as_text))
@pytest.mark.parametrize("deflate", [0, 1])
async def test_frames_headers_and_subprotocols_pass_as_they_came(tmp_path: Path, deflate: int) -> None:
    asked: list[web.Request] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        asked.append(request)
        return await echo(request)

    sent = [
        (b'{"setup": {}}', WSMsgType.TEXT),
        (b'{"setup": {}}', WSMsgType.BINARY),
        (b"", WSMsgType.TEXT),
        (b"\xff\x00 no utf-8", WSMsgType.TEXT),
        (b"", WSMsgType.BINARY),
        (bytes(range(256)) * 1024, WSMsgType.BINARY),
        (b'{ "a" :\t1, "a": 2}', WSMsgType.TEXT),
    ]
    path = f"//prefix{PATH}?key={KEY}&deflate={deflate}&q=%2Fx+y"
    headers = {"X-Extra": "1", "User-Agent": "an sdk", "Authorization": f"Bearer {KEY}"}
    out = tmp_path / "tape"
    async with endpoint(handler) as upstream, recording(upstream, out) as recorder:
        options = {"protocols": ("live.v1", "live.v2"), "compress": 15, "headers": headers}
        async with dialled(recorder.ready(), path, **options) as socket:
            assert socket.protocol == "live.v2"
            assert bool(socket.compress) == bool(deflate)
            for data, opcode in sent:
                await socket.send_frame(data, opcode)
                assert await received(socket) == (opcode, data, "")
    (request,) = asked
    assert request.raw_path == path
    told = {name: request.headers[name] for name in headers}
    assert told == headers
    assert "Accept-Encoding" not in request.headers or request.headers["Accept-Encoding"] == "identity"
    handshake, answer = (one for one in lines(out) if one["transport"] == "http-upgrade")
    assert (handshake["frame"]["negotiated_ext"] is None) == (deflate == 0)
    assert answer["frame"]["status"] == 101
    assert KEY not in out.read_text()
    transports = ["ws-text" if opcode is WSMsgType.TEXT else "ws-binary" for _, opcode in sent]
    assert [one[:2] for one in frames(out)][: 2 * len(sent)] == [
        (side, transport) for transport in transports for side in ("client", "server")
    ]


def normal_close(socket: Any, *_: Any) -> Any:
    return socket.send_frame(struct.pack("!H", 1000), WSMsgType.CLOSE)


@behaviour("tape.closes", off=patched("emulator.tape.sides.send_close", normal_close))
@pytest.mark.parametrize(("code", "reason"), [(1000, ""), (1011, "Deadline expired"), (4321, "ü" * 61), (None, "")])
@pytest.mark.parametrize("by", ["client", "server"])
async def test_close_codes_and_reasons_pass_in_both_directions(
    tmp_path: Path, by: str, code: int | None, reason: str
) -> None:
    payload = struct.pack("!H", code) + reason.encode() if code else b""
    answered: list[Any] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        socket = upgraded()
        await socket.prepare(request)
        if by == "server":
            await socket.send_frame(payload, WSMsgType.CLOSE)
        answered.append(await received(socket))
        if by == "client":
            # What it had to say still comes before its answer.
            await socket.send_bytes(b"late")
            await socket.send_frame(struct.pack("!H", 1001) + b"me too", WSMsgType.CLOSE)
        return socket

    out = tmp_path / "tape"
    async with endpoint(handler) as upstream, recording(upstream, out) as recorder:
        async with dialled(recorder.ready()) as socket:
            if by == "client":
                await socket.send_frame(payload, WSMsgType.CLOSE)
                assert await received(socket) == (WSMsgType.BINARY, b"late", "")
                assert await received(socket) == (WSMsgType.CLOSE, 1001, "me too")
            else:
                assert await received(socket) == (WSMsgType.CLOSE, code or 0, reason)
                await socket.send_frame(struct.pack("!H", 1001) + b"me too", WSMsgType.CLOSE)
        await eventually(lambda: answered, LIMIT)
    first = {"code": code or 1005, "reason": reason}
    assert answered == [(WSMsgType.CLOSE, code or 0, reason) if by == "client" else (WSMsgType.CLOSE, 1001, "me too")]
    closes = [one for one in frames(out) if one[1] == "ws-close"]
    other = "server" if by == "client" else "client"
    assert closes == [(by, "ws-close", first), (other, "ws-close", {"code": 1001, "reason": "me too"})]


@behaviour("tape.refusals", off=patched("emulator.tape.upstream._RefusedError", ZeroDivisionError))
@pytest.mark.parametrize("status", [302, 401, 403, 429, 503])
async def test_a_refused_upgrade_is_passed_on_with_its_body(tmp_path: Path, status: int) -> None:
    body = {"error": {"code": status, "message": f"not with {KEY}", "status": "NO"}}

    async def handler(request: web.Request) -> web.StreamResponse:
        headers = {"Retry-After": "7", "Location": "https://elsewhere.invalid/"}
        return web.json_response(body, status=status, headers=headers, reason="Because")

    out = tmp_path / "tape"
    async with endpoint(handler) as upstream, recording(upstream, out) as recorder, aiohttp.ClientSession() as http:
        where = recorder.ready()
        context = ssl.create_default_context(cafile=where["ca_file"])
        headers = {
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
            "x-goog-api-key": KEY,
        }
        url = where["address"] + PATH
        async with http.get(url, ssl=context, headers=headers, allow_redirects=False) as response:
            assert (response.status, response.reason) == (status, "Because")
            assert await response.json() == body
            assert response.headers["Retry-After"] == "7"
    (answer,) = [one for one in lines(out) if one["label"].startswith("handshake response")]
    assert answer["frame"]["status"] == status
    assert answer["frame"]["body"]["error"]["message"] == "not with key-1"


async def test_an_endpoint_that_cannot_be_reached_is_a_bad_gateway(tmp_path: Path) -> None:
    async with endpoint(echo) as upstream:
        pass
    out = tmp_path / "tape"
    # Its port is closed by now.
    async with recording({"address": upstream["address"]}, out) as recorder:
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            async with dialled(recorder.ready()):
                pass
    assert caught.value.status == 502
    (answer,) = [one for one in lines(out) if one["label"] == "handshake response 502"]
    assert answer["frame"]["body"].startswith(f"the recorder cannot reach {upstream['address']}: ")


@behaviour("tape.pings", off=patched("emulator.tape.relay.RELAYED", {WSMsgType.TEXT, WSMsgType.BINARY}))
async def test_pings_are_for_the_other_side_to_answer(tmp_path: Path) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        socket = upgraded()
        await socket.prepare(request)
        assert await received(socket) == (WSMsgType.PING, b"there?", "")
        await socket.send_bytes(b"busy")
        await socket.pong(b"there?")
        await socket.ping(b"and you?")
        assert await received(socket) == (WSMsgType.PONG, b"I am", "")
        await socket.send_bytes(b"good")
        await socket.close(code=1000)
        return socket

    out = tmp_path / "tape"
    async with (
        endpoint(handler) as upstream,
        recording(upstream, out) as recorder,
        dialled(recorder.ready()) as socket,
    ):
        await socket.ping(b"there?")
        assert await received(socket) == (WSMsgType.BINARY, b"busy", "")
        assert await received(socket) == (WSMsgType.PONG, b"there?", "")
        assert await received(socket) == (WSMsgType.PING, b"and you?", "")
        await socket.pong(b"I am")
        assert await received(socket) == (WSMsgType.BINARY, b"good", "")
    written = [one for one in lines(out) if one["transport"] in ("ws-ping", "ws-pong")]
    assert [one["frame"] for one in written] == ["there?", "there?", "and you?", "I am"]
    assert [one["opcode"] for one in written] == [9, 10, 9, 10]


@behaviour("tape.vanishing", off=patched("emulator.tape.sides.Side.hang_up", lambda self, limit: None))
@pytest.mark.parametrize("who", ["client", "server"])
async def test_a_side_that_vanishes_takes_the_other_along_and_leaves_nothing(tmp_path: Path, who: str) -> None:
    ended: list[Any] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        socket = upgraded()
        await socket.prepare(request)
        await socket.send_bytes(b"hello")
        if who == "server":
            assert request.transport is not None
            request.transport.abort()
        ended.append((await received(socket))[0])
        return socket

    out = tmp_path / "tape"
    async with endpoint(handler) as upstream, recording(upstream, out) as recorder:
        before = len(asyncio.all_tasks())
        async with dialled(recorder.ready()) as socket:
            assert await received(socket) == (WSMsgType.BINARY, b"hello", "")
            if who == "client":
                transport = socket._response.connection.transport  # type: ignore[union-attr]
                assert transport is not None
                transport.abort()
            else:
                async with in_time():
                    assert (await socket.receive()).type in (WSMsgType.CLOSED, WSMsgType.ERROR)
                assert socket.close_code == 1006
        await eventually(lambda: ended, Patience.seconds(in_vain=0.7))
        await eventually(
            lambda: len(asyncio.all_tasks()) <= before and not recorder.relays, Patience.seconds(in_vain=0.7)
        )
    assert ended[0] in (WSMsgType.CLOSED, WSMsgType.ERROR, WSMsgType.CLOSING)
    assert [one[:2] for one in frames(out)] == [("server", "ws-binary"), (who, "tcp")]


async def send_later(side: Any, data: bytes, opcode: WSMsgType) -> None:
    asyncio.create_task(side.socket.send_frame(data, opcode))  # noqa: RUF006 - what is wrong with it is the point


@behaviour("tape.backpressure", off=patched("emulator.tape.sides.Side.send", send_later))
async def test_a_client_that_does_not_read_holds_its_endpoint_back(tmp_path: Path) -> None:
    piece, pieces = bytes(256 * 1024), 256
    sent = looks = 0

    async def handler(request: web.Request) -> web.StreamResponse:
        nonlocal sent, looks
        socket = upgraded()
        await socket.prepare(request)
        for _ in range(pieces):
            await socket.send_bytes(piece)
            sent, looks = sent + 1, 0
        await socket.close()
        return socket

    def stood_still() -> bool:
        # Counted in turns of the loop, in each of which it might have gone on: seconds also pass on a busy machine.
        nonlocal looks
        looks += 1
        return sent > 0 and looks > 20

    async with (
        endpoint(handler) as upstream,
        recording(upstream, tmp_path / "tape", max_bytes=2**20) as recorder,
        dialled(recorder.ready()) as socket,
    ):
        await eventually(stood_still, LIMIT)
        # What the kernel and four buffers of a few hundred kilobytes hold.
        assert sent < pieces / 2
        for _ in range(pieces):
            assert len((await received(socket))[1]) == len(piece)
        assert (await received(socket))[0] is WSMsgType.CLOSE


@behaviour("tape.stop", off=patched("emulator.tape.relay.Relay.stop", lambda self: self._client.transport.abort()))
async def test_a_recorder_that_stops_tells_both_sides(tmp_path: Path) -> None:
    ended: list[Any] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        socket = upgraded()
        await socket.prepare(request)
        while (message := await received(socket))[0] is WSMsgType.BINARY:
            pass
        ended.append(message)
        await socket.close()
        return socket

    out = tmp_path / "tape"
    async with endpoint(handler) as upstream:
        async with recording(upstream, out) as recorder, dialled(recorder.ready()) as socket:
            await socket.send_bytes(b"in the middle")
            await eventually(lambda: len(lines(out)) == 4, LIMIT)
            stopping = asyncio.create_task(recorder.__aexit__(None, None, None))
            goodbye = await received(socket)
            await socket.close()
            await stopping
        assert goodbye == (WSMsgType.CLOSE, 1001, "The recorder is stopping.")
        await eventually(lambda: ended, LIMIT)
        assert ended == [goodbye]
    assert [one["label"] for one in lines(out)][-2:] == ["the recorder was stopped", "end of the recording"]


@behaviour("tape.rest", off=patched("emulator.tape.upstream._end_to_end", lambda headers: []))
async def test_plain_requests_pass_and_their_secrets_are_not_kept(tmp_path: Path) -> None:
    asked: list[tuple[str, str, str | None, bytes]] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        asked.append((request.method, request.raw_path, request.headers.get("x-goog-api-key"), await request.read()))
        if request.method == "GET":
            raise web.HTTPFound("https://elsewhere.invalid/", text="moved")
        return web.json_response({"name": "auth_tokens/c0ffee", "uses": 1}, headers={"X-Told": "yes"})

    out = tmp_path / "tape"
    async with endpoint(handler) as upstream, recording(upstream, out) as recorder:
        where = recorder.ready()
        context = ssl.create_default_context(cafile=where["ca_file"])
        async with aiohttp.ClientSession(where["address"], connector=aiohttp.TCPConnector(ssl=context)) as http:
            headers = {"x-goog-api-key": KEY, "Content-Type": "application/json"}
            tokens = f"/v1beta/auth_tokens?alt=json&key={KEY}"
            async with http.post(tokens, data=b'{"uses": 1}', headers=headers) as response:
                assert await response.json() == {"name": "auth_tokens/c0ffee", "uses": 1}
                assert response.headers["X-Told"] == "yes"
            async with http.post(tokens, headers=headers) as response:
                assert response.status == 200
            async with http.get("/v1beta/models", headers=headers, allow_redirects=False) as response:
                assert (response.status, await response.text()) == (302, "moved")
    assert asked == [
        ("POST", tokens, KEY, b'{"uses": 1}'),
        ("POST", tokens, KEY, b""),
        ("GET", "/v1beta/models", KEY, b""),
    ]
    text = out.read_text()
    assert KEY not in text and "c0ffee" not in text
    written = [one for one in lines(out) if one["transport"] == "http"]
    assert [(one["exchange"], one["direction"]) for one in written] == [
        (number, side) for number in (1, 2, 3) for side in ("client->server", "server->client")
    ]
    assert written[0]["frame"]["path"] == "/v1beta/auth_tokens?alt=json&key=key-1"
    assert written[0]["frame"]["body"] == {"uses": 1}
    assert written[1]["frame"] == {"name": "auth_tokens/token-1", "uses": 1}
    assert (written[5]["status"], written[5]["frame"]) == (302, "moved")


async def test_a_client_that_leaves_while_its_endpoint_is_dialled_leaves_nothing(tmp_path: Path) -> None:
    asked, left = asyncio.Event(), asyncio.Event()
    ended: list[Any] = []

    async def slow(request: web.Request) -> web.StreamResponse:
        asked.set()
        await left.wait()
        socket = upgraded()
        await socket.prepare(request)
        ended.append((await received(socket))[0])
        return socket

    out = tmp_path / "tape"
    async with endpoint(slow) as upstream, recording(upstream, out) as recorder:
        dialling = asyncio.create_task(dialled(recorder.ready()).__aenter__())
        async with in_time():
            await asked.wait()
        dialling.cancel()
        await asyncio.gather(dialling, return_exceptions=True)
        left.set()
        await eventually(lambda: ended, LIMIT)
        assert not recorder.relays
    assert ended[0] is not WSMsgType.CLOSE
    assert [one["label"] for one in lines(out)][1:-1] == ["handshake request", "lost without a close frame"]


async def test_what_is_no_proper_upgrade_is_for_the_endpoint_to_refuse(tmp_path: Path) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        return web.Response(status=426, text="a WebSocket is wanted here")

    async with endpoint(handler) as upstream, recording(upstream, tmp_path / "tape") as recorder:
        where = recorder.ready()
        context = ssl.create_default_context(cafile=where["ca_file"])
        headers = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "1"}
        url = where["address"] + PATH
        async with aiohttp.ClientSession() as http, http.get(url, ssl=context, headers=headers) as response:
            assert (response.status, await response.text()) == (426, "a WebSocket is wanted here")


async def test_a_message_beyond_the_limit_is_refused_with_1009(tmp_path: Path) -> None:
    async with (
        endpoint(echo) as upstream,
        recording(upstream, tmp_path / "tape", max_message_bytes=65536) as recorder,
        dialled(recorder.ready()) as socket,
    ):
        await socket.send_bytes(bytes(65537))
        kind, code, _ = await received(socket)
        assert (kind, code) == (WSMsgType.CLOSE, 1009)


async def test_relaying_goes_on_when_the_file_is_full(tmp_path: Path) -> None:
    out = tmp_path / "tape"
    async with (
        endpoint(echo) as upstream,
        recording(upstream, out, max_bytes=65536) as recorder,
        dialled(recorder.ready()) as socket,
    ):
        for number in range(40):
            text = json.dumps({"n": number, "x": "x" * 4000}).encode()
            await socket.send_frame(text, WSMsgType.TEXT)
            assert await received(socket) == (WSMsgType.TEXT, text, "")
    assert out.stat().st_size <= 65536
    assert lines(out)[-2]["label"].startswith("full")
