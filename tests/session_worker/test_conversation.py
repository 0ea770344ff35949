"""What a new link is told of the conversation, decided without a link. `test_seeding` gives it to real ones."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from google.genai import types
from hypothesis import given, settings
from hypothesis import strategies as st

from parley.v1 import fabric_pb2, live_pb2
from services.fabric.capabilities import ModelCapabilities, capabilities_of
from services.session_worker.conversation import MOST_TOKENS, MOST_TURNS, Conversation
from services.session_worker.responses import struct
from services.session_worker.retelling import LEFT_OUT, PICTURE, Piece, clipped, newest

LIVE = capabilities_of("gemini-3.8-live") or ModelCapabilities()
NATIVE = capabilities_of("gemini-2.5-flash-native-audio-preview-12-2025") or ModelCapabilities()
TRANSLATE = capabilities_of("gemini-3.5-live-translate-preview") or ModelCapabilities()

Entry = fabric_pb2.LogEntry


def typed(words: str, seq: int = 0) -> Entry:
    return Entry(request=live_pb2.ConverseRequest(seq=seq, text=live_pb2.TextInput(text=words)))


def turn(*contents: tuple[str, list[str | bytes]], seq: int = 0) -> Entry:
    """A turn with roles; bytes are pictures."""
    told = [
        live_pb2.Content(
            role=live_pb2.ROLE_MODEL if role == "model" else live_pb2.ROLE_USER,
            parts=[
                live_pb2.Part(text=part) if isinstance(part, str) else live_pb2.Part(image=live_pb2.Blob(data=part))
                for part in parts
            ],
        )
        for role, parts in contents
    ]
    return Entry(request=live_pb2.ConverseRequest(seq=seq, turn=live_pb2.TurnInput(content=told, turn_complete=True)))


def heard(words: str, *, finished: bool = False) -> Entry:
    return Entry(input_transcript=live_pb2.Transcript(text=words, finished=finished))


def said(words: str, *, interrupted: bool = False, given_seq: int = 0, given_position: int = 0, turn: int = 0) -> Entry:
    return Entry(
        model_said=fabric_pb2.ModelSaid(
            text=words, interrupted=interrupted, given_seq=given_seq, given_position=given_position, turn=turn
        )
    )


def returned(
    call_id: str = "c1", *, name: str = "get_order", arguments: Any = None, response: Any = None, **fields: Any
) -> Entry:
    """A call and what the model got."""
    return Entry(
        tool=fabric_pb2.ToolRecord(
            call_id=call_id,
            name=name,
            arguments_json=json.dumps({"order_id": "4711"} if arguments is None else arguments),
            response_json=json.dumps({"output": {"status": "shipped"}} if response is None else response),
            outcome=live_pb2.TOOL_OUTCOME_SUCCEEDED,
            **fields,
        )
    )


def result(call_id: str = "c1", *, error: str = "", more: bool = False, seq: int = 0) -> Entry:
    """What the caller sent for a call that it ran."""
    sent = live_pb2.ToolResult(call_id=call_id, will_continue=more)
    if error:
        sent.error = error
    else:
        sent.output.CopyFrom(struct({"status": "shipped"}))
    return Entry(request=live_pb2.ConverseRequest(seq=seq, tool_result=sent))


def told(*entries: Entry, model: ModelCapabilities = LIVE) -> Conversation:
    conversation = Conversation(model)
    for entry in entries:
        conversation.add(entry)
    return conversation


def short(contents: list[types.Content]) -> list[str]:
    """`user: one | two` for two parts."""
    return [f"{turn.role}: {' | '.join(part.text or 'data' for part in turn.parts or ())}" for turn in contents]


def content(role: str, *texts: str) -> types.Content:
    return types.Content(role=role, parts=[types.Part(text=text) for text in texts])


SHIPPED = '[The function get_order({"order_id":"4711"}) returned {"status":"shipped"}]'
ORDER = [typed("where is my order"), returned(), said("it is shipped")]
HELLO = [typed("hello"), said("how can i help")]


class TestOutcomesOfEarlierTurns:
    """What a function returned while the model spoke of something else."""

    def entries(self, **outcome: Any) -> list[Entry]:
        asked = [typed("order it", 1), said("one moment", given_seq=1, given_position=1, turn=1), typed("and now", 2)]
        return [*asked, returned(**outcome), said("now this", given_seq=2, given_position=3, turn=2)]

    def test_it_waits_for_an_answer_of_its_own(self) -> None:
        conversation = told(*self.entries(turn=1))
        assert conversation.has_outcomes
        assert short(conversation.unanswered()) == [f"user: {SHIPPED}"]
        assert short(conversation.since(2)) == ["user: and now", "model: now this"]
        conversation.add(said("it is shipped", given_seq=2, given_position=5, turn=3))
        assert not conversation.has_outcomes
        assert short(conversation.since(4)) == [f"user: {SHIPPED}", "model: it is shipped"]

    @pytest.mark.parametrize("turn", [2, 0])
    def test_what_its_own_turn_called_for_is_answered_by_it(self, turn: int) -> None:
        """0: an older release does not say."""
        assert not told(*self.entries(turn=turn)).has_outcomes

    def test_what_was_there_when_the_turn_began_is_answered_by_it(self) -> None:
        conversation = told(
            typed("order it", 1), returned(turn=1), said("it is shipped", given_seq=1, given_position=2, turn=2)
        )
        assert not conversation.has_outcomes


class TestWords:
    def test_typed_and_spoken_questions_and_their_answers_alternate(self) -> None:
        conversation = told(*HELLO, heard("what is the weather"), said("it is sunny"))
        assert short(conversation.since(0)) == [
            "user: hello",
            "model: how can i help",
            "user: what is the weather",
            "model: it is sunny",
        ]

    def test_what_one_side_says_in_a_row_are_parts_of_one_turn(self) -> None:
        conversation = told(typed("hello"), heard("are you there"), said("yes"), said("i am"))
        assert short(conversation.since(0)) == ["user: hello | are you there", "model: yes | i am"]

    def test_pieces_of_a_transcript_are_joined_as_they_come_where_a_model_sends_pieces(self) -> None:
        conversation = told(heard(" What is"), heard(" the wea"), heard("ther?"), said("sunny"), model=NATIVE)
        assert short(conversation.since(0)) == ["user: What is the weather?", "model: sunny"]

    def test_a_finished_transcript_is_not_gone_on_with(self) -> None:
        conversation = told(heard("one "), heard("two", finished=True), heard("three"), said("four"), model=NATIVE)
        assert short(conversation.since(0)) == ["user: one two | three", "model: four"]

    def test_a_transcript_is_not_gone_on_with_behind_something_else(self) -> None:
        conversation = told(heard("one "), typed("two"), heard("three"), said("four"), model=NATIVE)
        assert short(conversation.since(0)) == ["user: one | two | three", "model: four"]
        conversation = told(heard("one "), said("two"), heard("three"), said("four"), model=NATIVE)
        assert short(conversation.since(0)) == ["user: one", "model: two", "user: three", "model: four"]

    def test_transcripts_of_whole_utterances_stay_apart(self) -> None:
        conversation = told(heard("what is the weather"), heard("in paris"), said("sunny"))
        assert short(conversation.since(0)) == ["user: what is the weather | in paris", "model: sunny"]

    def test_turns_keep_their_roles(self) -> None:
        entry = turn(("user", ["my name", "is ann"]), ("model", ["hello ann"]), ("user", ["what is my name"]))
        assert short(told(entry, said("ann")).since(0)) == [
            "user: my name\nis ann",
            "model: hello ann",
            "user: what is my name",
            "model: ann",
        ]

    def test_a_picture_becomes_a_note(self) -> None:
        conversation = told(turn(("user", ["what is this", b"png", b"png"])), said("a cat"))
        assert short(conversation.since(0)) == [f"user: what is this | {PICTURE}", "model: a cat"]
        assert short(told(turn(("user", [b"png"])), said("a cat")).since(0)) == [f"user: {PICTURE}", "model: a cat"]

    def test_a_turn_that_only_asks_for_the_answer_says_nothing(self) -> None:
        assert short(told(typed("hello"), turn(), said("hi")).since(0)) == ["user: hello", "model: hi"]

    def test_a_cut_off_answer_ends_with_a_dash(self) -> None:
        conversation = told(typed("tell me all"), said("first of all ", interrupted=True), heard("stop"), said("ok"))
        assert short(conversation.since(0)) == [
            "user: tell me all",
            "model: first of all —",
            "user: stop",
            "model: ok",
        ]

    def test_context_updates_marks_and_epochs_are_no_conversation(self) -> None:
        conversation = told(
            Entry(epoch_begins=fabric_pb2.EpochBegins(worker="w")),
            Entry(request=live_pb2.ConverseRequest(context_update=live_pb2.ContextUpdate(instructions="be brief"))),
            Entry(),
            *HELLO,
        )
        assert conversation.position == 4
        assert short(conversation.since(0)) == ["user: hello", "model: how can i help"]

    def test_roles_are_the_two_that_every_model_takes(self) -> None:
        conversation = told(*HELLO, *ORDER, turn(("model", ["by the way"])), said("yes"))
        assert {turn.role for turn in conversation.since(0)} == {"user", "model"}


class TestFunctions:
    def test_an_outcome_is_told_in_words_between_question_and_answer(self) -> None:
        assert short(told(*ORDER).since(0)) == [f"user: where is my order | {SHIPPED}", "model: it is shipped"]

    @pytest.mark.parametrize(
        ("response", "words"),
        [
            ({"error": "no such order"}, "failed: no such order"),
            ({"error": {"code": 5}}, 'failed: {"code":5}'),
            ({"output": "shipped"}, "returned shipped"),
            ({"output": {"b": 1, "a": "é"}}, 'returned {"a":"é","b":1}'),
            ({"output": 1, "error": 2}, 'returned {"error":2,"output":1}'),
            ([1, 2], "returned [1,2]"),
        ],
    )
    def test_it_says_whether_the_function_failed(self, response: Any, words: str) -> None:
        (asked, _) = short(told(returned(arguments={}, response=response), said("so")).since(0))
        assert asked == f"user: [The function get_order({{}}) {words}]"

    def test_what_is_no_json_is_told_as_it_is(self) -> None:
        record = fabric_pb2.ToolRecord(call_id="c", name="f", arguments_json="{", response_json="")
        assert short(told(Entry(tool=record), said("so")).since(0)) == [
            "user: [The function f({) returned ]",
            "model: so",
        ]

    def test_a_result_of_the_callers_is_told_once(self) -> None:
        conversation = told(typed("where is my order"), result(), returned(), said("shipped"))
        assert short(conversation.since(0)) == [f"user: where is my order | {SHIPPED}", "model: shipped"]

    def test_until_the_model_has_got_it_by_itself(self) -> None:
        conversation = told(typed("where is my order"), result())
        assert short(conversation.unanswered()) == [
            'user: where is my order | [A function that you called returned {"status":"shipped"}]'
        ]
        assert short(told(result(error="no line")).unanswered()) == [
            "user: [A function that you called failed: no line]"
        ]

    def test_a_second_result_is_not_told(self) -> None:
        conversation = told(typed("where"), result(), returned(), result(), said("shipped"), result())
        assert short(conversation.since(0)) == [f"user: where | {SHIPPED}", "model: shipped"]
        assert conversation.unanswered() == []

    def test_results_that_go_on_are_told_one_by_one(self) -> None:
        first = returned(response={"output": "packing"})
        conversation = told(result(more=True), first, result(), returned(), result(), said("shipped"))
        (asked, answer) = short(conversation.since(0))
        assert asked.count("[") == 2
        assert "returned packing" in asked
        assert SHIPPED in asked
        assert answer == "model: shipped"

    def test_results_of_several_calls_do_not_mix(self) -> None:
        conversation = told(result("c1"), result("c2"), returned("c2"), said("so"))
        (asked, _) = short(conversation.since(0))
        assert "A function that you called returned" in asked
        assert SHIPPED in asked

    def test_a_call_that_the_model_took_back_is_none_of_the_conversation(self) -> None:
        cancelled = fabric_pb2.ToolRecord(call_id="c1", name="get_order", outcome=live_pb2.TOOL_OUTCOME_CANCELLED)
        conversation = told(typed("where is my order"), Entry(tool=cancelled))
        assert not conversation.has_outcomes
        assert short(conversation.unanswered()) == ["user: where is my order"]

    @pytest.mark.parametrize("words", [True, False])
    def test_what_the_model_is_not_to_speak_of_is_told_and_not_asked(self, words: bool) -> None:
        conversation = Conversation(LIVE, words=words)
        for entry in (typed("log it", 1), said("sure", given_seq=1), returned(silent=True), typed("and now", 2)):
            conversation.add(entry)
        asked = conversation.unanswered()
        assert not conversation.has_outcomes
        assert short(asked) == (["user: and now"] if words else [])
        assert short(conversation.since(2)) == [f"user: {SHIPPED}", "model: (silence)"]
        assert SHIPPED in short(conversation.seed([]).turns)[-2]
        conversation.add(said("now this", given_seq=2))
        assert not conversation.since(5)


class TestPositions:
    def test_nothing_happened(self) -> None:
        conversation = told()
        assert (conversation.position, conversation.settled, conversation.oldest) == (0, 0, 0)
        assert conversation.since(0) == conversation.unanswered() == []
        conversation = told(*HELLO)
        assert conversation.since(conversation.position) == []

    def test_since_a_position_is_what_came_after_it(self) -> None:
        conversation = told(*HELLO)
        position = conversation.position
        for entry in ORDER:
            conversation.add(entry)
        assert short(conversation.since(position)) == [f"user: where is my order | {SHIPPED}", "model: it is shipped"]

    def test_the_open_exchange_is_not_told_but_can_be_asked_again(self) -> None:
        conversation = told(*HELLO, typed("where is my order"), returned())
        assert conversation.settled == 2
        assert conversation.since(2) == []
        assert short(conversation.since(0)) == ["user: hello", "model: how can i help"]
        assert short(conversation.unanswered()) == [f"user: where is my order | {SHIPPED}"]

    def test_what_is_up_to_a_position_counts_as_over(self) -> None:
        conversation = told(*HELLO, typed("keep this in mind"), typed("and this"), typed("where is my order"))
        assert short(conversation.since(2, 4)) == ["user: keep this in mind | and this", "model: (silence)"]
        assert short(conversation.seed([], 4).turns)[-2:] == [
            "user: keep this in mind | and this",
            "model: (silence)",
        ]

    def test_a_turn_in_which_the_model_said_nothing_is_over(self) -> None:
        conversation = told(*HELLO, typed("say nothing"), said(""))
        assert conversation.settled == 4
        assert short(conversation.since(2)) == ["user: say nothing", "model: (silence)"]
        assert conversation.unanswered() == []

    def test_in_the_middle_its_question_stands_with_the_next(self) -> None:
        conversation = told(typed("say nothing"), said("", interrupted=True), typed("hello"), said("hi"))
        assert short(conversation.since(0)) == ["user: say nothing | hello", "model: hi"]

    def test_only_silence_is_nothing(self) -> None:
        assert told(said(""), said("")).since(0) == []
        assert told(heard(" "), said("")).since(0) == []

    def test_where_the_model_spoke_first_the_caller_was_silent(self) -> None:
        assert short(told(said("welcome")).since(0)) == ["user: (silence)", "model: welcome"]
        conversation = told(*HELLO, said("are you still there"))
        assert short(conversation.since(2)) == ["user: (silence)", "model: are you still there"]

    def test_what_was_typed_while_the_model_spoke_is_the_next_answers(self) -> None:
        conversation = told(
            typed("tell me all", seq=1),
            typed("stop", seq=2),
            turn(("user", ["no", "wait"]), seq=3),
            heard("please"),
            said("first of all", interrupted=True, given_seq=1),
        )
        assert (conversation.position, conversation.settled) == (5, 3)
        assert short(conversation.since(0)) == ["user: tell me all | please", "model: first of all —"]
        assert short(conversation.unanswered()) == ["user: stop | no\nwait"]
        conversation.add(said("ok", given_seq=3))
        assert (conversation.position, conversation.settled) == (6, 6)
        assert short(conversation.since(3)) == ["user: stop | no\nwait", "model: ok"]

    def test_an_answer_does_not_reach_behind_the_one_before(self) -> None:
        conversation = told(typed("one", seq=1), typed("two", seq=2), said("first"), said("second", given_seq=1))
        assert short(conversation.since(0)) == ["user: one | two", "model: first | second"]
        assert conversation.settled == 4

    def test_positions_are_the_logs(self) -> None:
        entries = [*HELLO, typed("still there"), said("yes")]
        for position, entry in enumerate(entries, 1):
            entry.position = position
        epoch = Entry(position=2, epoch_begins=fabric_pb2.EpochBegins(worker="w"))
        conversation = told(*entries[:2], epoch, *entries[2:])
        assert conversation.position == conversation.settled == 4
        assert short(conversation.since(2)) == ["user: still there", "model: yes"]
        # Read back as far as it is there.
        conversation = told(epoch, *entries[2:], typed("not stored yet"))
        assert (conversation.oldest, conversation.settled, conversation.position) == (2, 4, 5)
        assert short(conversation.since(2)) == ["user: still there", "model: yes"]
        assert short(conversation.since(1)) == [f"user: {LEFT_OUT} | still there", "model: yes"]
        assert short(conversation.seed([]).turns) == [f"user: {LEFT_OUT} | still there", "model: yes"]

    def test_what_is_missing_in_the_middle_leaves_nothing_before_it(self) -> None:
        later = typed("still there")
        later.position = 7
        conversation = told(*HELLO, later, said("yes"))
        assert (conversation.oldest, conversation.position) == (6, 8)
        assert short(conversation.since(6)) == ["user: still there", "model: yes"]

    def test_entries_of_a_release_that_did_not_number_them_are_counted(self) -> None:
        entry = typed("still there")
        entry.position = 1
        assert told(*HELLO, entry).position == 3


class TestSeed:
    def test_a_new_conversation_has_none(self) -> None:
        seed = told().seed([])
        assert (seed.turns, seed.as_history, seed.turn_complete, seed.answered) == ([], False, False, False)

    @pytest.mark.parametrize("model", [LIVE, NATIVE])
    def test_it_begins_with_the_user_and_ends_with_the_model(self, model: ModelCapabilities) -> None:
        for entries in ([said("welcome")], HELLO, [*HELLO, typed("open")], [typed("nothing"), said("")]):
            seed = told(*entries, model=model).seed([])
            assert [turn.role for turn in seed.turns] == ["user", "model"] * (len(seed.turns) // 2)

    def test_models_that_wait_for_new_input_get_it_as_history(self) -> None:
        seed = told(*HELLO).seed([])
        assert (seed.as_history, seed.turn_complete, seed.answered) == (True, True, False)
        seed = told().seed([content("user", "i am ann")])
        assert (seed.as_history, seed.turn_complete, seed.answered) == (True, True, False)

    def test_models_that_answer_a_seed_get_what_was_answered_otherwise(self) -> None:
        for conversation in (told(*HELLO, model=NATIVE), told(*HELLO, typed("open"), model=NATIVE)):
            seed = conversation.seed([content("user", "i am ann")])
            assert (seed.as_history, seed.turn_complete, seed.answered) == (False, False, False)
            assert short(seed.turns)[-1] == "model: how can i help"

    def test_a_configured_question_is_answered_as_long_as_nothing_has_been(self) -> None:
        for conversation in (told(model=NATIVE), told(typed("open"), model=NATIVE)):
            seed = conversation.seed([content("user", "i am ann")])
            assert short(seed.turns) == ["user: i am ann"]
            assert (seed.as_history, seed.turn_complete, seed.answered) == (True, True, True)

    def test_the_configured_history_comes_first_as_it_is(self) -> None:
        picture = types.Part(inline_data=types.Blob(data=b"png", mime_type="image/png"))
        history = [content("model", "welcome"), types.Content(role="user", parts=[picture]), content("model", "a cat")]
        assert told().seed(history).turns == history
        assert short(told(*HELLO).seed(history).turns) == [
            "model: welcome",
            "user: data",
            "model: a cat",
            "user: hello",
            "model: how can i help",
        ]

    def test_an_answer_to_it_follows_it(self) -> None:
        assert short(told(said("hello ann")).seed([content("user", "i am ann")]).turns) == [
            "user: i am ann",
            "model: hello ann",
        ]

    def test_a_question_behind_it_joins_it(self) -> None:
        history = [content("user", "i am ann")]
        seed = told(*HELLO).seed(history)
        assert short(seed.turns) == ["user: i am ann | hello", "model: how can i help"]
        assert short(history) == ["user: i am ann"]

    def test_models_that_only_translate_get_nothing(self) -> None:
        conversation = told(*HELLO, typed("hello"), model=TRANSLATE)
        seed = conversation.seed([])
        assert (seed.turns, seed.as_history, seed.turn_complete, seed.answered) == ([], False, False, False)
        assert conversation.position == 3
        assert conversation.since(0) == conversation.unanswered() == []


def turns(first: int, last: int, words: str = "") -> list[Entry]:
    return [entry for number in range(first, last + 1) for entry in (typed(f"q{number}{words}"), said(f"a{number}"))]


class TestBounds:
    def test_the_newest_turns_are_told_and_the_rest_is_said_to_be_left_out(self) -> None:
        conversation = told(*turns(1, MOST_TURNS + 5))
        seed = short(conversation.seed([]).turns)
        assert len(seed) == 2 * MOST_TURNS
        assert seed[0] == f"user: {LEFT_OUT} | q6"
        assert seed[-1] == f"model: a{MOST_TURNS + 5}"
        assert conversation.oldest == 10
        assert short(conversation.since(10))[0] == "user: q6"
        assert short(conversation.since(9))[0] == f"user: {LEFT_OUT} | q6"

    def test_as_many_turns_as_fit_are_not_said_to_be_cut(self) -> None:
        assert short(told(*turns(1, MOST_TURNS)).seed([]).turns)[0] == "user: q1"

    def test_turns_are_left_out_whole_where_they_are_too_long_together(self) -> None:
        conversation = told(*turns(1, 8, "x" * 9_992))  # 2,500 tokens each
        seed = short(conversation.seed([]).turns)
        assert [text[:8] for text in seed[1:]] == [
            text for number in range(3, 9) for text in (f"user: q{number}", f"model: a{number}"[:8])
        ][1:]
        assert seed[0].startswith(f"user: {LEFT_OUT} | q3x")
        # More than that is remembered, for links that are only told what is new.
        assert short(conversation.since(0))[0].startswith("user: q1x")

    def test_a_text_that_is_too_long_is_clipped_in_its_middle(self) -> None:
        conversation = told(typed("begin" + "x" * 200_000 + "end"), said("long"))
        (question, answer) = short(conversation.seed([]).turns)
        assert question.startswith("user: begin")
        assert " [...] " in question
        assert question.endswith("end")
        assert len(question) < 4 * MOST_TOKENS + 100
        assert answer == "model: long"

    def test_what_is_not_remembered_of_the_history_s_sequel_does_not_answer_it(self) -> None:
        conversation = told(*turns(1, MOST_TURNS + 1))
        seed = short(conversation.seed([content("user", "i am ann")]).turns)
        assert seed[0] == f"user: i am ann | {LEFT_OUT} | q2"

    def test_an_exchange_that_never_ends_is_bounded(self) -> None:
        conversation = told(*HELLO, *(typed(f"{number} " + "x" * 400) for number in range(2_000)))
        assert sum(map(len, short(conversation.unanswered()))) < 2 * 4 * MOST_TOKENS
        assert 2 < conversation.oldest < conversation.position == 2_002
        assert conversation.since(2) == []
        assert short(conversation.since(0)) == [f"user: {LEFT_OUT}", "model: (silence)"]
        conversation = told(*(typed("x") for _ in range(5_000)))
        assert len(conversation.unanswered()[0].parts or ()) == 1_000

    def test_so_is_a_transcript_that_never_ends(self) -> None:
        conversation = told(*(heard("word " * 20) for _ in range(5_000)), model=NATIVE)
        assert len(short(conversation.unanswered())[0]) < 4 * MOST_TOKENS + 100

    @pytest.mark.parametrize("text", ["", "abcd" * 10, "é" * 100, "日本" * 100])
    def test_tokens_are_counted_in_bytes(self, text: str) -> None:
        piece = Piece(1, "user", text)
        assert piece.tokens == 1 + -(-len(text.encode()) // 4)
        assert clipped(piece, piece.tokens) is piece
        if len(text) > 50:
            assert clipped(piece, 20).tokens <= 20
            assert clipped(piece, 20).text.startswith(text[0])

    def test_of_one_turn_that_is_too_long_the_end_is_told(self) -> None:
        pieces = [Piece(1, "user", "x" * 400), Piece(2, "user", "y" * 400), Piece(3, "model", "z" * 40, answer=True)]
        (question, answer) = newest(pieces, turns=1, tokens=60)
        assert question.text.startswith("yy")
        assert question.tokens <= 60 - answer.tokens
        assert newest(pieces, turns=1, tokens=20) == pieces[2:]
        assert newest([], turns=1, tokens=20) == []

    def test_so_many_turns_begin_where_a_turn_does(self) -> None:
        pieces = [Piece(at, "user" if at % 2 else "model", f"{at}", answer=not at % 2) for at in range(1, 8)]
        assert newest(pieces, turns=2, tokens=1_000) == pieces[2:]
        assert newest(pieces, turns=3, tokens=1_000) == pieces


ENTRIES = st.one_of(
    st.builds(typed, st.text(max_size=8), st.integers(0, 40)),
    st.builds(heard, st.sampled_from(["one ", "two", " "]), finished=st.booleans()),
    st.builds(said, st.sampled_from(["", "yes", "no "]), interrupted=st.booleans(), given_seq=st.integers(0, 40)),
    st.builds(returned, st.sampled_from(["c1", "c2"])),
    st.builds(result, st.sampled_from(["c1", "c2"]), more=st.booleans(), seq=st.integers(0, 40)),
    st.just(turn(("user", ["a"]), ("model", ["b", b"png"]), seq=7)),
    st.just(Entry(request=live_pb2.ConverseRequest(context_update=live_pb2.ContextUpdate()))),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(ENTRIES, max_size=90), st.sampled_from([LIVE, NATIVE]), st.lists(st.sampled_from(["user", "model"])))
def test_whatever_happened_is_told_in_turns(entries: list[Entry], model: ModelCapabilities, roles: list[str]) -> None:
    conversation = Conversation(model)
    settled = 0
    for count, entry in enumerate(entries, 1):
        conversation.add(entry)
        assert conversation.position == count
        assert settled <= conversation.settled <= count
        settled = conversation.settled
    history = [content(role, "h") for role in roles]
    for contents in (conversation.since(0), conversation.since(settled // 2), conversation.seed([]).turns):
        # In the middle of a turn the user's part may be known.
        assert [turn.role for turn in contents] == (["user", "model"] * len(contents))[-len(contents) :]
        assert all(part.text and part.text.strip() for turn in contents for part in turn.parts or ())
    seeded = conversation.seed(history).turns
    assert all(one.role != other.role for one, other in pairwise(seeded))
    assert conversation.since(conversation.settled) == []
    words = [text for turn in conversation.unanswered() for part in turn.parts or () if (text := part.text or "")]
    whole = [text for turn in conversation.since(0, len(entries)) for part in turn.parts or () if (text := part.text)]
    assert set(words) <= set(whole)
