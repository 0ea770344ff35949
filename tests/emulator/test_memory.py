"""What has ended is gone at once: nothing of it waits for the collector of cycles, which comes late and seldom."""

import asyncio
import gc
from collections import Counter
from typing import Any

import pytest
from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from emulator.endpoint.connection import Connection
from emulator.endpoint.inbox import Inbox
from emulator.faults.plan import FaultPlan
from emulator.hearing.ears import Ears
from emulator.mind.conversation import Conversation
from emulator.mind.speaker import Speaker
from emulator.record import Archive, LinkFacts, LinkRecord
from emulator.record.conversation import ConversationRecord
from tests.emulator.conftest import Here
from tests.emulator.patience import in_time
from tests.emulator.raw import HELLO, SETUP, Socket, audio, gone
from tests.support.eventually import eventually
from tests.support.speech import question

pytestmark = pytest.mark.asyncio(loop_scope="module")

BARGE_IN = {"clientContent": {"turns": [{"role": "user", "parts": [{"text": "hello"}]}], "turnComplete": True}}

# Speech, and enough silence behind it.
SPOKEN = audio(question("stop") + bytes(32000))


def alive() -> Counter[str]:
    """How many there are of what belongs to connections, by class."""
    kinds = (
        Connection,
        Conversation,
        ConversationRecord,
        FaultPlan,
        LinkRecord,
        RequestHandler,
        Speaker,
        web.WebSocketResponse,
    )
    return Counter(type(one).__name__ for one in gc.get_objects() if isinstance(one, kinds))


@pytest.fixture
def uncollected():  # type: ignore[no-untyped-def]
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
def serving(monkeypatch: pytest.MonkeyPatch) -> list[asyncio.Task[Any]]:
    """The tasks that serve connections, for whoever wants to cancel them."""
    tasks: list[asyncio.Task[Any]] = []
    serve = Connection.serve

    async def noted(connection: Connection) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.append(task)
        await serve(connection)

    monkeypatch.setattr(Connection, "serve", noted)
    return tasks


class Recogniser:
    """Stands for one that is busy: ``asked`` tells when it has begun, and nothing is understood."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()

    async def hear(self, *_: Any, **__: Any) -> None:
        self.asked.set()
        await asyncio.Event().wait()


@pytest.fixture
def busy(monkeypatch: pytest.MonkeyPatch) -> Recogniser:
    recogniser = Recogniser()
    monkeypatch.setattr(Ears, "hear", recogniser.hear)
    return recogniser


ENDS = [
    "hangs up",
    "hangs up while listening",
    "answered",
    "refused",
    "no setup",
    "closes",
    "reset",
    "frozen",
    "closed",
    "cancelled",
]


@pytest.mark.parametrize("end", ENDS)
async def test_a_connection_that_has_ended_is_freed_without_a_collector(
    here: Here, uncollected: None, serving: list[asyncio.Task[Any]], busy: Recogniser, end: str
) -> None:
    await gone(here)
    before = alive()
    faults = {
        "reset": "reset on=first_audio",
        "frozen": "half_open on=turn_complete for=100ms; pongs delay=1ms",
        "closed": "close on=turn_complete",
    }
    async with Socket(here, faults.get(end, ""), "freed") as client:
        if end != "no setup":
            await client.send(SETUP, HELLO)
            await client.until("modelTurn")
        if end in ("answered", "frozen"):
            await client.send(BARGE_IN)
            await client.until("turnComplete")
        if end == "hangs up while listening":
            await client.send(SPOKEN)
            async with in_time():
                await busy.asked.wait()
        if end == "closes":
            await client.socket.close()
        if end == "cancelled":
            serving.pop().cancel()
        if end == "refused":
            await client.send("garbage")
        if end in ("closed", "cancelled", "refused"):
            await client.closed()
    await gone(here)
    serving.clear()
    here.emulator._archive.clear()

    async def freed() -> bool:
        left = alive() - before
        assert not left, left
        return True

    await eventually(freed, timeout=5)


async def test_a_connection_whose_serving_is_cancelled_closes_its_socket_once_its_reader_has_ended(
    here: Here, serving: list[asyncio.Task[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    ends: list[str] = []
    read, close = Inbox.next, web.WebSocketResponse.close

    async def reading(inbox: Inbox) -> Any:
        try:
            return await read(inbox)
        except asyncio.CancelledError:
            # It may take its time; many turns of the loop stand for that.
            for _ in range(100):
                await asyncio.sleep(0)
            ends.append("reader")
            raise

    async def closing(socket: web.WebSocketResponse, **options: Any) -> bool:
        ends.append("socket")
        return await close(socket, **options)

    monkeypatch.setattr(Inbox, "next", reading)
    monkeypatch.setattr(web.WebSocketResponse, "close", closing)
    async with Socket(here, conversation="cancelled") as client:
        await client.send(SETUP)
        await client.next()
        serving.pop().cancel()
        assert (await client.closed())[0] == 1000
    await gone(here)
    assert ends == ["reader", "socket"]
    (link,) = (await here.get("/conversations/cancelled"))["links"]
    assert link["closed"] is not None


async def test_a_record_that_is_forgotten_is_freed_without_a_collector(uncollected: None) -> None:
    before = alive()["LinkRecord"]
    archive = Archive(kept=1, items=10, audio_limit=0)
    for number in range(20):
        link = archive.open(f"c{number}", "support").add_link(LinkFacts(0, "m", "/", "v1beta", {}, 0.0))
        link.closed(1000, at=1.0)
        del link
        archive.trim()
    assert alive()["LinkRecord"] - before == 1


async def test_the_record_of_a_connection_may_be_forgotten_before_it_ends() -> None:
    archive = Archive(kept=1, items=10, audio_limit=0)
    link = archive.open("c", "support").add_link(LinkFacts(0, "m", "/", "v1beta", {}, 0.0))
    archive.forget("c")
    link.add("texts", "goes on", at=1.0)
    link.closed(1000, at=2.0)
    assert archive.all() == []
