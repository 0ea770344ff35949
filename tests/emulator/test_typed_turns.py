"""Ordered turns: appended, seeded, read aloud, completed."""

import base64
from typing import Any

import pytest

from emulator import texts
from emulator.api.protocol import Content
from emulator.errors import Refusal
from emulator.mind.conversation import Conversation
from tests.emulator.activities import FLASH, NATIVE, SPEECH, configured, ruled, spoken
from tests.emulator.behaviour import behaviour, patched, without
from tests.emulator.caller import Caller, typed
from tests.support.speech import question


def at_once(self: Conversation, turns: tuple[Content, ...], complete: bool, now: float) -> None:
    """Every turn is answered."""
    READ(self, turns, True, now)


READ = Conversation._read


def audio_turn(pcm: bytes, rate: int = 16000, **fields: Any) -> dict[str, Any]:
    blob = {"mimeType": f"audio/pcm;rate={rate}", "data": base64.b64encode(pcm).decode()}
    return {"turns": [{"role": "user", "parts": [{"inlineData": blob}]}], "turnComplete": True, **fields}


SEEDED = {"historyConfig": {"initialHistoryInClientContent": True}}


def turn(role: str | None, text: str) -> dict[str, Any]:
    return {"role": role, "parts": [{"text": text}]} if role else {"parts": [{"text": text}]}


