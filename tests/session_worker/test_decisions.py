"""The plain parts of the worker: what they decide, without a socket."""

from __future__ import annotations

import pytest

from parley.v1 import fabric_pb2, live_pb2
from services.fabric.sequence import HOLE_WAIT
from services.session_worker import events
from services.session_worker.coverage import Coverage
from services.session_worker.input_queue import AudioBatch, InputQueue
from services.session_worker.restored_state import Number, Stored
from services.session_worker.turns import TurnState
from services.session_worker.uplink import Taken, Uplink


def audio(seq: int, size: int = 640) -> live_pb2.ConverseRequest:
    return live_pb2.ConverseRequest(seq=seq, audio=live_pb2.AudioInput(frames=[bytes([seq % 256]) * size]))


def silence(seq: int) -> live_pb2.ConverseRequest:
    return live_pb2.ConverseRequest(seq=seq, audio=live_pb2.AudioInput(frames=[bytes(640)]))


def speech(seq: int) -> live_pb2.ConverseRequest:
    return live_pb2.ConverseRequest(seq=seq, audio=live_pb2.AudioInput(frames=[b"\x00\x10" * 320]))


def text(seq: int, words: str = "hi") -> live_pb2.ConverseRequest:
    return live_pb2.ConverseRequest(seq=seq, text=live_pb2.TextInput(text=words))


def video(seq: int) -> live_pb2.ConverseRequest:
    return live_pb2.ConverseRequest(seq=seq, video=live_pb2.VideoInput(image=live_pb2.Blob(data=b"jpg")))


class TestInputQueue:
    def test_audio_that_waits_together_leaves_as_one_message(self) -> None:
        queue = InputQueue(10**6)
        for seq in (1, 2, 3):
            queue.append(audio(seq, 4))
        assert queue.pop(0.0) == AudioBatch(b"\x01" * 4 + b"\x02" * 4 + b"\x03" * 4, 1, 3)
        assert queue.pop(0.0) is None

    def test_audio_is_not_joined_across_text(self) -> None:
        queue = InputQueue(10**6)
        for request in (audio(1), text(2), audio(3)):
            queue.append(request)
        assert [type(queue.pop(0.0)).__name__ for _ in range(3)] == ["AudioBatch", "ConverseRequest", "AudioBatch"]

    def test_joined_audio_is_bounded(self) -> None:
        queue = InputQueue(10**6)
        for seq in range(1, 101):
            queue.append(audio(seq))
        sizes = []
        while (batch := queue.pop(0.0)) is not None:
            assert isinstance(batch, AudioBatch)
            sizes.append(len(batch.pcm))
        assert sum(sizes) == 64_000
        assert max(sizes) <= InputQueue.JOIN_BYTES

    def test_over_the_bound_the_oldest_audio_goes_and_text_stays(self) -> None:
        queue = InputQueue(1000)
        queue.append(text(1))
        queue.append(audio(2))
        (shed,) = queue.append(audio(3))
        assert (shed.seq, shed.media_class) == (2, live_pb2.MEDIA_CLASS_AUDIO)
        assert (queue.shed_items, queue.shed_bytes) == (1, 640)
        assert queue.pop(0.0) == text(1)
        assert queue.pop(0.0) == AudioBatch(b"\x03" * 640, 3, 3)

    def test_over_the_bound_speech_is_a_loss_and_silence_before_it_is_none(self) -> None:
        """What comes after the first sound that goes is named with it, pauses too: that is one loss, not many."""
        queue = InputQueue(640)
        queue.has_link = False
        sounds = [silence(1), silence(2), speech(3), silence(4), speech(5), silence(6)]
        shed = [gone for request in sounds for gone in queue.append(request)]
        assert [(gone.seq, gone.is_loss) for gone in shed] == [(1, False), (2, False), (3, True), (4, True), (5, True)]
        queue.pop(0.0)
        assert queue.append(silence(7)) == []
        assert [(gone.seq, gone.is_loss) for gone in queue.append(silence(8))] == [(7, False)]

    def test_silence_of_one_who_marks_its_speech_is_part_of_it(self) -> None:
        queue = InputQueue(640)
        queue.append(live_pb2.ConverseRequest(seq=1, activity_start=live_pb2.ActivityStart()))
        assert queue.append(silence(2)) == []
        assert [(gone.seq, gone.is_loss) for gone in queue.append(silence(3))] == [(2, True)]

    def test_pictures_go_at_the_models_pace_and_the_newest_wins(self) -> None:
        queue = InputQueue(1000, picture_interval=1.0)
        assert queue.append(video(1)) == []
        assert queue.pop(10.0) == video(1)
        assert queue.append(video(2)) == []
        (shed,) = queue.append(video(3))
        assert (shed.seq, shed.media_class, shed.reason) == (2, live_pb2.MEDIA_CLASS_VIDEO, "PACE")
        assert queue.pop(10.9) is None
        assert queue.due == 11.0
        assert queue.pop(11.0) == video(3)
        assert queue.pop(11.0) is None
        assert queue.due is None
        assert len(queue) == 0

    def test_audio_passes_a_picture_that_waits_and_is_not_yet_complete_then(self) -> None:
        queue = InputQueue(10**6, picture_interval=1.0)
        for request in (video(1), audio(2, 2)):
            queue.append(request)
        assert queue.pop(5.0) == video(1)
        for request in (audio(3, 2), video(4), audio(5, 2)):
            queue.append(request)
        batch = queue.pop(5.1)
        assert isinstance(batch, AudioBatch)
        assert batch.last_seq == 5
        assert queue.handed_over(5) == 3
        assert queue.pop(6.0) == video(4)
        assert queue.handed_over(5) == 5

    def test_a_picture_never_passes_audio_that_was_before_it(self) -> None:
        queue = InputQueue(10**6, picture_interval=1.0)
        for request in (audio(1, 2), video(2)):
            queue.append(request)
        assert queue.pop(5.0) == AudioBatch(b"\x01\x01", 1, 1)
        assert queue.pop(5.0) == video(2)

    def test_what_is_asked_about_a_picture_comes_after_it_pace_or_not(self) -> None:
        queue = InputQueue(10**6, picture_interval=1.0)
        queue.append(video(1))
        assert queue.pop(5.0) == video(1)
        for request in (video(2), text(3), video(4)):
            queue.append(request)
        assert [queue.pop(5.1), queue.pop(5.1), queue.pop(5.1)] == [video(2), text(3), None]
        assert queue.pop(6.1) == video(4)

    def test_a_link_that_takes_nothing_costs_the_oldest_pictures(self) -> None:
        queue = InputQueue(10**6)
        shed = []
        for seq in range(1, 21, 2):
            shed += queue.append(video(seq)) + queue.append(text(seq + 1))
        assert [(gone.seq, gone.reason) for gone in shed] == [(1, "OVERLOAD"), (3, "OVERLOAD")]
        left = [queue.pop(0.0) for _ in range(len(queue))]
        assert [one.seq for one in left if isinstance(one, live_pb2.ConverseRequest)][:3] == [2, 4, 5]


