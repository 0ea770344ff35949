from typing import Any

import pytest

from emulator.errors import Refusal
from emulator.mind.conversation import Conversation
from emulator.mind.transcriber import Transcriber
from tests.emulator.behaviour import behaviour, patched
from tests.emulator.caller import Caller, scenario, typed
from tests.emulator.conftest import Here
from tests.emulator.raw import Socket
from tests.emulator.rows import row

MODEL = "gemini-3.5-transcribe-live"
SETUP = {"setup": {"model": f"models/{MODEL}", "generationConfig": {"responseModalities": ["TEXT"]}}}


@pytest.fixture(autouse=True)
def _mind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.emulator.caller.Conversation", Transcriber)


def caller(**fields: Any) -> Caller:
    return Caller(MODEL, generationConfig={"responseModalities": ["TEXT"]}, **fields)


@behaviour("model.transcribe", off=patched("emulator.mind.transcriber.Transcriber._ask", Conversation._ask))
def test_speech_is_written_down_and_not_answered() -> None:
    one = caller()
    one.speak()
    kinds = [next(iter(message)) for message in one.messages]
    assert kinds == ["voiceActivity", "voiceActivity"]
    one.understood("hello")
    contents = [message["serverContent"] for message in one.messages]
    assert contents == [{"inputTranscription": {"text": "hello"}}, {"generationComplete": True}]
    one.until(60.0)
    assert one.messages == []
    assert not one.mind._turns.busy


@behaviour("model.transcribe", off=row(MODEL, interim_transcripts=False))
def test_it_tells_what_it_hears_while_it_is_said() -> None:
    one = caller()
    one.begin_to_speak()
    assert one.guessing
    one.guessed("hello")
    assert one.messages == [{"serverContent": {"interimInputTranscription": {"text": "hello"}}}]


@behaviour("model.transcribe", off=patched("emulator.mind.transcriber._TAKEN", object))
def test_it_takes_nothing_but_audio() -> None:
    for message in (
        {"realtimeInput": {"text": "hello"}},
        {"realtimeInput": {"video": {"data": "AAAA", "mimeType": "image/png"}}},
        {"clientContent": typed("hello")},
        {"toolResponse": {"functionResponses": []}},
        {"contextUpdate": {"tools": {}}},
    ):
        with pytest.raises(Refusal) as caught:
            caller().send(**message)
        assert caught.value.text == "Only audio input is supported by this model."
    with pytest.raises(Refusal, match="setup must be the first message"):
        caller().send(**SETUP)


def test_an_utterance_while_another_is_understood_interrupts_nothing() -> None:
    one = caller()
    one.speak()
    first = one.listening[-1].number
    one.begin_to_speak()
    one.messages.clear()
    one._take(one.mind.heard(first, "hello", one.now))
    assert [next(iter(message["serverContent"])) for message in one.messages] == [
        "inputTranscription",
        "generationComplete",
    ]


def test_a_scenario_that_speaks_first_is_silent_here() -> None:
    greeting = {"name": "greeting", "on": "start", "say": "hello"}
    one = caller(scenario=scenario(greeting))
    one._take(one.mind.start(0.0))
    one.until(60.0)
    assert one.messages == []


def test_a_handle_stands_for_what_was_written_down() -> None:
    one = caller(sessionResumption={})
    one.speak()
    one.understood("hello")
    assert one.snapshots
    context = one.snapshots[-1].context
    assert [(entry.role, entry.text) for entry in context] == [("user", "hello")]
    assert one.snapshots[-1].unanswered == ()


def test_tools_are_not_for_it() -> None:
    for tools in ([{"googleSearch": {}}], [{"functionDeclarations": [{"name": "f"}]}]):
        with pytest.raises(Refusal, match=" tool is not supported for this model"):
            caller(tools=tools)


@pytest.mark.asyncio(loop_scope="module")
@behaviour("model.transcribe", off=patched("emulator.endpoint.admission.Transcriber", Conversation))
async def test_the_models_name_is_what_makes_it_one(here: Here) -> None:
    async with Socket(here) as client:
        await client.send(SETUP)
        assert await client.next() == {"setupComplete": {}}
        await client.send({"clientContent": typed("hello")})
        assert await client.closed() == (1007, "Only audio input is supported by this model.")
