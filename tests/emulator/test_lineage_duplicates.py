"""What a lineage was given twice, as audio or as text."""

from emulator.record import Position
from tests.emulator.behaviour import behaviour, patched
from tests.emulator.lineage_examples import one_exchange
from tests.support.stories import Story


class TestDuplicates:
    @behaviour("record.duplicates", off=patched("emulator.record.lineage.Lineage._repeats", lambda *_: ()))
    def test_a_frame_that_the_snapshot_held(self) -> None:
        story = one_exchange()
        link = story.open(story.handle)
        link.hear(35, 49)
        link.say(50, 69, "where is my order 47")
        assert story.repeats() == {"audio": ["1: 35-39 as audio of 0"]}

    def test_frames_twice_on_one_link(self) -> None:
        story = Story()
        link = story.open()
        link.hear(0, 9)
        link.hear(5, 14)
        assert story.repeats() == {"audio": ["0: 5-9 as audio of 0"]}
        assert story.view["holes"] == []

    def test_what_an_abandoned_link_heard_twice_is_none(self) -> None:
        story = Story()
        link = story.open()
        handle = link.handle()
        link.hear(0, 9)
        link.hear(0, 9)
        story.open(handle).hear(0, 9)
        assert story.repeats() == {}

    @behaviour("record.duplicates", off=patched("emulator.record.lineage.Lineage.hearings", lambda *_: ()))
    def test_audio_of_an_utterance_that_was_told_as_text(self) -> None:
        story = one_exchange()
        link = story.open(story.handle)
        link.turns("user: where is my order 47")
        link.say(50, 69, "where is my order 47")
        assert story.repeats() == {"audio": ["1: 50-69 as text of 1"]}

    @behaviour("record.duplicates", off=patched("emulator.record.lineage.Lineage.holds_as_audio", lambda *_: None))
    def test_text_of_an_utterance_that_was_heard_again(self) -> None:
        story = one_exchange()
        link = story.open(story.handle)
        link.say(50, 69, "where is my order 47")
        link.turns("user: where is my order 47")
        assert story.repeats() == {"turns": ["1: where is my order 47 as audio of 1"]}

    def test_text_of_an_utterance_that_the_snapshot_held(self) -> None:
        story = one_exchange()
        story.open(story.handle).turns("user: what is the weather in paris", "model: it is sunny in paris")
        assert story.repeats() == {
            "turns": ["1: what is the weather in paris as audio of 0", "1: it is sunny in paris as text of 0"]
        }

    @behaviour("record.duplicates", off=patched("emulator.record.things.Things._again", lambda *_: ()))
    def test_a_text_that_the_snapshot_held(self) -> None:
        story = Story()
        link = story.open()
        link.type("hello")
        story.open(link.handle()).type("Hello!")
        assert story.repeats() == {"texts": ["1: Hello! as text of 0"]}

    def test_a_text_that_was_lost_and_replayed_twice(self) -> None:
        story = Story()
        link = story.open()
        handle = link.handle()
        link.type("hello")
        story.open(handle).type("hello", "hello")
        assert story.repeats() == {"texts": ["1: hello as text of 1"]}

    def test_as_many_lost_as_given_again_are_none(self) -> None:
        story = Story()
        link = story.open()
        link.type("hello")
        handle = link.handle()
        link.type("hello", "hello")
        story.open(handle).type("hello", "hello")
        assert story.repeats() == {}
        assert story.losses() == {}

    def test_saying_the_same_twice_on_one_link_is_none(self) -> None:
        story = Story()
        link = story.open()
        link.type("hello", "hello")
        link.say(0, 9, "stop")
        link.say(10, 19, "stop")
        link.answer("fine")
        link.answer("fine")
        assert story.repeats() == {}

    def test_saying_the_same_anew_with_other_frames_is_none(self) -> None:
        story = one_exchange()
        link = story.open(story.handle)
        link.say(50, 69, "where is my order 47")
        link.say(80, 99, "where is my order 47")
        assert story.repeats() == {}

    def test_the_model_may_say_the_same_again(self) -> None:
        story = one_exchange()
        story.open(story.handle).answer("it is sunny in paris")
        assert story.repeats() == {}

    def test_a_seed_on_top_of_a_handle(self) -> None:
        story = Story()
        link = story.open()
        link.turns("user: my name is bond")
        link.call("c1")
        link.respond("c1", {"output": {"status": "shipped"}})
        link.see("aa")
        again = story.open(link.handle())
        again.turns("user: my name is bond", "user: get_order has returned shipped")
        again.see("aa")
        assert story.repeats() == {
            "turns": ["1: my name is bond as text of 0"],
            "video": ["1: aa as text of 0"],
        }
        again.type('get_order: {"status": "shipped"}')
        assert story.repeats()["texts"] == ['1: get_order: {"status": "shipped"} as text of 0']

    def test_a_word_that_a_tool_has_returned_too_is_none(self) -> None:
        story = Story()
        link = story.open()
        link.call("c1")
        link.respond("c1", {"output": "ok"})
        again = story.open(link.handle())
        again.type("is that ok")
        assert story.repeats() == {}
        again.type("get_order says ok")
        assert story.repeats() == {"texts": ["1: get_order says ok as text of 0"]}


class TestUtterancesHeardInOne:
    """A replay without the pause between two utterances makes one of them."""

    def two_in_one(self) -> tuple[Story, Position]:
        story = Story()
        link = story.open()
        handle = link.handle()
        link.say(0, 9, "hello")
        link.hear(10, 19)
        link.say(20, 49, "goodbye")
        link.close()
        merged = story.open(handle)
        merged.say(0, 49, "hello goodbye")
        merged.close()
        return story, handle

    def test_both_are_given_again(self) -> None:
        story, _ = self.two_in_one()
        assert story.losses() == {}
        assert story.repeats() == {}

    @behaviour(
        "record.forgotten",
        off=patched("emulator.record.things._share", lambda frames, things: things[0].frames.extend(frames)),
    )
    def test_each_is_still_lost_and_found_by_itself(self) -> None:
        story, handle = self.two_in_one()
        story.open(handle).say(0, 9, "hello")
        assert story.losses()["utterances"] == ["0: goodbye"]
        assert "0: 20-49" in story.losses()["speech"]
        story, handle = self.two_in_one()
        story.open(handle).type("hello")
        assert story.losses()["utterances"] == ["0: goodbye"]
        assert "0: 20-49" in story.losses()["speech"]
