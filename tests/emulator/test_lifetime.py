"""How connections and sessions end by their age. Pure: a clock that is told what time it is; a few with the SDK."""

import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from random import Random
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from google.genai import errors

from emulator import texts
from emulator.actions import Action, Close, Note, Reset, Send
from emulator.api.protocol import Decoder, Event, MediaChunks, Setup, Text, Video
from emulator.configuration.setup import Config, accept
from emulator.endpoint.quota import Quota
from emulator.errors import Refusal, reason_bytes
from emulator.record import Archive, LinkFacts
from emulator.server import Emulator
from emulator.session.handles import HandleStore, Owner, Session, Snapshot
from emulator.session.lifetime import Lifetime
from emulator.settings import EmulatorSettings
from emulator.switches import Switches
from tests.emulator import sdk
from tests.emulator.behaviour import behaviour, patched, without
from tests.emulator.conftest import Here
from tests.emulator.patience import LIMIT, in_time
from tests.emulator.service import Service
from tests.support.eventually import eventually

NATIVE = "gemini-2.5-flash-native-audio-preview-12-2025"
PICTURE = Video(b"", "image/jpeg")
HELLO = Text("hello")
# Nothing left to chance, so that times are easy to read.
EXACT = {"go_away_jitter": "0s"}


def config(model: str = "gemini-3.8-live", switches: dict[str, Any] | None = None, **setup: Any) -> Config:
    frame = Decoder("developer", "v1beta", strict=True).decode(
        json.dumps({"setup": {"model": f"models/{model}", **setup}})
    )
    assert isinstance(frame, Setup)
    return accept(
        frame.body, backend="developer", api_version="v1beta", switches=Switches().changed(EXACT | (switches or {}))
    )


def session(**facts: Any) -> Session:
    return Session("c", Owner("gemini-3.8-live"), 0.0, **facts)


class Aging:
    """A connection that only grows old."""

    def __init__(
        self,
        model: str = "gemini-3.8-live",
        switches: dict[str, Any] | None = None,
        *,
        of: Session | None = None,
        opened: float = 0.0,
        seed: int = 1,
        **setup: Any,
    ) -> None:
        record = Archive(kept=1, items=10, audio_limit=0).open("c", "support")
        link = record.add_link(LinkFacts(0, model, "/", "v1beta", {}, opened))
        self.session = of or session()
        self.part = Lifetime(config(model, switches, **setup), self.session, link, Random(seed), opened)
        self.happened: list[tuple[float, Any]] = []
        """When, and what in short."""

    def _take(self, actions: list[Action], now: float) -> None:
        for action in actions:
            match action:
                case Send(message):
                    self.happened.append((now, message["goAway"].get("timeLeft", "no time")))
                case Close(refusal):
                    self.happened.append((now, (refusal.code, refusal.text)))
                case Reset():
                    self.happened.append((now, "reset"))

    def until(self, time: float) -> list[tuple[float, Any]]:
        """All that has happened by ``time``."""
        while (deadline := self.part.deadline) is not None and deadline <= time:
            self._take(self.part.tick(deadline), deadline)
        return self.happened

    def at(self, time: float, event: Event) -> list[tuple[float, Any]]:
        """A client message."""
        self.until(time)
        self._take(self.part.apply(event, time), time)
        return self.happened

    def says(self, action: Action, now: float) -> list[Action]:
        """What becomes of something that somebody else wants to say."""
        return self.part.passing(action, now)


GO_AWAY = (1008, texts.GO_AWAY.text)
DEADLINE = (1011, texts.DEADLINE.text)


# goAway


@behaviour(
    "10.33",
    off=patched("emulator.session.lifetime.Lifetime._warn", lambda self, now: setattr(self, "_warned", True) or []),
)
def test_go_away_comes_a_minute_before_ten_minutes_are_over_and_says_how_long_is_left() -> None:
    aging = Aging()
    assert aging.until(539.9) == []
    assert aging.until(540) == [(540.0, "60s")]
    assert aging.until(599.9) == [(540.0, "60s")]


@behaviour("2.4.4", off=without(go_away="time_left"))
def test_go_away_can_come_without_the_time_that_is_left(switches: dict[str, Any]) -> None:
    assert Aging(switches={"go_away": "bare", **switches}).until(540) == [(540.0, "no time")]


