import asyncio
import json
import secrets
from typing import Any

import aiohttp
import pytest

from emulator import texts
from emulator.endpoint import handshake
from emulator.endpoint.handshake import Credential, Endpoint, valid_conversation_id
from emulator.endpoint.head import FirstHead
from emulator.errors import reason_bytes
from emulator.server import Emulator
from emulator.settings import EmulatorSettings
from tests.emulator.behaviour import behaviour, patched
from tests.emulator.conftest import Here, running
from tests.emulator.patience import LIMIT, Patience, in_time
from tests.emulator.raw import PATH

BIDI = "ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent"
VERTEX = "/ws/google.cloud.aiplatform.v1beta1.LlmBidiService/BidiGenerateContent"
TOKEN = "auth_tokens/t"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (f"/{BIDI}", Endpoint("developer", "v1beta")),
        (f"//{BIDI}", Endpoint("developer", "v1beta")),
        (f"/some/prefix//{BIDI}", Endpoint("developer", "v1beta")),
        (f"/{BIDI.replace('v1beta', 'v1')}", Endpoint("developer", "v1")),
        (f"/{BIDI.replace('v1beta', 'v1alpha')}Constrained", Endpoint("developer", "v1alpha", constrained=True)),
        (VERTEX, Endpoint("vertex", "v1beta1")),
        (f"/p{VERTEX.replace('v1beta1', 'v1')}", Endpoint("vertex", "v1")),
        (f"/{BIDI.replace('v1beta', 'v2')}", None),
        (f"/{BIDI.replace('BidiGenerateContent', 'BidiGenerateMusic')}", None),
        (f"/x{BIDI}", None),
        ("/", None),
    ],
)
def test_paths(path: str, expected: Endpoint | None) -> None:
    assert handshake.endpoint(path) == expected


@behaviour("10.1", off=patched("emulator.endpoint.handshake.normalised", lambda path: path))
def test_repeated_slashes_count_as_one() -> None:
    assert handshake.endpoint(f"/prefix//ws//{BIDI.removeprefix('ws/')}") == Endpoint("developer", "v1beta")


@pytest.mark.parametrize(
    ("headers", "query", "expected"),
    [
        ({"x-goog-api-key": "k"}, {}, Credential("k", "api key")),
        ({}, {"key": "k"}, Credential("k", "api key")),
        ({}, {"access_token": "t"}, Credential("t", "access_token")),
        ({"authorization": "Bearer t"}, {}, Credential("t", "bearer")),
        ({"authorization": f"token {TOKEN}", "x-goog-api-key": "k"}, {}, Credential(TOKEN, "token")),
        ({"x-goog-api-key": "k"}, {"key": "other"}, Credential("k", "api key")),
        ({"authorization": "Basic t"}, {}, None),
        ({"authorization": "Bearer "}, {"key": ""}, None),
        ({"x-goog-api-key": " "}, {}, None),
        ({}, {}, None),
    ],
)
def test_credentials(headers: dict[str, str], query: dict[str, str], expected: Credential | None) -> None:
    assert handshake.credential(headers, query) == expected


KEY_REFUSED = (1007, texts.WRONG_KEY.text)
UNREGISTERED = (1008, texts.NO_KEY.text)


@pytest.mark.parametrize(
    ("given", "keys", "constrained", "refusal"),
    [
        (Credential("k", "api key"), set(), False, None),
        (Credential("k", "api key"), {"k"}, False, None),
        (Credential("k", "bearer"), {"k"}, False, None),
        (Credential("x", "api key"), {"k"}, False, KEY_REFUSED),
        (None, set(), False, UNREGISTERED),
        (None, {"k"}, True, UNREGISTERED),
        # A token on the plain method, as it was reported of the service.
        (Credential(TOKEN, "api key"), set(), False, KEY_REFUSED),
        (Credential(TOKEN, "access_token"), set(), False, UNREGISTERED),
        (Credential(TOKEN, "bearer"), set(), False, UNREGISTERED),
        # Each form of a token on the constrained method.
        (Credential(TOKEN, "token"), {"k"}, True, None),
        (Credential(TOKEN, "access_token"), {"k"}, True, None),
        (Credential(TOKEN, "api key"), {"k"}, True, None),
        (Credential("auth_tokens/unknown", "token"), set(), True, UNREGISTERED),
        (Credential("k", "api key"), {"k"}, True, UNREGISTERED),
    ],
)
def test_authorisation(
    given: Credential | None, keys: set[str], constrained: bool, refusal: tuple[int, str] | None
) -> None:
    refused = handshake.authorise(given, keys, tokens={TOKEN}, constrained=constrained)
    assert (refused and (refused.code, refused.text)) == refusal


