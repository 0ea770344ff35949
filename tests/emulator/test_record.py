"""The record of conversations over real sockets: driven by the unmodified SDK, read over HTTP."""

import asyncio
import secrets
from contextlib import AbstractAsyncContextManager
from typing import Any

import aiohttp
import pytest
from google import genai
from google.genai import types
from google.genai.live import AsyncSession

from emulator.marks import mark
from emulator.record import Archive, LinkFacts, LinkRecord
from emulator.settings import EmulatorSettings
from tests.emulator.behaviour import behaviour, patched, without
from tests.emulator.conftest import Here, running
from tests.emulator.patience import LIMIT, in_time
from tests.support.eventually import eventually
from tests.support.speech import question
from tests.support.stories import FRAME, short

pytestmark = pytest.mark.asyncio(loop_scope="module")

STREAM = 9
HELLO = bytes(5 * FRAME) + question("hello") + bytes(50 * FRAME)
GOODBYE = bytes(5 * FRAME) + question("goodbye") + bytes(50 * FRAME)


class Call:
    """A caller whose audio carries marks, over as many links as it takes."""

    def __init__(self, here: Here, **switches: Any) -> None:
        self._here = here
        self.id = f"call-{secrets.token_hex(4)}"
        self._headers = {
            "x-emulator-conversation": self.id,
            "x-emulator-switches": "; ".join(f"{name}={value}" for name, value in switches.items()),
        }
        self.sent = 0
        """Frames sent so far."""

    def connect(self, handle: str | None = None) -> AbstractAsyncContextManager[AsyncSession]:
        http = types.HttpOptions(
            base_url=self._here.address, api_version="v1beta", async_client_args={"ssl": self._here.ssl_context}
        )
        config = types.LiveConnectConfig(
            http_options=types.HttpOptions(headers=self._headers),
            session_resumption=types.SessionResumptionConfig(handle=handle),
        )
        return genai.Client(api_key="key", http_options=http).aio.live.connect(model="gemini-3.8-live", config=config)

    def marked(self, pcm: bytes) -> bytes:
        """The next piece of what the caller says."""
        pcm = pcm[: len(pcm) // FRAME * FRAME]
        marked = mark(pcm, stream=STREAM, first=self.sent)
        self.sent += len(pcm) // FRAME
        return marked

    async def get(self, path: str = "") -> dict[str, Any]:
        """JSON of the record."""
        found: dict[str, Any] = await self._here.get(f"/conversations/{self.id}{path}")
        return found

    async def lineage(self) -> dict[str, Any]:
        return await self.get("/lineage")

    async def ended(self, links: int = 1) -> None:
        """Until so many links are over."""

        async def over() -> bool:
            record = await self.get()
            return bool(record["links"][links - 1]["closed"] is not None)

        await eventually(over, LIMIT)


async def send(session: AsyncSession, pcm: bytes) -> None:
    # Pieces that fit no frame.
    for at in range(0, len(pcm), 1500):
        blob = types.Blob(data=pcm[at : at + 1500], mime_type="audio/pcm;rate=16000")
        await session.send_realtime_input(audio=blob)


async def handle_after_turn(session: AsyncSession) -> str:
    """The handle that comes behind the next turn."""
    async with in_time(in_vain=10.0):
        while True:
            update = (await session._receive()).session_resumption_update
            if update is not None and update.new_handle:
                return update.new_handle


def frames(ranges: list[dict[str, Any]]) -> set[int]:
    return {number for one in ranges for number in range(one["first"], one["last"] + 1)}


@behaviour("record.lineage", off=patched("emulator.record.lineage.Lineage._before", lambda *_: []))
async def test_a_stale_handle_forgets_exactly_what_came_after_it(here: Here) -> None:
    call = Call(here)
    async with call.connect() as session:
        await send(session, call.marked(HELLO))
        stale = await handle_after_turn(session)
        held = call.sent
        goodbye = call.marked(GOODBYE)
        await send(session, goodbye)
        await handle_after_turn(session)
    await call.ended()
    async with call.connect(stale) as session:
        lineage = await call.lineage()
        forgotten = lineage["forgotten"]
        assert [one["text"] for one in forgotten["utterances"]] == ["thank you goodbye"]
        assert [one["text"] for one in forgotten["said"]] == ["goodbye"]
        speech, silence = frames(forgotten["speech"]), frames(forgotten["silence"])
        assert speech | silence == set(range(held, call.sent))
        assert not speech & silence
        # The silence before and after the words is none of the utterance, whatever the detector takes for its end.
        assert set(range(held + 20, held + 40)) <= speech <= set(range(held, call.sent - 25))
        assert frames(lineage["marks"]) == set(range(held))
        assert [used["used_by"] for used in lineage["handles"]] == [[1], []]
        assert [used["covers_later_input"] for used in lineage["handles"]] == [False, False]
        assert lineage["complete"] is True

        # Told as text, it is known again; heard on top of that, it is known twice.
        await session.send_client_content(
            turns=[types.Content(role="user", parts=[types.Part(text="Thank you, goodbye!")])], turn_complete=False
        )
        await eventually(lambda: told(call), LIMIT)
        lineage = await call.lineage()
        assert short(lineage["duplicates"]) == {}
        await send(session, goodbye)
        await handle_after_turn(session)
    lineage = await call.lineage()
    repeated = lineage["duplicates"]["audio"]
    assert frames(repeated) == speech
    assert {one["as"] for one in repeated} == {"text"}
    assert lineage["holes"] == []


async def told(call: Call) -> bool:
    forgotten = (await call.lineage())["forgotten"]
    return not forgotten["utterances"] and not forgotten["speech"]


@behaviour("record.open_utterance", off=patched("emulator.record.journal.Journal.unknown", lambda *_: []))
async def test_speech_that_a_lost_link_was_in_the_middle_of_is_forgotten_from_its_start(here: Here) -> None:
    call = Call(here)
    async with call.connect() as session:
        await send(session, call.marked(HELLO))
        await handle_after_turn(session)
        # The model is still to answer when the caller interrupts it: the handle comes in the middle of the speech.
        await send(session, call.marked(question("what_can_you_do") + bytes(45 * FRAME)))
        held = call.sent
        goodbye = call.marked(GOODBYE[: 40 * FRAME])
        await send(session, goodbye)
        stale = await handle_after_turn(session)
    await call.ended()
    async with call.connect(stale) as session:
        forgotten = (await call.lineage())["forgotten"]
        lost = frames(forgotten["speech"])
        start = min(lost)
        began = [event["audio_seconds"] for event in (await call.get())["events"] if event["kind"] == "speech_began"]
        # A frame belongs to where its middle is.
        assert held < start and abs(start - began[-1] * 2 * 16000 / FRAME) <= 1
        assert lost == set(range(start, call.sent))
        assert forgotten["utterances"] == []
        # From its start, not from where the handle came: nothing is forgotten or twice, and it is understood.
        await send(session, goodbye[(start - held) * FRAME :])
        await send(session, mark(GOODBYE[40 * FRAME :], stream=STREAM, first=call.sent))
        await handle_after_turn(session)
    lineage = await call.lineage()
    assert lineage["forgotten"]["speech"] == lineage["forgotten"]["utterances"] == []
    assert short(lineage["duplicates"]) == {}
    assert [one["text"] for one in lineage["context"] if one["kind"] == "utterance"][-1] == "thank you goodbye"


@behaviour("record.open_utterance", off=patched("emulator.record.journal.Journal.speech_sounded", lambda *_: None))
async def test_the_silence_in_which_a_link_was_lost_is_no_speech(here: Here) -> None:
    call = Call(here)
    async with call.connect() as session:
        await send(session, call.marked(HELLO))
        handle = await handle_after_turn(session)
        await send(session, call.marked(GOODBYE[: 40 * FRAME]))
        spoken = call.sent
        await send(session, call.marked(bytes(20 * FRAME)))

        async def heard_all() -> bool:
            return bool((await call.lineage())["marks"][-1]["last"] == call.sent - 1)

        await eventually(heard_all, LIMIT)
    await call.ended()
    async with call.connect(handle):
        forgotten = (await call.lineage())["forgotten"]
        lost = frames(forgotten["speech"])
        assert spoken - 10 <= max(lost) <= spoken
        assert frames(forgotten["silence"]) >= set(range(spoken + 1, call.sent))


@behaviour("record.handles", off=without(handle_scope="issue"))
async def test_a_handle_that_covers_later_input_is_told_apart(here: Here, switches: dict[str, Any]) -> None:
    call = Call(here, **{"handle_scope": "close", **switches})
    async with call.connect() as session:
        await send(session, call.marked(HELLO))
        handle = await handle_after_turn(session)
        await session.send_client_content(
            turns=[types.Content(role="user", parts=[types.Part(text="my name is bond")])], turn_complete=False
        )
        await send(session, call.marked(bytes(10 * FRAME)))
    await call.ended()
    async with call.connect(handle):
        lineage = await call.lineage()
    (issued,) = lineage["handles"]
    assert issued["later_input"]["turns"] == 1
    assert frames(issued["later_input"]["marks"]) == set(range(call.sent - 10, call.sent))
    assert (issued["covers_later_input"], issued["used_by"]) == (True, [1])
    assert short(lineage["forgotten"]) == {}
    assert lineage["context"][-1]["text"] == "my name is bond"


@behaviour("record.http", off=patched("emulator.record.conversation.ConversationRecord.link", lambda *_: None))
async def test_a_link_can_be_read_by_itself(here: Here) -> None:
    call = Call(here)
    async with call.connect() as session:
        await send(session, call.marked(HELLO))
        await handle_after_turn(session)
    link = await call.get("/links/0")
    assert [entry["kind"] for entry in link["history"]] == ["utterance", "said"]
    assert link["restored"] is None
    assert link["marks"] == [{"stream": STREAM, "first": 0, "last": call.sent - 1}]
    (utterance,) = link["utterances"]
    assert (utterance["text"], utterance["over"]) == ("hello", True)
    assert link["heard"] == ["hello"]


async def request(here: Here, method: str, path: str) -> tuple[int, Any]:
    async with aiohttp.ClientSession() as http, http.request(method, here.control + path) as response:
        return response.status, await response.json() if response.content_length else None


@pytest.mark.parametrize(
    ("method", "path", "status", "error"),
    [
        ("GET", "/conversations/nobody", 404, "no such conversation; GET /conversations lists them"),
        ("GET", "/conversations/nobody/lineage", 404, "no such conversation"),
        ("DELETE", "/conversations/nobody", 404, "no such conversation"),
        ("GET", "/conversations/{id}/links/1", 404, "no such link; those that are kept are 0 to 0"),
        ("GET", "/conversations/{id}/links/x", 400, "a link is a number from 0 to"),
        ("GET", "/conversations/{id}/events?since=-1", 400, "since is a number from 0 to"),
        (
            "GET",
            "/conversations/{id}/events?wait=nan",
            400,
            "wait is a number from 0 to 60, not 'nan'",
        ),
        ("GET", "/conversations/{id}/events?wait=61", 400, "wait is a number from 0 to 60, not '61'"),
        ("GET", "/conversations/{id}/audio", 404, "audio is not kept; set PARLEY_EMULATOR_KEEP_AUDIO"),
        ("GET", "/nothing", 404, "Not Found: GET /nothing"),
        ("POST", "/conversations", 405, "Method Not Allowed: POST /conversations"),
    ],
)
async def test_what_cannot_be_answered_is_told_in_json(
    here: Here, method: str, path: str, status: int, error: str
) -> None:
    call = Call(here)
    async with call.connect():
        pass
    await call.ended()
    path = path.format(id=call.id)
    got, answer = await request(here, method, path)
    assert got == status
    assert answer["error"].startswith(error)


@behaviour("record.forget", off=patched("emulator.record.archive.Archive.forget", lambda *_: None))
async def test_one_conversation_is_deleted_when_it_is_over(here: Here) -> None:
    call = Call(here)
    async with call.connect():
        status, answer = await request(here, "DELETE", f"/conversations/{call.id}")
        assert (status, answer) == (
            409,
            {"error": "the conversation is under way; close its connections first"},
        )
    await call.ended()
    assert await request(here, "DELETE", f"/conversations/{call.id}") == (204, None)
    assert (await request(here, "GET", f"/conversations/{call.id}"))[0] == 404


class TestEvents:
    @behaviour(
        "record.events", off=patched("emulator.record.conversation.ConversationRecord.settled_events", lambda _: 0)
    )
    async def test_each_is_told_once_and_by_kind(self, here: Here) -> None:
        call = Call(here)
        async with call.connect() as session:
            await send(session, call.marked(HELLO))
            await handle_after_turn(session)
        await call.ended()
        first = await call.get("/events")
        kinds = [event["kind"] for event in first["events"]]
        assert kinds[0] == "opened"
        assert kinds[-1] == "closed"
        assert [event["seq"] for event in first["events"]] == list(range(first["next"]))
        assert (first["open"], first["dropped"]) == (0, 0)
        assert (
            sum(event["bytes"] for event in first["events"] if event["kind"] == "audio") == len(HELLO) // FRAME * FRAME
        )
        again = await call.get(f"/events?since={first['next']}")
        assert again == {**first, "events": []}
        heard = await call.get("/events?kind=heard,said")
        assert [event["kind"] for event in heard["events"]] == ["heard", "said"]
        assert heard["next"] == first["next"]

    async def test_an_event_has_the_same_number_wherever_one_begins_to_read(self, here: Here) -> None:
        call = Call(here)
        async with call.connect() as session:
            await session.send_realtime_input(text="stop")
            await handle_after_turn(session)
        await call.ended()
        everything = (await call.get("/events"))["events"]
        assert (await call.get("/events?since=2"))["events"] == everything[2:]
        texts = [event for event in everything if event["kind"] == "texts"]
        assert (await call.get("/events?since=1&kind=texts"))["events"] == texts

    @behaviour(
        "record.events",
        off=patched("emulator.record.conversation.ConversationRecord.settled_events", lambda self: len(self.events)),
    )
    async def test_audio_that_goes_on_is_not_told_before_it_is_counted(self, here: Here) -> None:
        call = Call(here)
        async with call.connect() as session:
            await send(session, bytes(FRAME))
            await eventually(lambda: self._size(call), LIMIT)
            assert (await call.get("/events?kind=audio"))["events"] == []
            await send(session, bytes(FRAME))
        await call.ended()
        assert [event["bytes"] for event in (await call.get("/events?kind=audio"))["events"]] == [2 * FRAME]

    @staticmethod
    async def _size(call: Call) -> int:
        return int((await call.get())["audio"]["bytes"])

    async def test_a_request_waits_for_the_next_one(self, here: Here) -> None:
        call = Call(here)
        async with call.connect() as session:
            waiting = asyncio.create_task(call.get("/events?kind=texts&wait=10"))
            record = here.emulator._archive.get(call.id)
            assert record is not None
            await eventually(lambda: record.watchers, LIMIT)
            assert not waiting.done()
            await session.send_realtime_input(text="hello")
            async with in_time(in_vain=10.0):
                found = await waiting
        assert [event["item"] for event in found["events"]] == ["hello"]
        assert not record.watchers

    async def test_waiting_has_an_end(self, here: Here) -> None:
        call = Call(here)
        async with call.connect():
            found = await call.get("/events?kind=texts&wait=0.05")
            assert found["events"] == []
            assert found["open"] == 1

    async def test_too_many_that_wait_are_refused(self, here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("emulator.record.routes._MAX_WATCHERS", 0)
        call = Call(here)
        async with call.connect():
            status, answer = await request(here, "GET", f"/conversations/{call.id}/events?wait=1")
        assert status == 429
        assert "wait for events of this conversation already" in answer["error"]


async def test_a_bounded_record_says_that_it_is_not_complete() -> None:
    async with running(EmulatorSettings(kept_items=2)) as small:
        call = Call(small)
        async with call.connect() as session:
            for word in ("a", "b", "c"):
                await session.send_client_content(
                    turns=[types.Content(role="user", parts=[types.Part(text=word)])], turn_complete=False
                )
            await eventually(lambda: dropped_turns(call), LIMIT)
            assert (await call.lineage())["complete"] is False


async def dropped_turns(call: Call) -> bool:
    return bool((await call.get())["dropped"].get("turns"))


async def test_records_have_room_in_bytes_and_the_oldest_make_way() -> None:
    archive = Archive(kept=100, items=1000, audio_limit=0, each=10_000, total=30_000)

    def one(name: str, text: str, times: int) -> LinkRecord:
        link = archive.open(name, "support").add_link(LinkFacts(0, "m", "/", "v1beta", {}, 0.0))
        for _ in range(times):
            link.add("texts", text, at=1.0)
        return link

    link = one("large", "x" * 4000, 5)
    record = archive.get("large")
    assert record is not None
    view = record.view()
    assert len(view["texts"]) == 2 and view["dropped"]["texts"] == 3
    assert link.dropped == 3
    link.closed(1000, at=2.0)
    for number in range(3):
        one(f"next {number}", "x" * 4000, 1).closed(1000, at=3.0)
        archive.trim()
    assert [record.id for record in archive.all()] == ["next 0", "next 1", "next 2"]
    archive.clear()
    assert archive._room.used == 0
    unknown = archive.open("c", "support").add_link(LinkFacts(0, "m", "/", "v1beta", {"a": "x" * 20_000}, 0.0))
    assert unknown.facts.setup is None and unknown.dropped == 1
