"""All records there are."""

from collections import OrderedDict

from emulator.record.conversation import ConversationRecord
from emulator.record.room import Room


class Archive:
    """All conversations: those under way, and the latest that ended."""

    def __init__(self, *, kept: int, items: int, audio_limit: int, each: int = 2**24, total: int = 2**28) -> None:
        """``kept`` records that have ended, of ``items`` entries in a list, of ``each`` bytes and ``total`` in all."""
        self._kept = kept
        self._each = each
        self._room = Room(total)
        self._items = items
        self._audio_limit = audio_limit
        self._records: OrderedDict[str, ConversationRecord] = OrderedDict()

    def __len__(self) -> int:
        return len(self._records)

    def open(self, conversation_id: str, scenario: str) -> ConversationRecord:
        """The record of that id, new or continued."""
        record = self._records.get(conversation_id)
        if record is None:
            room = Room(self._each, self._room)
            record = ConversationRecord(
                conversation_id, scenario, limit=self._items, audio_limit=self._audio_limit, room=room
            )
            self._records[conversation_id] = record
        self._records.move_to_end(conversation_id)
        return record

    def trim(self) -> None:
        """Forget the oldest that ended, beyond the number kept, or while more than half of the room is taken."""
        ended = [record for record in self._records.values() if not record.open]
        for number, record in enumerate(ended):
            if len(ended) - number <= self._kept and self._room.used <= self._room.limit // 2:
                return
            self.forget(record.id)

    def get(self, conversation_id: str) -> ConversationRecord | None:
        """The record, if it is known."""
        return self._records.get(conversation_id)

    def all(self) -> list[ConversationRecord]:
        """All, the latest last."""
        return list(self._records.values())

    def forget(self, conversation_id: str) -> None:
        """That one, which must be known."""
        # Its links know it, and open ones go on to tell it things: without them it is gone as soon as they are.
        record = self._records.pop(conversation_id)
        record.links.clear()
        record.room.give_back()
        record.room = Room(0)

    def clear(self) -> None:
        """Forget those that are not under way."""
        for record in self.all():
            if not record.open:
                self.forget(record.id)
