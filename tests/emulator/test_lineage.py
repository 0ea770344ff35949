"""The record by lineage: what the model knows, what it forgot, what it was told twice; story by story."""

from collections import Counter, defaultdict
from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from emulator.record import LinkFacts, Position
from emulator.record.ranges import Ranges
from emulator.session.handles import Snapshot
from tests.emulator.behaviour import behaviour, patched
from tests.emulator.caller import Caller, typed
from tests.support.speech import question
from tests.support.stories import FRAME, Story


def one_exchange() -> Story:
    """Silence, a question, its answer, a handle, silence; then another question, answered, and the link is lost.

    Frames 0-9, 10-29, 30-39 / 40-49, 50-69, 70-79.
    """
    story = Story()
    link = story.open()
    link.hear(0, 9)
    link.say(10, 29, "what is the weather in paris")
    link.answer("it is sunny in paris")
    link.hear(30, 39)
    story.handle = link.handle()
    link.hear(40, 49)
    link.say(50, 69, "where is my order 47")
    link.answer("it is on its way")
    link.hear(70, 79)
    story.end = link.close()
    return story


LATER = {
    "speech": ["0: 50-69"],
    "silence": ["0: 40-49", "0: 70-79"],
    "utterances": ["0: where is my order 47"],
    "said": ["0: it is on its way"],
}
"""What a resume with the handle of :func:`one_exchange` loses."""


