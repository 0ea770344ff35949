"""Speech, markers, coverage, pictures and transcripts as the deciding parts see them, without sockets."""

import base64
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from emulator import texts
from emulator.actions import Send
from emulator.api.protocol import Audio, Content
from emulator.configuration.setup import Config, Detection, accept
from emulator.errors import Refusal
from emulator.hearing.listening import Listener
from emulator.hearing.vad import Boundary
from emulator.mind.conversation import Conversation
from emulator.mind.transcript_order import LateTranscripts
from emulator.scenarios import scenario
from tests.emulator.behaviour import Off, behaviour, patched, without
from tests.emulator.caller import GREETING_SECONDS, Caller, typed
from tests.support.speech import question

NATIVE = "gemini-2.5-flash-native-audio-preview-12-2025"
FLASH = "gemini-3.1-flash-live-preview"
MANUAL = {"realtimeInputConfig": {"automaticActivityDetection": {"disabled": True}}}
JPEG = base64.b64encode(b"\xff\xd8\xff\xd9").decode()
START, END = {"realtimeInput": {"activityStart": {}}}, {"realtimeInput": {"activityEnd": {}}}
SPEECH = bytes(6400)
"""A fifth of a second."""


def configured(**fields: Any) -> Off:
    """Off by a setup that is read otherwise."""
    return patched("tests.emulator.caller.accept", lambda *given, **how: replace(accept(*given, **how), **fields))


def ruled(**fields: Any) -> Off:
    """Off by a model that does otherwise."""

    def accepted(*given: Any, **how: Any) -> Config:
        config = accept(*given, **how)
        return replace(config, rules=replace(config.rules, **fields))

    return patched("tests.emulator.caller.accept", accepted)


def realtime(**config: Any) -> dict[str, Any]:
    return {"realtimeInputConfig": config}


def begun_anew(self: Listener) -> list[Boundary]:
    """An activityStart that forgets what came before it."""
    self._activity = bytearray()
    return []


def show(caller: Caller, data: str = JPEG) -> list[str]:
    return caller.send(realtimeInput={"video": {"data": data, "mimeType": "image/jpeg"}})


def image_turn(text: str) -> dict[str, Any]:
    picture = {"inlineData": {"mimeType": "image/jpeg", "data": JPEG}}
    return {"turns": [{"role": "user", "parts": [picture, {"text": text}]}], "turnComplete": True}


def at_once(self: Conversation, turns: tuple[Content, ...], complete: bool, now: float) -> None:
    """Every turn is answered."""
    READ(self, turns, True, now)


READ = Conversation._read


def audio_turn(pcm: bytes, rate: int = 16000, **fields: Any) -> dict[str, Any]:
    blob = {"mimeType": f"audio/pcm;rate={rate}", "data": base64.b64encode(pcm).decode()}
    return {"turns": [{"role": "user", "parts": [{"inlineData": blob}]}], "turnComplete": True, **fields}


def spoken(caller: Caller) -> list[str]:
    """What was answered, in words."""
    caller.until(caller.now + 60)
    return [said["text"] for said in caller.said()]


def tokens(caller: Caller, modality: str) -> int:
    """Of the prompt, in the latest turn."""
    usage = next(m["usageMetadata"] for m in reversed(caller.messages) if "usageMetadata" in m)
    return sum(one["tokenCount"] for one in usage["promptTokensDetails"] if one["modality"] == modality)


def contents(caller: Caller, name: str) -> list[dict[str, Any]]:
    """What the latest messages say under a name of serverContent."""
    return [m["serverContent"][name] for m in caller.messages if name in m.get("serverContent", {})]


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


