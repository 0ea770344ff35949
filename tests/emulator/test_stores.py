"""The bounded stores: handles and the record."""

import hashlib

import pytest

from emulator.errors import Refusal
from emulator.handles import HandleStore, Session, Snapshot
from emulator.record import Archive, ConversationRecord, LinkFacts, LinkRecord

MODEL = "gemini-3.8-live"


def link(record: ConversationRecord) -> LinkRecord:
    return record.add_link(LinkFacts(record.next_link_index(), MODEL, "/", "v1beta", {}, 0.0))


class TestHandles:
    def test_a_handle_restores_its_own_snapshot_also_when_there_are_newer_ones(self) -> None:
        store, session = HandleStore(ttl=100, limit=10), Session("c", MODEL)
        older = store.issue(session, Snapshot(pictures=1), 0, link=7)
        newer = store.issue(session, Snapshot(pictures=2), 1)
        session.open = False
        assert store.resume(newer, MODEL, 2).snapshot.pictures == 2
        session.open = False
        restored = store.resume(older, MODEL, 3)
        assert (restored.session, restored.snapshot, restored.link) == (session, Snapshot(pictures=1), 7)
        assert session.open

    def test_a_session_that_is_open_is_not_resumed(self) -> None:
        store = HandleStore(ttl=100, limit=10)
        handle = store.issue(Session("c", MODEL), Snapshot(), 0)
        with pytest.raises(Refusal, match="1011"):
            store.resume(handle, MODEL, 1)

    def test_dead_handles_are_not_found(self) -> None:
        store = HandleStore(ttl=100, limit=2)
        handles = [store.issue(Session("c", MODEL, open=False), Snapshot(), now) for now in (0, 50, 60)]
        for handle, model, now in (
            ("bogus", MODEL, 60),
            (handles[0], MODEL, 60),
            (handles[1], "other", 60),
            (handles[1], MODEL, 150),
        ):
            with pytest.raises(Refusal, match="1008 BidiGenerateContent session not found"):
                store.resume(handle, model, now)
        assert store.resume(handles[2], MODEL, 159)


class TestRecord:
    def test_audio_is_summed_and_hashed_per_link_and_conversation(self) -> None:
        record = Archive(kept=1, items=10, audio_limit=6).open("c", "s")
        first, second = link(record), link(record)
        first.heard_audio(b"abcd", 16000)
        second.heard_audio(b"efgh", 16000)
        view = record.view()
        assert view["audio"]["sha256"] == hashlib.sha256(b"abcdefgh").hexdigest()
        assert [one["audio"]["sha256"] for one in view["links"]] == [
            hashlib.sha256(part).hexdigest() for part in (b"abcd", b"efgh")
        ]
        assert record.wav().endswith(b"abcdef")

    def test_lists_are_bounded_and_what_is_left_out_is_counted(self) -> None:
        record = Archive(kept=1, items=3, audio_limit=0).open("c", "s")
        one = link(record)
        for number in range(5):
            one.add("texts", str(number), at=0)
            one.heard_audio(b"ab", 16000)
        view = record.view()
        assert view["texts"] == ["0", "1", "2"]
        assert view["dropped"] == {"texts": 2, "events": 7, "links": 0}
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
