"""How the unmodified Python SDK reacts to what goes wrong, as documented for 3.4.0."""

import asyncio
import itertools
import warnings
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Any

import pydantic
import pytest
import pytest_asyncio
import websockets
from google import genai
from google.genai import errors, types
from google.genai.live import AsyncSession

from tests.emulator.behaviour import behaviour, patched
from tests.emulator.conftest import Here
from tests.emulator.patience import LIMIT, in_time
from tests.emulator.raw import gone

pytestmark = pytest.mark.asyncio(loop_scope="module")

names = (f"sdk-{number}" for number in itertools.count())
OFF = patched("emulator.faults.effects.Effects.of", lambda *_: [])


@pytest_asyncio.fixture(autouse=True, loop_scope="module")
async def nothing_left(here: Here) -> AsyncIterator[None]:
    yield
    await gone(here, LIMIT)


def connect(
    here: Here, faults: str, conversation: str = "", **options: Any
) -> AbstractAsyncContextManager[AsyncSession]:
    """A session by the SDK, with faults. ``options`` are those of its WebSocket."""
    arguments = {"ssl": here.ssl_context, "close_timeout": 0.2, **options}
    http = types.HttpOptions(base_url=here.address, api_version="v1beta", async_client_args=arguments)
    headers = {"x-emulator-faults": faults, "x-emulator-conversation": conversation or next(names)}
    config = types.LiveConnectConfig(
        http_options=types.HttpOptions(headers=headers), session_resumption=types.SessionResumptionConfig()
    )
    return genai.Client(api_key="key", http_options=http).aio.live.connect(model="gemini-3.8-live", config=config)


async def first(session: AsyncSession) -> types.LiveServerMessage:
    """The next message, as an application gets it."""
    async with in_time():
        async for message in session.receive():
            return message
    raise AssertionError("nothing came")


async def stop(session: AsyncSession) -> None:
    """The session still works: an empty turn comes."""
    await session.send_realtime_input(text="stop")
    async with in_time():
        async for message in session.receive():
            if message.server_content and message.server_content.turn_complete:
                return


FRAMES: list[tuple[type[Exception] | None, tuple[str, ...]]] = [
    (TypeError, ("unknown_top", "error", "snake_case")),
    (errors.ClientError, ("status",)),
    (None, ("object", "unknown_nested", "empty_content", "text")),
    (pydantic.ValidationError, ("wrong_type", "bad_base64")),
    (ValueError, ("malformed", "not_json")),
]


@behaviour("2.4.28", "10.43", "fault.frame", off=OFF)
@pytest.mark.parametrize(("raised", "frames"), FRAMES)
async def test_odd_frames(here: Here, raised: type[Exception] | None, frames: tuple[str, ...]) -> None:
    for what in frames:
        async with connect(here, f"frame what={what}") as session:
            if raised is None:
                assert await first(session) is not None
            else:
                with pytest.raises(raised) as caught:
                    await first(session)
                if isinstance(caught.value, errors.ClientError):
                    assert caught.value.code == 429
            await stop(session)


@behaviour("10.43", off=OFF)
async def test_an_unknown_value_of_an_enum_is_a_warning(here: Here) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        async with connect(here, "frame what=unknown_enum") as session:
            with pytest.raises(UserWarning, match="EMULATOR_SURPRISE"):
                await first(session)


@behaviour("10.43", off=OFF)
async def test_an_oversized_frame_ends_the_session_with_1006(here: Here) -> None:
    async with connect(here, "frame what=oversized") as session:
        with pytest.raises(errors.APIError) as caught:
            await first(session)
        assert caught.value.code == 1006
        with pytest.raises(websockets.ConnectionClosedError) as sent:
            await session.send_realtime_input(text="hello")
        assert sent.value.sent is not None and sent.value.sent.code == 1009


@behaviour("2.4.9", off=OFF)
async def test_a_close_is_an_error_on_every_receive(here: Here) -> None:
    for code in (1000, 1001, 1007, 1008, 1011):
        async with connect(here, f"close code={code} reason=why on=turn_complete") as session:
            await stop(session)
            for _ in range(2):
                with pytest.raises(errors.APIError, match="why") as caught:
                    await first(session)
                assert caught.value.code == code


@behaviour("fault.reset", "13.22", off=OFF)
async def test_a_lost_connection_is_1006(here: Here) -> None:
    for how in ("rst", "fin"):
        async with connect(here, f"reset how={how}") as session:
            with pytest.raises(errors.APIError) as caught:
                await first(session)
            assert caught.value.code == 1006


SETUP_OFF = patched("emulator.faults.plan.FaultPlan._faulty_setup", lambda self: None)


@behaviour("10.10", off=SETUP_OFF)
async def test_an_error_in_place_of_the_setup_makes_a_session_that_is_none(here: Here) -> None:
    async with connect(here, "setup answer=error") as session:
        assert session.setup_complete is None


@behaviour("10.10", off=SETUP_OFF)
async def test_without_setup_complete_connecting_never_ends(here: Here) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.4):
            async with connect(here, "setup answer=omitted"):
                pass


@behaviour("10.10", off=SETUP_OFF)
async def test_a_close_in_place_of_the_setup(here: Here) -> None:
    with pytest.raises(errors.APIError, match="currently unavailable") as caught:
        async with in_time(), connect(here, "setup answer=closed"):
            pass
    assert caught.value.code == 1011


@behaviour("10.4", "2.4.19", off=patched("emulator.faults.plan.FaultPlan.at_upgrade", lambda *_: []))
async def test_a_refused_upgrade_is_no_api_error(here: Here) -> None:
    with pytest.raises(websockets.InvalidStatus) as caught:
        async with in_time(), connect(here, "refuse_upgrade status=429 body=later"):
            pass
    assert (caught.value.response.status_code, caught.value.response.body) == (429, b"later")


@behaviour("2.4.7", "10.6", off=OFF)
@pytest.mark.parametrize("fault", ["pongs", "half_open", "stop_reading"])
async def test_missing_pongs_end_the_session_with_1006(here: Here, fault: str) -> None:
    async with connect(here, fault, ping_interval=0.1, ping_timeout=0.3) as session:
        with pytest.raises(errors.APIError) as caught:
            await first(session)
        assert caught.value.code == 1006
        with pytest.raises(websockets.ConnectionClosedError) as sent:
            await session.send_realtime_input(text="hello")
        assert "keepalive ping timeout" in str(sent.value)


@behaviour("2.4.7", "10.43", off=OFF)
async def test_a_burst_to_an_application_that_does_not_receive_kills_the_connection(here: Here) -> None:
    async with connect(here, "burst", ping_interval=0.1, ping_timeout=0.3) as session:
        # Sixteen frames wait in the library; the pong is behind them and never seen.
        with pytest.raises(websockets.ConnectionClosedError) as sent:
            async with in_time():
                while True:
                    await session.send_realtime_input(
                        audio=types.Blob(data=bytes(640), mime_type="audio/pcm;rate=16000")
                    )
                    await asyncio.sleep(0.02)
        assert "keepalive ping timeout" in str(sent.value)


@behaviour("2.4.3", "2.4.4", "fault.go_away", off=OFF)
async def test_go_away_with_and_without_time_left(here: Here) -> None:
    for fault, left in (("go_away", None), ("go_away time_left=9500ms", "9.5s")):
        async with connect(here, fault) as session:
            message = await first(session)
            assert message.go_away is not None
            assert message.go_away.time_left == left
            await stop(session)
