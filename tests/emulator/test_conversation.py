"""The deciding parts without sockets: a conversation is fed events and a clock, and says what is to be done."""

import pytest

from emulator.errors import Refusal
from emulator.mind.context import Context, Entry
from emulator.mind.usage import NOTHING
from emulator.session.handles import Snapshot
from tests.emulator.caller import GREETING_SECONDS, Caller, typed


class TestAnswers:
    def test_a_handle_follows_the_turn_when_wanted(self) -> None:
        caller = Caller(sessionResumption={})
        caller.send(clientContent=typed("hello"))
        assert caller.until(GREETING_SECONDS)[-2:] == ["turnComplete", "sessionResumptionUpdate"]
        assert caller.snapshots[0].history == (("user", "hello"), ("model", "hello how can i help you"))

    def test_output_is_transcribed_with_the_frames_that_speak_it(self) -> None:
        caller = Caller(outputAudioTranscription={})
        caller.send(clientContent=typed("hello"))
        first = caller.messages[0]["serverContent"]
        assert first["outputTranscription"] == {"text": "hello "} and "modelTurn" in first
        caller.until(9)
        texts = [m["serverContent"].get("outputTranscription", {}).get("text", "") for m in caller.messages]
        assert "".join(texts) == "how can i help you "

    def test_what_nobody_understands_is_answered(self) -> None:
        caller = Caller()
        caller.send(clientContent=typed("colourless green ideas"))
        caller.until(10)
        assert caller.said()[-1]["text"] == "sorry i did not understand that"

    def test_a_bare_completion_with_nothing_before_it_does_not_hang(self) -> None:
        caller = Caller()
        assert caller.send(clientContent={"turnComplete": True}) == ["modelTurn"]

    def test_seeded_history_is_not_answered_until_a_nudge_asks_for_it_once(self) -> None:
        caller = Caller(historyConfig={"initialHistoryInClientContent": True})
        assert caller.send(clientContent=typed("hello")) == []
        assert caller.send(realtimeInput={"text": "."}) == ["modelTurn"]
        assert caller.until(20)[-1] == "turnComplete"
        assert caller.mind.deadline is None
        assert [said["text"] for said in caller.said()] == ["hello how can i help you"]

    def test_pictures_are_counted_but_a_typed_turn_does_not_see_the_stream(self) -> None:
        caller = Caller()
        for _ in range(3):
            caller.send(realtimeInput={"video": {"data": "/9j/2Q==", "mimeType": "image/jpeg"}})
        caller.send(clientContent=typed("what do you see"))
        caller.until(20)
        caller.send(realtimeInput={"text": "what do you see"})
        caller.until(40)
        usage = caller.messages[-1]["usageMetadata"]
        assert [said["text"] for said in caller.said()] == ["i see zero pictures", "i see three pictures"]
        assert {"modality": "VIDEO", "tokenCount": 3 * 258} in usage["promptTokensDetails"]


