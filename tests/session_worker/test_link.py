"""Links to a real endpoint that refuses, closes, or is not there: what the worker makes of that."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
import pytest_asyncio
from google.genai import types

from parley.v1 import errors_pb2
from services.session_worker import link as link_module
from services.session_worker.closes import LinkError, Remedy, Where, remedy
from services.session_worker.link import Dialer, Link, LinkClosedError
from services.session_worker.settings import WorkerSettings
from tests.support.emulator import RunningEmulator, start_emulator
from tests.support.eventually import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

MODEL = "gemini-3.8-live"
UNAVAILABLE = errors_pb2.ERROR_REASON_BACKEND_UNAVAILABLE
REFUSED = errors_pb2.ERROR_REASON_BACKEND_REFUSED
QUOTA = errors_pb2.ERROR_REASON_BACKEND_QUOTA
_names = (f"link-{number}" for number in itertools.count())


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def emulator() -> AsyncIterator[RunningEmulator]:
    async with start_emulator() as running:
        yield running


def settings(address: str, ca_file: str = "", **more: Any) -> WorkerSettings:
    return WorkerSettings(gemini_base_url=address, gemini_ca_file=ca_file, **more)


async def dial(settings: WorkerSettings, faults: str = "", model: str = MODEL, handle: str | None = None) -> Link:
    headers = {"x-emulator-conversation": next(_names), "x-emulator-faults": faults}
    config = types.LiveConnectConfig(
        response_modalities=[types.Modality.AUDIO],
        session_resumption=types.SessionResumptionConfig(handle=handle),
        http_options=types.HttpOptions(headers=headers),
    )
    dialer = Dialer(settings)
    try:
        return await dialer.dial(model, config, 16_000)
    finally:
        await dialer.close()


async def refused(settings: WorkerSettings, faults: str = "", **more: Any) -> LinkError:
    with pytest.raises(LinkError) as caught:
        await dial(settings, faults, **more)
    return caught.value


@pytest.mark.parametrize(
    ("faults", "where", "code", "text", "reason"),
    [
        ("refuse_upgrade status=401", Where.UPGRADE, 401, "", REFUSED),
        ("refuse_upgrade status=403", Where.UPGRADE, 403, "", REFUSED),
        ("refuse_upgrade status=429", Where.UPGRADE, 429, "", QUOTA),
        ("refuse_upgrade status=503", Where.UPGRADE, 503, "", UNAVAILABLE),
        ("setup answer=closed preset=wrong_key", Where.SETUP, 1007, "API key not valid.", REFUSED),
        ("setup answer=closed preset=no_key", Where.SETUP, 1008, "unregistered callers", REFUSED),
        ("setup answer=closed preset=resource_exhausted", Where.SETUP, 1011, "RESOURCE_EXHAUSTED", QUOTA),
        ("setup answer=closed preset=unavailable", Where.SETUP, 1011, "currently unavailable", UNAVAILABLE),
        ("setup answer=closed preset=internal", Where.SETUP, 1011, "Internal error", UNAVAILABLE),
        ("setup answer=error", Where.ANSWER, 0, "", UNAVAILABLE),
        ("reset on=connect", Where.SETUP, 1006, "", UNAVAILABLE),
        ("close preset=resource_exhausted on=connect", Where.SETUP, 1011, "RESOURCE_EXHAUSTED", QUOTA),
    ],
)
async def test_a_dial_that_fails_says_where_and_why_and_what_a_caller_is_told(
    emulator: RunningEmulator, *, faults: str, where: Where, code: int, text: str, reason: int
) -> None:
    error = await refused(settings(emulator.address, emulator.ca_file), faults)
    assert (error.failure.where, error.failure.code, error.reason) == (where, code, reason)
    assert text in error.failure.text
    assert text in error.message


async def test_the_time_that_the_endpoint_asks_for_is_passed_on(emulator: RunningEmulator) -> None:
    error = await refused(settings(emulator.address, emulator.ca_file), "refuse_upgrade status=429 retry_after=7s")
    assert error.delay() == timedelta(seconds=7)
    assert error.failure.retry_after == 7.0


async def test_a_model_that_is_not_there_is_refused_for_good(emulator: RunningEmulator) -> None:
    error = await refused(settings(emulator.address, emulator.ca_file), model="gemini-none")
    assert (error.reason, error.failure.code) == (REFUSED, 1008)
    assert "not found for API version" in error.message
    assert error.delay() is None


async def test_a_dead_handle_is_told_from_a_dead_model(emulator: RunningEmulator) -> None:
    error = await refused(settings(emulator.address, emulator.ca_file), handle="nobodys")
    assert remedy(error.failure) is Remedy.DROP_HANDLE


async def test_an_endpoint_that_is_not_there_cannot_be_reached() -> None:
    error = await refused(settings("https://127.0.0.1:1"))
    assert (error.failure.where, error.reason) == (Where.CONNECT, UNAVAILABLE)
    assert "cannot be reached" in error.message


@contextlib.asynccontextmanager
async def relay(port: int) -> AsyncIterator[tuple[str, list[int]]]:
    """A TCP relay to a local port: its address, and the sizes of what came from whoever dialled it."""
    sizes: list[int] = []

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: list[int]) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65_536):
                seen.append(len(data))
                writer.write(data)
                await writer.drain()
        writer.close()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        onward = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(carry(reader, onward[1], sizes), carry(onward[0], writer, []))

    async with await asyncio.start_server(connected, "127.0.0.1", 0) as server:
        yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}", sizes


async def test_a_link_on_which_nobody_speaks_is_pinged_and_no_pong_is_waited_for(
    emulator: RunningEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy that takes what is idle for dead would cut it else."""
    monkeypatch.setattr(link_module, "_KEEPALIVE", 0.02)
    port = urlsplit(emulator.address).port
    assert port is not None
    async with relay(port) as (address, sizes):
        link = await dial(settings(address, emulator.ca_file), "pongs")
        before = len(sizes)
        await eventually(lambda: len(sizes) >= before + 5)
        await link.send_realtime(text="hello")
        assert await link.receive(), "it lives, although no ping was answered"
        await link.close()


