"""What a new link is given again: what nobody has answered, from the first sound, and nothing else."""

from __future__ import annotations

import pytest

from services.session_worker.input_queue import AudioBatch
from services.session_worker.too_old import Dropped
from tests.session_worker.journal_talk import (
    LEAD,
    QUIET_ROOM,
    SILENCE,
    SOFT,
    SOUND,
    VIDEO,
    VITAL,
    Talk,
    mark,
    picture,
    seqs,
    text,
)


class TestOpenUtterance:
    def test_silence_is_not_given_again(self):
        talk = Talk()
        talk.audio(SILENCE, 10)
        talk.audio(QUIET_ROOM, 10)
        assert talk.replay().items == []

    def test_speech_is_from_a_little_before_its_first_sound(self):
        talk = Talk()
        talk.audio(SILENCE, 20)
        talk.audio(SOUND, 5)
        talk.audio(SILENCE, 3)
        replay = talk.replay()
        assert seqs(replay) == list(range(21 - LEAD, 29))
        assert replay.replayed == [(21 - LEAD, 28)]
        assert replay.dropped == []

    def test_however_long_it_took_until_somebody_looked(self):
        """A process that was frozen finds all of it old at once."""
        talk = Talk()
        talk.audio(SILENCE, 20)
        talk.audio(SOUND, 5)
        talk.now += 10
        talk.journal.expire(talk.now)
        assert seqs(talk.replay()) == list(range(21 - LEAD, 26))
        assert talk.journal.covered == 20 - LEAD

    def test_however_long_the_speech_goes_on(self):
        """What leads into it grows old before it does."""
        talk = Talk()
        talk.audio(SILENCE, 200)
        first = talk.seq + 1
        for _ in range(200):
            talk.audio(SOUND)
            talk.journal.expire(talk.now)
        assert seqs(talk.replay()) == list(range(first - LEAD, talk.seq + 1))
        assert talk.journal.covered == first - LEAD - 1

    @pytest.mark.parametrize(("joined", "lead"), [(1, 7), (2, 6), (5, 5), (10, 10)])
    def test_audio_that_waited_together_makes_that_little_no_longer(self, joined, lead):
        talk = Talk()
        for _ in range(9):
            talk.audio(SILENCE * joined)
        first = talk.seq + 1
        talk.audio(SOUND)
        assert seqs(talk.replay())[0] == first - lead // joined

    def test_what_was_answered_is_not_given_again_and_what_was_said_meanwhile_is(self):
        talk = Talk()
        talk.audio(SOUND, 10)
        talk.audio(SILENCE, 12)
        began = talk.begins()
        talk.audio(SILENCE, 10)
        first = talk.seq + 1
        talk.audio(SOUND, 4)
        talk.turn(began)
        assert seqs(talk.replay()) == list(range(first - LEAD, first + 4))
        talk.journal.handle(talk.now)
        assert talk.journal.covered == first - LEAD - 1
        assert seqs(talk.replay()) == list(range(first - LEAD, first + 4))

    def test_whoever_speaks_again_as_the_answer_begins_is_heard_from_the_first_word(self):
        talk = Talk()
        talk.audio(SOUND, 10)
        talk.audio(SILENCE, 15)
        first = talk.seq + 1
        talk.audio(SOUND, 4)  # 160 ms, too short for the model to have noticed
        began = talk.begins()
        talk.audio(SOUND, 10)
        talk.turn(began)
        assert seqs(talk.replay()) == list(range(first - LEAD, first + 14))
        talk.journal.handle(talk.now)
        assert talk.journal.covered == first - LEAD - 1

    def test_what_came_all_at_once_is_told_apart_by_its_silence(self):
        talk = Talk()
        for pcm in [SOUND] * 10 + [SILENCE] * 15:
            talk.audio(pcm)
            talk.now -= 0.0399
        talk.now += 0.01
        talk.turn()
        assert talk.replay().items == []

    def test_a_breath_does_not_end_what_is_said(self):
        talk = Talk()
        talk.audio(SOUND, 10)
        talk.audio(SILENCE, 15)
        first = talk.seq + 1
        talk.audio(SOUND, 2)
        talk.audio(SILENCE, 2)
        talk.audio(SOUND, 2)
        talk.audio(SILENCE, 2)
        began = talk.begins()
        talk.audio(SOUND, 3)
        talk.turn(began)
        assert seqs(talk.replay())[0] == first - LEAD

    def test_noise_does_not_make_a_question_that_was_answered_open_again(self):
        talk = Talk()
        talk.audio(SOUND, 100)
        began = talk.begins()
        talk.audio(SOUND, 5)
        talk.turn(began)
        assert seqs(talk.replay())[0] >= 100 - 12  # half a second: less than any answer comes after its question

    def test_a_stream_end_means_nothing_without_its_speech(self):
        talk = Talk()
        talk.audio(SILENCE, 3)
        talk.say(mark, "audio_stream_end")
        assert talk.replay().items == []
        talk.audio(SOUND)
        talk.say(mark, "audio_stream_end")
        assert seqs(talk.replay())[-2:] == [5, 6]

    def test_the_callers_own_marks_are_speech_whatever_they_sound_like(self):
        talk = Talk()
        talk.audio(SILENCE, 20)
        talk.say(mark, "activity_start")
        talk.audio(QUIET_ROOM, 2)
        talk.say(mark, "activity_end")
        assert seqs(talk.replay())[-4:] == [21, 22, 23, 24]

    def test_it_tells_whether_there_was_a_sound_since(self):
        talk = Talk()
        talk.audio(SOUND)
        talk.audio(SILENCE, 10)
        assert talk.journal.spoke_since(99.0)
        assert not talk.journal.spoke_since(100.0)