class TestForgotten:
    def test_on_one_link_nothing_is(self) -> None:
        story = one_exchange()
        assert story.losses() == {}
        assert story.repeats() == {}
        assert story.view["holes"] == []
        assert story.context() == [
            "0 utterance what is the weather in paris",
            "0 said it is sunny in paris",
            "0 utterance where is my order 47",
            "0 said it is on its way",
        ]

    @behaviour("record.forgotten", off=patched("emulator.record.lineage.Lineage._before", lambda *_: []))
    def test_what_came_after_the_handle_is(self) -> None:
        story = one_exchange()
        story.open(story.handle)
        assert story.losses() == LATER
        assert story.repeats() == {}
        assert story.context() == ["0 utterance what is the weather in paris", "0 said it is sunny in paris"]

    @behaviour("record.lineage", off=patched("emulator.record.lineage.Lineage._before", lambda *_: []))
    def test_a_handle_that_covers_later_input_loses_nothing(self) -> None:
        story = one_exchange()
        story.open(story.end).hear(80, 89)
        assert story.losses() == {}
        assert story.repeats() == {}
        assert story.view["holes"] == []
        assert len(story.context()) == 4

    @behaviour("record.forgotten", off=patched("emulator.record.things.Things._overlapping", lambda *_: []))
    def test_exactly_the_forgotten_part_replayed_is_neither_forgotten_nor_twice(self) -> None:
        story = one_exchange()
        link = story.open(story.handle)
        link.hear(40, 49)
        link.say(50, 69, "where is my order 47")
        link.hear(70, 79)
        assert story.losses() == {"said": ["0: it is on its way"]}
        assert story.repeats() == {}
        assert story.view["holes"] == []
        assert story.context()[-1] == "1 utterance where is my order 47"
        assert story.view["context"][-1]["first_given_to"] == 0

    @behaviour("record.marks", off=patched("emulator.marks.Reader.feed", lambda *_: []))
    def test_frames_that_a_replay_leaves_out_are_named_one_by_one(self) -> None:
        story = one_exchange()
        link = story.open(story.handle)
        link.begin(50, 59)
        link.hear(61, 69)
        link.end("where is my order 47")
        assert story.losses() == {
            "speech": ["0: 60-60"],
            "silence": ["0: 40-49", "0: 70-79"],
            "said": ["0: it is on its way"],
        }
        assert [(hole["first"], hole["last"]) for hole in story.view["holes"]] == [(40, 49), (60, 60)]

    def test_an_utterance_replayed_by_less_than_half_is_forgotten_and_its_frames_are_named(self) -> None:
        story = one_exchange()
        story.open(story.handle).hear(60, 69)
        assert story.losses()["utterances"] == ["0: where is my order 47"]
        assert story.losses()["speech"] == ["0: 50-59"]

    @behaviour("record.forgotten", off=patched("emulator.record.lineage.Lineage.told", defaultdict(Ranges)))
    def test_an_answered_utterance_replayed_as_text_is_not_forgotten_but_the_silence_is(self) -> None:
        story = one_exchange()
        story.open(story.handle).turns("user: Where's my order 47?", "model: it is on")
        assert story.losses() == {"silence": ["0: 40-49", "0: 70-79"]}
        assert story.repeats() == {}

    @behaviour("record.forgotten", off=patched("emulator.record.things.Things._joined", lambda *_: ()))
    def test_seeded_turns_joined_in_one_count_each(self) -> None:
        story = one_exchange()
        story.open().turns("user: what is the weather in paris where is my order 47")
        assert "utterances" not in story.losses()
        assert "speech" not in story.losses()

    @behaviour("record.forgotten", off=patched("emulator.record.things.Things._by_parts", lambda *_: ()))
    def test_parts_of_a_turn_count_each_an_outcome_beside_its_question(self) -> None:
        story = Story()
        link = story.open()
        handle = link.handle()
        link.type("where is order 47", "be quick")
        link.say(0, 9, "please")
        link.call("c1")
        link.respond("c1", {"output": {"status": "shipped"}})
        again = story.open(handle)
        told = 'get_order returned {"status":"shipped"}'
        again.turns(f"user: where is order 47 | be quick please | {told} | something else")
        assert story.losses() == {}
        assert story.repeats() == {}
        story.open(again.handle()).turns(f"user: please | {told}")
        assert story.losses() == {}
        assert story.repeats() == {"turns": [f"2: please {told} as text of 1"] * 2}

    def test_a_fresh_link_has_forgotten_everything_it_was_not_seeded_with(self) -> None:
        story = one_exchange()
        link = story.open()
        link.turns("user: what is the weather in paris", "model: it is sunny in paris")
        link.say(80, 89, "hello")
        assert story.losses() == {
            "speech": ["0: 50-69"],
            "silence": ["0: 0-9", "0: 30-49", "0: 70-79"],
            "utterances": ["0: where is my order 47"],
            "said": ["0: it is on its way"],
        }
        assert story.repeats() == {}
        assert [segment["link"] for segment in story.view["lineage"]] == [1]

    @behaviour("record.open_utterance", off=patched("emulator.record.journal.Journal.unknown", lambda *_: []))
    def test_speech_that_was_under_way_at_the_handle_is_lost_from_its_beginning(self) -> None:
        story = Story()
        link = story.open()
        link.hear(0, 9)
        link.begin(10, 19)
        handle = link.handle()
        link.hear(20, 29)
        link.end("where is my order")
        link.close()
        story.open(handle)
        assert story.losses() == {"speech": ["0: 10-29"], "utterances": ["0: where is my order"]}
        assert story.view["lineage"][0]["audio_bytes"] == 10 * FRAME
        assert story.view["handles"][0]["position"]["audio_bytes"] == 10 * FRAME

    def test_speech_that_was_found_out_after_the_handle_is_lost_from_its_beginning(self) -> None:
        # A detector wants to hear some of it first.
        story = Story()
        link = story.open()
        link.hear(0, 12)
        handle = link.handle()
        link.record.speech_began(10 * 0.02, now=0)
        link.hear(13, 29)
        link.end("where is my order")
        story.open(handle)
        assert story.losses()["speech"] == ["0: 10-29"]

    def test_speech_that_was_never_understood_is_lost_frame_by_frame(self) -> None:
        story = Story()
        link = story.open()
        handle = link.handle()
        link.begin(0, 19)
        link.close()
        again = story.open(handle)
        assert story.losses() == {"speech": ["0: 0-19"]}
        again.begin(0, 19)
        assert story.losses() == {}
        assert story.view["unanswered_speech"] == [
            {"link": 1, "over": False, "audio_seconds": [0.0, 0.4], "marks": [{"stream": 1, "first": 0, "last": 19}]}
        ]

    @behaviour("record.forgotten", off=patched("emulator.record.things.Things._reported", lambda *_: ()))
    def test_texts_turns_tool_responses_and_pictures(self) -> None:
        story = Story()
        link = story.open()
        link.type("first")
        handle = link.handle()
        link.type("second", ".")
        link.turns("user: third", "model: fourth")
        link.call("c1")
        link.respond("c1", {"status": "shipped"})
        link.see("aa")
        again = story.open(handle)
        assert story.losses() == {
            "texts": ["0: second"],
            "turns": ["0: third", "0: fourth"],
            "tool_responses": ["0: {'status': 'shipped'}"],
            "video": ["0: aa"],
        }
        again.type("second")
        again.turns("user: third", "model: fourth", 'user: The tool get_order returned: {"status": "shipped"}')
        again.see("aa")
        assert story.losses() == {}
        assert story.repeats() == {}

    @behaviour("record.forgotten", off=patched("emulator.record.things.Things._same_response", lambda *_: ()))
    def test_a_call_made_anew_may_be_told_the_stored_outcome(self) -> None:
        story = Story()
        link = story.open()
        handle = link.handle()
        link.call("c1")
        link.respond("c1", {"status": "shipped"})
        again = story.open(handle)
        again.call("c2")
        again.respond("c2", {"status": "shipped"})
        assert story.losses() == {}
        assert story.repeats() == {}

    @behaviour("record.ignored", off=patched("emulator.record.report._ignored", lambda *_: False))
    def test_a_response_that_no_call_waited_for_is_not_known(self) -> None:
        story = Story()
        link = story.open()
        link.call("c1")
        again = story.open(link.handle())
        again.respond("c1", {"status": "shipped"}, ignored=True)
        assert [entry["id"] for entry in story.view["ignored"]] == ["c1"]
        assert story.context() == ["0 tool_call get_order"]
        again.turns('user: get_order returned {"status": "shipped"}')
        assert story.repeats() == {}

    @behaviour("record.lineage", off=patched("emulator.record.things.Things._again", lambda *_: ()))
    def test_two_resumes_from_the_same_old_handle(self) -> None:
        story = one_exchange()
        second = story.open(story.handle)
        second.say(50, 69, "where is my order 47")
        second.say(80, 89, "thank you goodbye")
        second.close()
        third = story.open(story.handle)
        assert story.losses() == {
            "speech": ["0: 50-69", "1: 80-89"],
            "silence": ["0: 40-49", "0: 70-79"],
            "utterances": ["0: where is my order 47", "1: thank you goodbye"],
            "said": ["0: it is on its way"],
        }
        third.turns("user: where is my order 47", "model: it is on its way")
        third.say(80, 89, "thank you goodbye")
        assert story.losses() == {"silence": ["0: 40-49", "0: 70-79"]}
        assert story.repeats() == {}

    def test_a_chain_of_resumes(self) -> None:
        story = one_exchange()
        second = story.open(story.handle)
        second.say(50, 69, "where is my order 47")
        handle = second.handle()
        second.say(80, 89, "hello")
        second.close()
        story.open(handle).say(80, 89, "hello")
        assert story.losses() == {"silence": ["0: 40-49", "0: 70-79"], "said": ["0: it is on its way"]}
        assert story.repeats() == {}
        assert [segment["link"] for segment in story.view["lineage"]] == [0, 1, 2]

    def test_silence_is_lost_once_however_many_links_heard_it(self) -> None:
        story = Story()
        link = story.open()
        handle = link.handle()
        link.hear(0, 9)
        link.close()
        second = story.open(handle)
        second.hear(5, 14)
        second.close()
        story.open(handle)
        assert story.losses() == {"silence": ["0: 0-9", "1: 10-14"]}

    @behaviour(
        "record.lineage",
        off=patched("emulator.record.lineage.Segment.held", property(lambda self: [])),
    )
    def test_of_an_answer_under_way_the_snapshot_holds_what_was_said(self) -> None:
        story = Story()
        link = story.open()
        handle = link.handle(said="it is")
        link.answer("it is sunny in paris")
        story.open(handle)
        assert story.context() == ["0 said it is"]
        assert story.losses() == {}

    @behaviour("record.forgotten", off=patched("emulator.record.losses.updates", lambda _: ()))
    def test_a_context_update_has_to_be_in_the_next_setup(self) -> None:
        brief = {"parts": [{"text": "be brief"}]}
        story = Story()
        link = story.open()
        update = {"system_instruction": brief, "tools": {"tools": [{"function_declarations": []}]}}
        link.record.add("context_updates", update, at=0)
        setups: list[tuple[dict[str, Any], list[str]]] = [
            ({}, ["0: instructions", "0: tools"]),
            ({"system_instruction": brief}, ["0: tools"]),
            ({"systemInstruction": brief, "tools": [{"functionDeclarations": []}]}, []),
        ]
        for setup, lost in setups:
            story.open(link.handle(), setup=setup)
            assert story.losses().get("context_updates", []) == lost

    @behaviour("record.forgotten", off=patched("emulator.record.losses._parts", lambda body: {}))
    def test_or_be_sent_again(self) -> None:
        story = Story()
        link = story.open()
        update = {"systemInstruction": {"parts": [{"text": "be brief"}]}}
        link.record.add("context_updates", update, at=0)
        again = story.open(link.handle())
        assert story.losses() == {"context_updates": ["0: instructions"]}
        again.record.add("context_updates", update, at=0)
        assert story.losses() == {}

    @behaviour("record.duplicates", off=patched("emulator.record.things.Things._same_response", lambda *_: iter(())))
    def test_a_held_response_is_given_again_by_its_id_and_not_by_another(self) -> None:
        story = Story()
        link = story.open()
        link.call("c1")
        link.respond("c1", {"output": "ok"})
        again = story.open(link.handle())
        again.call("c2")
        again.respond("c2", {"output": "ok"})
        assert story.repeats() == {}
        third = story.open(again.handle())
        third.call("c1")
        third.respond("c1", {"output": "ok"})
        assert list(story.repeats()) == ["tool_responses"]


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


