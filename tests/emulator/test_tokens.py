"""Ephemeral tokens: the decisions with a fake clock, and the REST call and the constrained method over real sockets."""

import copy
import json
import ssl
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from google import genai
from google.genai import errors, types

from emulator import texts
from emulator.api import schema
from emulator.endpoint.rest import ApiError
from emulator.errors import Refusal
from emulator.server import Emulator
from emulator.session import tokens
from emulator.session.tokens import Grant, TokensFullError, TokenStore
from emulator.settings import EmulatorSettings
from tests.emulator.behaviour import behaviour, patched
from tests.emulator.conftest import Here
from tests.emulator.patience import in_time

MODEL = "models/gemini-3.8-live"
SETUP = {"model": MODEL}
RESUMING = {"model": MODEL, "sessionResumption": {"handle": "h"}}
WALL = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)
KIND = schema.message("developer", "v1beta")["setup"]


def granted(uses: int = 1, expires: float = 1800, new_sessions_until: float = 60, **more: Any) -> Grant:
    return Grant(uses, expires, new_sessions_until, **more)


def begin(store: TokenStore, name: str, now: float, setup: dict[str, Any] = SETUP) -> str | None:
    """Begins a session; why it was refused, or None."""
    try:
        token, effective = store.apply(name, setup, now)
    except Refusal as refusal:
        assert refusal.code == 1008
        return refusal.text
    token.use(resuming=tokens.resumes(effective))
    return None


@behaviour("10.41", "token.uses", off=patched("emulator.session.tokens.Token.used_up", False))
def test_a_token_starts_as_many_sessions_as_it_has_uses() -> None:
    store = TokenStore(limit=10)
    once, twice, free = (store.issue(granted(uses), 0).name for uses in (1, 2, 0))
    assert [begin(store, once, 1), begin(store, once, 2)] == [None, texts.TOKEN_USED_UP.text]
    assert [begin(store, twice, 1), begin(store, twice, 2), begin(store, twice, 3)] == [
        None,
        None,
        texts.TOKEN_USED_UP.text,
    ]
    assert not any(begin(store, free, 1) for _ in range(20))


@behaviour("10.41", "2.4.27", "token.resume", off=patched("emulator.session.tokens.resumes", lambda setup: False))
def test_resuming_costs_no_use_and_is_allowed_until_the_token_expires() -> None:
    store = TokenStore(limit=10)
    name = store.issue(granted(), 0).name
    assert begin(store, name, 0) is None
    assert not any(begin(store, name, now, RESUMING) for now in (1, 61, 1799))
    assert begin(store, name, 1, {"model": MODEL, "sessionResumption": {}}) == texts.TOKEN_USED_UP.text


@behaviour(
    "10.41",
    "2.4.27",
    "token.new_sessions",
    off=patched("emulator.session.tokens.Token.closed", lambda self, now: False),
)
def test_a_new_session_must_begin_in_time() -> None:
    store = TokenStore(limit=10)
    name = store.issue(granted(uses=0), 0).name
    assert [begin(store, name, 59.9), begin(store, name, 60)] == [None, texts.TOKEN_TOO_LATE.text]


@behaviour("10.41", "token.expiry", off=patched("emulator.session.tokens.Token.expired", lambda self, now: False))
def test_nothing_begins_or_resumes_with_an_expired_token() -> None:
    store = TokenStore(limit=10)
    name = store.issue(granted(uses=0, new_sessions_until=9000), 0).name
    assert [begin(store, name, 1799.9), begin(store, name, 1800)] == [None, texts.TOKEN_EXPIRED.text]
    assert begin(store, name, 1800, RESUMING) == texts.TOKEN_EXPIRED.text


@behaviour("10.41", "token.expiry", off=patched("emulator.session.tokens.Expiry.tick", lambda self, now: []))
def test_a_connection_ends_when_its_token_expires() -> None:
    expiry = tokens.Expiry(1800)
    assert expiry.deadline == 1800
    assert expiry.tick(1799) == []
    for ask in (lambda: expiry.tick(1800), lambda: expiry.apply(None, 1800)):  # type: ignore[arg-type]
        with pytest.raises(Refusal, match=texts.TOKEN_EXPIRED.text) as caught:
            ask()
        assert caught.value.code == 1008


@behaviour("token.model", off=patched("emulator.session.tokens.models.find", lambda model, version: ("", None)))
@pytest.mark.parametrize("setup", [{}, {"model": "models/tuned"}, {"model": "gemini-3.8-live"}])
def test_a_model_that_is_not_public_is_refused_to_tokens(setup: dict[str, Any]) -> None:
    store = TokenStore(limit=10)
    with pytest.raises(Refusal, match="project-scoped") as caught:
        store.apply(store.issue(granted(), 0).name, setup, 1)
    assert caught.value.code == 1007


