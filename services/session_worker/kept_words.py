"""What is stored of a conversation whose log is off: how it went, and not what was said. Plain code.

What a new owner must know is there all the same, entry by entry, so that positions mean the same: that something was
said, what an answer was about, and which functions were called, with what outcome. The last is in their claims anyway,
and the caller's own results have no other place: without them a call would have its effect twice, or its outcome be
lost. What the caller typed is not stored but not acked either, until it is answered: after a crash it comes again.
"""

from __future__ import annotations

from typing import Final

from parley.v1 import fabric_pb2, live_pb2

KEPT_ANYWAY: Final = frozenset({"tool_result"})
"""Requests that are stored as they are."""


def without_words(entry: fabric_pb2.LogEntry) -> fabric_pb2.LogEntry:
    """A log entry as it is stored with the log off."""
    match entry.WhichOneof("entry"):
        case "request" if entry.request.WhichOneof("payload") not in KEPT_ANYWAY:
            return fabric_pb2.LogEntry(request=live_pb2.ConverseRequest(seq=entry.request.seq))
        case "input_transcript":
            return fabric_pb2.LogEntry(input_transcript=live_pb2.Transcript())
        case "model_said":
            said = fabric_pb2.ModelSaid()
            said.CopyFrom(entry.model_said)
            said.ClearField("text")
            return fabric_pb2.LogEntry(model_said=said)
        case _:
            return entry


def is_kept(entry: fabric_pb2.LogEntry) -> bool:
    """Whether it is stored as it is, also with the log off."""
    return entry.HasField("renumbered") or entry.request.WhichOneof("payload") in KEPT_ANYWAY
