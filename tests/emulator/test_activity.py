"""When somebody speaks: by detection or by the caller's own markers, how it is told, and what it interrupts."""

from typing import Any

import pytest

from emulator import texts
from emulator.api.protocol import Audio
from emulator.configuration.setup import Detection
from emulator.errors import Refusal
from emulator.hearing.listening import Listener
from emulator.hearing.vad import Boundary
from tests.emulator.activities import END, FLASH, NATIVE, SPEECH, START, configured, contents, realtime, spoken
from tests.emulator.behaviour import behaviour, patched, without
from tests.emulator.caller import Caller
from tests.support.speech import question

MANUAL = {"realtimeInputConfig": {"automaticActivityDetection": {"disabled": True}}}


def begun_anew(self: Listener) -> list[Boundary]:
    """An activityStart that forgets what came before it."""
    self._activity = bytearray()
    return []


def activities(caller: Caller) -> list[tuple[str, str]]:
    return [(one["type"], one["audioOffset"]) for m in caller.messages if (one := m.get("voiceActivity"))]


class TestEndOfSpeech:
    @behaviour("10.21", "vad.stream_end", off=without(audio_stream_end="ignored"))
    def test_audio_stream_end_ends_the_utterance_at_once_and_audio_may_go_on(self, switches: dict[str, Any]) -> None:
        caller = Caller(switches=switches)
        caller.begin_to_speak()
        assert caller.listening == []
        caller.send(realtimeInput={"audioStreamEnd": True})
        assert len(caller.listening) == 1
        assert caller.understood("hello") == ["inputTranscription", "modelTurn"]
        caller.until(20)
        caller.speak("hello")
        assert len(caller.listening) == 2

    def test_where_it_is_ignored_silence_that_is_sent_ends_the_utterance(self) -> None:
        caller = Caller(switches={"audio_stream_end": "ignored"})
        caller.begin_to_speak()
        caller.send(realtimeInput={"audioStreamEnd": True})
        assert caller.listening == []
        caller.hear(bytes(24000))
        assert len(caller.listening) == 1

    @behaviour("vad.stall", off=without(stalled_speech="ends"))
    def test_a_caller_that_stops_sending_is_heard_on_when_audio_comes_again(self, switches: dict[str, Any]) -> None:
        caller = Caller(switches=switches)
        pcm = question("weather_paris")
        caller.hear(pcm[:32000])
        caller.until(60)
        assert caller.listening == []
        caller.hear(pcm[32000:] + bytes(24000))
        assert len(caller.listening) == 1 and len(caller.listening[0].pcm) > len(pcm) * 0.9

    @behaviour("vad.stall", off=without(stalled_speech="waits"))
    def test_or_is_taken_to_have_finished_by_switch(self, switches: dict[str, Any]) -> None:
        caller = Caller(switches={"stalled_speech": "ends", **switches})
        caller.begin_to_speak()
        caller.until(0.4)
        assert caller.listening == []
        caller.until(0.6)
        assert len(caller.listening) == 1