def test_tokens_are_unguessable_and_an_unknown_one_is_nobody() -> None:
    store = TokenStore(limit=100)
    names = {store.issue(granted(), 0).name for _ in range(100)}
    assert len(names) == len(store) == 100
    assert all(len(name) == len("auth_tokens/") + 64 for name in names)
    assert begin(store, "auth_tokens/" + "0" * 64, 1) == texts.NO_KEY.text


def test_a_full_store_makes_no_more_until_one_has_expired() -> None:
    store = TokenStore(limit=2)
    old = store.issue(granted(expires=100), 0).name
    store.issue(granted(), 0)
    with pytest.raises(TokensFullError):
        store.issue(granted(), 99)
    # Expired, it is still known for what it is.
    assert begin(store, old, 100) == texts.TOKEN_EXPIRED.text
    store.issue(granted(), 100)
    assert len(store) == 2
    assert old not in store


CLIENT = {
    "model": "models/client",
    "generationConfig": {"temperature": 1.0, "seed": 7},
    "systemInstruction": {"parts": [{"text": "client"}], "role": "user"},
    "outputAudioTranscription": {},
    "tools": [{"googleSearch": {}}],
}
LOCKED = {
    "model": "models/token",
    "generationConfig": {"temperature": 0.2, "topP": 0.5},
    "systemInstruction": {"parts": [{"text": "token"}]},
    "sessionResumption": {},
}


def paths(mask: str) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(path.split(".")) for path in mask.split(","))


@behaviour("10.41", "token.mask", off=patched("emulator.session.tokens.constrained", lambda setup, grant: setup))
@pytest.mark.parametrize(
    ("setup", "mask", "client", "expected"),
    [
        pytest.param(LOCKED, None, CLIENT, LOCKED, id="all locked"),
        pytest.param(
            {"generationConfig": {"seed": 1}},
            None,
            CLIENT,
            {"model": "models/client", "generationConfig": {"seed": 1}},
            id="all locked but no model named",
        ),
        pytest.param({}, None, CLIENT, {"model": "models/client"}, id="all locked to nothing"),
        pytest.param(
            LOCKED,
            "generationConfig.temperature",
            CLIENT,
            {**CLIENT, "generationConfig": {"temperature": 0.2, "seed": 7}},
            id="one field",
        ),
        pytest.param(
            LOCKED,
            "model,generationConfig,sessionResumption",
            CLIENT,
            {
                **CLIENT,
                "model": "models/token",
                "generationConfig": LOCKED["generationConfig"],
                "sessionResumption": {},
            },
            id="whole messages",
        ),
        pytest.param(
            LOCKED,
            "systemInstruction.parts,tools,generationConfig.seed",
            CLIENT,
            {
                "model": "models/client",
                "generationConfig": {"temperature": 1.0},
                "systemInstruction": {"parts": [{"text": "token"}], "role": "user"},
                "outputAudioTranscription": {},
            },
            id="what the token leaves out is locked to nothing",
        ),
        pytest.param(
            None,
            "tools",
            CLIENT,
            {name: value for name, value in CLIENT.items() if name != "tools"},
            id="a mask without a setup",
        ),
        pytest.param(
            {"realtimeInputConfig": {"activityHandling": "NO_INTERRUPTION"}},
            "realtimeInputConfig.activityHandling",
            {"model": "m"},
            {"model": "m", "realtimeInputConfig": {"activityHandling": "NO_INTERRUPTION"}},
            id="a message the client did not send",
        ),
        pytest.param(
            LOCKED,
            "model",
            {"model": "m", "sessionResumption": {"handle": "h"}},
            {"model": "models/token", "sessionResumption": {"handle": "h"}},
            id="an unlocked handle",
        ),
        pytest.param(
            LOCKED,
            "sessionResumption,model",
            {"model": "m", "sessionResumption": {"handle": "h"}},
            {"model": "models/token", "sessionResumption": {"handle": "h"}},
            id="the handle where resumption is locked on",
        ),
        pytest.param(
            LOCKED,
            None,
            {"sessionResumption": {"handle": "h", "transparent": True}},
            {**LOCKED, "sessionResumption": {"handle": "h"}},
            id="the handle where all is locked",
        ),
        pytest.param(
            {"model": "models/token"},
            None,
            {"sessionResumption": {"handle": "h"}},
            {"model": "models/token"},
            id="no handle where resumption is locked out",
        ),
    ],
)
def test_what_is_locked_is_the_tokens_and_the_rest_the_clients(
    setup: dict[str, Any] | None, mask: str | None, client: dict[str, Any], expected: dict[str, Any]
) -> None:
    before = copy.deepcopy((client, setup))
    grant = granted(setup=setup, mask=paths(mask) if mask else ())
    assert tokens.constrained(client, grant) == expected
    assert (client, setup) == before


