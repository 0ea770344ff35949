"""What grows too old to be given again: dropped whatever stays before it, and named where the model lacks it."""

from __future__ import annotations

import pytest

from services.session_worker.input_queue import AudioBatch
from services.session_worker.journal import HORIZON
from services.session_worker.too_old import Dropped
from tests.session_worker.journal_talk import (
    AUDIO,
    LEAD,
    QUIET_ROOM,
    SILENCE,
    SOUND,
    VIDEO,
    Talk,
    mark,
    picture,
    seqs,
    text,
)


class TestAge:
    def test_audio_that_is_too_old_needs_no_keeping_and_speech_is_named(self):
        talk = Talk()
        talk.audio(SOUND, 100)
        talk.now += HORIZON - 2
        replay = talk.replay()
        assert replay.items
        (dropped,) = replay.dropped
        assert (dropped.seqs[0], dropped.media_class, dropped.reason) == (1, AUDIO, "TOO_OLD")
        assert talk.journal.covered == dropped.seqs[1] == replay.replayed[0][0] - 1

    def test_of_a_quiet_line_a_few_seconds_are_kept_for_an_exact_handle(self):
        talk = Talk()
        talk.audio(SILENCE, 250)
        replay = talk.replay(exact=True)
        assert 123 <= len(replay.items) <= 126
        assert replay.dropped == []
        assert talk.journal.settled(exact=True) == 250 - len(replay.items)
        talk.audio(SOUND, 1)
        talk.audio(SILENCE, 200)
        assert len(talk.replay(exact=True).items) == LEAD + 201  # from what leads into the sound on

    def test_silence_is_forgotten_without_a_word(self):
        talk = Talk()
        talk.audio(SILENCE, 1000)
        assert talk.replay().dropped == []
        assert talk.journal.covered > 1000 - HORIZON * 25 - 2

    def test_memory_is_bounded(self):
        talk = Talk()
        for _ in range(3000):
            talk.audio(SOUND)
            talk.journal.expire(talk.now)
        assert len(talk.replay().items) <= HORIZON * 25 + 1

    @pytest.mark.parametrize("head", [*("text", "turn", "context_update"), "activity_start", "audio_stream_end"])
    def test_whatever_stays_before_it_is_in_its_way(self, head):
        talk = Talk()
        talk.say(mark, head)
        for _ in range(3000):
            talk.audio(SOUND)
            talk.journal.expire(talk.now)
        replay = talk.replay()
        assert len(replay.items) <= HORIZON * 25 + 2
        audio = [item for item in replay.items if isinstance(item, AudioBatch)]
        assert [audio[0].first_seq, audio[-1].last_seq] == [talk.seq - len(audio) + 1, talk.seq]
        assert len(audio) >= HORIZON * 25 - 2
        assert (seqs(replay)[0] == 1) is (head != "audio_stream_end")  # which means nothing without what it ends
        assert replay.dropped == [Dropped((2, audio[0].first_seq - 1), AUDIO, "TOO_OLD")]

    @pytest.mark.parametrize("head", ["text", "turn", "context_update"])
    @pytest.mark.parametrize("words", [True, False])
    def test_it_is_covered_behind_what_the_log_has_and_not_behind_what_only_the_caller_has(self, head, words):
        talk = Talk(words=words)
        talk.audio(SILENCE, 2)
        talk.say(mark, head)
        talk.audio(SOUND, 1000)
        kept = [seq for seq in seqs(talk.replay()) if seq > 3]
        assert talk.journal.settled(exact=True) == (kept[0] - 1 if words else 2)

    def test_nothing_is_covered_behind_the_beginning_of_what_is_being_said(self):
        talk = Talk()
        talk.audio(SILENCE, 2)
        talk.say(mark, "activity_start")
        talk.audio(SOUND, 1000)
        talk.journal.expire(talk.now)
        assert talk.journal.settled(exact=True) == talk.journal.settled(exact=False) == 2
        talk.say(mark, "activity_end")
        talk.now += HORIZON
        talk.journal.expire(talk.now)
        assert talk.journal.settled(exact=True) == talk.journal.settled(exact=False) == talk.seq

    def test_nothing_is_covered_before_the_question_of_an_answer_that_takes_long_and_is_known_in_no_words(self):
        talk = Talk(words=False)
        talk.audio(SOUND, 25)
        talk.audio(SILENCE, 25)
        talk.journal.answer_begins(talk.begins())
        talk.audio(SOUND, 1000)
        talk.journal.expire(talk.now)
        assert talk.journal.settled(exact=True) == talk.journal.settled(exact=False) == 0
        replay = talk.replay()
        assert replay.replayed[0] == (1, 50)
        assert [dropped.seqs[0] for dropped in replay.dropped] == [51]

    def test_utterances_that_the_caller_marks_and_nobody_answers_go_as_a_whole(self):
        talk = Talk()
        for _ in range(100):
            talk.say(mark, "activity_start")
            talk.audio(QUIET_ROOM, 50)
            talk.say(mark, "activity_end")
            talk.audio(SILENCE, 10)
            talk.journal.expire(talk.now)
        replay = talk.replay()
        assert len(replay.items) <= HORIZON * 25 + 20
        (dropped,) = replay.dropped
        assert dropped.media_class == AUDIO
        assert dropped.seqs[0] == 2
        first = replay.items[1]
        assert isinstance(first, AudioBatch)
        # One that goes on is kept from its beginning, of which the next link is told.
        assert talk.journal.covered == seqs(replay)[0] - 1
        assert dropped.seqs[1] == first.first_seq - 1

    def test_no_stretch_that_is_named_goes_beyond_what_is_given_again(self):
        talk = Talk()
        for _ in range(3):
            talk.audio(SOUND, 10)
            talk.audio(SILENCE, 50)
            talk.audio(SOUND, 10)
            talk.say(text)
        talk.now += HORIZON
        replay = talk.replay()
        assert seqs(replay) == [71, 142, 213]
        assert [dropped.seqs for dropped in replay.dropped] == [(1, 70), (72, 141), (143, 212)]

    def test_what_is_named_is_bounded_however_often_somebody_pauses(self):
        talk = Talk()
        talk.say(text)
        for _ in range(1000):
            talk.audio(SOUND, 5)
            talk.audio(SILENCE, 5)
            talk.say(picture)
            talk.journal.expire(talk.now)
        dropped = talk.replay().dropped
        assert [(one.media_class, one.reason) for one in dropped[:2]] == [(AUDIO, "TOO_OLD"), (VIDEO, "TOO_OLD")]
        assert len(dropped) <= 2 + HORIZON / 0.4  # pictures behind a newer one are named, too

    def test_pictures_go_with_the_audio_round_them(self):
        talk = Talk()
        for _ in range(100):
            talk.say(picture)
            talk.audio(SILENCE, 25)
            talk.journal.expire(talk.now)
        replay = talk.replay()
        assert seqs(replay)[0] == talk.seq - 25
        assert sum(one.seqs[1] - one.seqs[0] + 1 for one in replay.dropped if one.reason == "LINK_LOST") <= HORIZON
        (old,) = [one for one in replay.dropped if one.reason == "TOO_OLD"]
        assert (old.seqs[0], old.media_class) == (1, VIDEO)
        assert talk.journal.covered >= old.seqs[1]

    def test_a_picture_that_audio_has_passed_is_not_covered_with_that(self):
        talk = Talk()
        talk.audio(SILENCE, 3)
        late = talk.seq + 1
        talk.seq += 1
        talk.audio(SILENCE, 20)
        talk.give(picture(late))
        talk.audio(SILENCE, 130)
        talk.journal.expire(talk.now)
        assert talk.journal.settled(exact=False) == talk.journal.settled(exact=True) == late - 1
        assert talk.replay().replayed == [(late, late)]
        talk.audio(SOUND, 1)
        assert talk.replay().replayed[0] == (late, late)
        talk.now += HORIZON
        talk.journal.expire(talk.now)
        assert talk.journal.settled(exact=True) == talk.seq

    def test_a_request_stays_however_short_the_frames_of_the_audio_are(self):
        talk = Talk()
        talk.audio(SOUND[:320], 1400)
        talk.say(text)
        assert seqs(talk.replay())[-1] == talk.seq

    def test_an_exact_handle_has_what_was_given_before_however_old_it_is(self):
        talk = Talk()
        talk.audio(SOUND, 1000)
        talk.journal.expire(talk.now)
        talk.journal.handle(talk.now, consumed=700)
        assert talk.replay(exact=True).dropped == []

    def test_what_is_said_while_the_model_answers_is_named_though_the_question_is_told_in_words(self):
        talk = Talk()
        talk.audio(SOUND, 500)
        talk.audio(SILENCE, 25)
        question = talk.begins()
        talk.journal.answer_begins(question)
        talk.audio(SILENCE, 25)
        first = talk.seq + 1
        talk.audio(SOUND, 500)
        assert [dropped.seqs[0] for dropped in talk.replay(known=question).dropped] == [first]

    def test_an_answer_makes_what_was_too_old_no_matter(self):
        talk = Talk()
        talk.audio(SOUND, 1000)
        talk.journal.expire(talk.now)
        talk.turn()
        assert talk.replay().dropped == []

    def test_what_is_told_in_words_lacks_nothing(self):
        talk = Talk()
        talk.audio(SOUND, 1000)
        assert talk.replay(known=talk.begins()).dropped == []