class TestCoverage:
    def test_media_are_acked_when_they_are_covered(self) -> None:
        coverage = Coverage()
        assert coverage.acked == 0
        assert coverage.cover(10) == 10
        assert coverage.cover(4) == 10

    def test_text_waits_for_the_log_even_when_a_handle_covers_it(self) -> None:
        coverage = Coverage()
        coverage.vital(2)
        assert coverage.cover(3) == 1
        assert coverage.stored(2) == 3

    def test_text_in_the_log_behind_audio_that_is_not_covered_does_not_ack_the_audio(self) -> None:
        coverage = Coverage()
        coverage.vital(2)
        assert coverage.stored(2) == 0
        assert coverage.cover(1) == 2

    def test_what_a_gap_names_is_acked_with_a_checkpoint_that_covers_it(self) -> None:
        """Its new owner would ask for it, and for the text behind it, which is in the log."""
        coverage = Coverage()
        coverage.lost(2, 3)
        coverage.vital(4)
        assert coverage.stored(4) == 0
        assert coverage.settled_beyond() == [(4, 4)]
        assert coverage.restorable(0) == 0
        assert coverage.cover(1) == 1
        assert coverage.restorable(1) == 3
        assert coverage.cover(3) == 4
        assert coverage.restorable(4) == 4
        coverage.lost(2, 5)
        assert coverage.restorable(4) == 5

    def test_what_is_safe_behind_audio_is_told_so_that_nobody_keeps_it(self) -> None:
        coverage = Coverage()
        for seq in (2, 3, 5):
            coverage.vital(seq)
            coverage.stored(seq)
        assert coverage.settled_beyond() == [(2, 3), (5, 5)]
        coverage.cover(1)
        assert coverage.acked == 3
        assert coverage.settled_beyond() == [(5, 5)]