class TestOrder:
    @behaviour("record.order", off=patched("emulator.record.ranges.Ranges.end", property(lambda self: 0)))
    def test_frames_that_come_late(self) -> None:
        story = Story()
        link = story.open()
        link.hear(0, 9)
        link.hear(15, 19)
        link.hear(10, 12)
        view = story.view
        assert [(late["first"], late["last"]) for late in view["out_of_order"]] == [(10, 12)]
        assert [(hole["first"], hole["last"]) for hole in view["holes"]] == [(13, 14)]
        assert [(held["first"], held["last"]) for held in view["marks"]] == [(0, 12), (15, 19)]
        assert story.repeats() == {}


class TestSeveralStreams:
    """Each counts its frames for itself."""

    def test_each_has_its_own_holes(self) -> None:
        story = Story()
        link = story.open()
        link.hear(0, 9, stream=1)
        link.hear(12, 14, stream=2)
        link.hear(15, 19, stream=1)
        link.hear(17, 24, stream=2)
        assert story.view["holes"] == [
            {"stream": 1, "first": 10, "last": 14},
            {"stream": 2, "first": 15, "last": 16},
        ]

    def test_what_was_lost_of_one_is_not_made_good_by_the_same_numbers_of_another(self) -> None:
        story = Story()
        link = story.open()
        handle = link.handle()
        link.hear(0, 14, stream=1)
        link.hear(0, 14, stream=2)
        story.open(handle).hear(0, 9, stream=1)
        assert story.view["forgotten"]["silence"] == [
            {"link": 0, "stream": 1, "first": 10, "last": 14},
            {"link": 0, "stream": 2, "first": 0, "last": 14},
        ]
        assert story.repeats() == {}


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