class TestCutOff:
    """Somebody speaks on before the model has said anything, which ends that turn."""

    @pytest.mark.parametrize("spoken", range(1, 60, 7))
    @pytest.mark.parametrize("pause", [0, 1, 5, 11])
    def test_what_is_being_said_is_open_however_long_and_also_in_a_pause_between_words(self, spoken, pause):
        talk = Talk()
        talk.audio(SOUND, 25)
        talk.audio(SILENCE, 20)
        first = talk.seq + 1
        talk.audio(SOUND, spoken)
        talk.audio(SILENCE, pause)
        talk.cut_off(0.02)
        talk.journal.handle(talk.now, round_trip=0.02)
        talk.audio(SOUND, 10)
        assert seqs(talk.replay()) == list(range(first - LEAD, talk.seq + 1))
        assert talk.journal.covered == first - LEAD - 1

    def test_words_are_followed_back_through_their_pauses(self):
        talk = Talk()
        talk.audio(SILENCE, 20)
        for _ in range(6):
            talk.audio(SOUND, 3)
            talk.audio(SILENCE, 12)
        talk.cut_off()
        assert seqs(talk.replay())[0] == 21 - LEAD

    def test_what_was_over_is_not(self):
        talk = Talk()
        talk.audio(SOUND, 25)
        talk.audio(SILENCE, 13)
        talk.cut_off()
        assert talk.replay().items == []

    def test_one_utterance_alone_is_open_from_its_beginning(self):
        talk = Talk()
        talk.audio(SOUND, 100)
        talk.cut_off()
        assert seqs(talk.replay()) == list(range(1, 101))