class TestAnnouncement:
    """voiceActivity and its kin."""

    @behaviour("13.13", off=without(voice_activity="never"))
    def test_on_3_x_speech_announces_itself_just_before_it_interrupts(self, switches: dict[str, Any]) -> None:
        caller = Caller(switches=switches)
        assert caller.begin_to_speak() == []
        caller.send(realtimeInput={"audioStreamEnd": True})
        caller.understood("hello")
        assert caller.begin_to_speak() == ["voiceActivity", "interrupted", "turnComplete"]

    @behaviour("13.13", off=patched("emulator.hearing.vad.Segmenter._time", lambda self, frames: 0.2))
    def test_its_offset_counts_the_audio_of_this_connection(self) -> None:
        caller = Caller(FLASH)
        caller.hear(bytes(32000 * 3))
        caller.ask("hello")
        caller.begin_to_speak()
        ((kind, offset),) = activities(caller)
        assert kind == "ACTIVITY_START" and 3.0 < float(offset.removesuffix("s")) < 3.5
        caller.send(realtimeInput={"audioStreamEnd": True})
        caller.understood("hello")
        caller.begin_to_speak()
        ((kind, offset),) = activities(caller)
        assert kind == "ACTIVITY_START" and 4.0 < float(offset.removesuffix("s")) < 4.5

    def test_a_typed_turn_announces_nothing(self) -> None:
        caller = Caller()
        caller.ask("hello")
        assert caller.ask("hello") == ["interrupted", "turnComplete", "modelTurn"]

    @behaviour("vad.activity", off=without(voice_activity="barge_in"))
    def test_every_beginning_and_end_by_switch(self, switches: dict[str, Any]) -> None:
        caller = Caller(switches={"voice_activity": "always", **switches})
        assert caller.speak() == ["voiceActivity", "voiceActivity"]
        (start, began), (end, ended) = activities(caller)
        assert (start, end) == ("ACTIVITY_START", "ACTIVITY_END")
        # The question lasts 1.85 s; the silence that ended it does not count.
        assert 0.0 < float(began.removesuffix("s")) < 0.4 and 1.5 < float(ended.removesuffix("s")) < 1.9

    @behaviour("vad.explicit", off=configured(explicit_vad=False))
    def test_explicit_vad_signal_asks_for_them_on_vertex(self) -> None:
        caller = Caller(backend="vertex", api_version="v1beta1", explicitVadSignal=True)
        assert caller.speak() == ["voiceActivity", "voiceActivity"]
        with pytest.raises(Refusal, match="explicitVadSignal"):
            Caller(explicitVadSignal=True)

    @behaviour("vad.explicit", off=without(explicit_vad="activity"))
    def test_the_older_signal_instead_or_as_well(self, switches: dict[str, Any]) -> None:
        for frames, kinds in (("signal", 1), ("both", 2)):
            caller = Caller(
                backend="vertex",
                api_version="v1beta1",
                explicitVadSignal=True,
                switches={"explicit_vad": frames, **switches},
            )
            caller.speak()
            signals = [m["voiceActivityDetectionSignal"]["vadSignalType"] for m in caller.messages if kinds_of(m)]
            assert signals == ["VAD_SIGNAL_TYPE_SOS", "VAD_SIGNAL_TYPE_EOS"]
            assert len(caller.messages) == 2 * kinds

    @behaviour("vad.speech_state", off=without(speech_state=False))
    def test_speech_state_by_switch(self, switches: dict[str, Any]) -> None:
        caller = Caller(switches={"speech_state": True, **switches})
        caller.speak()
        assert contents(caller, "speechState") == ["SPEECH", "NON_SPEECH"]


def kinds_of(message: dict[str, Any]) -> bool:
    return "voiceActivityDetectionSignal" in message


class TestHandling:
    @behaviour("10.22", off=configured(interruptible=True))
    def test_no_interruption_finishes_first_and_answers_then(self) -> None:
        caller = Caller(**realtime(activityHandling="NO_INTERRUPTION"))
        caller.ask("hello")
        assert caller.speak() == []
        assert caller.understood("goodbye") == ["inputTranscription"]
        assert spoken(caller) == ["hello how can i help you", "goodbye"]

    @behaviour("10.22", off=configured(interruptible=True))
    def test_no_interruption_covers_text_too(self) -> None:
        caller = Caller(**realtime(activityHandling="NO_INTERRUPTION"))
        caller.ask("hello")
        assert caller.send(realtimeInput={"text": "goodbye"}) == []
        assert spoken(caller) == ["hello how can i help you", "goodbye"]


