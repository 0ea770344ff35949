"""What a lineage says of audio whose marks are missing, and of speech that a handle brought along."""

from emulator.record import Position
from tests.emulator.behaviour import behaviour, patched
from tests.emulator.caller import Caller
from tests.support.stories import FRAME, Story


class TestUnmarked:
    def story(self) -> Story:
        story = Story()
        link = story.open(marked=False)
        link.hear(0, 9)
        story.handle = link.handle()
        link.say(10, 29, "where is my order")
        link.hear(30, 39)
        link.close()
        return story

    @behaviour("record.unmarked", off=patched("emulator.record.losses.LostAudio._sort_unmarked", lambda *_: None))
    def test_audio_without_marks_is_lost_by_its_bytes(self) -> None:
        story = self.story()
        story.open(story.handle)
        assert story.losses() == {
            "speech": [f"0: bytes {10 * FRAME}-{30 * FRAME}"],
            "silence": [f"0: bytes {30 * FRAME}-{40 * FRAME}"],
            "utterances": ["0: where is my order"],
        }
        assert story.view["forgotten"]["speech"][0]["seconds"] == 0.4

    def test_what_was_understood_tells_whether_it_was_given_again(self) -> None:
        for replay in ("audio", "text"):
            story = self.story()
            link = story.open(story.handle, marked=False)
            link.say(10, 29, "where is my order") if replay == "audio" else link.turns("user: where is my order")
            assert story.losses() == {"silence": [f"0: bytes {30 * FRAME}-{40 * FRAME}"]}
            assert story.repeats() == {}

    @behaviour("record.duplicates", off=patched("emulator.record.things.Things._again", lambda *_: ()))
    def test_and_whether_it_was_given_twice(self) -> None:
        story = self.story()
        link = story.open(story.handle, marked=False)
        link.turns("user: where is my order")
        link.say(10, 29, "where is my order")
        assert story.repeats() == {"utterances": ["1: where is my order as text of 1"]}


class TestMarksThatGotLost:
    def heard(self, *, before_handle: bool) -> tuple[Story, Position]:
        story = Story()
        link = story.open()
        handle = link.handle()
        link.say(0, 9, "hello")
        if before_handle:
            handle = link.handle()
        link.close()
        return story, handle

    @behaviour("record.unmarked", off=patched("emulator.record.link.LinkRecord.frames_of", lambda *_: [(1, (0, 10))]))
    def test_speech_that_is_replayed_without_them_is_given_as_a_whole(self) -> None:
        story, handle = self.heard(before_handle=False)
        replay = story.open(handle)
        replay.marked = False
        replay.say(0, 9, "hello")
        assert story.losses() == {}
        assert story.repeats() == {}

    def test_and_is_given_twice_where_the_snapshot_held_it(self) -> None:
        story, handle = self.heard(before_handle=True)
        replay = story.open(handle)
        replay.marked = False
        replay.say(0, 9, "hello")
        assert story.repeats()["utterances"] == ["1: hello as audio of 0"]


class TestHearingRestored:
    @behaviour("record.open_utterance", off=patched("emulator.record.journal.Journal.inherit", lambda *_: None))
    def test_an_utterance_under_way_goes_on(self) -> None:
        story = Story()
        link = story.open()
        link.begin(0, 9)
        handle = link.handle(hearing=True)
        link.close()
        again = story.open(handle)
        assert story.losses() == {}
        again.hear(10, 19)
        again.end("where is my order")
        assert story.losses() == {}
        assert story.view["context"][-1]["marks"] == [
            {"stream": 1, "first": 0, "last": 9},
            {"stream": 1, "first": 10, "last": 19},
        ]
        again.hear(5, 9)
        assert story.repeats() == {"audio": ["1: 5-9 as audio of 0"]}

    def test_one_that_was_over_is_understood_later(self) -> None:
        story = Story()
        link = story.open()
        link.begin(0, 9)
        link.end()
        again = story.open(link.handle(hearing=True))
        again.record.listening_again(7)
        again.record.understood(7, "where is my order", at=0)
        again.close()
        story.open().turns("user: where is my order")
        assert story.losses() == {}

    @behaviour("record.open_utterance", off=patched("emulator.record.lineage._without_origin", lambda path, _: path))
    def test_a_later_handle_that_does_not_hold_it_loses_its_beginning_too(self) -> None:
        story = Story()
        link = story.open()
        link.hear(0, 4)
        link.begin(5, 9)
        again = story.open(link.handle(hearing=True))
        again.hear(10, 19)
        story.open(again.handle())
        assert story.losses() == {"speech": ["0: 5-9", "1: 10-19"]}


@behaviour("record.marks", off=patched("emulator.hearing.vad.Segmenter._time", lambda _, frames: frames * 0.02))
def test_speech_is_found_where_it_is_however_often_the_stream_has_paused() -> None:
    plain, pausing = Caller(), Caller()
    for _ in range(100):
        # Each leaves a frame that is hardly begun.
        pausing.hear(bytes(FRAME + 64))
        pausing.send(realtimeInput={"audioStreamEnd": True})
    for caller in (plain, pausing):
        caller.speak("hello")
    (alone,) = plain.record.journal.utterances
    (behind,) = pausing.record.journal.utterances
    before = 100 * (FRAME + 64)
    assert abs(behind.start - before - alone.start) <= FRAME
    assert alone.end is not None and behind.end is not None
    assert abs(behind.end - before - alone.end) <= FRAME