def test_a_token_without_setup_and_mask_locks_nothing() -> None:
    assert tokens.constrained(CLIENT, granted()) == CLIENT


def test_an_empty_message_is_not_made_by_a_mask_below_it() -> None:
    # It would turn resumption on.
    grant = granted(setup=LOCKED, mask=(("sessionResumption", "transparent"), ("outputAudioTranscription", "mode")))
    assert tokens.constrained({"model": "m"}, grant) == {"model": "m"}
    assert tokens.constrained(CLIENT, grant)["outputAudioTranscription"] == {}


def test_a_mask_below_free_json_replaces_what_is_no_message() -> None:
    grant = granted(setup={"avatarConfig": {"a": "b"}}, mask=(("avatarConfig", "a"),))
    assert tokens.constrained({"avatarConfig": "nonsense"}, grant) == {"avatarConfig": {"a": "b"}}


def read(body: Any, *, now: float = 1000.0, scale: float = 1.0) -> Grant:
    return tokens.read(body, KIND, now=now, wall=WALL, scale=scale)


@pytest.mark.parametrize(
    ("body", "grant"),
    [
        ({}, granted(1, 2800, 1060)),
        ({"uses": 0}, granted(0, 2800, 1060)),
        ({"uses": "3", "expireTime": "2026-11-24T13:00:00Z"}, granted(3, 4600, 1060)),
        (
            {"expire_time": "2026-11-24T14:30:00.5+02:00", "new_session_expire_time": "2026-11-24T12:00:01.123456789Z"},
            granted(1, 2800.5, 1001.123456),
        ),
        ({"bidiGenerateContentSetup": SETUP}, granted(1, 2800, 1060, setup=SETUP)),
        (
            {
                "bidi_generate_content_setup": {
                    "generation_config": {"top_p": 1, "speech_config": {"language_code": "x"}}
                }
            },
            granted(1, 2800, 1060, setup={"generationConfig": {"topP": 1.0, "speechConfig": {"languageCode": "x"}}}),
        ),
        # As the Python SDK writes it.
        (
            {"fieldMask": "model,generationConfig.top_p,systemInstruction.parts,input_audio_transcription"},
            granted(
                mask=(
                    ("model",),
                    ("generationConfig", "topP"),
                    ("systemInstruction", "parts"),
                    ("inputAudioTranscription",),
                ),
                expires=2800,
                new_sessions_until=1060,
            ),
        ),
        (
            {"field_mask": " tools , avatarConfig.a.b,"},
            granted(1, 2800, 1060, mask=(("tools",), ("avatarConfig", "a", "b"))),
        ),
        ({"fieldMask": ""}, granted(1, 2800, 1060)),
    ],
)
def test_a_request_is_read_in_either_spelling(body: Any, grant: Grant) -> None:
    found = read(body)
    assert (found.uses, found.setup, found.mask) == (grant.uses, grant.setup, grant.mask)
    assert (found.expires, found.new_sessions_until) == pytest.approx((grant.expires, grant.new_sessions_until))


@behaviour("token.time_scale", off=patched("emulator.session.tokens.Grant", lambda *args, **kw: granted(1, 2800, 1060)))
def test_tokens_age_on_the_scaled_clock() -> None:
    grant = read({}, scale=60)
    assert (grant.expires, grant.new_sessions_until) == (1030, 1001)


