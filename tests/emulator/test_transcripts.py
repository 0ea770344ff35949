"""What a client is told of what was said."""

from typing import Any

import pytest

from emulator.actions import Send
from emulator.mind.transcript_order import LateTranscripts
from tests.emulator.activities import NATIVE, contents, realtime, ruled
from tests.emulator.behaviour import behaviour, patched, without
from tests.emulator.caller import GREETING_SECONDS, Caller
from tests.support.speech import question


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