@behaviour("10.33", off=without(go_away="time_left"))
def test_or_not_at_all(switches: dict[str, Any]) -> None:
    aging = Aging(switches={"go_away": "never", "after_go_away": "silence", **switches})
    assert aging.until(600) == [(600.0, GO_AWAY)]
    assert aging.says(Send({}), 599) == [Send({})]


@behaviour("10.33", off=without(go_away_jitter="0s"))
def test_it_comes_up_to_ten_seconds_late_as_the_seed_will_have_it(switches: dict[str, Any]) -> None:
    jitter = {"go_away_jitter": "10s", **switches}
    times = [Aging(switches=jitter, seed=seed).until(599)[0] for seed in range(50)]
    assert all(540 <= at <= 550 and float(left[:-1]) == pytest.approx(600 - at, abs=0.001) for at, left in times)
    assert min(times)[0] < 542 and max(times)[0] > 548
    assert times == [Aging(switches=jitter, seed=seed).until(599)[0] for seed in range(50)]


def test_a_lead_longer_than_the_connection_lasts_warns_at_once_and_jitter_never_outlives_it() -> None:
    assert Aging(switches={"connection_limit": "5s"}).until(5) == [(0.0, "5s"), (5.0, GO_AWAY)]
    late = {"go_away_lead": "1s", "go_away_jitter": "1h"}
    for seed in range(20):
        (warned, left), (ended, _) = Aging(switches=late, seed=seed).until(600)
        assert 599 <= warned <= ended == 600 and 0 <= float(left[:-1]) <= 1


# The limit


@behaviour(
    "10.34", "2.4.2", off=patched("emulator.session.lifetime._LIMIT", {"1008": texts.DEADLINE, "1011": texts.DEADLINE})
)
def test_3_x_closes_with_1008_and_the_go_away_text() -> None:
    assert Aging().until(600)[-1] == (600.0, GO_AWAY)
    # As clients quote it: cut in the middle of a word.
    assert reason_bytes(GO_AWAY[1]).endswith(b"after receiving a GoAway signal once the session durat")


@behaviour(
    "10.34", "2.4.1", off=patched("emulator.session.lifetime._LIMIT", {"1008": texts.GO_AWAY, "1011": texts.GO_AWAY})
)
def test_2_5_closes_with_1011_and_the_deadline_text() -> None:
    assert Aging(NATIVE).until(600)[-1] == (600.0, (1011, "Deadline expired before operation could complete."))


@behaviour("10.34", "13.22", off=without(after_limit="model"))
@pytest.mark.parametrize(("after_limit", "end"), [("1011", DEADLINE), ("reset", "reset")])
def test_another_end_by_switch(after_limit: str, end: Any, switches: dict[str, Any]) -> None:
    assert Aging(switches={"after_limit": after_limit, **switches}).until(9999)[-1] == (600.0, end)
    if end == DEADLINE:
        assert Aging(NATIVE, switches={"after_limit": "1008"}).until(9999)[-1] == (600.0, GO_AWAY)


@behaviour("10.34", off=without(after_limit="model"))
def test_the_limit_can_be_silence_on_an_open_socket(switches: dict[str, Any]) -> None:
    aging = Aging(switches={"after_limit": "silence", **switches})
    assert aging.says(Send({}), 599) == [Send({})]
    assert aging.until(9999) == [(540.0, "60s")]
    assert aging.at(10_000, HELLO) == [(540.0, "60s")]
    assert aging.says(Send({}), 10_000) == aging.says(Close(texts.NO_TURN.refusal()), 10_000) == []


@behaviour("2.4.3", off=without(after_limit="model"))
def test_after_go_away_there_can_be_silence_and_a_deadline_that_only_a_message_meets(switches: dict[str, Any]) -> None:
    aging = Aging(switches={"after_go_away": "silence", "after_limit": "lazy", **switches})
    aging.until(540)
    assert aging.says(Send({}), 541) == []
    # What is no frame goes on.
    assert aging.says(Note("turn_began"), 541) == [Note("turn_began")]
    assert aging.until(3600) == [(540.0, "60s")]
    assert aging.at(3600, HELLO)[1:] == [(3600, GO_AWAY)]


