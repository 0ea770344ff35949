"""What a new link is given, decided without a link."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from google.genai import types

from parley.v1 import fabric_pb2, live_pb2
from services.fabric.capabilities import ModelCapabilities, capabilities_of
from services.session_worker.answer_in_progress import AnswerInProgress
from services.session_worker.conversation import Conversation
from services.session_worker.events import FunctionCall, Text, TurnComplete
from services.session_worker.input_queue import AudioBatch
from services.session_worker.journal import Journal
from services.session_worker.restoration import Restoration, Situation, restoration
from services.session_worker.sent_input import Item
from services.session_worker.turns import TurnState
from tests.session_worker.test_conversation import heard, result, returned, said, turn, typed

LIVE = capabilities_of("gemini-3.8-live") or ModelCapabilities()
NATIVE = capabilities_of("gemini-2.5-flash-native-audio-preview-12-2025") or ModelCapabilities()
LOUD = b"\x00\x40" * 640


class Talk:
    """A session's conversation and journal as the session itself keeps them, and one second for each thing."""

    def __init__(self, model: ModelCapabilities = LIVE, *, words: bool = True) -> None:
        self.now = 100.0
        self.step = 1.0
        self.journal = Journal(16_000, words=words)
        self.conversation = Conversation(model, words=words)
        self.turns = TurnState()
        self.answering = AnswerInProgress(
            self.journal, self.conversation, self.turns, handles_cover_typed_turns=model.handles_cover_typed_turns
        )
        self.seq = 0

    def later(self) -> float:
        self.now += self.step
        return self.now

    def give(self, item: Item, *, typed: bool = False) -> None:
        self.journal.sent(item, self.later(), 0)
        if not isinstance(item, AudioBatch):
            self.turns.asked(self.now, typed=typed)

    def speak(self, words: str = "", *, pcm: bytes = LOUD) -> int:
        self.seq += 1
        self.give(AudioBatch(pcm, self.seq, self.seq))
        if words:
            self.conversation.add(heard(words))
        return self.seq

    def type(self, words: str) -> int:
        self.seq += 1
        entry = typed(words, self.seq)
        self.conversation.add(entry)
        self.give(entry.request)
        return self.seq

    def ask(self, words: str) -> int:
        """Ordered content."""
        self.seq += 1
        entry = turn(("user", [words]), seq=self.seq)
        self.conversation.add(entry)
        self.give(entry.request, typed=True)
        return self.seq

    def begins(self) -> None:
        self.turns.on_event(Text("...", thought=False), self.later())
        self.answering.begins(self.now, self.turns.count, 1)

    def answers(self, words: str, *, handle: bool = True) -> None:
        self.begins()
        turn = self.turns.current
        assert turn is not None
        answered = self.answering.answered(turn, self.now)
        assert answered is not None
        question, position = answered
        self.conversation.add(said(words, given_seq=question.seq, given_position=position, turn=turn.number))
        self.turns.on_event(TurnComplete("", False, True), self.later())
        self.journal.turn_ended(self.now, question, self.conversation.settled)
        self.answering.over()
        if handle:
            self.journal.handle(self.later())

    def rotate(self, *, resumed: bool = True, calls: Sequence[FunctionCall] = ()) -> Restoration:
        """As the keeper does: the next link is asked again, and given what waits."""
        found = self.next_link(resumed=resumed, calls=calls)
        self.journal.restart(found.replay.items, told=not resumed or found.untold is not None)
        self.answering.link_began()
        self.turns.restart(self.turns.count)
        if found.answered:
            self.turns.asked(self.later(), typed=True)
        for item in found.replay.items:
            self.give(item)
        return found

    def next_link(
        self,
        *,
        resumed: bool = True,
        calls: Sequence[FunctionCall] = (),
        heard_until: float | None = None,
        ended_until: float | None = None,
    ) -> Restoration:
        situation = Situation(
            self.journal,
            self.conversation,
            self.answering.begun,
            [],
            calls,
            self.later(),
            exact=False,
            heard_until=heard_until,
            ended_until=(heard_until or 0.0) if ended_until is None else ended_until,
        )
        return restoration(situation, resumed=resumed)


def words(contents: list[types.Content]) -> list[tuple[str, str]]:
    return [(turn.role or "", part.text or "") for turn in contents for part in turn.parts or ()]


def replayed(found: Restoration) -> list[tuple[int, int]]:
    """As the caller is told."""
    recovered = found.responses(0.5, [])[0].link_state.recovered
    return [(span.from_seq, span.to_seq) for span in recovered.replayed]


