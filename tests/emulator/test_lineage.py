"""What the model knows and what it forgot, over all links of a conversation."""

from collections import defaultdict
from dataclasses import replace
from typing import Any

import pytest

from emulator.record.ranges import Ranges
from tests.emulator.behaviour import behaviour, patched
from tests.emulator.lineage_examples import one_exchange
from tests.support.stories import FRAME, Story

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

    def test_a_new_part_of_a_turn_beside_a_known_one_can_be_forgotten(self) -> None:
        story = Story()
        link = story.open()
        link.type("alpha")
        handle = link.handle()
        story.open(handle).turns("user: alpha | bravo | charlie")
        again = story.open(handle)
        assert story.losses() == {"turns": ["1: bravo", "1: charlie"]}
        # Each comes back by itself, beside another or joined with it.
        again.turns("user: bravo")
        assert story.losses() == {"turns": ["1: charlie"]}
        story.open(handle).turns("user: bravo | charlie | delta")
        assert story.losses() == {}
        assert story.repeats() == {}
        story.open().turns("user: alpha bravo | charlie", "user: delta")
        assert story.losses() == {}
        assert story.repeats() == {}

    def test_a_new_part_of_a_turn_beside_an_outcome_can_be_forgotten(self) -> None:
        story = Story()
        link = story.open()
        link.call("c1")
        link.respond("c1", {"output": {"status": "shipped"}})
        told = 'get_order returned {"status":"shipped"}'
        story.open().turns(f"user: {told} | bravo")
        story.open()
        assert story.losses()["turns"] == ["1: bravo"]
        story.open().turns(f"user: {told} | bravo")
        assert "turns" not in story.losses()

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

    @behaviour("record.open_utterance", off=patched("emulator.record.journal.Journal.speech_sounded", lambda *_: None))
    def test_the_silence_that_was_to_end_it_is_none_of_it(self) -> None:
        story = Story()
        link = story.open()
        handle = link.handle()
        link.begin(0, 19)
        link.hear(20, 29)
        link.record.speech_sounded(20 * 0.02)
        link.close()
        story.open(handle)
        assert story.losses() == {"speech": ["0: 0-19"], "silence": ["0: 20-29"]}

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

    @pytest.mark.parametrize("beside", ["", " | what is the weather"])
    def test_an_outcome_that_each_link_of_a_handle_is_told_is_known_to_each(self, beside: str) -> None:
        story = Story()
        link = story.open()
        handle = link.handle()
        link.call("c1")
        link.respond("c1", {"status": "shipped", "arrives": "monday"})
        told = 'get_order returned {"arrives": "monday", "status": "shipped"}'
        for _ in range(2):
            story.open(handle).turns(f"user: {told}{beside}")
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

    @behaviour("record.forgotten", off=patched("emulator.record.things.Things._reported", lambda *_: ()))
    def test_outcomes_are_not_forgotten_when_the_words_that_tell_them_come_again(self) -> None:
        story = Story()
        link = story.open()
        before = link.handle()
        link.type("where is my order 47")
        link.call("c1")
        link.respond("c1", {"output": {"status": "shipped", "order_id": "47"}})
        told = '[get_order returned {"order_id":"47","status":"shipped"}]'
        again = story.open(before)
        again.turns(f"user: where is my order 47 | {told}")
        # The model asks again although it was told.
        again.call("c2")
        again.respond("c2", {"output": {"status": "shipped", "order_id": "47"}})
        # Then the words come by themselves, and all of that is lost.
        story.open(before).turns(f"user: {told}")
        last = story.open(before)
        assert story.losses()["tool_responses"]
        last.turns(f"user: where is my order 47 | {told}")
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