class TestQuestion:
    """What an answer is about, once it has begun: the rest is given to the next link if this one dies."""

    @pytest.mark.parametrize("spoken", [1, 5, 12, 13, 25, 60])
    @pytest.mark.parametrize("round_trip", [0.0, 0.1, 0.5])
    @pytest.mark.parametrize("before", ["typed", "spoken"])
    def test_speech_that_is_under_way_is_no_part_of_it(self, before, spoken, round_trip):
        talk = Talk()
        if before == "typed":
            talk.say(text)
        else:
            talk.audio(SOUND, 20)
            talk.audio(SILENCE, 15)
        first = talk.seq + 1
        talk.audio(SOUND, spoken)
        question = talk.begins(round_trip)
        talk.audio(SOUND, 5)
        lead = 0 if before == "typed" else LEAD
        assert seqs(talk.replay(known=question)) == list(range(first - lead, talk.seq + 1))
        assert question.seq == first - lead - 1
        talk.turn(question)
        assert seqs(talk.replay()) == list(range(first - lead, talk.seq + 1))

    @pytest.mark.parametrize("silence", range(13, 30))
    @pytest.mark.parametrize("round_trip", [0.0, 0.1, 0.3, 0.5])
    def test_the_end_of_the_question_is_nothing_new_however_late_a_ping_came(self, silence, round_trip):
        talk = Talk()
        talk.audio(SOUND, 20)
        talk.audio(SILENCE, silence)
        question = talk.begins(round_trip)
        assert talk.replay(known=question).items == []
        assert question.seq == talk.seq

    @pytest.mark.parametrize("round_trip", [0.0, 0.1, 0.3])
    @pytest.mark.parametrize("lead", [0, 20])
    def test_nor_is_what_a_link_is_given_faster_than_it_was_said(self, lead, round_trip):
        """Sentence and pause come within one round trip, on a link that catches up: they are the question."""
        talk = Talk()
        for pcm, count in ((SILENCE, lead), (SOUND, 22), (SILENCE, 14)):
            for _ in range(count):
                talk.audio(pcm)
                talk.now -= 0.038
        question = talk.begins(round_trip)
        assert talk.replay(known=question).items == []
        assert question.seq == talk.seq
        following = talk.seq + 1
        talk.audio(SOUND, 5)
        assert seqs(talk.replay(known=question)) == list(range(following - LEAD, talk.seq + 1))

    def test_speech_that_began_on_its_way_is_no_part_of_it(self):
        talk = Talk()
        talk.audio(SOUND, 20)
        talk.audio(SILENCE, 20)
        talk.audio(SOUND, 2)
        question = talk.begins(0.3)
        talk.audio(SOUND, 2)
        assert seqs(talk.replay(known=question)) == list(range(41 - LEAD, 45))

    def test_silence_and_what_was_typed_are_however_shortly_before(self):
        talk = Talk()
        talk.audio(SOUND, 20)
        talk.audio(SILENCE, 20)
        talk.say(text)
        talk.audio(SILENCE, 2)
        question = talk.begins(0.5)
        assert question.seq == 43
        assert talk.replay(known=question).items == []
        talk.say(text)
        assert seqs(talk.replay(known=question)) == [44]

    def test_an_answer_to_a_function_is_not_about_what_is_being_said(self):
        talk = Talk()
        talk.audio(SOUND, 50)
        assert seqs(talk.replay(known=talk.begins(on_outcome=True))) == list(range(1, 51))
        assert seqs(talk.replay(known=talk.begins())) == list(range(38, 51))  # noise, or it would not be answered

    def test_a_short_wait_for_silence_is_the_callers_wish(self):
        talk = Talk()
        talk.audio(SOUND, 25)
        talk.audio(SILENCE, 5)
        assert talk.replay(known=talk.begins()).items == []

    @pytest.mark.parametrize("pause", [0, 5, 50])
    def test_what_the_caller_marks_is_open_from_its_mark(self, pause):
        talk = Talk()
        talk.say(mark, "activity_start")
        talk.audio(SOUND, 5)
        talk.say(mark, "activity_end")
        talk.audio(SOUND, 2)
        assert talk.replay(known=talk.begins()).items == []  # at once, and the rest is not heard
        talk.say(mark, "activity_start")
        talk.audio(QUIET_ROOM, 5)
        talk.audio(SILENCE, pause)
        question = talk.begins()
        assert seqs(talk.replay(known=question)) == list(range(10, talk.seq + 1))
        talk.turn(question)
        assert seqs(talk.replay()) == list(range(10, talk.seq + 1))

    @pytest.mark.parametrize("first", ["spoken", "typed", "nothing"])
    def test_what_is_typed_on_the_way_to_another_question_cuts_off_its_answer(self, first):
        talk = Talk()
        if first == "spoken":
            talk.audio(SOUND, 2)
        elif first == "typed":
            talk.say(text)
        talk.now += 1
        sent = talk.now
        talk.say(text)
        talk.now += 0.01
        talk.say(text)
        expected = talk.seq - 2 if first != "nothing" else talk.seq - 1
        assert talk.journal.asked_until(sent - 0.1, talk.seq) == expected
        assert talk.journal.asked_until(sent - 0.1, 0) == 0
        assert talk.journal.asked_until(talk.now, talk.seq) == talk.seq

    def test_requests_stay_as_long_as_they_are_open_in_the_conversation(self):
        """However late the answer is cut off, and whenever the link was given them."""
        talk = Talk()
        talk.say(text)
        question = talk.begins()
        talk.say(text)
        talk.journal.restart(talk.replay(known=question).items, told=False)
        talk.give(text(2))
        talk.turn(question)
        assert seqs(talk.replay()) == [2]