class TestTurns:
    def test_a_question_during_an_answer_is_owed_also_after_that_answer_is_over(self) -> None:
        turns = TurnState()
        turns.on_event(events.Audio(bytes(2), 24000), 1.0)
        turns.asked(1.1)
        turns.on_event(events.Interrupted(), 1.2)
        turns.on_event(events.Audio(bytes(2), 24000), 1.3)  # was on its way
        turns.on_event(events.TurnComplete("", False, True), 1.4)
        assert turns.busy
        turns.on_event(events.Audio(bytes(2), 24000), 1.5)
        turns.on_event(events.TurnComplete("", False, True), 1.6)
        assert not turns.busy

    def test_an_empty_turn_answers_too(self) -> None:
        turns = TurnState()
        turns.asked(1.0)
        turns.on_event(events.TurnComplete("", False, True), 1.1)
        assert not turns.busy

    @pytest.mark.parametrize("asked", ["typed", "spoken"])
    def test_one_whose_model_thinks_on_does_not(self, asked: str) -> None:
        turns = TurnState()
        if asked == "typed":
            turns.asked(1.0)
        else:
            turns.on_event(events.InputTranscript("book it", True, ""), 1.0)
        assert turns.on_event(events.TurnComplete("", False, False), 1.1) is None
        assert turns.busy
        turns.on_event(events.FunctionCall("c1", "book", {}), 1.2)
        assert turns.count == 1
        ended = turns.on_event(events.TurnComplete("", False, True), 1.3)
        assert ended is not None
        assert (ended.number, ended.tool_calls) == (1, ["book"])

    @pytest.mark.parametrize("said", [True, False])
    def test_one_that_is_cut_off_answers_nothing(self, said: bool) -> None:
        turns = TurnState()
        turns.on_event(events.InputTranscript("book it", True, ""), 0.9)
        turns.asked(1.0)
        if said:
            turns.on_event(events.Audio(bytes(2), 24000), 1.1)
        turns.on_event(events.Interrupted(), 1.2)
        turns.on_event(events.TurnComplete("", False, True), 1.2)
        assert turns.owes_answer is not said

    def test_nor_where_a_transcript_comes_before_its_end(self) -> None:
        turns = TurnState()
        turns.asked(1.0)
        turns.on_event(events.Interrupted(), 1.1)
        turns.on_event(events.InputTranscript("wait", True, ""), 1.15)
        ended = turns.on_event(events.TurnComplete("", False, True), 1.2)
        assert ended is not None
        assert (ended.interrupted, turns.owes_answer) == (True, True)

    def test_what_is_said_after_it_is_an_answer(self) -> None:
        """Where the end of what was cut off does not come."""
        turns = TurnState()
        turns.asked(1.0)
        turns.on_event(events.Interrupted(), 1.1)
        turns.on_event(events.InputTranscript("wait", True, ""), 1.15)
        turns.on_event(events.Audio(bytes(2), 24000), 1.2)
        ended = turns.on_event(events.TurnComplete("", False, True), 1.3)
        assert ended is not None
        assert (ended.interrupted, turns.owes_answer, turns.cut_off) == (False, False, False)

    def test_one_that_is_cut_off_is_over_whatever_the_model_thinks(self) -> None:
        turns = TurnState()
        turns.on_event(events.InputTranscript("book it", True, ""), 1.0)
        turns.on_event(events.Interrupted(), 1.1)
        assert turns.on_event(events.TurnComplete("", False, False), 1.1) is not None

    def test_a_turn_begins_with_what_it_answers(self) -> None:
        turns = TurnState()
        turns.asked(1.0)
        turns.on_event(events.Audio(bytes(2), 24000), 1.6)
        ended = turns.on_event(events.TurnComplete("", False, True), 2.0)
        assert ended is not None
        assert (ended.began, ended.first_audio) == (1.0, 1.6)

    def test_a_turn_of_a_model_that_says_no_turn_complete(self) -> None:
        turns = TurnState(completes_turns=False)
        turns.asked(0.5)
        turns.on_event(events.InputTranscript("hello", True, ""), 1.0)
        ended = turns.on_event(events.GenerationComplete(), 1.5)
        assert ended is not None
        assert (ended.number, ended.heard) == (1, "hello")
        assert not turns.busy
        assert turns.on_event(events.GenerationComplete(), 2.0) is None

    def test_a_spoken_turn(self) -> None:
        turns = TurnState()
        turns.asked(0.5)
        assert turns.on_event(events.InputTranscript("hello", True, ""), 1.0) is None
        turns.on_event(events.Audio(bytes(4800), 24000), 1.5)
        turns.on_event(events.OutputTranscript("hi", False, ""), 1.6)
        assert turns.busy
        ended = turns.on_event(events.TurnComplete("", False, True), 2.0)
        assert ended is not None
        assert (ended.heard, ended.said, ended.first_audio, ended.audio_seconds) == ("hello", "hi", 1.5, 0.1)
        assert not turns.busy

    def test_a_pending_call_keeps_the_conversation_busy_until_it_is_spoken_of(self) -> None:
        turns = TurnState()
        turns.on_event(events.FunctionCall("c1", "f", {}), 1.0)
        turns.on_event(events.TurnComplete("", False, True), 1.1)
        assert turns.busy
        turns.call_settled("c1", 1.15)
        assert turns.busy
        turns.on_event(events.Audio(bytes(2), 24000), 1.2)
        turns.on_event(events.TurnComplete("", False, True), 1.3)
        assert not turns.busy

    def test_the_model_waits_for_a_call_while_the_turn_that_made_it_is_not_over(self) -> None:
        turns = TurnState()
        turns.on_event(events.FunctionCall("c1", "f", {}), 1.0)
        assert turns.waits_for_call
        turns.call_settled("c1", 1.1)
        assert not turns.waits_for_call
        # Of one that does not block, the turn goes on, and then it is over.
        turns.on_event(events.FunctionCall("c2", "f", {}), 1.2)
        turns.on_event(events.TurnComplete("", False, True), 1.3)
        assert not turns.waits_for_call
        turns.on_event(events.Audio(bytes(2), 24000), 1.4)
        assert not turns.waits_for_call

    def test_a_cancelled_call_owes_nothing(self) -> None:
        turns = TurnState()
        turns.on_event(events.FunctionCall("c1", "f", {}), 1.0)
        turns.on_event(events.CallsCancelled(("c1",)), 1.1)
        turns.on_event(events.TurnComplete("", False, True), 1.2)
        turns.call_settled("c1", 1.15)
        assert not turns.busy