def test_what_the_handle_restores_is_not_told_again() -> None:
    talk = Talk()
    talk.type("hello")
    talk.answers("hi")
    found = talk.next_link()
    assert (found.told, found.question, found.asks, found.replay.items) == ([], [], False, [])
    assert found.state_restored
    assert replayed(found) == []


def test_what_was_answered_since_the_handle_is_told_and_listed() -> None:
    talk = Talk()
    talk.type("hello")
    talk.answers("hi")
    question = talk.type("what is new")
    talk.answers("nothing", handle=False)
    found = talk.next_link()
    assert words(found.told) == [("user", "what is new"), ("model", "nothing")]
    assert not found.asks
    assert replayed(found) == [(question, question)]


def test_a_question_whose_answer_is_cut_off_is_asked_again_and_listed() -> None:
    talk = Talk()
    talk.type("hello")
    talk.answers("hi", handle=False)
    first = talk.type("one")
    second = talk.type("two")
    talk.begins()
    later = talk.type("and three")
    found = talk.next_link()
    assert words(found.told) == [("user", "hello"), ("model", "hi")]
    assert words(found.question) == [("user", "one"), ("user", "two")]
    assert found.asks
    assert [item.text.text for item in found.replay.items if not isinstance(item, AudioBatch)] == ["and three"]
    assert replayed(found) == [(1, later)]
    assert (first, second) == (2, 3)


@pytest.mark.parametrize("asked", ["typed", "spoken"])
def test_speech_that_was_under_way_when_the_answer_began_is_given_again(asked: str) -> None:
    talk = Talk()
    talk.type("hello")
    talk.answers("hi")
    talk.step = 0.04
    if asked == "typed":
        talk.type("what is new")
    else:
        talk.speak("what is new")
        for _ in range(15):
            talk.speak(pcm=bytes(1280))
    first = talk.seq + 1 - (0 if asked == "typed" else 7)
    for _ in range(20):
        talk.speak()
    talk.begins()
    talk.speak()
    found = talk.next_link()
    assert words(found.question) == [("user", "what is new")]
    assert [item.first_seq for item in found.replay.items if isinstance(item, AudioBatch)] == [
        *range(first, talk.seq + 1)
    ]
    # Nor does another owner take it for answered.
    record = talk.answering.record
    assert record is not None
    assert record.given_seq == first - 1


def test_a_question_that_the_state_has_is_not_told_again() -> None:
    """The newest handle of a 3.x model restores what was asked as ordered content once it is being answered."""
    talk = Talk()
    talk.type("hello")
    talk.answers("hi")
    talk.ask("what is new")
    talk.begins()
    for _ in range(3):
        found = talk.rotate()
        assert (found.told, found.question, found.asks) == ([], [], True)
        assert replayed(found) == []
        talk.begins()


def test_a_question_is_told_once_however_often_its_answer_is_cut_off() -> None:
    talk = Talk()
    talk.type("hello")
    talk.answers("hi", handle=False)
    question = talk.type("what is new")
    talk.begins()
    first = talk.rotate()
    assert words(first.told) == [("user", "hello"), ("model", "hi")]
    assert words(first.question) == [("user", "what is new")]
    assert replayed(first) == [(1, question)]
    talk.begins()
    for _ in range(3):
        found = talk.rotate()
        assert (found.told, found.question, found.asks) == ([], [], True)
        assert replayed(found) == []
        talk.begins()
    talk.answers("nothing", handle=False)
    # Most likely there is a newer handle, which did not come: the older one restores what it was issued for.
    found = talk.next_link()
    assert words(found.told) == [("user", "hello"), ("model", "hi"), ("user", "what is new"), ("model", "nothing")]
    assert replayed(found) == [(1, question)]


def test_in_doubt_it_is_told_again_and_listed() -> None:
    """The link was lost before anything told that the model had taken up what it was asked."""
    talk = Talk()
    talk.type("hello")
    talk.answers("hi")
    question = talk.type("what is new")
    talk.begins()
    talk.rotate()
    again = talk.rotate()
    assert words(again.question) == [("user", "what is new")]
    assert replayed(again) == [(question, question)]


@pytest.mark.parametrize("meanwhile", ["speech", "text", "a handle is due"])
def test_only_what_is_certain_counts_as_known(meanwhile: str) -> None:
    talk = Talk()
    talk.type("hello")
    talk.answers("hi", handle=meanwhile != "a handle is due")
    talk.ask("what is new")
    match meanwhile:
        case "speech":
            talk.speak("and")
        case "text":
            talk.type("and")
        case _:
            pass
    talk.begins()
    assert ("user", "what is new") in words(talk.next_link().question)