class TestSpeaking:
    def test_silence_ends_it_and_not_that_nothing_comes(self):
        talk = Talk()
        assert not talk.journal.speaking(talk.now)
        talk.audio(SILENCE)
        assert not talk.journal.speaking(talk.now)
        talk.audio(SOUND, 10)
        assert talk.journal.speaking(talk.now + 4)  # on its way
        talk.audio(SILENCE, 49)
        assert talk.journal.speaking(talk.now)
        talk.audio(SILENCE)
        assert not talk.journal.speaking(talk.now)
        talk.audio(SOUND)
        assert talk.journal.speaking(talk.now)

    def test_it_ends_where_nothing_more_comes_for_long(self):
        talk = Talk()
        talk.audio(SOUND)
        talk.audio(SILENCE, 5)
        assert not talk.journal.speaking(talk.now + 5)

    @pytest.mark.parametrize("end", ["activity_end", "audio_stream_end"])
    def test_it_ends_where_the_caller_says_so(self, end):
        talk = Talk()
        talk.audio(SOUND)
        talk.say(mark, end)
        assert talk.journal.speaking(talk.now + 1)
        assert not talk.journal.speaking(talk.now + 2)

    def test_it_begins_where_the_caller_says_so(self):
        talk = Talk()
        talk.say(mark, "activity_start")
        talk.say(text)
        assert talk.journal.speaking(talk.now)

    def test_it_is_over_when_it_is_answered(self):
        talk = Talk()
        talk.audio(SOUND, 5)
        talk.audio(SILENCE, 20)
        talk.turn()
        assert not talk.journal.speaking(talk.now)


class TestRequests:
    def test_what_was_typed_is_given_again_in_its_place(self):
        talk = Talk()
        talk.audio(SILENCE, 5)
        talk.say(text)
        talk.audio(SOUND, 2)
        talk.say(text)
        assert seqs(talk.replay()) == [6, 7, 8, 9]  # sounds begin after the text
        silent = Talk()
        silent.audio(SILENCE, 5)
        silent.say(text)
        silent.audio(SILENCE, 5)
        assert seqs(silent.replay()) == [6]

    def test_until_it_is_answered(self):
        talk = Talk()
        talk.say(text)
        talk.now += 1
        began = talk.begins()
        talk.now += 1
        talk.say(text)
        talk.turn(began)
        assert seqs(talk.replay()) == [2]

    def test_of_what_was_under_way_when_the_answer_began_only_audio_is_open(self):
        talk = Talk()
        talk.say(text)
        talk.audio(SOUND, 2)
        talk.turn(talk.begins(0.3))
        assert seqs(talk.replay()) == [2, 3]

    def test_or_told_in_words(self):
        talk = Talk()
        talk.say(text)
        told = talk.begins()
        talk.now += 1
        talk.say(text)
        assert seqs(talk.replay(known=told)) == [2]

    def test_results_and_ends_are_not_input(self):
        talk = Talk()
        talk.say(mark, "tool_result")
        talk.say(mark, "end")
        assert talk.replay().items == []

    def test_their_number_is_bounded(self):
        talk = Talk()
        for _ in range(3000):
            talk.say(text)
        kept = seqs(talk.replay())
        assert len(kept) <= 1025
        assert kept[-1] == 3000
        (dropped,) = talk.replay().dropped
        assert (dropped.seqs, dropped.media_class) == ((1, kept[0] - 1), VITAL)

    def test_of_pictures_the_newest_and_the_others_are_named(self):
        talk = Talk()
        for _ in range(3):
            talk.say(picture)
        talk.say(text)
        replay = talk.replay()
        assert seqs(replay) == [3, 4]
        assert replay.dropped == [Dropped((1, 2), VIDEO, "LINK_LOST")]