async def test_a_certificate_that_nobody_vouches_for_is_no_connection(emulator: RunningEmulator) -> None:
    error = await refused(settings(emulator.address))
    assert (error.failure.where, error.reason) == (Where.CONNECT, UNAVAILABLE)
    assert "CERTIFICATE_VERIFY_FAILED" in error.message


@pytest.mark.parametrize("faults", ["setup answer=omitted", "slow_upgrade by=30s"])
async def test_an_endpoint_that_does_not_answer_is_given_up_in_time(emulator: RunningEmulator, faults: str) -> None:
    error = await refused(settings(emulator.address, emulator.ca_file, dial_timeout="300ms"), faults)
    assert (error.failure.where, error.reason) == (Where.TIMEOUT, UNAVAILABLE)
    assert error.message == "the model's endpoint did not answer within 0.3 s"


async def test_a_set_up_that_the_sdk_itself_refuses_is_refused(emulator: RunningEmulator) -> None:
    here = settings(emulator.address, emulator.ca_file)
    dialer = Dialer(here)
    config = types.LiveConnectConfig(session_resumption=types.SessionResumptionConfig(transparent=True))
    with pytest.raises(LinkError, match="the set-up was refused") as caught:
        await dialer.dial(MODEL, config, 16_000)  # the Developer API has no transparent mode
    await dialer.close()
    assert (caught.value.failure.where, caught.value.reason) == (Where.SDK, REFUSED)


@pytest.mark.parametrize(
    ("faults", "code", "text", "expected"),
    [
        ("go_away time_left=50ms then=close", 1008, "GoAway", Remedy.ROTATE),
        ("close preset=deadline after=50ms", 1011, "Deadline expired", Remedy.ROTATE),
        ("close preset=normal after=50ms", 1000, "", Remedy.ROTATE),
        ("reset after=50ms", 1006, "", Remedy.ROTATE),
        ("close preset=overloaded after=50ms", 1011, "overloaded", Remedy.BACKEND_FAULT),
        ("close preset=concurrency after=50ms", 1011, "resource_exhausted", Remedy.QUOTA),
        ("close preset=session_not_found after=50ms", 1008, "session not found", Remedy.DROP_HANDLE),
    ],
)
async def test_a_link_that_ends_says_what_its_end_means(
    emulator: RunningEmulator, faults: str, code: int, text: str, expected: Remedy
) -> None:
    link = await dial(settings(emulator.address, emulator.ca_file), faults)
    with pytest.raises(LinkClosedError) as caught:
        async with asyncio.timeout(30):
            while True:
                await link.receive()
    await link.close()
    failure = caught.value.failure
    assert (failure.where, failure.code) == (Where.LINK, code)
    assert text in failure.text
    assert remedy(failure) is expected


async def test_a_link_that_is_gone_says_so_each_time_and_no_more(emulator: RunningEmulator) -> None:
    """Row 9: whoever asks again gets the same answer at once; it is the ladder that does not ask again."""
    link = await dial(settings(emulator.address, emulator.ca_file), "close preset=deadline after=50ms")
    ends = set()
    for _ in range(3):
        with pytest.raises(LinkClosedError) as caught:
            async with asyncio.timeout(30):
                while True:
                    await link.receive()
        ends.add(str(caught.value))
    await link.close()
    assert ends == {"1011 Deadline expired before operation could complete."}
