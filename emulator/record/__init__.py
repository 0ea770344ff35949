"""What the model heard and did: the tests' witness.

A conversation is a tree of links (connections): each starts from nothing or from a :class:`Position` in the history of
an earlier one, which the handle stood for. Links write their record; :mod:`emulator.record.lineage` reads it.
Everything is bounded, and what no longer fits is counted.
"""

from emulator.record.archive import Archive
from emulator.record.conversation import ConversationRecord
from emulator.record.journal import Position
from emulator.record.link import LinkFacts, LinkRecord

__all__ = ["Archive", "ConversationRecord", "LinkFacts", "LinkRecord", "Position"]