class TestSpeech:
    def test_a_question_is_heard_transcribed_and_answered(self) -> None:
        caller = Caller()
        assert caller.speak() == []
        assert len(caller.listening) == 1
        assert caller.understood("hello") == ["inputTranscription", "modelTurn"]

    def test_speech_that_is_not_understood_is_answered_too(self) -> None:
        caller = Caller()
        caller.speak()
        assert caller.understood(None) == ["inputTranscription", "modelTurn"]
        assert caller.messages[0]["serverContent"]["inputTranscription"]["text"] == "unknown"

    def test_2_5_transcribes_word_by_word_and_only_when_asked(self) -> None:
        model = "gemini-2.5-flash-native-audio-preview-12-2025"
        silent, asked = Caller(model), Caller(model, inputAudioTranscription={})
        silent.speak()
        asked.speak()
        assert silent.understood("good morning") == ["modelTurn"]
        assert asked.understood("good morning") == ["inputTranscription", "inputTranscription", "modelTurn"]

    def test_barge_in_announces_interrupts_and_completes_without_generation_complete(self) -> None:
        caller = Caller(sessionResumption={})
        caller.send(clientContent=typed("hello"))
        caller.until(0.5)
        expected = ["voiceActivity", "interrupted", "turnComplete", "sessionResumptionUpdate"]
        assert caller.begin_to_speak() == expected
        activity = caller.messages[0]["voiceActivity"]
        assert activity["type"] == "ACTIVITY_START" and 0 < float(activity["audioOffset"].removesuffix("s")) < 0.5
        assert caller.until(20) == []
        # Two and a half seconds had been sent: the words that began in them were said, the others never.
        assert caller.said() == [
            {"text": "hello how can", "interrupted": True, "audio_seconds_sent": 2.5, "audio_seconds": 6.0}
        ]
        assert caller.snapshots[-1].history[-1] == ("model", "hello how can")

    def test_barge_in_while_the_answer_is_played_interrupts_too(self) -> None:
        caller = Caller()
        caller.send(clientContent=typed("hello"))
        caller.until(GREETING_SECONDS - 1)
        assert caller.begin_to_speak() == ["voiceActivity", "interrupted", "turnComplete"]

    def test_2_5_does_not_announce_barge_in(self) -> None:
        caller = Caller("gemini-2.5-flash-native-audio-preview-12-2025")
        caller.send(clientContent=typed("hello"))
        assert caller.begin_to_speak() == ["interrupted", "turnComplete"]

    def test_no_interruption_finishes_first_and_answers_then(self) -> None:
        caller = Caller(realtimeInputConfig={"activity_handling": "NO_INTERRUPTION"})
        caller.send(clientContent=typed("hello"))
        assert caller.speak() == []
        assert caller.understood("hello") == ["inputTranscription"]
        assert caller.until(GREETING_SECONDS) == ["modelTurn", "generationComplete", "turnComplete", "modelTurn"]

    def test_who_speaks_on_before_the_answer_begins_interrupts_it(self) -> None:
        caller = Caller()
        caller.speak()
        caller.begin_to_speak()
        expected = ["inputTranscription", "voiceActivity", "interrupted", "turnComplete"]
        assert caller.understood("hello") == expected
        assert caller.said() == []

    def test_audio_stream_end_ends_the_utterance_at_once(self) -> None:
        caller = Caller()
        caller.begin_to_speak()
        assert caller.listening == []
        caller.send(realtimeInput={"audioStreamEnd": True})
        assert len(caller.listening) == 1

    def test_manual_activity_hears_what_is_between_the_markers(self) -> None:
        caller = Caller(realtimeInputConfig={"automatic_activity_detection": {"disabled": True}})
        caller.speak()
        caller.send(realtimeInput={"activityStart": {}})
        caller._hear(bytes(6400))
        assert caller.listening == []
        caller.send(realtimeInput={"activityEnd": {}})
        assert [len(one.pcm) for one in caller.listening] == [6400]

    def test_markers_are_refused_where_detection_is_automatic_and_an_end_needs_a_start(self) -> None:
        with pytest.raises(Refusal, match="1007 Explicit activity control"):
            Caller().send(realtimeInput={"activityStart": {}})
        caller = Caller(realtimeInputConfig={"automatic_activity_detection": {"disabled": True}})
        with pytest.raises(Refusal, match="1007 No turn to complete"):
            caller.send(realtimeInput={"activityEnd": {}})


class TestTypedTurns:
    def test_text_interrupts_without_voice_activity_and_is_answered(self) -> None:
        for message in ({"clientContent": typed("hello")}, {"realtimeInput": {"text": "hello"}}):
            caller = Caller()
            caller.send(clientContent=typed("hello"))
            assert caller.send(**message) == ["interrupted", "turnComplete", "modelTurn"]

    def test_bad_roles_close(self) -> None:
        for turn in ({"parts": [{"text": "x"}]}, {"role": "system", "parts": [{"text": "x"}]}):
            with pytest.raises(Refusal, match="1007"):
                Caller().send(clientContent={"turns": [turn]})

    def test_a_second_setup_closes(self) -> None:
        with pytest.raises(Refusal, match="1007"):
            Caller().send(setup={"model": "models/gemini-3.8-live"})


def test_a_snapshot_restores_history_and_pictures() -> None:
    context = Context([Entry("user", "a", NOTHING, pictures=3, images=1), Entry("model", "b", NOTHING)])
    caller = Caller(snapshot=Snapshot(context), sessionResumption={})
    caller.send(realtimeInput={"text": "what do you see"})
    caller.until(30)
    assert caller.said()[-1]["text"] == "i see four pictures"
    assert [role for role, _ in caller.snapshots[-1].history] == ["user", "model", "user", "model"]
