"""Resumption with the unmodified SDK."""

from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
from google import genai
from google.genai import errors, types
from google.genai.live import AsyncSession

from tests.emulator import sdk
from tests.emulator.behaviour import behaviour, patched, without
from tests.emulator.conftest import Here
from tests.emulator.patience import in_time
from tests.emulator.resuming import opaque


async def an_update(live: AsyncSession) -> types.LiveServerSessionResumptionUpdate:
    """The first news about resumption after a turn."""
    await sdk.ask(live)
    async with in_time(in_vain=10.0):
        while True:
            message = await live._receive()
            if message.session_resumption_update:
                return message.session_resumption_update


def connecting(client: genai.Client, **resumption: Any) -> AbstractAsyncContextManager[AsyncSession]:
    config = types.LiveConnectConfig(session_resumption=types.SessionResumptionConfig(**resumption))
    return client.aio.live.connect(model="gemini-3.8-live", config=config)


async def refused(client: genai.Client, **resumption: Any) -> tuple[int, str]:
    with pytest.raises(errors.APIError) as caught:
        async with connecting(client, **resumption):
            pass
    return caught.value.code, str(caught.value)


@behaviour(
    "10.36",
    "10.37",
    "2.4.5",
    "2.4.6",
    off=patched("emulator.endpoint.admission.Admission._ending", lambda *_: lambda now: None),
)
@pytest.mark.asyncio(loop_scope="module")
async def test_the_sdk_resumes_by_its_handle_once_the_old_socket_is_closed(here: Here) -> None:
    client = sdk.client(here)
    async with connecting(client) as live:
        update = await an_update(live)
        handle = update.new_handle
        assert handle and update.resumable and update.last_consumed_client_message_index is None
        code, text = await refused(client, handle=handle)
        assert code == 1011 and text.endswith("Internal error encountered.")
    async with connecting(client, handle=handle) as live:
        assert (await an_update(live)).new_handle not in (None, handle)
    code, text = await refused(client, handle="gone")
    assert code == 1008 and text.endswith("BidiGenerateContent session not found")


@behaviour("10.38", off=patched("emulator.endpoint.admission.Resumption", opaque))
@pytest.mark.asyncio(loop_scope="module")
async def test_the_sdk_reads_the_index_on_vertex(here: Here) -> None:
    async with connecting(sdk.client(here, vertex=True), transparent=True) as live:
        update = await an_update(live)
    assert update.last_consumed_client_message_index == 0


@behaviour("2.4.6", off=without(open_socket="refused"))
@pytest.mark.asyncio(loop_scope="module")
async def test_the_sdk_sees_its_old_socket_closed_where_resuming_takes_over(
    here: Here, switches: dict[str, Any]
) -> None:
    client = sdk.client(here, **{"open_socket": "accepted"} | switches)
    async with connecting(client) as old:
        handle = (await an_update(old)).new_handle
        async with connecting(client, handle=handle) as new:
            async with in_time(in_vain=10.0):
                with pytest.raises(errors.APIError) as caught:
                    while True:
                        await old._receive()
            assert caught.value.code == 1008
            assert (await an_update(new)).new_handle
