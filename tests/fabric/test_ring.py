from hypothesis import given
from hypothesis import strategies as st

from services.fabric.ring import Ring


def seqs(ring: Ring[str]) -> list[int]:
    return [entry.seq for entry in ring.after(0)]


def test_keeps_what_is_not_acked_in_order() -> None:
    ring: Ring[str] = Ring(max_items=10, max_bytes=1000)
    for seq in range(1, 6):
        ring.append(seq, f"m{seq}", 10, expendable=True)
    ring.ack(2)
    assert seqs(ring) == [3, 4, 5]
    assert [entry.item for entry in ring.between(4, 9)] == ["m4", "m5"]
    assert (len(ring), ring.bytes, ring.acked) == (3, 30, 2)


def test_older_ack_changes_nothing() -> None:
    ring: Ring[str] = Ring(max_items=10, max_bytes=1000)
    ring.append(1, "a", 1, expendable=True)
    ring.ack(5)
    ring.ack(3)
    ring.append(4, "late", 1, expendable=True)
    ring.append(6, "b", 1, expendable=True)
    assert (ring.acked, seqs(ring)) == (5, [6])


def test_full_ring_forgets_the_oldest_expendable_and_counts_it() -> None:
    ring: Ring[str] = Ring(max_items=3, max_bytes=1000)
    ring.append(1, "text", 5, expendable=False)
    for seq in range(2, 6):
        ring.append(seq, "audio", 10, expendable=True)
    assert 1 in seqs(ring)
    assert seqs(ring)[-1] == 5
    assert ring.forgotten_items == 5 - len(ring)
    assert ring.forgotten_bytes == 10 * ring.forgotten_items


def test_ring_that_holds_only_what_must_not_be_lost_says_that_it_is_full() -> None:
    ring: Ring[str] = Ring(max_items=3, max_bytes=1000)
    for seq in range(1, 6):
        ring.append(seq, "text", 1, expendable=False)
    assert ring.full
    assert seqs(ring) == [1, 2, 3, 4, 5]
    assert ring.forgotten_items == 0


def test_bytes_are_a_bound_too() -> None:
    ring: Ring[str] = Ring(max_items=1000, max_bytes=100)
    for seq in range(1, 50):
        ring.append(seq, "x", 10, expendable=True)
        assert ring.bytes < 100
    assert seqs(ring)[-1] == 49


@given(
    st.lists(st.tuples(st.integers(1, 3), st.integers(0, 40), st.booleans(), st.integers(0, 60))),
    st.integers(1, 10),
    st.integers(1, 200),
)
def test_whatever_happens_counts_are_right_and_nothing_precious_is_lost(
    steps: list[tuple[int, int, bool, int]], max_items: int, max_bytes: int
) -> None:
    ring: Ring[str] = Ring(max_items, max_bytes)
    seq, precious, appended = 0, set(), 0
    for gap, size, expendable, ack in steps:
        seq += gap
        if seq > ring.acked:
            appended += 1
            if not expendable:
                precious.add(seq)
        ring.append(seq, "x", size, expendable=expendable)
        ring.ack(min(ack, seq))
        kept = list(ring.after(0))
        assert [entry.seq for entry in kept] == sorted({entry.seq for entry in kept})
        assert ring.bytes == sum(entry.size for entry in kept)
        assert {entry.seq for entry in kept} >= {number for number in precious if number > ring.acked}
        assert not ring.full or not any(entry.expendable for entry in kept)
        assert len(kept) + ring.forgotten_items <= appended