@behaviour("2.4.3", off=without(after_go_away="normal"))
def test_silence_after_go_away_ends_with_the_limit(switches: dict[str, Any]) -> None:
    aging = Aging(switches={"after_go_away": "silence", **switches})
    assert aging.says(Send({}), 0) == [Send({})]
    aging.until(540)
    assert aging.says(Send({}), 541) == []
    assert aging.until(601)[-1] == (600.0, GO_AWAY)


def test_a_lazy_limit_leaves_business_as_usual_until_a_message_comes() -> None:
    aging = Aging(NATIVE, switches={"after_limit": "lazy"})
    assert aging.at(599.9, HELLO) == [(540.0, "60s")]
    assert aging.until(700) == [(540.0, "60s")] and aging.says(Send({}), 700) == [Send({})]
    assert aging.at(701, HELLO)[-1] == (701, DEADLINE)


# Scaled time


@behaviour("10.33", "clock.scaled", off=without(time_scale=1))
def test_a_scaled_clock_makes_ten_minutes_pass_in_seconds_and_tells_real_ones(switches: dict[str, Any]) -> None:
    aging = Aging(switches={"time_scale": 60, "go_away_jitter": "10s", **switches})
    (warned, left), (ended, _) = aging.until(10)
    assert ended == 10 and 9 <= warned <= 9 + 10 / 60
    assert float(left[:-1]) == pytest.approx(10 - warned, abs=0.001)


# The session's limit


@behaviour("10.35", off=without(audio_session_limit="1h"))
def test_a_session_ends_after_fifteen_minutes_over_all_its_connections(switches: dict[str, Any]) -> None:
    # Two connections had it for eight minutes together; it was not open in between.
    aging = Aging(switches=switches, of=session(used=480.0), opened=5000.0)
    assert aging.until(5420) == [(5360.0, "60s"), (5420.0, GO_AWAY)]


@behaviour("10.35", off=without(video_session_limit="15m"))
@pytest.mark.parametrize(
    "picture", [PICTURE, MediaChunks(((b"", "audio/pcm"), (b"", "image/jpeg")))], ids=["video", "old form"]
)
def test_two_minutes_once_pictures_are_streamed(picture: Event, switches: dict[str, Any]) -> None:
    aging = Aging(switches=switches)
    assert aging.at(30, MediaChunks(((b"", "audio/pcm"),))) == []
    assert aging.part.deadline == 540
    assert aging.at(30, picture) == []
    assert aging.until(121) == [(60.0, "60s"), (120.0, GO_AWAY)]
    # Another connection of the session is as short.
    assert Aging(of=aging.session, opened=200.0, switches={"go_away": "never"}).until(400) == [(320.0, GO_AWAY)]


def test_a_picture_in_a_session_that_is_too_old_for_it_leaves_time_for_go_away() -> None:
    aging = Aging()
    assert aging.at(300, PICTURE) == [(300, "60s")]
    assert aging.until(400)[-1] == (360.0, GO_AWAY)


def test_a_session_is_told_once_that_its_time_is_over_soon() -> None:
    aging = Aging(of=session(used=870.0), opened=1000.0)
    assert aging.until(1001) == [(1000.0, "30s")]
    # A client that rotates at goAway resumes at once: told so again, it would do it again.
    aging.session.used = 871.0
    assert Aging(of=aging.session, opened=1002.0).until(1100) == [(1031.0, GO_AWAY)]


@pytest.mark.parametrize(("lead", "end"), [("60s", 1090.0), ("30s", 1080.0)])
def test_nor_is_it_told_again_when_a_picture_comes(lead: str, end: float) -> None:
    aging = Aging(of=session(used=810.0), opened=1000.0)
    assert aging.until(1030) == [(1030.0, "60s")]
    aging.session.used = 840.0
    again = Aging(of=aging.session, opened=1030.0, switches={"go_away_lead": lead})
    assert again.at(1050, PICTURE) == []
    # And lives no longer for the picture.
    assert again.until(1200) == [(end, GO_AWAY)]


def test_a_session_without_time_left_cannot_be_resumed() -> None:
    service = Service()
    line = service.dial(switches={"audio_session_limit": "20s", "connection_limit": "10s"})
    line.ask("stop")
    handle = line.handles[-1]
    service.now = 25.0
    line.close()
    with pytest.raises(Refusal, match="1008 BidiGenerateContent session not found"):
        service.dial(handle, switches={"audio_session_limit": "20s"})
    compressed = {"contextWindowCompression": {"slidingWindow": {}}}
    service.dial(handle, switches={"audio_session_limit": "20s"}, **compressed).close()