@pytest.mark.parametrize(
    ("headers", "query", "path", "expected"),
    [
        ({}, {}, "/ws/x", {}),
        ({"x-emulator-scenario": "echo"}, {"x-emulator-scenario": "other"}, "", {"x-emulator-scenario": "echo"}),
        ({}, {"x-emulator-switches": "a=b"}, "/x-emulator-switches=c=d/ws/x", {"x-emulator-switches": "a=b"}),
        (
            {},
            {},
            "/app/x-emulator-switches=go_away=bare;%20strict=no/x-emulator-conversation=me/ws/x",
            {"x-emulator-switches": "go_away=bare; strict=no", "x-emulator-conversation": "me"},
        ),
        ({}, {}, "/x-emulator-scenario/x-other=1/ws/x", {}),
    ],
)
def test_wishes(headers: dict[str, str], query: dict[str, str], path: str, expected: dict[str, str]) -> None:
    assert handshake.wishes(headers, query, path) == expected


def test_conversation_ids() -> None:
    assert valid_conversation_id("ses_01ABC.d:e-f")
    assert not any(valid_conversation_id(bad) for bad in ("", "a/b", "x" * 129, "a b"))


_listen = Emulator.listen


async def _without_plain(self: Emulator, context: Any, port: int, _: int | None, **options: Any) -> None:
    await _listen(self, context, port, None, **options)


FORMS: dict[str, dict[str, Any]] = {
    "header": {"headers": {"x-goog-api-key": "k"}},
    "query": {"params": {"key": "k"}},
    "bearer": {"headers": {"authorization": "Bearer k"}},
    "access_token": {"params": {"access_token": "k"}},
}
OFF = patched("emulator.endpoint.handshake.credential", lambda headers, query: None)


async def first_frame(here: Here, path: str, model: str, **options: Any) -> Any:
    """What the emulator answers to a setup."""
    async with (
        aiohttp.ClientSession() as http,
        http.ws_connect(here.address + path, ssl=here.ssl_context, **options) as socket,
    ):
        await socket.send_str(json.dumps({"setup": {"model": model}}))
        return json.loads(await socket.receive_bytes(timeout=Patience.seconds()))


@behaviour("10.3", "13.1", off=OFF)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.asyncio(loop_scope="module")
async def test_a_key_is_taken_wherever_it_stands(here: Here, form: str) -> None:
    assert await first_frame(here, f"/{BIDI}", "models/gemini-3.8-live", **FORMS[form]) == {"setupComplete": {}}


@behaviour("10.3", off=patched("emulator.endpoint.handshake._VERTEX", handshake._DEVELOPER))
@pytest.mark.asyncio(loop_scope="module")
async def test_the_vertex_path_takes_a_bearer_token(here: Here) -> None:
    model = "publishers/google/models/gemini-3.8-live"
    assert await first_frame(here, VERTEX, model, **FORMS["bearer"]) == {"setupComplete": {}}


@behaviour("13.1", off=patched("emulator.endpoint.handshake.unquote", lambda segment: ""))
@pytest.mark.asyncio(loop_scope="module")
async def test_a_client_that_can_set_nothing_but_a_base_url_chooses_by_its_path(here: Here) -> None:
    conversation = secrets.token_hex(8)
    path = f"/x-emulator-conversation={conversation}/{BIDI}"
    await first_frame(here, path, "models/gemini-3.8-live", params={"key": "k"})
    assert conversation in [one["id"] for one in await here.get("/conversations")]