class TestHandles:
    @behaviour("record.handles", off=patched("emulator.record.link.LinkRecord.handle_covers", lambda *_: None))
    def test_each_tells_what_came_after_it_and_who_used_it(self) -> None:
        story = Story()
        link = story.open()
        link.hear(0, 9)
        old = link.handle()
        link.hear(10, 19)
        link.type("hello")
        link.handle()
        link.hear(20, 29)
        end = link.close(covering=True)
        story.open(end)
        story.open(old)
        story.open(old)
        first, second = story.view["handles"]
        assert first["used_by"] == [2, 3]
        assert first["covers_later_input"] is False
        assert first["position"] == {"entries": 0, "audio_bytes": 10 * FRAME, "audio_seconds": 0.2}
        assert first["later_input"] == {
            "texts": 1,
            "turns": 0,
            "tool_responses": 0,
            "context_updates": 0,
            "video": 0,
            "heard": 0,
            "audio_seconds": 0.4,
            "marks": [{"stream": 1, "first": 10, "last": 29}],
        }
        assert second["used_by"] == [1]
        assert second["covers_later_input"] is True
        assert second["position"]["audio_bytes"] == 20 * FRAME
        assert second["restores"]["audio_bytes"] == 30 * FRAME


class TestForeignHandles:
    @behaviour(
        "record.lineage",
        off=patched("emulator.record.conversation.ConversationRecord.link_at", lambda self, at: self.link(at.link)),
    )
    def test_a_handle_of_a_record_that_was_deleted_leads_nowhere(self) -> None:
        handle = one_exchange().handle
        story = Story()
        for _ in range(2):
            story.open(replace(handle, hearing=True)).type("hello")
            assert story.context() == [f"{len(story.record.links) - 1} text hello"]
            assert story.view["complete"] is False
        # A link of the same number is not the one that it was issued on.
        assert story.losses() == {}
        assert story.view["handles"] == []


