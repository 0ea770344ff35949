"""The bounded stores: handles and the record."""

import hashlib
import weakref
from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.errors import Refusal
from emulator.marks import mark
from emulator.mind.context import Context, Entry
from emulator.mind.usage import NOTHING
from emulator.record import Archive, ConversationRecord, LinkFacts, LinkRecord
from emulator.record.audio import MarkedAudio
from emulator.record.ranges import Ranges
from emulator.session.handles import HandleStore, Owner, Session, Snapshot

MODEL = "gemini-3.8-live"
OWNER = Owner(MODEL, "developer", "key")


def link(record: ConversationRecord) -> LinkRecord:
    return record.add_link(LinkFacts(record.next_link_index(), MODEL, "/", "v1beta", {}, 0.0))


def session(conversation: str = "c", *, closed: float | None = None, ttl: float = 100) -> Session:
    return Session(conversation, OWNER, 0.0, closed=closed, ttl=ttl)


def about(pictures: int) -> Snapshot:
    return Snapshot(Context([Entry("user", "", NOTHING, pictures=pictures)]))


class TestHandles:
    def test_a_handle_restores_its_own_snapshot_also_when_there_are_newer_ones(self) -> None:
        store, one = HandleStore(limit=10), session(closed=1)
        older, newer = store.issue(one, about(1), 0), store.issue(one, about(2), 1)
        for handle, pictures, now in ((newer, 2, 2), (older, 1, 4), (newer, 2, 6)):
            restored = store.resume(handle, OWNER, now)
            assert restored.session is one and restored.snapshot.pictures == pictures
            assert (one.closed, one.opened) == (None, now)
            assert store.close(one, one.connections, now + 1)

    def test_a_session_that_is_open_is_not_resumed(self) -> None:
        store = HandleStore(limit=10)
        handle = store.issue(session(), Snapshot(), 0)
        with pytest.raises(Refusal, match="1011"):
            store.resume(handle, OWNER, 1)

    def test_dead_handles_are_not_found(self) -> None:
        store = HandleStore(limit=2)
        handles = [store.issue(session(closed=now), Snapshot(), now) for now in (0, 50, 60)]
        for handle, owner, now in (
            ("bogus", OWNER, 60),
            (handles[0], OWNER, 60),
            (handles[1], OWNER._replace(model="other"), 60),
            (handles[1], OWNER._replace(project="other"), 60),
            (handles[1], OWNER._replace(backend="vertex"), 60),
            (handles[1], OWNER, 150),
        ):
            with pytest.raises(Refusal, match="1008 BidiGenerateContent session not found"):
                store.resume(handle, owner, now)
        assert store.resume(handles[2], OWNER, 159)

    def test_the_oldest_and_the_dead_give_way_but_not_what_is_in_use(self) -> None:
        store, used = HandleStore(limit=2), session(closed=0)
        old = store.issue(used, Snapshot(), 0)
        store.issue(session(), Snapshot(), 0)
        store.resume(old, OWNER, 1)
        store.issue(session(), Snapshot(), 2)
        store.close(used, 2, 3)
        assert store.resume(old, OWNER, 4)
        dying = HandleStore(limit=1000)
        for now in range(300):
            dying.issue(session(closed=now), Snapshot(), now)
        assert len(dying) == 100

    def test_an_end_counts_once_and_only_for_the_connection_that_has_the_session(self) -> None:
        store, one, told = HandleStore(limit=10), session(), list[Refusal]()
        handle = store.issue(one, Snapshot(), 0)
        one.displace = told.append
        assert store.resume(handle, OWNER, 10, take_over=True).session.connections == 2
        assert [refusal.code for refusal in told] == [1008] and one.used == 10
        assert not store.close(one, 1, 15, about(1))
        assert one.closed is None
        assert store.close(one, 2, 20, about(2)) and not store.close(one, 2, 25)
        assert (one.closed, one.used) == (20, 20)
        assert store.resume(handle, OWNER, 30).snapshot.pictures == 2

    def test_a_session_does_not_keep_the_connection_that_had_it(self) -> None:
        class Connection:
            def end(self, refusal: Refusal) -> None: ...

        store, one, connection = HandleStore(limit=10), session(), Connection()
        handle, there = store.issue(one, Snapshot(), 0), weakref.ref(connection)
        one.displace = connection.end
        store.close(one, 1, 1)
        del connection
        assert there() is None and store.resume(handle, OWNER, 2)

    def test_only_the_newest_handle_covers_what_came_after_it(self) -> None:
        store, one = HandleStore(limit=10), session()
        assert not store.cover(one, about(9)) and store.uncover(one) is None
        older = store.issue(one, about(1), 0)
        assert store.cover(one, about(2)) and store.uncover(one) == about(1)
        store.cover(one, about(3))
        newer = store.issue(one, about(4), 1)
        store.close(one, 1, 2, about(5))
        for handle, pictures in ((older, 1), (newer, 5)):
            assert store.resume(handle, OWNER, 3).snapshot.pictures == pictures
            store.close(one, one.connections, 4)

    def test_handles_of_a_conversation_can_be_lost(self) -> None:
        store, one, other = HandleStore(limit=10), session(closed=0), session("d", closed=0)
        first, second, third = (store.issue(one, Snapshot(), 0) for _ in range(3))
        kept = store.issue(other, Snapshot(), 0)
        store.forget("c", newest_only=True)
        with pytest.raises(Refusal, match="1008"):
            store.resume(third, OWNER, 1)
        assert store.resume(second, OWNER, 1)
        store.forget("c")
        store.forget("nobody")
        store.close(one, 2, 2)
        with pytest.raises(Refusal, match="1008"):
            store.resume(first, OWNER, 3)
        assert store.resume(kept, OWNER, 3)