class TestCoverage:
    """What of realtime input belongs to a turn."""

    def heard_and_seen(self, model: str, coverage: str | None, *, manual: bool = False) -> tuple[int, int]:
        """Audio and video tokens of a turn with a second of speech, a picture before it and one in it."""
        detection = {"automaticActivityDetection": {"disabled": True}} if manual else {}
        covered = {"turnCoverage": coverage} if coverage else {}
        caller = Caller(model, switches={"silence": "free"}, **realtime(**detection, **covered))
        caller.hear(bytes(32000 * 4))
        show(caller)
        caller.now += 1
        if manual:
            caller.send(**START)
        caller.begin_to_speak()
        show(caller)
        caller.send(**END) if manual else caller.hear(bytes(24000))
        caller.understood("hello")
        caller.until(30)
        return tokens(caller, "AUDIO"), tokens(caller, "VIDEO")

    @behaviour("coverage.only_activity", off=patched("emulator.configuration.setup._COVERAGES", {}))
    def test_only_activity(self) -> None:
        for manual in (False, True):
            audio, video = self.heard_and_seen(FLASH, "TURN_INCLUDES_ONLY_ACTIVITY", manual=manual)
            assert 20 <= audio <= 50 and video == 258

    @behaviour("coverage.all_input", off=patched("emulator.configuration.setup._COVERAGES", {}))
    def test_all_input(self) -> None:
        audio, video = self.heard_and_seen(FLASH, "TURN_INCLUDES_ALL_INPUT")
        assert audio > 125 and video == 2 * 258

    @behaviour("coverage.all_video", off=patched("emulator.configuration.setup._COVERAGES", {}))
    def test_audio_activity_and_all_video(self) -> None:
        audio, video = self.heard_and_seen(NATIVE, "TURN_INCLUDES_AUDIO_ACTIVITY_AND_ALL_VIDEO")
        assert 20 <= audio <= 50 and video == 2 * 258

    @behaviour("coverage.defaults", off=configured(turn_coverage="all input"))
    def test_defaults_by_model(self) -> None:
        assert self.heard_and_seen(NATIVE, None)[1] == 258
        for model in ("gemini-3.8-live", FLASH):
            audio, video = self.heard_and_seen(model, None)
            assert audio <= 50 and video == 2 * 258

    @behaviour("coverage.all_input", off=patched("emulator.configuration.setup._COVERAGES", {}))
    def test_all_input_is_heard_outside_of_the_markers_too(self) -> None:
        caller = Caller(
            **realtime(automaticActivityDetection={"disabled": True}, turnCoverage="TURN_INCLUDES_ALL_INPUT")
        )
        caller.hear(SPEECH)
        caller.send(**START)
        caller.hear(SPEECH)
        caller.send(**END)
        caller.send(**START)
        caller.hear(SPEECH)
        caller.send(**END)
        assert [len(one.pcm) for one in caller.listening] == [12800, 6400]


class TestPictures:
    @behaviour(
        "10.40",
        "video.tokens",
        off=patched("emulator.mind.history.TOKENS_PER_PICTURE", dict.fromkeys(("", "LOW", "MEDIUM", "HIGH"), 258)),
    )
    def test_a_picture_costs_what_the_media_resolution_says(self) -> None:
        costs = {}
        for resolution in ("", "LOW", "MEDIUM", "HIGH"):
            config = {"generationConfig": {"mediaResolution": f"MEDIA_RESOLUTION_{resolution}"}} if resolution else {}
            caller = Caller(**config)
            show(caller)
            caller.send(realtimeInput={"text": "hello"})
            caller.until(30)
            costs[resolution] = tokens(caller, "VIDEO")
        assert costs == {"": 258, "LOW": 64, "MEDIUM": 256, "HIGH": 256}

    @behaviour("video.rate", off=patched("emulator.hearing.pictures.SECONDS_PER_FRAME", 0.0))
    def test_pictures_that_come_faster_than_one_a_second_are_counted_and_noted(self) -> None:
        caller = Caller()
        for at in (0.0, 1.0, 1.95, 2.2):
            caller.until(at)
            show(caller)
        video = caller.record.view()["video"]
        assert [one.get("early") for one in video] == [None, None, None, 0.75]
        caller.send(realtimeInput={"text": "what do you see"})
        assert spoken(caller) == ["i see four pictures"]

    @behaviour("video.kind", off=patched("emulator.hearing.pictures._known", lambda data: True))
    def test_what_is_no_picture_closes(self) -> None:
        for message in (
            {"realtimeInput": {"video": {"data": "AAAA", "mimeType": "image/jpeg"}}},
            {"clientContent": json.loads(json.dumps(image_turn("hello")).replace(JPEG, "AAAA"))},
        ):
            with pytest.raises(Refusal, match="1007 Unable to process input image"):
                Caller().send(**message)

    @behaviour("13.14", off=patched("emulator.mind.history.History.images", property(lambda self: self.pictures)))
    def test_a_typed_turn_sees_its_own_images_and_not_the_stream_before_it(self) -> None:
        caller = Caller()
        show(caller)
        show(caller)
        caller.send(clientContent=image_turn("what do you see"))
        assert spoken(caller) == ["i see one pictures"]
        caller.send(realtimeInput={"text": "what do you see"})
        assert spoken(caller)[-1] == "i see three pictures"

    def file(self, folder: Path, text: str) -> scenario.Scenario:
        path = folder / "s.yaml"
        path.write_text(text)
        return scenario.load(path)

    @behaviour("video.scenario", off=patched("emulator.scenarios.scenario.Rule.holds", lambda self, pictures: True))
    def test_a_rule_may_ask_for_pictures(self, tmp_path: Path) -> None:
        caller = Caller(
            scenario=self.file(
                tmp_path,
                "name: eyes\nrules:\n"
                "- {name: blind, hear: what is this, when: {pictures: 0}, say: hello}\n"
                "- {name: seen, hear: what is this, when: {pictures: '>=1'}, say: it is sunny}\n",
            )
        )
        caller.send(realtimeInput={"text": "what is this"})
        show(caller)
        caller.send(realtimeInput={"text": "what is this"})
        assert spoken(caller) == ["hello", "it is sunny"]

    @behaviour("video.scenario", off=patched("emulator.scenarios.scenario.Scenario.seen", lambda self, pictures: None))
    def test_a_picture_may_make_the_model_speak(self, tmp_path: Path) -> None:
        caller = Caller(
            scenario=self.file(
                tmp_path,
                "name: eyes\nrules:\n- {name: third, on: picture, when: {pictures: '>=3'}, say: i see <pictures>}\n",
            )
        )
        assert [show(caller) for _ in range(4)] == [[], [], ["modelTurn"], []]
        assert spoken(caller) == ["i see three"]