class TestBounds:
    @behaviour("record.bounds", off=patched("emulator.record.link.LinkRecord.dropped", 0))
    def test_what_does_not_fit_makes_the_lineage_incomplete(self) -> None:
        def texts(story: Story) -> None:
            story.open().type("a", "b", "c")

        def runs(story: Story) -> None:
            link = story.open()
            for number in (0, 2, 4):
                link.hear(number, number)

        def utterances(story: Story) -> None:
            link = story.open()
            for number in range(3):
                link.begin(number, number)
                link.end()

        def handles(story: Story) -> None:
            link = story.open()
            for _ in range(3):
                link.handle()

        def links(story: Story) -> None:
            for _ in range(3):
                story.open()

        for many in (texts, runs, utterances, handles, links):
            whole, cut = Story(limit=3), Story(limit=2)
            many(whole)
            many(cut)
            assert (whole.view["complete"], cut.view["complete"]) == (True, False), many.__name__


FRAMES = st.integers(0, 60)
STEPS = st.one_of(
    st.tuples(st.just("hear"), FRAMES, st.integers(1, 12)),
    st.tuples(st.just("handle")),
    st.tuples(st.just("resume"), st.integers(0, 9)),
    st.tuples(st.just("start anew")),
)


@settings(max_examples=150, deadline=None)
@given(steps=st.lists(STEPS, max_size=25))
def test_frame_by_frame_it_is_what_counting_by_hand_gives(steps: list[tuple[Any, ...]]) -> None:
    story = Story()
    link = story.open()
    heard: list[list[int]] = [[]]
    """What each link heard."""
    before: list[list[int]] = [[]]
    """What its lineage had heard when it began."""
    handles: list[tuple[Position, list[int]]] = []
    for step in steps:
        match step:
            case "hear", first, count:
                link.hear(first, first + count - 1)
                heard[-1] += range(first, first + count)
            case ("handle",):
                handles.append((link.handle(), before[-1] + heard[-1]))
            case "resume", number if handles:
                position, known = handles[number % len(handles)]
                link = story.open(position)
                before.append(list(known))
                heard.append([])
            case ("start anew",):
                link = story.open()
                before.append([])
                heard.append([])
    known = before[-1] + heard[-1]
    view = story.view
    assert listed(view["marks"]) == sorted(set(known))
    assert listed(view["forgotten"]["silence"]) == sorted({n for one in heard for n in one} - set(known))
    assert view["forgotten"]["speech"] == []
    repeats = Counter({number: times - 1 for number, times in Counter(known).items() if times > 1})
    assert Counter(listed(view["duplicates"]["audio"])) == repeats
    inside = set(range(min(known), max(known))) if known else set()
    assert listed(view["holes"]) == sorted(inside - set(known))
    assert listed(view["out_of_order"]) == sorted(late(known))


def listed(ranges: list[dict[str, Any]]) -> list[int]:
    return sorted(number for one in ranges for number in range(one["first"], one["last"] + 1))


def late(known: list[int]) -> set[int]:
    """Numbers that came for the first time after a higher one."""
    found: set[int] = set()
    highest = -1
    for at, number in enumerate(known):
        if number < highest and number not in known[:at]:
            found.add(number)
        highest = max(highest, number)
    return found