class TestTurns:
    """Typed turns, and history told by the client."""

    @behaviour("13.6", off=patched("emulator.mind.conversation.normalise", lambda text: "x"))
    @pytest.mark.parametrize("nudge", [".", " "])
    def test_a_seed_and_a_nudge_bring_exactly_one_answer(self, nudge: str) -> None:
        caller = Caller(**SEEDED)
        assert caller.send(clientContent=typed("hello")) == []
        assert caller.send(realtimeInput={"text": nudge}) == ["modelTurn"]
        assert spoken(caller) == ["hello how can i help you"]
        assert len(caller.record.view()["texts"]) == 1
        assert [entry.role for entry in caller.mind._history.snapshot().context] == ["user", "model"]

    @behaviour("13.6", off=patched("emulator.mind.conversation.normalise", lambda text: "x"))
    @pytest.mark.parametrize("nudge", [".", " "])
    def test_on_2_5_the_answer_has_begun_and_the_nudge_changes_nothing(self, nudge: str) -> None:
        caller = Caller(NATIVE, **SEEDED)
        assert caller.send(clientContent=typed("hello")) == ["modelTurn"]
        assert caller.send(realtimeInput={"text": nudge}) == []
        caller.until(30)
        assert spoken(caller) == ["hello how can i help you"]
        assert caller.send(realtimeInput={"text": "hello"})[-1] == "modelTurn"

    @behaviour("13.8", off=patched("emulator.mind.waiting.Waiting.can_wait", True))
    def test_a_typed_turn_is_answered_though_a_caller_has_stopped_in_mid_speech(self) -> None:
        caller = Caller()
        caller.begin_to_speak()
        assert caller.ask("hello")[-1] == "modelTurn"

    @behaviour("13.7", off=configured(seeds_history=False))
    def test_without_a_seed_speech_works_at_once_and_a_typed_turn_is_taken_for_the_seed(self) -> None:
        caller = Caller(**SEEDED)
        caller.speak()
        assert "modelTurn" in caller.understood("hello")
        caller.until(30)
        assert caller.send(clientContent=typed("hello")) == []
        assert caller.send(clientContent=typed("hello")) == ["modelTurn"]

    @behaviour("seed.resumed", off=configured(handle=None))
    def test_a_resumed_session_waits_for_no_seed(self) -> None:
        caller = Caller(sessionResumption={"handle": "x"}, **SEEDED)
        assert caller.send(clientContent=typed("hello")) == ["modelTurn"]

    @behaviour("10.23", off=patched("emulator.mind.conversation.Conversation._read", at_once))
    def test_a_turn_that_is_not_complete_waits(self) -> None:
        caller = Caller()
        assert caller.send(clientContent=typed("hello", turnComplete=False)) == []
        caller.until(60)
        assert caller.said() == []

    @behaviour("13.8", off=without(nothing_to_complete="refused"))
    @pytest.mark.parametrize("model", ["gemini-3.8-live", FLASH])
    def test_a_bare_completion_answers_the_context_before_it_and_never_closes_on_3_x(
        self, model: str, switches: dict[str, Any]
    ) -> None:
        caller = Caller(model, switches=switches)
        caller.send(clientContent=typed("hello", turnComplete=False))
        assert caller.send(clientContent={"turnComplete": True}) == ["modelTurn"]
        assert spoken(caller) == ["hello how can i help you"]
        assert caller.send(clientContent={"turnComplete": True}) == ["modelTurn"]

    @behaviour("2.4.21", off=without(nothing_to_complete="answered"))
    def test_with_nothing_before_it_it_closes_on_2_5(self, switches: dict[str, Any]) -> None:
        caller = Caller(NATIVE, switches=switches)
        caller.send(clientContent=typed("hello", turnComplete=False))
        assert caller.send(clientContent={"turnComplete": True}) == ["modelTurn"]
        with pytest.raises(Refusal, match="1007 No turn to complete"):
            caller.send(clientContent={"turnComplete": True})

    @behaviour("13.14", off=patched("emulator.mind.reading._REFUSED_RATE", 0))
    def test_24_khz_audio_in_a_turn_closes(self) -> None:
        with pytest.raises(Refusal, match="1008 Operation is not implemented, or supported, or enabled"):
            Caller().send(clientContent=audio_turn(SPEECH, 24000))

    @behaviour("turn.audio", off=patched("emulator.hearing.utterances.Utterances.reading", False))
    def test_other_audio_in_a_turn_is_understood_before_the_turn_is_answered(self) -> None:
        caller = Caller()
        assert caller.send(clientContent=audio_turn(SPEECH, 8000)) == []
        assert [len(one.pcm) for one in caller.listening] == [12800]
        assert caller.understood("hello") == ["modelTurn"]
        assert spoken(caller) == ["hello how can i help you"]
        caller.send(clientContent=audio_turn(SPEECH, turnComplete=False))
        assert caller.understood("hello") == []

    def test_other_audio_in_a_turn_may_come_while_somebody_speaks(self) -> None:
        caller = Caller(switches={"interim_transcripts": "always"})
        caller.begin_to_speak()
        caller.send(clientContent=audio_turn(SPEECH, 8000))
        # A guess that was under way is still about what is being spoken.
        assert caller.guessed("what is") == ["interimInputTranscription"]
        caller.hear(question("weather_paris")[32000:] + bytes(24000))
        in_turn, spoken_aloud = caller.listening
        assert len(in_turn.pcm) < len(spoken_aloud.pcm)
        for listen, text, told in (
            (in_turn, "hello", []),
            (spoken_aloud, "what is the weather in paris", ["what is the weather in paris"]),
        ):
            caller.messages.clear()
            caller._take(caller.mind.heard(listen.number, text, caller.now))
            assert [one["text"] for one in caller.contents("inputTranscription")] == told
        heard = [entry.text for entry in caller.record.journal.utterances]
        assert heard == ["what is the weather in paris"]

    @behaviour("13.14", off=ruled(audio_in_seeds=True))
    def test_audio_in_a_seed_closes_on_2_5(self) -> None:
        assert Caller(**SEEDED).send(clientContent=audio_turn(SPEECH)) == []
        with pytest.raises(Refusal, match="1007 Precondition check failed"):
            Caller(NATIVE, **SEEDED).send(clientContent=audio_turn(SPEECH))

    @behaviour("seed.ends_with_user", off=ruled(seeds_end_with_user=False))
    def test_a_seed_ends_with_a_turn_of_the_users_on_2_5(self) -> None:
        seed = {"turns": [turn("user", "hello"), turn("model", "hi")], "turnComplete": True}
        assert Caller(**SEEDED).send(clientContent=seed) == []
        with pytest.raises(Refusal, match="1007 Request contains an invalid argument"):
            Caller(NATIVE, **SEEDED).send(clientContent=seed)

    @behaviour("seed.at_once", off=without(seed_at_once="waits"))
    def test_a_seed_that_ends_with_the_users_turn_is_answered_at_once_on_2_5(self, switches: dict[str, Any]) -> None:
        assert Caller(**SEEDED).send(clientContent=typed("hello")) == []
        caller = Caller(NATIVE, switches=switches, **SEEDED)
        assert caller.send(clientContent=typed("hello", turnComplete=False)) == []
        assert caller.send(clientContent={"turnComplete": True}) == ["modelTurn"]
        assert spoken(caller) == ["hello how can i help you"]

    @behaviour("seed.first_audio", off=without(seed_at_first_audio="kept"))
    def test_2_5_leaves_the_seed_out_of_a_first_turn_that_is_spoken(self, switches: dict[str, Any]) -> None:
        answers = {}
        for model in ("gemini-3.8-live", NATIVE):
            changed = switches if model == NATIVE else {}
            caller = Caller(model, switches={"seed_at_once": "waits", **changed}, **SEEDED)
            caller.send(clientContent=typed("goodbye"))
            caller.speak()
            caller.understood(None)
            answers[model] = spoken(caller)
        assert answers == {"gemini-3.8-live": ["goodbye"], NATIVE: ["sorry i did not understand that"]}

    @behaviour("13.24", off=ruled(role_required=False))
    def test_a_turn_without_a_role_closes_on_3_x(self) -> None:
        assert Caller(NATIVE).send(clientContent={"turns": [turn(None, "hello")]}) == []
        with pytest.raises(Refusal, match="1007 Request contains an invalid argument"):
            Caller(FLASH).send(clientContent={"turns": [turn(None, "hello")]})

    @behaviour("13.24", off=patched("emulator.texts.ROLE_REFUSED", texts.INVALID_ARGUMENT))
    def test_role_system_closes_on_the_developer_api_and_other_roles_everywhere(self) -> None:
        vertex = {"backend": "vertex", "api_version": "v1beta1"}
        assert Caller(**vertex).send(clientContent={"turns": [turn("system", "x")]}) == []
        for backend, role in (({}, "system"), ({}, "assistant"), (vertex, "assistant")):
            with pytest.raises(Refusal, match="1007 Please use a valid role: user, model"):
                Caller(**backend).send(clientContent={"turns": [turn(role, "x")]})

    @behaviour("turn.refused", off=without(typed_turn="accepted"))
    def test_a_later_typed_turn_is_refused_by_switch(self, switches: dict[str, Any]) -> None:
        caller = Caller(FLASH, switches={"typed_turn": "refused", **switches})
        assert caller.ask("hello") == ["modelTurn"]
        with pytest.raises(Refusal, match="1007 Request contains an invalid argument"):
            caller.ask("hello")