class TestHandles:
    def test_one_covers_what_was_answered_and_the_silence_after_it(self):
        talk = Talk()
        talk.audio(SOUND, 10)
        talk.audio(SILENCE, 10)
        talk.turn(position=4)
        talk.audio(SILENCE, 3)
        assert (talk.journal.covered, talk.journal.position) == (0, 0)
        talk.journal.handle(talk.now)
        assert (talk.journal.covered, talk.journal.position) == (23 - LEAD, 4)

    def test_one_before_the_first_turn_covers_silence_only(self):
        talk = Talk()
        talk.audio(SILENCE, 30)
        talk.journal.handle(talk.now)
        assert talk.journal.covered == 30 - LEAD
        talk.audio(SOUND, 1)
        talk.journal.handle(talk.now)
        assert talk.journal.covered == 30 - LEAD
        assert seqs(talk.replay()) == list(range(31 - LEAD, 32))

    @pytest.mark.parametrize("soft", range(LEAD + 1))
    def test_speech_that_begins_softly_is_in_none_that_comes_meanwhile(self, soft):
        talk = Talk()
        talk.audio(SILENCE, 10)
        talk.turn()
        talk.audio(SILENCE, 50)
        talk.audio(SOFT, soft)
        talk.journal.handle(talk.now + 0.02, round_trip=0.02)
        assert talk.journal.settled(exact=False) == 60 + soft - LEAD
        talk.audio(SOUND, 5)
        assert seqs(talk.replay()) == list(range(61 + soft - LEAD, talk.seq + 1))
        assert talk.journal.covered == 60 + soft - LEAD

    def test_one_that_lags_counts_for_its_own_turn(self):
        talk = Talk()
        talk.say(text)
        talk.turn(position=2)
        talk.now += 1
        talk.say(text)
        talk.turn(position=4)
        talk.journal.handle(talk.now)
        assert (talk.journal.position, talk.journal.covered) == (2, 1)
        talk.journal.handle(talk.now)
        assert (talk.journal.position, talk.journal.covered) == (4, 2)

    def test_but_not_for_ever(self):
        talk = Talk()
        for position in (2, 4):
            talk.say(text)
            talk.turn(position=position)
        talk.now += 10
        talk.journal.handle(talk.now)
        assert talk.journal.position == 4

    def test_handles_of_a_link_that_is_gone_do_not_come(self):
        talk = Talk()
        talk.say(text)
        talk.turn(position=2)
        talk.journal.restart([], told=False)
        talk.journal.handle(talk.now)
        assert (talk.journal.position, talk.journal.answered_position) == (0, 2)

    def test_a_link_that_began_from_nothing_was_told_everything(self):
        talk = Talk()
        talk.turn(position=2)
        talk.journal.restart([], told=True)
        assert talk.journal.position == 2

    def test_an_exact_one_says_itself_what_it_covers(self):
        talk = Talk()
        talk.audio(SOUND, 10)
        talk.journal.handle(talk.now, consumed=5)
        assert talk.journal.covered == 6
        talk.audio(SILENCE, 2)
        assert seqs(talk.replay(exact=True)) == [7, 8, 9, 10, 11, 12]

    def test_it_tells_whether_something_typed_waits(self):
        talk = Talk()
        talk.audio(SOUND)
        assert not talk.journal.asks
        talk.say(text)
        assert talk.journal.asks

    @pytest.mark.parametrize("told", [True, False])
    def test_a_restart_forgets_what_the_next_link_is_given(self, told):
        talk = Talk()
        talk.audio(SOUND, 5)
        replay = talk.replay()
        talk.journal.restart(replay.items, told=told)
        assert talk.replay().items == []
        for number, item in enumerate(replay.items):
            talk.journal.sent(item, talk.now, number)
        assert seqs(talk.replay()) == [1, 2, 3, 4, 5]

    @pytest.mark.parametrize("exact", [True, False])
    @pytest.mark.parametrize("handle", [True, False])
    def test_nothing_covers_what_the_next_link_is_given_before_it_is(self, handle, exact):
        """A caller that was told so would forget it, and a worker that dies then loses it."""
        talk = Talk()
        talk.audio(SILENCE, 20)
        talk.say(text)
        talk.audio(SILENCE, 20)
        talk.audio(SOUND, 5)
        replay = talk.replay()
        first = seqs(replay)[0]
        assert first == 21
        talk.journal.restart(replay.items, told=False)
        sounds = [item for item in replay.items if isinstance(item, AudioBatch) and item.pcm == SOUND]
        for item in [*replay.items, None]:
            if handle:
                talk.journal.handle(talk.now)
            given = talk.journal.last_seq + 1
            assert talk.journal.settled(exact=exact) < given
            assert talk.journal.settled(exact=exact) < sounds[0].first_seq
            if item is not None:
                talk.now += 0.01
                talk.give(item)
        assert talk.journal.last_seq == 46

    def test_a_restart_with_nothing_to_give_leaves_what_was_given(self):
        talk = Talk()
        talk.audio(SILENCE, 20)
        talk.journal.restart([], told=False)
        assert talk.journal.last_seq == talk.journal.settled(exact=False) == 20