class TestTranscripts:
    """Of what the caller says, and of what the model says."""

    @behaviour("10.20", off=without(interim_transcripts="never"))
    def test_interim_transcripts_have_all_words_so_far_and_their_place(self, switches: dict[str, Any]) -> None:
        caller = Caller(
            switches=switches, inputAudioTranscription={}, **realtime(interimTranscriptTimestampEnabled=True)
        )
        caller.begin_to_speak()
        caller.guessed("what is")
        ((interim,), final) = contents(caller, "interimInputTranscription"), contents(caller, "inputTranscription")
        assert interim["text"] == "what is" and final == []
        assert 0 <= float(interim["startOffset"].removesuffix("s")) < 0.4 and interim["endOffset"] == "1s"
        assert caller.guessed("what is") == []

    def test_interim_transcripts_only_where_they_are_wanted(self) -> None:
        for fields in ({}, {"inputAudioTranscription": {}}):
            caller = Caller(**fields)
            caller.begin_to_speak()
            assert caller.guessing == []
        caller = Caller(NATIVE, switches={"interim_transcripts": "always"})
        caller.begin_to_speak()
        assert caller.guessing == []
        caller = Caller(switches={"interim_transcripts": "always"})
        caller.begin_to_speak()
        assert len(caller.guessing) == 1
        assert caller.guessed("what") == ["interimInputTranscription"]

    def test_guesses_grow_apart_and_one_is_asked_at_a_time(self) -> None:
        caller = Caller(switches={"interim_transcripts": "always"})
        pcm = question("weather_paris")
        lengths = []
        for at in range(0, len(pcm), 1280):
            asked = len(caller.guessing)
            caller.hear(pcm[at : at + 1280])
            if len(caller.guessing) > asked:
                lengths.append(len(caller.guessing[-1].pcm) / 32000)
                if len(lengths) != 2:
                    caller.guessed(None)
        assert len(lengths) == 2 and lengths[0] >= 0.5 and lengths[1] >= 1.25 * lengths[0]

    def test_a_guess_that_comes_too_late_says_nothing(self) -> None:
        caller = Caller(switches={"interim_transcripts": "always"})
        caller.speak()
        assert caller.guessed("what is") == []

    @behaviour("10.20", "13.11", off=without(input_transcript="final"))
    def test_words_are_streamed_while_they_are_spoken_by_switch(self, switches: dict[str, Any]) -> None:
        caller = Caller(NATIVE, inputAudioTranscription={}, switches={"input_transcript": "streamed", **switches})
        pcm, told = question("weather_paris"), []
        for until, guess in ((0.7, "what is"), (1.0, "what is the weather"), (1.6, "what is the weather in harris")):
            caller.hear(pcm[len(caller.guessing) and 16000 : int(32000 * until)])
            caller.guessed(guess)
            told += [piece["text"] for piece in contents(caller, "inputTranscription")]
        # The word being spoken, and what the guesses do not agree on, wait.
        assert told == ["what ", "is ", "the ", "weather "]
        caller.hear(bytes(32000))
        caller.understood("what is the weather in paris")
        told += [piece["text"] for piece in contents(caller, "inputTranscription")]
        assert "".join(told) == "what is the weather in paris "

    @behaviour("13.11", off=ruled(transcribes_words=False))
    def test_2_5_transcribes_word_by_word_and_only_when_asked(self) -> None:
        silent, asked = Caller(NATIVE), Caller(NATIVE, inputAudioTranscription={})
        silent.speak()
        asked.speak()
        assert silent.understood("good morning") == ["modelTurn"]
        assert asked.understood("good morning") == ["inputTranscription", "inputTranscription", "modelTurn"]

    @behaviour("13.11", off=ruled(transcribes_unasked=False))
    def test_3_x_transcribes_once_and_unasked(self) -> None:
        caller = Caller()
        caller.speak()
        caller.understood("good morning")
        assert contents(caller, "inputTranscription") == [{"text": "good morning"}]

    @behaviour("transcript.fields", off=without(transcript_finished=False, transcript_language=""))
    def test_finished_and_language_by_switch(self, switches: dict[str, Any]) -> None:
        chosen = {"transcript_finished": True, "transcript_language": "en-US", **switches}
        caller = Caller(NATIVE, switches=chosen, inputAudioTranscription={}, outputAudioTranscription={})
        caller.speak()
        caller.understood("good morning")
        assert contents(caller, "inputTranscription") == [
            {"text": "good ", "languageCode": "en-US"},
            {"text": "morning ", "languageCode": "en-US", "finished": True},
        ]
        caller.until(30)
        assert contents(caller, "outputTranscription")[-1] == {"text": "", "languageCode": "en-US", "finished": True}

    @behaviour("10.20", "transcript.order", off=without(output_transcript_order="beside"))
    @pytest.mark.parametrize(("order", "place"), [("before", 0), ("after", -1)])
    def test_the_models_words_may_run_ahead_of_its_audio_or_behind(
        self, order: str, place: int, switches: dict[str, Any]
    ) -> None:
        caller = Caller(outputAudioTranscription={}, switches={"output_transcript_order": order, **switches})
        caller.ask("hello")
        messages = [m["serverContent"] for m in caller.messages]
        caller.until(GREETING_SECONDS - 1)
        messages += [m["serverContent"] for m in caller.messages]
        kinds = [next(iter(content)) for content in messages]
        assert kinds[-1] == "generationComplete"
        assert kinds[:-1].index("outputTranscription") == place % len(kinds[:-1])
        assert contents_of(messages, "outputTranscription") == [{"text": "hello how can i help you"}]

    @behaviour("10.20", "transcript.order", off=patched("emulator.mind.transcript_order._ENDS", ()))
    def test_what_the_caller_said_may_come_within_the_answer_or_behind_it(self) -> None:
        heard = Send({"serverContent": {"inputTranscription": {"text": "hello"}}})
        audio = Send({"serverContent": {"modelTurn": {}}})
        end = Send({"serverContent": {"generationComplete": True}})
        beside, after = LateTranscripts("beside"), LateTranscripts("after")
        assert [one for action in (heard, audio, audio, end) for one in beside.passing(action, 0.0)] == [
            audio,
            heard,
            audio,
            end,
        ]
        assert [one for action in (heard, audio, audio, end) for one in after.passing(action, 0.0)] == [
            audio,
            audio,
            heard,
            end,
        ]

    def test_what_is_held_back_is_bounded(self) -> None:
        late = LateTranscripts("after")
        heard = Send({"serverContent": {"inputTranscription": {"text": "hello"}}})
        assert sum(len(late.passing(heard, 0.0)) for _ in range(1000)) == 800


def contents_of(messages: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    return [content[name] for content in messages if name in content]


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
