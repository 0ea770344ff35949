"""Questions whose link ends, or whose model says nothing: each is asked until it is answered, and not again."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from parley.v1 import live_pb2
from services.session_worker import events, rotation
from services.session_worker.closes import LinkFailure, Where
from services.session_worker.link import LinkClosedError
from services.session_worker.link_in_use import LinkInUse
from services.session_worker.next_link import NextLink
from tests.session_worker.conftest import FakeLink, Rig
from tests.session_worker.test_session import text
from tests.support.eventually import eventually

SOUND = struct.pack("<640h", *(3000 if n % 2 else -3000 for n in range(640)))
DONE = events.TurnComplete("", False, True)
THINKS_ON = events.TurnComplete("", False, False)
HANDLE = events.HandleUpdate("good", True, None)
THINKING = "gemini-3.8-live-extended-thinking"


def sound(seq: int) -> live_pb2.ConverseRequest:
    return live_pb2.ConverseRequest(seq=seq, audio=live_pb2.AudioInput(frames=[SOUND]))


def told(link: FakeLink) -> list[tuple[str, bool]]:
    """What a link was told in words: each turn, and whether an answer is asked for."""
    return [
        (" | ".join(part.text for content in turns for part in content.parts), asked) for turns, asked in link.turns
    ]


async def next_link(rig: Rig, link: FakeLink) -> FakeLink:
    """After this one, which is lost once it has said everything; the session goes on there."""
    link._events.put_nowait(LinkClosedError(1006, ""))
    recoveries = sum(one.link_state.HasField("recovered") for one in rig.responses)
    await eventually(lambda: sum(one.link_state.HasField("recovered") for one in rig.responses) > recoveries)
    return rig.dialer.links[-1]


def news(rig: Rig) -> list[live_pb2.LinkState]:
    """What the caller is told of links."""
    return [one.link_state for one in rig.responses if one.HasField("link_state")]


async def heard(rig: Rig, words: str) -> None:
    """The caller has this transcript, or this piece of the answer."""
    await eventually(lambda: any(words in (one.input_transcript.text or one.text.text) for one in rig.responses))


async def test_a_question_is_asked_again_whose_model_thinks_on_before_it_calls(rig: Rig) -> None:
    session, link = await rig.open(model=THINKING, input_transcription=True)
    await rig.send(session, sound(1))
    await eventually(lambda: link.audio)
    link.says(events.InputTranscript("book it", True, ""), THINKS_ON, events.FunctionCall("c1", "unheard_of", {}))
    assert told(await next_link(rig, link))[-1] == ("book it", True)


async def test_a_model_that_thinks_on_after_a_resume_is_not_stuck(rig: Rig) -> None:
    session, link = await rig.open(model=THINKING)
    link.says(HANDLE)
    await rig.send(session, text(1, "hello"))
    await eventually(lambda: link.texts)
    link = await next_link(rig, link)
    await eventually(lambda: link.texts)
    link.says(THINKS_ON, events.Text("it is booked", thought=False), DONE)
    await heard(rig, "it is booked")
    assert told(link) == []


@pytest.mark.parametrize("owed", [True, False])
async def test_a_model_that_stays_silent_is_asked_again_where_it_may_be_stuck(rig: Rig, owed: bool) -> None:
    """With a call that was lost; where the link before owed nothing, what it hears was not meant for it."""
    session, link = await rig.open(input_transcription=True)
    link.says(HANDLE)
    if owed:
        await rig.send(session, sound(1))
        await eventually(lambda: link.audio)
    else:
        await rig.send(session, text(1, "hello"))
        await eventually(lambda: link.texts)
        link.says(events.Text("hi", thought=False), DONE, HANDLE)
        await heard(rig, "hi")
    link = await next_link(rig, link)
    if not owed:
        await rig.send(session, sound(2))
    await eventually(lambda: link.audio)
    link.says(events.InputTranscript("where are my keys", True, ""), DONE)
    link.says(events.InputTranscript("never mind", True, ""))
    await heard(rig, "never mind")
    await eventually(lambda: told(link) or not owed)
    assert told(link) == ([("where are my keys", True)] if owed else [])


async def test_what_is_asked_again_on_the_same_link_is_named(rig: Rig) -> None:
    """The model may know it twice then, as it may after a change of links."""
    session, link = await rig.open()
    link.says(HANDLE)
    await rig.send(session, text(1, "hello"))
    await eventually(lambda: link.texts)
    link = await next_link(rig, link)
    await eventually(lambda: link.texts)
    link.says(DONE)
    await eventually(lambda: told(link) == [("hello", True)])
    await eventually(lambda: len(news(rig)) == 3)
    assert [one.WhichOneof("state") for one in news(rig)] == ["rotating", "recovered", "recovered"]
    assert [(one.from_seq, one.to_seq) for one in news(rig)[-1].recovered.replayed] == [(1, 1)]


async def test_a_caller_that_goes_on_after_a_pause_is_not_asked_for(rig: Rig) -> None:
    """The model took the pause for the end: what it began was cut off, and says nothing of a call that was lost."""
    session, link = await rig.open(input_transcription=True)
    link.says(HANDLE)
    await rig.send(session, sound(1))
    await eventually(lambda: link.audio)
    link = await next_link(rig, link)
    await eventually(lambda: link.audio)
    before = len(link.audio)
    link.says(events.InputTranscript("where are", True, ""), events.Interrupted(), DONE)
    link.says(events.InputTranscript("my keys", True, ""))
    await heard(rig, "my keys")
    assert (told(link), len(link.audio)) == ([], before)
    link.says(DONE)
    await eventually(lambda: told(link) == [("my keys", True)])  # now it may be stuck, as before


async def test_nor_where_nothing_is_heard_of_what_it_says(rig: Rig) -> None:
    """Without transcripts and log the audio would be given again as it was."""
    session, link = await rig.open(conversation_log=live_pb2.ConversationLog(disabled=True))
    link.says(HANDLE)
    await rig.send(session, sound(1))
    await eventually(lambda: link.audio)
    link = await next_link(rig, link)
    await eventually(lambda: link.audio)
    before = len(link.audio)
    link.says(events.Interrupted(), DONE, events.GoAway(None))
    await eventually(lambda: rig.worker.held(session)._parts.links.at_rest is False or len(rig.dialer.links) > 2)
    assert len(link.audio) == before


@pytest.mark.parametrize("said", ["i can", ""])
async def test_what_was_typed_and_cut_an_answer_off_is_given_again(
    rig: Rig, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LinkInUse, "round_trip", 5.0)  # however slow the test is, the first output was on its way
    session, link = await rig.open(input_transcription=True)
    await eventually(lambda: rig.worker._sessions[session]._parts.links.round_trip)
    link.says(HANDLE)
    await rig.send(session, text(1, "tell me about your service"))
    await rig.send(session, text(2, "no, what is the weather"))
    await eventually(lambda: len(link.texts) == 2)
    if said:
        link.says(events.Text(said, thought=False))
    else:
        link.says(events.InputTranscript("hm", True, ""))
    link.says(events.Interrupted(), DONE)
    await heard(rig, said or "hm")
    link = await next_link(rig, link)
    await eventually(lambda: link.texts)
    if said:
        assert told(link) == [("tell me about your service | i can —", False)]
        assert link.texts == ["no, what is the weather"]
    else:
        assert told(link) == []
        await eventually(lambda: link.texts == ["tell me about your service", "no, what is the weather"])


async def test_a_link_that_hangs_was_not_left_by_wish(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it happens again and again, the state behind the handle is given up."""
    failures: list[LinkFailure | None] = []
    replace = NextLink.replace

    async def noting(self: NextLink, outage: Any, failure: LinkFailure | None, *args: Any) -> Any:
        failures.append(failure)
        return await replace(self, outage, failure, *args)

    monkeypatch.setattr(NextLink, "replace", noting)
    monkeypatch.setattr(rotation, "PATIENCE", 0.1)
    session, _ = await rig.open()
    await rig.send(session, text(1, "hello"))
    await eventually(lambda: len(rig.dialer.links) > 2)
    assert {failure and (failure.where, failure.code) for failure in failures} == {(Where.LINK, 1006)}