MIND_STEPS = st.one_of(
    st.tuples(st.just("speak"), st.sampled_from(["hello", "stop", "pizza"])),
    st.tuples(st.just("begin"), st.sampled_from(["hello", "pizza"])),
    st.tuples(st.just("understood")),
    st.tuples(st.just("type"), st.sampled_from(["hello", "stop"])),
    st.tuples(st.just("turn"), st.sampled_from(["user", "model"]), st.booleans()),
    st.tuples(st.just("wait"), st.sampled_from([0.6, 60.0])),
    st.tuples(st.just("resume"), st.integers(0, 9)),
    st.tuples(st.just("resume where it was")),
    st.tuples(st.just("start anew")),
)


@settings(max_examples=60, deadline=None)
@given(steps=st.lists(MIND_STEPS, max_size=20), trigger=st.sampled_from([None, 40, 100]), seeded=st.booleans())
def test_the_context_is_what_the_mind_remembers(
    steps: list[tuple[Any, ...]], trigger: int | None, seeded: bool
) -> None:
    story = Story()
    snapshots: list[Snapshot] = []
    window = {"triggerTokens": trigger, "slidingWindow": {"targetTokens": (trigger or 0) // 2}}
    setup: dict[str, Any] = {"contextWindowCompression": window} if trigger else {}
    setup["historyConfig"] = {"initialHistoryInClientContent": seeded}

    def connect(snapshot: Snapshot | None = None) -> Caller:
        restored = snapshot.position if snapshot else None
        facts = LinkFacts(story.record.next_link_index(), "m", "/", "v1beta", {}, 0.0, restored)
        record = story.record.add_link(facts)
        caller = Caller(snapshot=snapshot, record=record, sessionResumption={}, **setup)
        caller._take(caller.mind.start(0.0))
        return caller

    def remembered() -> list[tuple[str, str]]:
        return [one for one in caller.mind.snapshot(hearing=False).history if one[0] != "tool"]

    caller = connect()
    for step in steps:
        match step:
            case "speak", name:
                caller.speak(name)
            case "begin", name:
                caller.hear(question(name)[:16000])
            case ("understood",) if caller.listening:
                listen = caller.listening.pop(0)
                caller._take(caller.mind.heard(listen.number, "hello", caller.now))
            case "type", text:
                caller.send(realtimeInput={"text": text})
            case "turn", role, complete:
                caller.send(clientContent={**typed("hello", turnComplete=complete), "turns": [turn(role)]})
            case "wait", seconds:
                caller.until(caller.now + seconds)
            case "resume", number if snapshots:
                caller = connect(snapshots[number % len(snapshots)])
            case ("resume where it was",):
                caller = connect(caller.mind.snapshot(hearing=True))
            case ("start anew",):
                caller = connect()
        snapshots += caller.snapshots
        caller.snapshots.clear()
        context = [spoken(entry) for entry in story.view["context"]]
        under_way = caller.mind.snapshot(hearing=False).position
        assert under_way is not None
        if under_way.said:
            context.append(("model", under_way.said))
        assert context == remembered()


@behaviour("record.cut", off=patched("emulator.record.link.LinkRecord.context_cut", lambda *_, **__: None))
def test_what_compression_cuts_off_is_no_longer_in_the_context() -> None:
    story = Story()
    record = story.open().record
    caller = Caller(
        record=record,
        historyConfig={"initialHistoryInClientContent": True},
        contextWindowCompression={"triggerTokens": 60, "slidingWindow": {"targetTokens": 30}},
    )
    caller.send(clientContent={"turns": [turn("user")], "turnComplete": True})
    for _ in range(3):
        caller.send(realtimeInput={"text": "hello"})
        caller.until(caller.now + 60)
    view = story.view
    held = [spoken(entry) for entry in view["context"]]
    assert held == list(caller.mind.snapshot(hearing=False).history)
    # Seeds are never cut.
    assert held[0] == ("user", "user says so")
    assert [spoken(entry) for entry in view["cut"]][:2] == [("user", "hello"), ("model", "hello how can i help you")]
    assert len(held) + len(view["cut"]) == 7
    assert any(event["kind"] == "context_cut" for event in story.record.events)
    assert record.view()["texts"] == ["hello"] * 3


def turn(role: str) -> dict[str, Any]:
    return {"role": role, "parts": [{"text": f"{role} says so"}]}


def spoken(entry: dict[str, Any]) -> tuple[str, str]:
    if entry["kind"] == "said":
        return "model", entry["text"]
    return entry.get("role", "user"), entry["text"]


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