@behaviour("10.35", off=patched("emulator.configuration.setup.compression.read", lambda *_, **__: None))
def test_with_compression_only_the_connection_ends() -> None:
    aging = Aging(of=session(used=5000.0, video=True), contextWindowCompression={"slidingWindow": {}})
    assert aging.until(9999) == [(540.0, "60s"), (600.0, GO_AWAY)]


def test_the_store_sums_up_what_connections_used() -> None:
    store, one = HandleStore(limit=10), session()
    handle = store.issue(one, Snapshot(), 5)
    store.close(one, 1, 100)
    one.ttl = 1000
    assert store.resume(handle, one.owner, 400).session.opened == 400
    store.close(one, 2, 450)
    assert one.used == 150


# Quota


@contextlib.contextmanager
def _boundless(_quota: Quota, _project: str, _limit: int) -> Iterator[bool]:
    yield True


@behaviour("10.42", off=patched("emulator.endpoint.quota.Quota.connection", _boundless))
def test_each_project_has_its_quota_and_every_end_frees_a_place() -> None:
    quota = Quota()
    with quota.connection("a", 2) as first, quota.connection("b", 2) as other:
        with pytest.raises(ZeroDivisionError), quota.connection("a", 2) as second:
            with quota.connection("a", 2) as third:
                assert (first, second, third, other) == (True, True, False, True)
            raise ZeroDivisionError
        with quota.connection("a", 2) as fourth:
            assert fourth
    assert not quota._open


def test_no_quota_is_no_limit() -> None:
    quota = Quota()
    with quota.connection("a", 0) as one, quota.connection("a", 0) as two:
        assert one and two


# With the SDK


@behaviour(
    "10.34", "2.4.2", off=patched("emulator.session.lifetime._LIMIT", dict.fromkeys(("1008", "1011"), texts.DEADLINE))
)
@pytest.mark.asyncio(loop_scope="module")
async def test_the_sdk_is_told_to_go_away_and_then_cut_off(here: Here) -> None:
    client = sdk.client(here, time_scale=1200, go_away_jitter="0s")
    async with client.aio.live.connect(model="gemini-3.8-live") as live, in_time(in_vain=10.0):
        message = await live._receive()
        assert message.go_away is not None
        # Six hundred seconds pass in half a second, and the last sixty of them in a twentieth; a machine that is
        # late has less of it left.
        assert message.go_away.time_left is not None and 0 <= float(message.go_away.time_left[:-1]) <= 0.05
        with pytest.raises(errors.APIError) as caught:
            await live._receive()
    assert caught.value.code == 1008
    assert str(caught.value).endswith("after receiving a GoAway signal once the session durat")


@behaviour("10.34", off=without(after_limit="model"))
@pytest.mark.asyncio(loop_scope="module")
async def test_the_sdk_sees_a_reset_as_1006(here: Here, switches: dict[str, Any]) -> None:
    client = sdk.client(here, **{"time_scale": 6000, "go_away": "never", "after_limit": "reset"} | switches)
    async with client.aio.live.connect(model="gemini-3.8-live") as live, in_time(in_vain=10.0):
        with pytest.raises(errors.APIError) as caught:
            await live._receive()
    assert caught.value.code == 1006


# Quota over sockets

SETUP = json.dumps({"setup": {"model": "models/gemini-3.8-live"}})
PATH = "/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def crowded() -> AsyncIterator[Emulator]:
    """One that lets each key have two connections, and one on Vertex."""
    async with Emulator(EmulatorSettings(quota=2, vertex_quota=1)) as emulator:
        yield emulator


@pytest_asyncio.fixture(loop_scope="module")
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def dialled(
    http: aiohttp.ClientSession,
    emulator: Emulator,
    key: str = "key",
    switches: str = "",
    *,
    setup: str | None = SETUP,
    path: str = PATH,
) -> aiohttp.ClientWebSocketResponse:
    """A connection; with a setup, one that is accepted."""
    context = ssl.create_default_context(cafile=emulator.ca_file)
    headers = {"x-goog-api-key": key, "x-emulator-switches": switches}
    socket = await http.ws_connect(f"https://localhost:{emulator.port}{path}", headers=headers, ssl=context)
    if setup is not None:
        await socket.send_str(setup)
        message = await socket.receive(timeout=LIMIT)
        assert message.type is aiohttp.WSMsgType.BINARY, message
    return socket