def requests(taken: Taken) -> list[live_pb2.ConverseRequest]:
    """For the log."""
    return [entry.request for entry, _ in taken.to_store if entry.HasField("request")]


def renumbered(taken: Taken) -> list[tuple[int, int, bool, int]]:
    """Positions in the log, the numbers that they have now, whether they were left out, and what is safe with that."""
    of = [(entry.renumbered, seq) for entry, seq in taken.to_store if entry.HasField("renumbered")]
    return [(one.position, one.seq, one.left_out, seq) for one, seq in of]


def envelope_of(*requests: live_pb2.ConverseRequest, last: int = 0) -> fabric_pb2.UplinkEnvelope:
    raw = [request.SerializeToString() for request in requests]
    return fabric_pb2.UplinkEnvelope(requests=raw, last_seq=last or max(request.seq for request in requests))


class TestUplink:
    def test_a_duplicate_reaches_the_link_once(self) -> None:
        up = Uplink(10**6)
        up.take(envelope_of(audio(1, 2)), 0.0)
        taken = up.take(envelope_of(audio(1, 2)), 0.1)
        assert not taken.input_waits
        assert up.queue.pop(0.0) == AudioBatch(b"\x01\x01", 1, 1)
        assert up.queue.pop(0.0) is None

    def test_order_is_restored_before_the_link(self) -> None:
        up = Uplink(10**6)
        up.take(envelope_of(audio(2, 2)), 0.0)
        assert up.queue.pop(0.0) is None
        assert [(gap.from_seq, gap.to_seq) for gap in up.missing()] == [(1, 1)]
        up.take(envelope_of(audio(1, 2)), 0.1)
        assert up.queue.pop(0.0) == AudioBatch(b"\x01\x01\x02\x02", 1, 2)

    def test_a_lost_last_message_is_noticed_and_named(self) -> None:
        up = Uplink(10**6)
        up.take(fabric_pb2.UplinkEnvelope(last_seq=1), 0.0)
        assert up.missing()
        assert up.give_up(1.0).lost == []
        (gap,) = up.give_up(2.5).lost
        assert (gap.from_seq, gap.to_seq, gap.reason) == (1, 1, "LOST")
        assert up.coverage.acked == 0
        assert up.coverage.restorable(0) == 1

    def test_silence_that_waits_too_long_for_a_link_is_not_given_and_not_named(self) -> None:
        """Somebody listens while the worker is replaced: a new link is given no silence before the first sound."""
        up = Uplink(2 * 640)
        up.queue.has_link = False
        assert up.take(envelope_of(*map(silence, range(1, 11))), 0.0).lost == []
        assert up.coverage.restorable(0) == 8, "nobody need keep it"
        spoken = [gap.from_seq for gap in up.take(envelope_of(*map(speech, range(11, 15))), 0.1).lost]
        assert spoken == [11, 12]
        assert up.queue.pop(0.1) == AudioBatch(b"\x00\x10" * 640, 13, 14)

    def test_silence_that_a_link_does_not_take_in_time_is_named(self) -> None:
        up = Uplink(2 * 640)
        assert [gap.from_seq for gap in up.take(envelope_of(*map(silence, range(1, 5))), 0.0).lost] == [1, 2]

    def test_text_is_stored_and_a_skip_is_a_gap(self) -> None:
        up = Uplink(10**6)
        envelope = envelope_of(text(1), last=3)
        envelope.skips.add(range=live_pb2.SeqRange(from_seq=2, to_seq=3), media_class=live_pb2.MEDIA_CLASS_AUDIO)
        taken = up.take(envelope, 0.0)
        assert requests(taken) == [text(1)]
        assert [(gap.from_seq, gap.to_seq) for gap in taken.lost] == [(2, 3)]
        assert up.received == 3

    def test_a_skip_that_comes_again_is_no_other_gap(self) -> None:
        """It was asked for twice."""
        up = Uplink(10**6)
        up.restore(0, [Stored(1, text(2))], {1}, numbered=True, now=0.0)
        envelope = fabric_pb2.UplinkEnvelope(last_seq=4)
        for first, last, media_class in (
            (1, 1, live_pb2.MEDIA_CLASS_AUDIO),
            (2, 2, live_pb2.MEDIA_CLASS_VITAL),
            (3, 4, live_pb2.MEDIA_CLASS_AUDIO),
        ):
            envelope.skips.add(range=live_pb2.SeqRange(from_seq=first, to_seq=last), media_class=media_class)
        assert [(gap.from_seq, gap.to_seq) for gap in up.take(envelope, 0.1).lost] == [(1, 1), (3, 4)]
        assert up.received == 4
        assert up.take(envelope, 0.2).lost == []

    def test_text_that_the_log_has_is_not_lost_with_the_gateways_copy(self) -> None:
        """What is stored the gateway keeps no longer, and says so: in one envelope with the audio before it."""
        up = Uplink(10**6)
        up.restore(0, [Stored(1, text(2))], {1}, numbered=True, now=0.0)
        envelope = envelope_of(audio(1, 2), last=2)
        envelope.skips.add(range=live_pb2.SeqRange(from_seq=2, to_seq=2), media_class=live_pb2.MEDIA_CLASS_VITAL)
        assert up.take(envelope, 0.1).lost == []
        assert up.queue.pop(0.1) == AudioBatch(b"\x01\x01", 1, 1)
        assert up.queue.pop(0.1) == text(2)
        assert up.received == 2

    def test_another_stream_numbers_anew_what_the_one_before_did_not_bring_in_order(self) -> None:
        """What is early, and what is only known to exist, may be something else on the stream that comes back."""
        letters = [text(seq, word) for seq, word in enumerate("ABCDE", 2)]
        for before in (envelope_of(audio(3), audio(4)), fabric_pb2.UplinkEnvelope(last_seq=4)):
            up = Uplink(10**6)
            up.take(envelope_of(audio(1, 2)), 0.0)
            up.queue.pop(0.0)
            before.skips.add(range=live_pb2.SeqRange(from_seq=5, to_seq=5), media_class=live_pb2.MEDIA_CLASS_VIDEO)
            up.take(before, 0.1)
            up.renumber()
            assert up.received == 1
            assert not up.missing()
            assert not up.give_up(10.0).lost
            assert not up.coverage.settled_beyond(), "it is not known of what has these numbers now"
            taken = up.take(envelope_of(*letters), 10.1)
            assert requests(taken) == letters
            assert [up.queue.pop(0.0) for _ in letters] == letters
            assert up.coverage.acked == 0
            assert up.coverage.cover(1) == 1

    def test_what_the_log_has_is_known_by_its_words_to_a_stream_that_numbers_anew(self) -> None:
        up = Uplink(10**6)
        up.restore(9, [Stored(1, text(11, "A")), Stored(2, text(12, "B"))], {2}, numbered=True, now=0.0)
        up.renumber()
        taken = up.take(envelope_of(audio(10), text(11, "B"), text(12, "C")), 1.0)
        assert requests(taken) == [text(12, "C")]
        up.queue.pop(1.0)
        assert [up.queue.pop(1.0) for _ in "BC"] == [text(11, "B"), text(12, "C")]
        assert renumbered(taken) == [(2, 11, False, 11)]
        assert up.coverage.cover(12) == 10, "the log does not know the number"
        assert up.coverage.stored(11) == 11

    @pytest.mark.parametrize("first", [1, 11])
    def test_what_its_caller_goes_on_without_is_given_before_what_comes_instead(self, first: int) -> None:
        """It was sent, and stored: whoever sent it may have been told that it need not be kept."""
        up = Uplink(10**6)
        left_out = [Stored(1, text(21, "A")), Stored(2, text(22, "B"))]
        up.restore(first - 1, left_out, {1, 2}, numbered=False, now=0.0)
        taken = up.take(envelope_of(text(first, "C")), 1.0)
        assert requests(taken) == [text(first, "C")]
        assert renumbered(taken) == [(1, first, True, 0), (2, first, True, 0)]
        assert [up.queue.pop(1.0) for _ in "ABC"] == [text(first, "A"), text(first, "B"), text(first, "C")]
        assert up.coverage.cover(first) == first - 1, "nothing is stored that has the number of another message"

    def test_what_comes_with_a_higher_number_says_that_it_does_not_come(self) -> None:
        """Its caller may only speak from now on."""
        up = Uplink(10**6)
        up.restore(1, [Stored(1, text(3, "A")), Stored(2, text(9, "B"))], {1, 2}, numbered=False, now=0.0)
        taken = up.take(envelope_of(audio(2), audio(3), audio(4)), 1.0)
        assert (requests(taken), renumbered(taken)) == ([], [(1, 4, True, 0)])
        given = [up.queue.pop(1.0) for _ in range(3)]
        assert given[1] == text(4, "A")
        assert [(each.first_seq, each.last_seq) for each in given if isinstance(each, AudioBatch)] == [(2, 3), (4, 4)]
        assert renumbered(up.take(envelope_of(text(5, "B")), 1.1)) == [(2, 5, False, 5)]

    def test_what_has_the_number_of_something_else_does_not_come(self) -> None:
        """Be that a message, or one that is skipped or given up."""
        skipped = fabric_pb2.UplinkEnvelope(last_seq=3)
        skipped.skips.add(range=live_pb2.SeqRange(from_seq=2, to_seq=3), media_class=live_pb2.MEDIA_CLASS_AUDIO)
        for envelope in (envelope_of(audio(2), audio(3)), skipped, fabric_pb2.UplinkEnvelope(last_seq=3)):
            up = Uplink(10**6)
            up.restore(1, [Stored(1, text(3, "A"))], {1}, numbered=False, now=0.0)
            taken = up.take(envelope, 1.0)
            if not taken.to_store:
                taken = up.give_up(1.1 + HOLE_WAIT)
            assert renumbered(taken) == [(1, 3, True, 0)]
            assert taken.input_waits
            assert not up.give_up(100.0).to_store

    def test_who_says_no_more_is_answered_what_was_sent_before(self) -> None:
        up = Uplink(10**6)
        up.restore(1, [Stored(1, text(3, "A"))], {1}, numbered=False, now=0.0)
        assert not up.give_up(100.0).to_store, "it may come"
        taken = up.all_came()
        assert (renumbered(taken), taken.input_waits) == ([(1, 1, True, 0)], True)
        assert up.queue.pop(0.0) == text(1, "A"), "nobody has sent a message 2"
        assert not up.all_came().to_store

    def test_what_has_its_number_when_it_comes_is_said_so(self) -> None:
        """The next stream may begin before anybody knew that it came."""
        up = Uplink(10**6)
        up.restore(1, [Stored(1, text(3, "A"))], {1}, numbered=True, now=0.0)
        assert renumbered(up.take(envelope_of(audio(2), last=2), 1.0)) == [(1, 3, False, 0)]

    def test_what_has_no_number_is_known_by_its_words_to_the_owner_after_the_next(self) -> None:
        """Whatever has its old number now is something else."""
        up = Uplink(10**6)
        up.restore(9, [Stored(1, text(12, "A"), Number.GONE)], {1}, numbered=True, now=0.0)
        taken = up.take(envelope_of(text(10, "A"), audio(11), audio(12)), 1.0)
        assert (requests(taken), renumbered(taken)) == ([], [(1, 10, False, 10)])
        assert up.queue.pop(1.0) == text(10, "A")
        following = up.queue.pop(1.0)
        assert isinstance(following, AudioBatch)
        assert (following.first_seq, following.last_seq) == (11, 12)

    def test_what_was_left_out_is_given_before_the_message_that_has_its_number(self) -> None:
        up = Uplink(10**6)
        stored = [Stored(1, text(11, "A"), Number.OF_WHAT_IT_PRECEDES), Stored(2, text(11, "C"))]
        up.restore(9, stored, {1, 2}, numbered=True, now=0.0)
        assert up.queue.pop(0.0) is None
        up.take(envelope_of(audio(10), last=11), 0.1)
        assert isinstance(up.queue.pop(0.1), AudioBatch)
        assert [up.queue.pop(0.1) for _ in "AC"] == [text(11, "A"), text(11, "C")]
        up.restore(11, stored, {1, 2}, numbered=True, now=0.2)
        assert [up.queue.pop(0.2) for _ in "AC"] == [text(11, "A"), text(11, "C")], "the message has come"

    def test_what_two_streams_have_not_sent_again_stays_in_order(self) -> None:
        """The first was sent again already, and is not acked."""
        up = Uplink(10**6)
        up.restore(6, [Stored(1, text(8, "A")), Stored(2, text(12, "B"), Number.GONE)], {1, 2}, numbered=True, now=0.0)
        up.renumber()
        taken = up.take(envelope_of(audio(7), text(8, "A"), audio(9), text(10, "B")), 1.0)
        assert (requests(taken), [seq for _, seq, _, _ in renumbered(taken)]) == ([], [8, 10])
        given = [up.queue.pop(1.0) for _ in range(4)]
        assert [given[1], given[3]] == [text(8, "A"), text(10, "B")]

    def test_what_came_of_two_streams_and_is_left_out_is_given_as_it_was_sent(self) -> None:
        """Not in the order of their numbers: each stream had its own."""
        up = Uplink(10**6)
        gone = [Stored(2, text(8, "B"), Number.GONE), Stored(1, text(12, "A"), Number.GONE)]
        up.restore(6, gone, {1, 2}, numbered=True, now=0.0)
        taken = up.take(envelope_of(text(7, "C")), 1.0)
        assert (requests(taken), renumbered(taken)) == ([text(7, "C")], [(1, 7, True, 0), (2, 7, True, 0)])
        assert [up.queue.pop(1.0) for _ in "ABC"] == [text(7, "A"), text(7, "B"), text(7, "C")]

    def test_what_is_typed_anew_is_not_taken_for_what_the_log_has(self) -> None:
        """What was acked does not come again: the same words behind others, or under a higher number, are new."""
        for fresh in ([text(11, "B"), text(12, "A")], [text(12, "A"), text(13, "A")]):
            up = Uplink(10**6)
            up.restore(10, [Stored(1, text(11, "A"))], set(), numbered=False, now=0.0)
            missing = [audio(seq) for seq in range(11, fresh[0].seq)]
            assert requests(up.take(envelope_of(*missing, *fresh), 1.0)) == fresh

    def test_with_the_log_off_text_is_acked_when_it_was_answered(self) -> None:
        for log in (True, False):
            up = Uplink(10**6, log=log)
            assert requests(up.take(envelope_of(text(1)), 0.0)) == [text(1)]
            assert up.coverage.acked == 0
            assert up.coverage.cover(1) == (0 if log else 1)
            assert up.coverage.stored(1) == 1


# What a session that leaves must know of its downlink


def test_an_end_is_known_before_its_turn_comes() -> None:
    queue = InputQueue(10_000)
    queue.append(audio(1))
    assert queue.end is None
    queue.append(live_pb2.ConverseRequest(seq=2, end=live_pb2.End(reason="enough")))
    assert queue.end is not None
    assert queue.end.end.reason == "enough"
    assert len(queue) == 2