class TestRecord:
    def test_audio_is_summed_and_hashed_per_link_and_conversation(self) -> None:
        record = Archive(kept=1, items=10, audio_limit=6).open("c", "s")
        first, second = link(record), link(record)
        first.heard_audio(b"abcd", 16000, now=0)
        second.heard_audio(b"efgh", 16000, now=0)
        view = record.view()
        assert view["audio"]["sha256"] == hashlib.sha256(b"abcdefgh").hexdigest()
        assert [one["audio"]["sha256"] for one in view["links"]] == [
            hashlib.sha256(part).hexdigest() for part in (b"abcd", b"efgh")
        ]
        assert record.wav().endswith(b"abcdef")

    def test_a_link_says_when_its_first_and_its_latest_audio_came(self) -> None:
        one = link(Archive(kept=1, items=10, audio_limit=6).open("c", "s"))
        assert (one.view()["audio_from"], one.view()["audio_until"]) == (None, None)
        for now in (1.5, 2.0, 2.25):
            one.heard_audio(b"ab", 16000, now=now)
        assert (one.view()["audio_from"], one.view()["audio_until"]) == (1.5, 2.25)

    def test_lists_are_bounded_and_what_is_left_out_is_counted(self) -> None:
        record = Archive(kept=1, items=3, audio_limit=0).open("c", "s")
        one = link(record)
        for number in range(5):
            one.add("texts", str(number), at=0)
            one.heard_audio(b"ab", 16000, now=0)
        view = record.view()
        assert view["texts"] == ["0", "1", "2"]
        # Three events are kept: the link, a text, and audio, which later audio is counted into.
        assert view["dropped"] == {"texts": 2, "events": 4, "links": 0}
        for _ in range(5):
            link(record)
        assert [one["index"] for one in record.view()["links"]] == [3, 4, 5]

    def test_only_the_latest_that_ended_are_kept(self) -> None:
        archive = Archive(kept=2, items=10, audio_limit=0)
        for name in "abcde":
            one = link(archive.open(name, "s"))
            if name != "b":
                one.facts.closed = 1.0
            archive.trim()
        assert [record.id for record in archive.all()] == ["b", "d", "e"]
        archive.clear()
        assert [record.id for record in archive.all()] == ["b"]

    def test_a_link_is_told_from_its_beginning_to_its_end(self) -> None:
        record = Archive(kept=1, items=10, audio_limit=0).open("c", "s")
        one = link(record)
        woken: list[int] = []
        record.watchers.add(lambda: woken.append(record.settled_events()))
        one.heard_audio(b"ab", 16000, now=0)
        assert record.settled_events() == 1
        one.closed(1000, at=2.0)
        assert [event["kind"] for event in record.events] == ["opened", "audio", "closed"]
        assert record.events[-1]["code"] == 1000
        assert woken == [1, 3]
        assert one.view()["closed"] == 2.0

    def test_time_and_bytes_of_audio_belong_together_at_every_rate(self) -> None:
        audio = MarkedAudio(limit=10)
        for rate in (16000, 24000, 16000):
            audio.add(bytes(rate * 2), rate)
        for seconds, size in ((0.0, 0), (1.0, 32000), (1.5, 56000), (2.0, 80000), (3.0, 112000)):
            assert audio.at(seconds) == size
            assert audio.seconds(size) == seconds
        assert audio.at(99.0) == 112000
        assert MarkedAudio(limit=10).at(1.0) == 0
        assert MarkedAudio(limit=10).seconds(0) == 0.0

    def test_marked_frames_in_a_row_are_one_run(self) -> None:
        audio = MarkedAudio(limit=3)
        audio.add(mark(bytes(6400), stream=1, first=0), 16000)
        audio.add(mark(bytes(6400), stream=1, first=10), 16000)
        assert [(run.first, run.count) for run in audio.runs] == [(0, 20)]
        # Another stream, other frames, something between them, another length: each begins a run.
        audio.add(mark(bytes(640), stream=2, first=20), 16000)
        audio.add(mark(bytes(640), stream=2, first=30), 16000)
        audio.add(bytes(2) + mark(bytes(640), stream=2, first=31), 16000)
        audio.add(mark(bytes(640), stream=2, first=32, frame_ms=10), 16000)
        assert [(run.stream, run.first, run.count) for run in audio.runs] == [(1, 0, 20), (2, 20, 1), (2, 30, 1)]
        assert audio.dropped == 3


class TestRanges:
    @given(
        st.lists(st.tuples(st.integers(0, 40), st.integers(0, 12))),
        st.tuples(st.integers(0, 40), st.integers(0, 50)),
    )
    def test_they_are_sets_of_numbers(self, added: list[tuple[int, int]], asked: tuple[int, int]) -> None:
        ranges = Ranges((start, start + count) for start, count in added)
        numbers = {number for start, count in added for number in range(start, start + count)}
        start, end = asked
        assert numbers_of(ranges) == sorted(numbers)
        assert numbers_of(ranges.within(start, end)) == sorted(numbers & set(range(start, end)))
        assert numbers_of(ranges.missing(start, end)) == sorted(set(range(start, end)) - numbers)
        assert (ranges.start, ranges.end) == ((min(numbers), max(numbers) + 1) if numbers else (0, 0))
        assert bool(ranges) == bool(numbers)
        assert all(before < after for (_, before), (after, _) in pairwise(ranges))


def numbers_of(ranges: Iterable[tuple[int, int]]) -> list[int]:
    return [number for start, end in ranges for number in range(start, end)]
