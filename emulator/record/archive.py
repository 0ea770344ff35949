"""All records there are."""

from collections import OrderedDict

from emulator.record.conversation import ConversationRecord


class Archive:
    """All conversations: those under way, and the latest that ended."""

    def __init__(self, *, kept: int, items: int, audio_limit: int) -> None:
        self._kept = kept
        self._items = items
        self._audio_limit = audio_limit
        self._records: OrderedDict[str, ConversationRecord] = OrderedDict()

    def __len__(self) -> int:
        return len(self._records)

    def open(self, conversation_id: str, scenario: str) -> ConversationRecord:
        """The record of that id, new or continued."""
        record = self._records.get(conversation_id)
        if record is None:
            record = ConversationRecord(conversation_id, scenario, limit=self._items, audio_limit=self._audio_limit)
            self._records[conversation_id] = record
        self._records.move_to_end(conversation_id)
        return record

    def trim(self) -> None:
        """Forget the oldest that ended, beyond the number kept."""
        excess = sum(not record.open for record in self._records.values()) - self._kept
        if excess > 0:
            for record in [record for record in self._records.values() if not record.open][:excess]:
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
        self._records.pop(conversation_id).links.clear()

    def clear(self) -> None:
        """Forget those that are not under way."""
        for record in self.all():
            if not record.open:
                self.forget(record.id)