RANGE = "must be in the future and less than 20 hours in the future"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"uses": -1}, "uses must be 0 (no limit) or more"),
        ({"uses": 2**31}, "Invalid value at 'auth_token.uses' (TYPE_INT32)"),
        ({"uses": 1.5}, "Invalid value at 'auth_token.uses'"),
        ({"expireTime": "2026-11-24T12:00:00Z"}, f"expire_time {RANGE}"),
        ({"expireTime": "2026-11-25T08:00:00Z"}, f"expire_time {RANGE}"),
        ({"newSessionExpireTime": "2026-11-24T11:59:59Z"}, f"new_session_expire_time {RANGE}"),
        ({"newSessionExpireTime": "2026-11-25T08:00:01Z"}, f"new_session_expire_time {RANGE}"),
        # Without an offset: what Python's datetime.now() becomes.
        ({"expireTime": "2026-11-24T13:00:00"}, "valid timezone offset"),
        ({"expireTime": "2026-13-24T13:00:00Z"}, "Illegal timestamp format"),
        ({"expireTime": "1800s"}, "Invalid value at 'auth_token.expire_time'"),
        ({"newSessionExpireTime": 5}, "Invalid value at 'auth_token.new_session_expire_time'"),
        ({"fieldMask": "model,nonsense"}, "'nonsense' is not a path"),
        ({"fieldMask": "top_p"}, "'top_p' is not a path"),
        ({"fieldMask": "tools.function_declarations"}, "'tools.function_declarations' is not a path"),
        ({"fieldMask": "model.name"}, "'model.name' is not a path"),
        ({"fieldMask": "labels.a"}, "'labels.a' is not a path"),
        ({"fieldMask": "generationConfig."}, "'generationConfig.' is not a path"),
        ({"fieldMask": ["model"]}, "Unknown name \"field_mask\" at 'auth_token': Proto field is not repeating"),
        ({"what": 1}, "Unknown name \"what\" at 'auth_token': Cannot find field."),
        (
            {"bidiGenerateContentSetup": {"setup": SETUP}},
            "Unknown name \"setup\" at 'auth_token.bidi_generate_content_setup': Cannot find field.",
        ),
        ({"bidiGenerateContentSetup": 1}, "Invalid value at 'auth_token.bidi_generate_content_setup'"),
        ([], 'Unknown name "auth_token": Proto field is not repeating'),
    ],
)
def test_a_wrong_request_is_told_what_is_wrong(body: Any, reason: str) -> None:
    with pytest.raises(Refusal) as caught:
        read(body)
    assert reason in caught.value.text


# Over real sockets. Everything below runs against one emulator in this process.

live = pytest.mark.asyncio(loop_scope="module")


async def create(here: Here, body: Any = b"", path: str = "/v1beta/auth_tokens", **options: Any) -> tuple[int, Any]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    options = {"headers": {"x-goog-api-key": "k"}, "method": "POST", **options}
    async with (
        aiohttp.ClientSession() as http,
        http.request(url=here.address + path, data=data, ssl=here.ssl_context, **options) as response,
    ):
        return response.status, await response.json()


async def _nothing_is_no_object(request: web.Request, within: float) -> dict[str, Any]:
    raise ApiError(400, "The JSON object must be a message.")


@behaviour("13.3", off=patched("emulator.endpoint.rest._body", _nothing_is_no_object))
@live
async def test_an_empty_body_asks_for_the_defaults(here: Here) -> None:
    status, answer = await create(here)
    assert status == 200
    # The service answers with nothing but the name.
    assert list(answer) == ["name"]
    assert answer["name"].startswith("auth_tokens/")


@pytest.mark.parametrize(
    ("path", "options"),
    [
        ("//v1/auth_tokens", {}),
        ("/some/prefix/v1alpha/auth_tokens/", {}),
        ("/v1beta/auth_tokens?key=k", {"headers": {}}),
        ("/v1beta/auth_tokens", {"headers": {"authorization": "Bearer k"}}),
    ],
)
@live
async def test_the_ways_to_ask_for_a_token(here: Here, path: str, options: dict[str, Any]) -> None:
    assert (await create(here, {}, path, **options))[0] == 200


@pytest.mark.parametrize(
    ("body", "path", "options", "error"),
    [
        (b"", "/v1beta/auth_tokens", {"headers": {}}, (403, "PERMISSION_DENIED", texts.NO_KEY.text)),
        (
            b"",
            "/v1beta/auth_tokens?key=auth_tokens/x",
            {"headers": {}},
            (400, "INVALID_ARGUMENT", texts.WRONG_KEY.text),
        ),
        (
            b"",
            "/v1beta/auth_tokens?access_token=auth_tokens/x",
            {"headers": {}},
            (401, "UNAUTHENTICATED", "Request had invalid authentication credentials."),
        ),
        (b"{", "/v1beta/auth_tokens", {}, (400, "INVALID_ARGUMENT", "Invalid JSON payload received.")),
        (b"\xff", "/v1beta/auth_tokens", {}, (400, "INVALID_ARGUMENT", "Invalid JSON payload received.")),
        (b"[" * 100_000, "/v1beta/auth_tokens", {}, (400, "INVALID_ARGUMENT", "Invalid JSON payload received.")),
        (b" " * 2**21, "/v1beta/auth_tokens", {}, (400, "INVALID_ARGUMENT", "Request payload size exceeds the limit")),
        ({"uses": -1}, "/v1beta/auth_tokens", {}, (400, "INVALID_ARGUMENT", "uses must be 0")),
        (b"", "/v1beta/auth_tokens", {"method": "GET"}, (404, "NOT_FOUND", "Method not found")),
        (b"", "/v2/auth_tokens", {}, (404, "NOT_FOUND", "Method not found")),
        (
            b"",
            "/v1/auth_tokens?x-emulator-switches=api_versions=v1beta,v1alpha",
            {},
            (404, "NOT_FOUND", "Method not found"),
        ),
    ],
)
@live
async def test_what_is_wrong_is_said_in_googles_form(
    here: Here, body: Any, path: str, options: dict[str, Any], error: tuple[int, str, str]
) -> None:
    status, answer = await create(here, body, path, **options)
    found = answer["error"]
    assert (status, found["status"]) == error[:2]
    assert found["code"] == status
    assert found["message"].startswith(error[2])