def test_a_model_whose_handles_stand_still_is_told_again() -> None:
    talk = Talk(NATIVE)
    talk.type("hello")
    talk.answers("hi")
    talk.ask("what is new")
    talk.begins()
    assert words(talk.rotate().question) == [("user", "what is new")]
    talk.begins()
    assert words(talk.rotate().question) == [("user", "what is new")]


def test_a_link_from_nothing_is_told_everything() -> None:
    talk = Talk()
    talk.type("hello")
    talk.answers("hi")
    talk.ask("what is new")
    talk.begins()
    found = talk.next_link(resumed=False, calls=[FunctionCall("c1", "look", {})])
    assert found.seed is not None
    assert words(found.seed.turns) == [("user", "hello"), ("model", "hi")]
    assert words(found.question) == [("user", "what is new")]
    assert found.closes == []
    assert found.state_restored


def test_calls_that_the_state_may_wait_for_are_closed() -> None:
    talk = Talk()
    found = talk.next_link(calls=[FunctionCall("c1", "look", {})])
    (closed,) = found.closes
    assert (closed.id, closed.name) == ("c1", "look")
    assert "error" in (closed.response or {})


def test_results_of_the_caller_are_listed_where_they_are_told_again() -> None:
    talk = Talk()
    talk.type("hello")
    talk.answers("hi")
    talk.type("book it")
    talk.begins()
    talk.seq += 1
    talk.conversation.add(result("c1", seq=talk.seq))
    talk.conversation.add(returned("c1"))
    assert replayed(talk.next_link()) == [(2, 3)]


def test_a_handle_that_covers_later_input_leaves_what_was_on_its_way() -> None:
    talk = Talk()
    talk.type("hello")
    talk.answers("hi")
    talk.speak()
    heard_until = talk.now
    lost = talk.speak()
    found = talk.next_link(heard_until=heard_until)
    assert [item.first_seq for item in found.replay.items if isinstance(item, AudioBatch)] == [lost]
    assert found.told == []


@pytest.mark.parametrize("silence", range(20))
@pytest.mark.parametrize("on_its_way", [0, 3])
def test_such_a_handle_has_speech_that_is_over_answered(silence: int, on_its_way: int) -> None:
    talk = Talk()
    talk.type("hello")
    talk.answers("hi")
    talk.step = 0.04
    for frame in range(10 + silence):
        talk.speak("what is new" if frame == 9 else "", pcm=LOUD if frame < 10 else bytes(1280))
    heard_until, first = talk.now, talk.seq + 1
    for _ in range(on_its_way):
        talk.speak(pcm=bytes(1280))
    found = talk.next_link(heard_until=heard_until)
    assert found.asks == (silence * 0.04 >= 0.5)  # else the silence that comes ends it
    assert found.question == []
    assert [item.first_seq for item in found.replay.items if isinstance(item, AudioBatch)] == [
        *range(first, talk.seq + 1)
    ]


def test_silence_that_the_link_seems_to_have_heard_ends_speech_for_such_a_handle() -> None:
    """Nobody knows whether it has: the silence is given again, too."""
    talk = Talk()
    talk.step = 0.04
    for _ in range(10):
        talk.speak(pcm=LOUD)
    heard_until = talk.now
    for _ in range(20):
        talk.speak(pcm=bytes(1280))
    found = talk.next_link(heard_until=heard_until, ended_until=talk.now)
    assert found.asks
    assert replayed(found) == [(11, 30)]
    assert not talk.next_link(heard_until=heard_until).asks


def test_speech_that_is_given_again_ends_by_itself() -> None:
    talk = Talk()
    talk.step = 0.04
    for _ in range(10):
        talk.speak(pcm=LOUD)
    heard_until = talk.now - talk.step
    for _ in range(20):
        talk.speak(pcm=bytes(1280))
    found = talk.next_link(heard_until=heard_until, ended_until=talk.now)
    assert not found.asks
    assert replayed(found) == [(10, 30)]


def test_what_was_typed_and_may_not_have_arrived_is_given_again_to_such_a_handle_and_not_asked_for() -> None:
    talk = Talk()
    talk.type("hello")
    heard_until = talk.now
    assert talk.next_link(heard_until=heard_until).asks
    found = talk.next_link(heard_until=heard_until - talk.step)
    assert not found.asks
    assert [item.seq for item in found.replay.items if not isinstance(item, AudioBatch)] == [1]
    assert replayed(found) == [(1, 1)]


def test_a_picture_that_audio_has_passed_is_given_again_to_such_a_handle() -> None:
    talk = Talk()
    talk.seq += 1
    shown = live_pb2.ConverseRequest(seq=talk.seq, video=live_pb2.VideoInput(image=live_pb2.Blob(data=b"x")))
    talk.speak()
    heard_until = talk.now
    talk.give(shown)
    assert talk.next_link(heard_until=heard_until).replay.items == [shown]


