"""When the caller speaks, waits and interrupts: every case with a clock of our own."""

from datetime import timedelta

import pytest

from parley import Playout, errors, events
from parley.cli.conversation import Conversation, Step

FRAME = 1280
FRAME_SECONDS = 0.04
VOICE = b"\x00\x40" * (FRAME // 2)
SILENCE = bytes(FRAME)


class Run:
    """Ticks a conversation at frame pace and notes what it says."""

    def __init__(self, *steps):
        self.now = 50.0
        self.playout = Playout(now=self.now)
        self.conversation = Conversation(steps, frame_bytes=FRAME, playout=self.playout)
        self.begun = []
        self.texts = []
        self.frames = []
        self.done = False
        self.seq = 0

    def tick(self, count=1):
        for _ in range(count):
            tick = self.conversation.tick(self.now)
            if tick.begun:
                self.begun.append(tick.begun.name)
            if tick.text is not None:
                self.texts.append(tick.text)
            self.frames.append(tick.frame)
            self.done = tick.done
            self.now += FRAME_SECONDS

    def seconds(self, seconds):
        self.tick(round(seconds / FRAME_SECONDS))

    def event(self, kind, *args, **kwargs):
        self.seq += 1
        event = kind(self.seq, *args, **kwargs)
        if isinstance(event, events.Audio):
            self.playout.add(event, self.now)
        elif isinstance(event, events.Interrupted):
            self.playout.interrupted(event, self.now)
        self.conversation.on_event(event, self.now)

    def audio(self, seconds):
        self.event(events.Audio, bytes(int(seconds * 24_000) * 2), 24_000)

    def tool(self, phase, outcome="", call_id="c1"):
        duration = timedelta(milliseconds=5) if outcome else None
        self.event(events.ToolActivity, call_id, "lookup_order", phase, {"id": 1}, outcome, "", duration)

    def turn_complete(self):
        self.event(events.TurnComplete)


def spoken(name, frames=3, **more):
    return Step(name, VOICE * frames, **more)


def test_a_step_is_spoken_frame_by_frame_and_then_there_is_silence():
    run = Run(Step("one", VOICE * 2 + VOICE[:100]))
    run.tick(5)
    assert run.frames == [VOICE, VOICE, VOICE[:100].ljust(FRAME, b"\0"), SILENCE, SILENCE]
    assert run.begun == ["one"]


def test_the_answer_must_be_complete_and_heard_before_the_caller_goes_on():
    run = Run(spoken("one"), spoken("two"))
    run.seconds(1)
    run.audio(2.0)
    run.turn_complete()
    run.seconds(1.9)
    assert run.begun == ["one"]
    run.seconds(0.2)
    assert run.begun == ["one", "two"]
    run.seconds(0.2)
    run.audio(0.2)
    run.seconds(1)
    assert not run.done
    run.turn_complete()
    run.tick()
    assert run.done
    assert [exchange.turns for exchange in run.conversation.exchanges] == [1, 1]


def test_a_turn_that_completes_without_content_is_no_answer():
    run = Run(spoken("one"))
    run.seconds(1)
    run.turn_complete()
    run.seconds(1)
    assert not run.done


def test_a_model_that_waits_on_purpose_has_answered():
    run = Run(spoken("one"))
    run.seconds(1)
    run.event(events.TurnComplete, waiting_for_input=True)
    run.tick()
    assert run.done


def test_a_tool_that_does_not_block_completes_a_turn_at_the_call_and_the_answer_comes_later():
    run = Run(spoken("order"))
    run.seconds(1)
    run.tool("STARTED")
    run.turn_complete()
    run.seconds(1)
    assert not run.done
    run.tool("FINISHED", "SUCCEEDED")
    run.seconds(1)
    assert not run.done
    run.audio(0.1)
    run.turn_complete()
    run.seconds(0.2)
    assert run.done
    tool = run.conversation.exchanges[0].tools[0]
    assert (tool.name, tool.outcome, tool.arguments) == ("lookup_order", "SUCCEEDED", {"id": 1})


def test_words_before_the_tool_has_finished_are_not_the_answer():
    run = Run(spoken("order"))
    run.seconds(1)
    run.audio(0.1)
    run.tool("STARTED")
    run.tool("FINISHED", "SUCCEEDED")
    run.turn_complete()
    run.seconds(1)
    assert not run.done
    run.audio(0.1)
    run.turn_complete()
    run.seconds(0.2)
    assert run.done


def test_a_cancelled_tool_owes_no_answer():
    run = Run(spoken("order"))
    run.seconds(1)
    run.tool("STARTED")
    run.tool("FINISHED", "CANCELLED")
    run.audio(0.1)
    run.turn_complete()
    run.seconds(0.2)
    assert run.done


def test_barge_in_begins_when_a_second_of_the_reply_was_heard():
    run = Run(spoken("one"), spoken("two", barge_in=True))
    run.seconds(1)
    run.audio(5.0)
    run.seconds(0.9)
    assert run.begun == ["one"]
    run.seconds(0.2)
    assert run.begun == ["one", "two"]
    run.event(events.Interrupted, "BARGE_IN", 1, 0)
    run.turn_complete()
    run.seconds(1)
    assert not run.done
    run.audio(0.4)
    run.turn_complete()
    run.seconds(0.5)
    assert run.done
    first, second = run.conversation.exchanges
    assert (first.interrupted, second.interrupted) == (True, False)
    assert run.playout.played_seconds(run.now) < 2.0


def test_an_interruption_that_comes_after_the_callers_last_word_still_cuts_the_answer_before():
    run = Run(spoken("one"), spoken("two", frames=1, barge_in=True))
    run.seconds(1)
    run.audio(5.0)
    run.seconds(2)
    assert run.begun == ["one", "two"]
    run.event(events.Interrupted, "BARGE_IN", 1, 0)
    run.turn_complete()
    run.seconds(0.5)
    assert not run.done
    assert [exchange.interrupted for exchange in run.conversation.exchanges] == [True, False]


def test_nobody_barges_in_while_a_tool_runs():
    run = Run(spoken("one"), spoken("two", barge_in=True))
    run.seconds(1)
    run.audio(5.0)
    run.tool("STARTED")
    run.seconds(3)
    assert run.begun == ["one"]
    run.tool("FINISHED", "SUCCEEDED")
    run.audio(0.5)
    run.turn_complete()
    run.seconds(0.1)
    assert run.begun == ["one", "two"]


def test_a_short_reply_cannot_be_interrupted_and_the_caller_goes_on_after_it():
    run = Run(spoken("one"), spoken("two", barge_in=True))
    run.seconds(1)
    run.audio(0.3)
    run.turn_complete()
    run.seconds(0.5)
    assert run.begun == ["one", "two"]


def test_latency_counts_from_the_end_of_the_voice_not_of_the_file():
    run = Run(Step("one", VOICE * 5 + SILENCE * 10))
    run.tick(5)
    voice_ended = run.now - FRAME_SECONDS
    run.tick(4)
    run.audio(0.1)
    waited = run.conversation.exchanges[0].first_audio_ms
    assert waited == pytest.approx((run.now - voice_ended) * 1000)


def test_text_needs_no_microphone_and_is_sent_once():
    run = Run(Step("text", text="hello"), Step("text", text="bye"))
    run.tick(3)
    assert run.texts == ["hello"]
    assert run.frames == [None, None, None]
    run.event(events.Text, "hi")
    run.turn_complete()
    run.tick(2)
    assert run.texts == ["hello", "bye"]
    assert run.conversation.exchanges[0].answer == "hi"


def test_transcripts_belong_to_the_exchange_they_were_said_in():
    run = Run(spoken("one"), spoken("two", barge_in=True, frames=10))
    run.seconds(0.5)
    run.event(events.InputTranscript, "first question")
    run.audio(5.0)
    run.event(events.OutputTranscript, "first ")
    run.seconds(1.1)
    run.event(events.OutputTranscript, "answer")
    run.seconds(1)
    run.event(events.InputTranscript, "second question")
    first, second = run.conversation.exchanges
    assert (first.heard, first.answer) == ("first question", "first answer")
    assert second.heard == "second question"


def test_a_silent_model_is_noticed_but_a_playing_answer_is_no_silence():
    run = Run(spoken("one"))
    run.seconds(1)
    assert run.conversation.stalled_for(run.now) == pytest.approx(1.0, abs=0.2)
    run.audio(4.0)
    run.seconds(3)
    assert run.conversation.stalled_for(run.now) == 0
    run.seconds(6)
    assert run.conversation.stalled_for(run.now) > 4


def test_an_outage_of_the_stream_is_no_silence_of_the_model():
    run = Run(spoken("one"))
    run.seconds(1)
    run.conversation.on_event(events.StreamLost(0, errors.Unavailable("gone"), timedelta(seconds=100)), run.now)
    run.seconds(60)
    assert run.conversation.stalled_for(run.now) == 0
    run.conversation.on_event(events.StreamResumed(0, timedelta(seconds=60)), run.now)
    assert run.conversation.stalled_for(run.now) == 0
    run.seconds(6)
    assert run.conversation.stalled_for(run.now) > 4


def test_there_must_be_something_to_say():
    with pytest.raises(ValueError, match="something to say"):
        Run()