async def status(http: aiohttp.ClientSession, emulator: Emulator, key: str = "key") -> int:
    """Of the answer to an upgrade: 101 where it is accepted."""
    try:
        await (await dialled(http, emulator, key, setup=None)).close()
    except aiohttp.WSServerHandshakeError as refused:
        return refused.status
    return 101


@behaviour("10.42", "2.4.19", off=patched("emulator.endpoint.quota.Quota.connection", _boundless))
@pytest.mark.asyncio(loop_scope="module")
async def test_one_connection_too_many_is_answered_429(crowded: Emulator, http: aiohttp.ClientSession) -> None:
    sockets = [await dialled(http, crowded) for _ in range(2)]
    try:
        assert await status(http, crowded) == 429
        assert await status(http, crowded, "another key") == 101
    finally:
        for socket in sockets:
            await socket.close()


@behaviour("10.42", off=patched("emulator.endpoint.quota.Quota.connection", _boundless))
@pytest.mark.asyncio(loop_scope="module")
async def test_vertex_has_a_quota_of_its_own(crowded: Emulator, http: aiohttp.ClientSession) -> None:
    vertex = "/ws/google.cloud.aiplatform.v1beta1.LlmBidiService/BidiGenerateContent"
    sockets = [await dialled(http, crowded, setup=None, path=path) for path in (PATH, vertex)]
    try:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await dialled(http, crowded, setup=None, path=vertex)
        assert refused.value.status == 429
        assert await status(http, crowded) == 101
    finally:
        for socket in sockets:
            await socket.close()


@behaviour("10.42", "2.4.19", off=patched("emulator.endpoint.quota.Quota.connection", _boundless))
@pytest.mark.asyncio(loop_scope="module")
async def test_or_closed_with_1011(crowded: Emulator, http: aiohttp.ClientSession) -> None:
    sockets = [await dialled(http, crowded) for _ in range(2)]
    try:
        more = await dialled(http, crowded, switches="over_quota=close", setup=None)
        await more.send_str(SETUP)
        message = await more.receive(timeout=LIMIT)
        assert message.type is aiohttp.WSMsgType.CLOSE and message.data == 1011
        assert "RESOURCE_EXHAUSTED" in message.extra
    finally:
        for socket in sockets:
            await socket.close()


async def _closes(socket: aiohttp.ClientWebSocketResponse) -> None:
    await socket.close()


async def _vanishes(socket: aiohttp.ClientWebSocketResponse) -> None:
    connection = socket._conn
    assert connection is not None and connection.transport is not None
    connection.transport.abort()


async def _errs(socket: aiohttp.ClientWebSocketResponse) -> None:
    await socket.send_str("not JSON")
    await _stays(socket)


async def _stays(socket: aiohttp.ClientWebSocketResponse) -> None:
    """The emulator ends it by itself."""
    while not socket.closed:
        await socket.receive(timeout=LIMIT)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    ("switches", "setup", "end"),
    [
        ("", SETUP, _closes),
        ("", SETUP, _vanishes),
        ("", SETUP, _errs),
        ("", None, _closes),
        ("", None, _vanishes),
        ("", None, _errs),
        ("time_scale=10000", SETUP, _stays),
        ("time_scale=10000; after_limit=reset", SETUP, _stays),
    ],
)
async def test_every_end_of_a_connection_frees_its_place(
    crowded: Emulator,
    http: aiohttp.ClientSession,
    switches: str,
    setup: str | None,
    end: Callable[[aiohttp.ClientWebSocketResponse], Awaitable[None]],
) -> None:
    sockets = [await dialled(http, crowded, switches=switches, setup=setup) for _ in range(2)]
    for socket in sockets:
        await end(socket)

    async def both_are_free() -> bool:
        async with contextlib.AsyncExitStack() as open_ones:
            for _ in range(2):
                try:
                    socket = await dialled(http, crowded, setup=None)
                except aiohttp.WSServerHandshakeError:
                    return False
                open_ones.push_async_callback(socket.close)
        return True

    await eventually(both_are_free, LIMIT)
    for socket in sockets:
        await socket.close()