def test_such_a_handle_has_nothing_answered_while_somebody_speaks() -> None:
    talk = Talk()
    talk.step = 0.04
    for frame in range(30):
        talk.speak(pcm=LOUD if frame < 10 else bytes(1280))
    heard_until = talk.now
    talk.speak()
    assert not talk.next_link(heard_until=heard_until).asks
    silent = Talk()
    silent.speak(pcm=bytes(1280))
    assert not silent.next_link(heard_until=silent.now).asks


# With the log off


def test_without_words_the_question_is_given_as_it_was() -> None:
    talk = Talk(words=False)
    talk.type("hello")
    talk.answers("hi")
    spoken = talk.speak("what is new")
    typed_ = talk.type("tell me")
    talk.begins()
    for _ in range(30):  # the answer is longer than audio is kept otherwise
        talk.speak()
        talk.journal.expire(talk.now)
    found = talk.rotate()
    assert (found.told, found.question, found.asks, found.untold) == ([], [], False, None)
    assert replayed(found)[0] == (spoken, typed_)
    assert found.state_restored


def test_without_words_the_question_is_not_acked_before_it_is_answered() -> None:
    talk = Talk(words=False)
    talk.type("hello")
    talk.answers("hi")
    before = talk.journal.settled(exact=False)
    question = talk.type("what is new")
    talk.begins()
    talk.speak()
    assert talk.journal.settled(exact=False) == before == question - 1
    talk.answers("nothing")
    assert talk.journal.settled(exact=False) >= question


def test_without_words_what_the_handle_lacks_is_named_once() -> None:
    talk = Talk(words=False)
    talk.type("hello")
    talk.answers("hi")
    first, last = talk.type("one"), talk.type("two")
    talk.answers("three", handle=False)
    found = talk.rotate()
    assert found.untold == (first, last)
    assert not found.state_restored
    told = found.responses(0.1, [])
    assert [response.WhichOneof("payload") for response in told] == ["link_state", "gap"]
    gap = told[1].gap
    assert (gap.direction, gap.from_seq, gap.to_seq) == (live_pb2.DIRECTION_UPLINK, first, last)
    assert gap.reason == "LOG_DISABLED"
    again = talk.rotate()
    assert again.untold is None
    assert again.state_restored


def test_without_words_a_link_from_nothing_begins_empty() -> None:
    talk = Talk(words=False)
    assert talk.next_link(resumed=False).state_restored  # there is nothing to restore
    talk.type("hello")
    last = talk.seq
    talk.answers("hi")
    found = talk.next_link(resumed=False)
    assert found.seed is not None
    assert found.seed.turns == []
    assert found.untold == (1, last)
    assert not found.state_restored


def test_without_words_outcomes_are_told_where_the_question_is_answered_already() -> None:
    talk = Talk(words=False)
    talk.type("look it up, and tell me later")
    talk.answers("i will")
    talk.conversation.add(returned("c1"))
    found = talk.next_link()
    assert found.asks
    assert "get_order" in words(found.question)[0][1]


def test_without_words_functions_are_called_again_with_their_question() -> None:
    talk = Talk(words=False)
    talk.type("look it up")
    talk.begins()
    talk.conversation.add(returned("c1"))
    found = talk.next_link()
    assert (found.question, found.asks) == ([], False)
    assert len(found.replay.items) == 1


def test_a_checkpoint_has_no_words_with_the_log_off() -> None:
    for on in (True, False):
        talk = Talk(words=on)
        talk.type("hello")
        talk.begins()
        talk.answering.generated("hi there", 9)
        record = talk.answering.record
        assert isinstance(record, fabric_pb2.AnswerBegun)
        assert (record.said, record.generated_downlink_seq) == ("hi there" if on else "", 9)


@pytest.mark.parametrize("silent", [True, False])
def test_it_says_which_outcomes_are_among_what_is_told(silent: bool) -> None:
    talk = Talk()
    talk.type("order it")
    talk.answers("one moment")
    assert talk.next_link().outcomes_until == 0
    talk.conversation.add(returned(silent=silent))
    assert talk.next_link().outcomes_until == talk.conversation.position
    assert talk.next_link().asks is not silent
    assert talk.next_link(resumed=False).outcomes_until == talk.conversation.position
    # The handle covers what its link had heard, of which pongs tell nothing where it is a result.
    covered = talk.next_link(heard_until=talk.now)
    assert covered.outcomes_until == talk.conversation.position
    assert (bool(covered.told), bool(covered.question), covered.told_again) == (silent, not silent, [])
