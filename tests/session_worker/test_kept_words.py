"""With the log off: how the conversation went is stored, and nothing that was said."""

from __future__ import annotations

import pytest

from parley.v1 import fabric_pb2, live_pb2
from services.session_worker.kept_words import is_kept, without_words
from services.session_worker.responses import struct

Entry = fabric_pb2.LogEntry
SECRET = "a secret"
WORDS = [
    Entry(request=live_pb2.ConverseRequest(seq=3, text=live_pb2.TextInput(text=SECRET))),
    Entry(
        request=live_pb2.ConverseRequest(
            seq=4, turn=live_pb2.TurnInput(content=[live_pb2.Content(parts=[live_pb2.Part(text=SECRET)])])
        )
    ),
    Entry(request=live_pb2.ConverseRequest(seq=5, context_update=live_pb2.ContextUpdate(instructions=SECRET))),
    Entry(input_transcript=live_pb2.Transcript(text=SECRET, finished=True)),
    Entry(model_said=fabric_pb2.ModelSaid(text=SECRET, interrupted=True, given_seq=4, turn=2)),
]
KEPT = [
    Entry(
        request=live_pb2.ConverseRequest(
            seq=6, tool_result=live_pb2.ToolResult(call_id="c1", output=struct({"seats": 2}))
        )
    ),
    Entry(tool=fabric_pb2.ToolRecord(call_id="c1", name="book", arguments_json="{}", response_json='{"output": {}}')),
    Entry(epoch_begins=fabric_pb2.EpochBegins(worker="w")),
]


@pytest.mark.parametrize("entry", WORDS, ids=lambda entry: str(entry.WhichOneof("entry")))
def test_nothing_said_is_stored(entry: fabric_pb2.LogEntry) -> None:
    stored = without_words(entry)
    assert SECRET.encode() not in stored.SerializeToString()
    assert stored.WhichOneof("entry") == entry.WhichOneof("entry")
    assert not is_kept(entry)
    assert SECRET.encode() in entry.SerializeToString()  # the session itself still has it


def test_what_answers_were_about_is_stored() -> None:
    assert [without_words(entry).request.seq for entry in WORDS[:3]] == [3, 4, 5]
    said = without_words(WORDS[4]).model_said
    assert (said.interrupted, said.given_seq, said.turn) == (True, 4, 2)


@pytest.mark.parametrize("entry", KEPT, ids=lambda entry: str(entry.WhichOneof("entry")))
def test_functions_are_stored_as_ever(entry: fabric_pb2.LogEntry) -> None:
    assert without_words(entry) == entry
    assert is_kept(entry) is entry.HasField("request")