def client(here: Here, key: str, version: str = "v1alpha") -> genai.Client:
    options = types.HttpOptions(base_url=here.address, api_version=version, async_client_args={"ssl": here.ssl_context})
    return genai.Client(api_key=key, http_options=options)


async def token(here: Here, body: dict[str, Any], switches: str = "") -> str:
    status, answer = await create(here, body, f"/v1beta/auth_tokens?x-emulator-switches={switches}")
    assert status == 200
    return str(answer["name"])


async def refused(here: Here, key: str, model: str = "gemini-3.8-live", **config: Any) -> tuple[int, str]:
    with pytest.raises(errors.APIError) as caught:
        async with client(here, key).aio.live.connect(model=model, config=config):
            pass
    return caught.value.code, str(caught.value)


@behaviour("10.3", "10.41", off=patched("emulator.session.tokens.Token.use", lambda self, *, resuming: None))
@pytest.mark.filterwarnings("ignore")
@live
async def test_the_python_sdk_connects_with_a_token_until_it_is_used_up(here: Here) -> None:
    name = await token(here, {"uses": 2})
    for version in ("v1alpha", "v1beta"):
        async with client(here, name, version).aio.live.connect(model="gemini-3.8-live") as session:
            assert session.setup_complete is not None
    code, text = await refused(here, name)
    assert code == 1008
    assert texts.TOKEN_USED_UP.text in text


@pytest.mark.filterwarnings("ignore")
@live
async def test_a_setup_that_is_refused_costs_no_use(here: Here) -> None:
    name = await token(here, {})
    assert (await refused(here, name, response_modalities=["TEXT"]))[0] == 1007
    assert (await refused(here, name, session_resumption={"handle": "gone"}))[0] == 1008
    async with client(here, name).aio.live.connect(model="gemini-3.8-live"):
        pass


@pytest.mark.filterwarnings("ignore")
@behaviour("token.mask", off=patched("emulator.session.tokens.constrained", lambda setup, grant: setup))
@live
async def test_a_locked_session_does_as_the_token_says(here: Here) -> None:
    locked = {"model": MODEL, "outputAudioTranscription": {}}
    name = await token(here, {"bidiGenerateContentSetup": locked})
    # Both would be refused, were they not overruled.
    config: dict[str, Any] = {"response_modalities": ["TEXT"]}
    async with client(here, name).aio.live.connect(model="gemini-none", config=config) as session:
        await session.send_realtime_input(text="hello")
        said = [m.server_content.output_transcription async for m in session.receive() if m.server_content]
        assert any(said)


@pytest.mark.filterwarnings("ignore")
@behaviour("10.41", "token.expiry", off=patched("emulator.session.tokens.Expiry.tick", lambda self, now: []))
@live
async def test_an_open_session_ends_when_its_token_expires(here: Here) -> None:
    # Ten minutes in a second and a half, for a busy machine to connect in.
    until = (datetime.now(UTC) + timedelta(minutes=10)).isoformat()
    name = await token(here, {"expireTime": until, "newSessionExpireTime": until}, "time_scale=400")
    async with client(here, name).aio.live.connect(model="gemini-3.8-live") as session:
        with pytest.raises(errors.APIError, match="expired") as caught:
            async with in_time(in_vain=2.0):
                async for _ in session.receive():
                    pass
        assert caught.value.code == 1008


@live
async def test_no_more_tokens_are_made_than_may_be() -> None:
    async with Emulator(EmulatorSettings(token_limit=1)) as emulator:
        facts = emulator.ready()
        context = ssl.create_default_context(cafile=facts["ca_file"])
        small = Here(emulator, facts["address"], facts["control"], facts["ca_file"], context)
        assert (await create(small))[0] == 200
        status, answer = await create(small)
    assert (status, answer["error"]["status"]) == (429, "RESOURCE_EXHAUSTED")
