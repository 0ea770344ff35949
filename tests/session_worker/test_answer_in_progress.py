"""What a turn can be about, without a link."""

from __future__ import annotations

from services.fabric.capabilities import ModelCapabilities
from services.session_worker.answer_in_progress import AnswerInProgress
from services.session_worker.conversation import Conversation
from services.session_worker.events import FunctionCall, Text, TurnComplete
from services.session_worker.journal import Journal
from services.session_worker.sent_input import Extent
from services.session_worker.turns import TurnState
from tests.session_worker.test_conversation import returned, typed

DONE = TurnComplete("", False, True)


class Talk:
    """A model that calls a function without a word, and is asked something else meanwhile."""

    def __init__(self) -> None:
        self.now = 0.0
        self.journal = Journal(16_000)
        self.conversation = Conversation(ModelCapabilities())
        self.turns = TurnState()
        self.answering = AnswerInProgress(self.journal, self.conversation, self.turns, handles_cover_typed_turns=False)
        self.types(1)
        self.says(FunctionCall("c1", "look", {}))
        self.turns.on_event(DONE, self.now)

    def types(self, seq: int) -> None:
        self.now += 1
        entry = typed("...", seq)
        self.conversation.add(entry)
        self.journal.sent(entry.request, self.now, seq)

    def returns(self) -> None:
        self.now += 1
        self.turns.call_settled("c1", self.now)
        self.conversation.add(returned("c1", turn=1))

    def says(self, event: FunctionCall | Text) -> None:
        self.now += 1
        self.turns.on_event(event, self.now)
        assert self.turns.current is not None
        self.answering.begins(self.now, self.turns.current.number, 1)

    def given_seq(self) -> int:
        """Of the turn that ends now."""
        return self._answered[0].seq

    @property
    def settles(self) -> bool:
        """The outcome is answered by it."""
        return self._answered[1] >= self.conversation.position

    @property
    def _answered(self) -> tuple[Extent, int]:
        assert self.turns.current is not None
        answered = self.answering.answered(self.turns.current, self.now)
        assert answered is not None
        return answered


def test_a_turn_that_speaks_while_a_call_waits_is_about_what_was_asked_meanwhile() -> None:
    talk = Talk()
    talk.types(2)
    talk.says(Text("this is", thought=False))
    talk.types(3)
    talk.returns()
    assert (talk.given_seq(), talk.settles) == (2, False)


def test_a_turn_that_speaks_once_the_call_has_its_result_is_about_that() -> None:
    talk = Talk()
    talk.returns()
    talk.types(2)
    talk.says(Text("it is", thought=False))
    assert (talk.given_seq(), talk.settles) == (1, True)


def test_and_about_what_was_asked_before_the_result_came() -> None:
    """The model has been given that first, and the result while it thought."""
    talk = Talk()
    talk.types(2)
    talk.returns()
    talk.types(3)
    talk.says(Text("this is", thought=False))
    assert (talk.given_seq(), talk.settles) == (2, True)


def test_an_answer_of_several_turns_is_recorded_as_about_all_that_they_are_about() -> None:
    """Whoever comes after this worker asks for all of it again, as one answer, whose calls have their claims."""
    talk = Talk()
    talk.types(2)
    talk.says(FunctionCall("c2", "look", {}))
    record = talk.answering.record
    assert record is not None
    assert (record.turn, record.given_seq, record.log_position) == (1, 2, talk.conversation.position)
    talk.types(3)
    talk.answering.generated("this is", 9)
    record = talk.answering.record
    assert record is not None
    assert (record.given_seq, record.generated_downlink_seq) == (2, 9)


def test_asked_again_on_another_link_it_is_about_the_same_question() -> None:
    talk = Talk()
    talk.types(2)
    talk.answering.link_began()
    talk.turns.restart(1)
    talk.types(3)
    talk.says(Text("it is", thought=False))
    assert talk.given_seq() == 1
