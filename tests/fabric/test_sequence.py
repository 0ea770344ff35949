from collections.abc import Iterable

from hypothesis import given, settings
from hypothesis import strategies as st

from services.fabric.sequence import AUDIO_HOLE_WAIT, CROWDED_WAIT, HOLE_WAIT, MAX_EARLY, Lost, SequenceReceiver


def receiver_with(seqs: Iterable[int], *, audio: bool = False) -> tuple[SequenceReceiver[int], list[int]]:
    receiver: SequenceReceiver[int] = SequenceReceiver()
    out: list[int] = []
    for seq in seqs:
        out += receiver.message(seq, seq, 0.0, audio=audio)
    return receiver, out


def test_in_order_goes_straight_through() -> None:
    receiver, out = receiver_with([1, 2, 3])
    assert out == [1, 2, 3]
    assert receiver.missing() == []
    assert receiver.give_up(1000.0) == ([], [])


def test_early_messages_wait_for_the_hole_and_follow_it() -> None:
    receiver, out = receiver_with([1, 3, 4, 7])
    assert out == [1]
    assert receiver.missing() == [Lost(2, 2), Lost(5, 6)]
    assert receiver.message(2, 2, 0.1, audio=False) == [2, 3, 4]
    assert receiver.missing() == [Lost(5, 6)]


def test_duplicates_are_dropped_and_counted() -> None:
    receiver, out = receiver_with([1, 1, 3, 3, 2, 2, 3])
    assert out == [1, 2, 3]
    assert receiver.duplicates == 4


def test_hole_is_given_up_after_its_wait() -> None:
    receiver, _ = receiver_with([1, 3])
    assert receiver.give_up(HOLE_WAIT - 0.01) == ([], [])
    assert receiver.give_up(HOLE_WAIT) == ([Lost(2, 2)], [3])
    assert receiver.message(2, 2, 3.0, audio=False) == []
    assert receiver.duplicates == 1


def test_audio_waits_less_but_not_when_anything_else_waits_behind() -> None:
    receiver, _ = receiver_with([1, 3, 4], audio=True)
    assert receiver.give_up(AUDIO_HOLE_WAIT) == ([Lost(2, 2)], [3, 4])
    receiver, _ = receiver_with([1, 3, 4], audio=True)
    receiver.message(5, 5, 0.0, audio=False)
    assert receiver.give_up(AUDIO_HOLE_WAIT) == ([], [])
    assert receiver.give_up(HOLE_WAIT) == ([Lost(2, 2)], [3, 4, 5])


def test_lost_last_message_shows_when_the_sender_says_how_far_it_is() -> None:
    receiver, _ = receiver_with([1, 2])
    receiver.sender_is_at(4, 10.0)
    assert receiver.missing() == [Lost(3, 4)]
    assert receiver.give_up(10.0 + HOLE_WAIT) == ([Lost(3, 4)], [])
    assert receiver.received == 4


def test_sender_that_repeats_itself_does_not_restart_the_wait() -> None:
    receiver, _ = receiver_with([1])
    for tick in range(5):
        receiver.sender_is_at(2, tick * 0.5)
    assert receiver.give_up(HOLE_WAIT)[0] == [Lost(2, 2)]


def test_skipped_range_counts_as_received() -> None:
    receiver, _ = receiver_with([1, 5])
    assert receiver.skip(2, 4, 0.0) == [5]
    assert receiver.received == 5
    assert receiver.give_up(100.0) == ([], [])


def test_skip_ahead_of_a_hole_waits_behind_it() -> None:
    receiver, _ = receiver_with([1])
    assert receiver.skip(3, 4, 0.0) == []
    assert receiver.missing() == [Lost(2, 2)]
    assert receiver.message(2, 2, 0.1, audio=False) == [2]
    assert receiver.received == 4


def test_skip_of_what_has_come_is_harmless() -> None:
    receiver, _ = receiver_with([1, 2, 4])
    assert receiver.skip(1, 4, 0.0) == [4]
    assert receiver.skip(1, 4, 0.0) == []
    assert receiver.received == 4


def test_new_hole_waits_its_whole_time_although_an_old_one_was_filled() -> None:
    receiver, _ = receiver_with([1])
    receiver.sender_is_at(2, 0.0)
    assert receiver.message(2, 2, 0.1, audio=False) == [2]  # in order, nothing early: the hole is gone
    receiver.message(4, 4, 1.95, audio=False)
    assert receiver.give_up(2.05) == ([], [])
    assert receiver.give_up(1.95 + HOLE_WAIT) == ([Lost(3, 3)], [4])


def test_skips_beyond_a_hole_do_not_put_off_its_end() -> None:
    receiver, _ = receiver_with([1])
    for tick in range(1, 30):
        receiver.skip(10 + tick, 10 + tick, tick * 0.1)
    assert receiver.give_up(0.1 + HOLE_WAIT)[0] == [Lost(2, 10)]


def test_too_much_behind_a_hole_ends_it_as_soon_as_it_can_have_been_asked_for() -> None:
    receiver, _ = receiver_with([1, *range(3, 3 + MAX_EARLY)])
    assert receiver.missing() == [Lost(2, 2)]
    assert receiver.give_up(CROWDED_WAIT - 0.01) == ([], [])
    lost, out = receiver.give_up(CROWDED_WAIT)
    assert lost == [Lost(2, 2)]
    assert len(out) == MAX_EARLY


@settings(max_examples=150)
@given(st.data())
def test_any_order_duplication_and_loss_comes_out_in_order_once_and_holes_are_named(data: st.DataObject) -> None:
    last = data.draw(st.integers(1, 40))
    sent = list(range(1, last + 1))
    lost = data.draw(st.sets(st.sampled_from(sent)))
    skipped = data.draw(st.sets(st.sampled_from(sorted(lost)))) if lost else set()
    arriving = data.draw(st.permutations([seq for seq in sent if seq not in lost]))
    if arriving:
        arriving = [*arriving, *data.draw(st.lists(st.sampled_from(arriving), max_size=20))]
    steps = data.draw(st.permutations([("message", seq) for seq in arriving] + [("skip", seq) for seq in skipped]))

    receiver: SequenceReceiver[int] = SequenceReceiver()
    out: list[int] = []
    now = 0.0
    for kind, seq in steps:
        now += data.draw(st.floats(0, 0.01))
        out += receiver.message(seq, seq, now, audio=False) if kind == "message" else receiver.skip(seq, seq, now)
        assert receiver.give_up(now) == ([], [])
    receiver.sender_is_at(last, now)
    named: set[int] = set()
    while receiver.missing():
        now += HOLE_WAIT + 0.001  # a difference of floats
        holes, freed = receiver.give_up(now)
        assert holes
        out += freed
        for hole in holes:
            named |= set(range(hole.first, hole.last + 1))
    assert out == sorted(set(arriving))
    assert named == lost - skipped
    assert receiver.received == last
    assert receiver.duplicates == len(arriving) - len(set(arriving))


def test_what_is_missing_is_waited_for_anew_while_nobody_could_send_it() -> None:
    receiver: SequenceReceiver[str] = SequenceReceiver()
    receiver.wait_anew(1.0)  # nothing is
    receiver.message(2, "b", 1.0, audio=False)
    receiver.wait_anew(9.0)
    assert receiver.give_up(9.0 + HOLE_WAIT - 0.1) == ([], [])
    assert receiver.give_up(9.0 + HOLE_WAIT) == ([Lost(1, 1)], ["b"])