@pytest.mark.asyncio(loop_scope="module")
async def test_what_is_not_served_is_said_in_googles_form(here: Here) -> None:
    path = f"/{BIDI.replace('Content', 'Music')}"
    async with aiohttp.ClientSession() as http, http.get(here.address + path, ssl=here.ssl_context) as response:
        assert response.status == 404
        error = (await response.json())["error"]
    assert (error["code"], error["status"]) == (404, "NOT_FOUND")
    assert "BidiGenerateMusic" in error["message"]


@behaviour("clients.plain_port", off=patched("emulator.server.Emulator.listen", _without_plain))
@pytest.mark.asyncio(loop_scope="module")
async def test_a_port_without_tls_serves_the_same() -> None:
    async with Emulator(EmulatorSettings(plain_port=0)) as emulator, aiohttp.ClientSession() as http:
        plain = emulator.ready()["plain_address"]
        assert plain is not None
        async with http.ws_connect(f"{plain}/{BIDI}", params={"key": "k"}) as socket:
            await socket.send_str(json.dumps({"setup": {"model": "models/gemini-3.8-live"}}))
            assert json.loads(await socket.receive_bytes(timeout=Patience.seconds())) == {"setupComplete": {}}


@pytest.mark.asyncio(loop_scope="module")
async def test_a_refused_client_is_told_once_its_setup_came_or_soon_without(here: Here) -> None:
    # A client whose first send already fails reports that instead of the refusal.
    for frames in ([json.dumps({"setup": {"model": "models/gemini-3.8-live"}})], []):
        async with (
            aiohttp.ClientSession() as http,
            http.ws_connect(f"{here.address}/{BIDI}", ssl=here.ssl_context) as socket,
        ):
            for frame in frames:
                await socket.send_str(frame)
            message = await socket.receive(timeout=LIMIT)
            assert (message.data, message.extra) == (1008, reason_bytes(texts.NO_KEY.text).decode())


@pytest.mark.parametrize("name", ["User-Agent", "user-agent", "Content-Type"])
@pytest.mark.parametrize("pieces", [1, 7])
async def test_a_client_may_name_itself_twice(name: str, pieces: int) -> None:
    """As the SDK with websockets 13 and 14 does."""
    lines = {"Host": "localhost", "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
    head = "".join(f"{one}: {value}\r\n" for one, value in lines.items())
    key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nx-goog-api-key: key\r\n"
    request = f"GET {PATH} HTTP/1.1\r\n{head}{key}{name}: a\r\n{name}: b\r\n\r\n".encode()
    async with running(EmulatorSettings(plain_port=0)) as here:
        assert here.emulator.plain_port is not None
        reader, writer = await asyncio.open_connection("127.0.0.1", here.emulator.plain_port)
        for start in range(pieces):
            writer.write(request[start::pieces] if pieces == 1 else request[start * 60 : (start + 1) * 60])
            await writer.drain()
        writer.write(request[pieces * 60 :] if pieces > 1 else b"")
        async with in_time():
            assert (await reader.readline()).startswith(b"HTTP/1.1 101")
        writer.close()


class Behind(asyncio.Protocol):
    """What stands behind the head, and what it was told."""

    def __init__(self) -> None:
        self.told: list[bytes] = []

    def data_received(self, data: bytes) -> None:
        self.told.append(data)

    def eof_received(self) -> bool | None:
        self.told.append(b"the end")
        return None


@pytest.mark.parametrize("pieces", [[], [b"GET / HT"], [b"GET / HT", b"TP/1.1\r\nHost:"]])
def test_what_there_is_of_a_head_is_passed_on_when_nothing_more_comes(pieces: list[bytes]) -> None:
    behind = Behind()
    head = FirstHead(lambda: behind)
    for piece in pieces:
        head.data_received(piece)
    assert behind.told == []
    # Neither of them keeps the other direction open.
    assert not head.eof_received()
    assert behind.told == [*filter(None, [b"".join(pieces)]), b"the end"]


async def test_a_client_that_stops_in_its_head_is_let_go_at_once() -> None:
    async with running(EmulatorSettings(plain_port=0)) as here:
        reader, writer = await asyncio.open_connection("127.0.0.1", here.emulator.plain_port)
        writer.write(f"GET {PATH} HTTP/1.1\r\nHost:".encode())
        writer.write_eof()
        async with in_time():
            assert await reader.read() == b""
        writer.close()
