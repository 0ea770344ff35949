"""The fence by itself: an owner that was replaced, and that nothing tells so but the refusal of what it writes."""

from __future__ import annotations

import asyncio
import contextlib

import nats
import pytest

from parley.cli.stack import Stack, StackConfig
from services.fabric import subjects
from tests.faults.call import calling
from tests.faults.test_ownership import HangUpError, other_worker, sessions, take_over
from tests.support.eventually import eventually

WRITTEN_BY_OWNERS = ("ckpt", "att")


async def newest(stack: Stack, session: str) -> dict[str, int]:
    """Sequence numbers of a session's records in their stream."""
    client = await nats.connect(str(stack.nats.ready["url"]))
    try:
        found = {}
        for kind in ("own", *WRITTEN_BY_OWNERS):
            message = await client.jetstream().get_last_msg(
                subjects.SESSIONS_STREAM, f"parley.session.{session}.{kind}"
            )
            assert message.seq is not None
            found[kind] = message.seq
        return found
    finally:
        await client.close()


async def an_owner_that_was_replaced_unawares(stack: Stack) -> None:
    worker = stack.workers[0]
    with contextlib.suppress(HangUpError):
        async with other_worker(stack), calling(stack, microphone=False) as call:
            await call.session.send_text("hello")
            await call.answer(containing="help you")
            await take_over(stack, call.session.id)
            await call.session.send_text("what can you do")

            async def let_go() -> bool:
                return await sessions(worker) == 0

            await eventually(let_go)
            written = await newest(stack, call.session.id)
            assert all(written[kind] < written["own"] for kind in WRITTEN_BY_OWNERS), written
            raise HangUpError


@pytest.fixture(scope="module")
def told() -> BaseException | None:
    """What went wrong."""

    async def tell() -> None:
        async with Stack(StackConfig()) as stack:
            await an_owner_that_was_replaced_unawares(stack)

    try:
        asyncio.run(tell())
    except Exception as problem:  # noqa: BLE001 - the test raises it again
        return problem
    return None


@pytest.mark.parametrize("story", ["an_owner_that_was_replaced_unawares"])
def test_it_writes_nothing_more(told: BaseException | None, story: str) -> None:
    if told is not None:
        raise told
