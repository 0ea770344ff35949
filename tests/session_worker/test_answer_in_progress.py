"""What a turn can be about, without a link."""

from __future__ import annotations

from services.fabric.capabilities import ModelCapabilities
from services.session_worker.answer_in_progress import AnswerInProgress
from services.session_worker.conversation import Conversation
from services.session_worker.events import FunctionCall, Text, TurnComplete
from services.session_worker.input_queue import AudioBatch
from services.session_worker.journal import Journal
from services.session_worker.sent_input import Extent
from services.session_worker.turns import TurnState
from services.session_worker.voice import has_voice
from tests.session_worker.test_conversation import returned, typed

LOUD = b"\x00\x10" * 640
DONE = TurnComplete("", False, True)


class Talk:
    """A model that calls a function without a word, and is asked something else meanwhile."""

    def __init__(self, journal: Journal | None = None, *, asks: bool = True) -> None:
        self.now, self._seq = 0.0, 100
        self.journal = journal or Journal(16_000)
        self.conversation = Conversation(ModelCapabilities())
        self.turns = TurnState()
        self.answering = AnswerInProgress(self.journal, self.conversation, self.turns, handles_cover_typed_turns=False)
        if asks:
            self.types(1)
            self.says(FunctionCall("c1", "look", {}))
            self.turns.on_event(DONE, self.now)

    def hears(self, frames: int, pcm: bytes = LOUD) -> None:
        """Audio of 40 ms each."""
        for _ in range(frames):
            self.now += 0.04
            self._seq += 1
            self.journal.sent(AudioBatch(pcm, self._seq, self._seq), self.now, self._seq)

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


def test_and_about_what_was_asked_where_nothing_is_to_be_said_of_the_result() -> None:
    talk = Talk()
    talk.turns.call_settled("c1", talk.now, silent=True)
    talk.types(2)
    talk.says(Text("this is", thought=False))
    assert talk.given_seq() == 2


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


def test_a_later_turn_is_not_about_less_than_the_one_before() -> None:
    """Sounds without a pause are noise when the model answers them, and under way when it speaks of a result."""
    talk = Talk(Journal(16_000), asks=False)
    talk.hears(100)
    talk.says(FunctionCall("c1", "look", {}))
    begun = talk.answering.begun
    assert begun is not None
    talk.turns.on_event(DONE, talk.now)
    talk.hears(25)
    talk.returns()
    talk.says(Text("it is", thought=False))
    assert talk.answering.begun is not None
    assert talk.answering.begun.question.at >= begun.question.at


def test_without_words_silence_does_not_wait_for_an_answer_of_many_turns() -> None:
    """What the first one is about does: it is given again as it was."""
    talk = Talk(Journal(16_000, words=False), asks=False)
    talk.hears(10)
    for number in range(8):
        talk.says(FunctionCall(f"c{number}", "look", {}))
        talk.turns.on_event(DONE, talk.now)
        talk.hears(375, pcm=bytes(1280))
        talk.journal.expire(talk.now)
        talk.turns.call_settled(f"c{number}", talk.now)
    again = [item for item in talk.journal.replay(talk.now).items if isinstance(item, AudioBatch)]
    assert any(has_voice(item.pcm) for item in again)
    assert sum(map(talk.journal.seconds, again)) < 17