class TestMarkers:
    @behaviour("10.22", off=configured(detection=Detection(manual=False)))
    def test_what_is_between_the_markers_is_heard_as_it_was_sent(self) -> None:
        caller = Caller(**MANUAL)
        assert caller.speak() == [] and caller.listening == []
        caller.send(**START)
        caller.hear(SPEECH)
        # Silence does not end it.
        caller.hear(bytes(64000))
        assert caller.listening == []
        caller.send(**END)
        assert [len(one.pcm) for one in caller.listening] == [70400]

    def test_activity_start_interrupts(self) -> None:
        caller = Caller(**MANUAL)
        caller.ask("hello")
        assert caller.send(**START) == ["voiceActivity", "interrupted", "turnComplete"]

    @behaviour("10.22", "2.4.21", off=patched("emulator.texts.MARKERS_REFUSED", texts.NO_TURN))
    def test_markers_are_refused_where_detection_is_automatic(self) -> None:
        for marker in (START, END):
            with pytest.raises(Refusal, match="1007 Explicit activity control is not supported"):
                Caller().send(**marker)

    @behaviour("2.4.21", off=patched("emulator.texts.NO_TURN", texts.INVALID_ARGUMENT))
    def test_an_end_without_a_start_has_no_turn_to_complete(self) -> None:
        for model in (NATIVE, FLASH):
            caller = Caller(model, **MANUAL)
            caller.send(**START)
            caller.hear(SPEECH)
            caller.send(**END)
            with pytest.raises(Refusal, match="1007 No turn to complete"):
                caller.send(**END)

    @behaviour("2.4.21", off=without(nothing_to_complete="answered"))
    def test_an_activity_without_content_has_none_either_on_2_5(self, switches: dict[str, Any]) -> None:
        answered = Caller(**MANUAL)
        answered.send(**START)
        assert answered.send(**END) == ["modelTurn"]
        caller = Caller(NATIVE, switches=switches, **MANUAL)
        caller.send(**START)
        with pytest.raises(Refusal, match="1007 No turn to complete"):
            caller.send(**END)

    def test_what_came_before_an_activity_is_no_content_of_it(self) -> None:
        caller = Caller(NATIVE, **MANUAL)
        caller.send(realtimeInput={"text": "hello"})
        caller.send(**START)
        with pytest.raises(Refusal, match="1007 No turn to complete"):
            caller.send(**END)

    @behaviour("activity.start_twice", off=patched("emulator.hearing.listening.Listener.start", begun_anew))
    def test_a_second_start_changes_nothing(self) -> None:
        caller = Caller(**MANUAL)
        for _ in range(2):
            caller.send(**START)
            caller.hear(SPEECH)
        caller.send(**END)
        assert [len(one.pcm) for one in caller.listening] == [12800]

    @behaviour(
        "activity.stream_end", off=patched("emulator.hearing.listening.Listener.stream_end", lambda self: [self.end()])
    )
    def test_audio_stream_end_is_not_for_callers_that_mark_their_activity_and_changes_nothing(self) -> None:
        caller = Caller(**MANUAL)
        caller.send(**START)
        caller.hear(SPEECH)
        assert caller.send(realtimeInput={"audioStreamEnd": True}) == [] and caller.listening == []
        caller.send(**END)
        assert len(caller.listening) == 1

    @behaviour(
        "activity.text", off=patched("emulator.hearing.listening.Listener.speaking", property(lambda self: False))
    )
    def test_text_between_the_markers_is_answered_when_they_close(self) -> None:
        caller = Caller(**MANUAL)
        caller.send(**START)
        assert caller.send(realtimeInput={"text": "hello"}) == []
        assert caller.send(**END) == ["modelTurn"]
        assert spoken(caller) == ["hello how can i help you"]

    def test_an_activity_is_bounded(self) -> None:
        caller = Caller(switches={"max_utterance": "1s"}, **MANUAL)
        caller.send(**START)
        for _ in range(20):
            caller.hear(SPEECH)
        caller.send(**END)
        assert len(caller.listening[0].pcm) == 32000

    def test_other_rates_are_heard_at_16_khz_between_the_markers_too(self) -> None:
        caller = Caller(**MANUAL)
        caller.send(**START)
        for _ in range(10):
            caller._take(caller.mind.apply(Audio(bytes(4801), "audio/pcm;rate=24000"), 0.0))
        caller.send(**END)
        assert abs(len(caller.listening[0].pcm) - 32000) < 100
