"""A timeline in words: what is asked for, what each event says, which causes are named."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from parley.cli._failures import CliError
from parley.cli.timeline import document, request_for
from parley.cli.timeline_text import MEANINGS, Columns, causes, details, heading, name_of, rows
from parley.v1 import live_pb2, sessions_pb2, timeline_pb2
from parley.v1 import timeline_pb2 as kinds

TRACE = "0af7651916cd43dd8448eb211c80319c"
Event = timeline_pb2.TimelineEvent
Answer = sessions_pb2.GetSessionTimelineResponse


def event(kind: str, at: float = 0.0, took: float | None = None, **fields: Any) -> Event:
    made = Event(type=kinds.TimelineEventType.Value(f"TIMELINE_EVENT_TYPE_{kind}"), **fields)
    made.time.FromSeconds(1_769_860_800)
    made.time.FromNanoseconds(made.time.ToNanoseconds() + round(at * 1e9))
    if took is not None:
        made.duration.FromTimedelta(timedelta(seconds=took))
    return made


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("ses_0000", sessions_pb2.GetSessionTimelineRequest(session_id="ses_0000")),
        (f" {TRACE.upper()} ", sessions_pb2.GetSessionTimelineRequest(trace_id=TRACE)),
        (f"00-{TRACE}-b7ad6b7169203331-01", sessions_pb2.GetSessionTimelineRequest(trace_id=TRACE)),
    ],
)
def test_what_can_be_asked_for(text: str, wanted: sessions_pb2.GetSessionTimelineRequest) -> None:
    assert request_for(text) == wanted


@pytest.mark.parametrize("text", ["", "wk-1", TRACE[1:], f"{TRACE}0", f"00-{TRACE}-b7ad6b7169203331"])
def test_what_cannot_is_said_at_once(text: str) -> None:
    with pytest.raises(CliError, match="neither the id of a session"):
        request_for(text)


def test_only_what_did_not_go_on_as_it_was_is_a_cause() -> None:
    events = [
        event("OPENED"),
        event("LINK_LOST", cause="GO_AWAY"),
        event("ROTATED", cause="GO_AWAY"),
        event("WORKER_LOST", cause="DEAD"),
        event("RECOVERED", cause="WORKER_LOST"),
        event("LINK_LOST", cause="GO_AWAY"),
        event("GAP", cause="OVERLOAD", count=3),
        event("DETACHED", cause="CALLER_CLOSED"),
        event("ATTACHED", cause="GATEWAY_BACK"),
        event("ENDED", cause="CALLER"),
    ]
    found = causes(events)
    assert [(cause.name, cause.count) for cause in found] == [("GO_AWAY", 2), ("DEAD", 1), ("OVERLOAD", 3)]
    assert found[0].meaning == MEANINGS["GO_AWAY"]


def test_a_cause_of_a_later_release_is_named_as_it_is() -> None:
    (cause,) = causes([event("LINK_LOST", cause="NEW_CAUSE")])
    assert (cause.name, cause.meaning) == ("NEW_CAUSE", "")
    answer = Answer(session_ids=["ses_a"], events=[event("OPENED"), event("LINK_LOST", cause="NEW_CAUSE")])
    assert heading(answer).splitlines()[1:] == ["- NEW_CAUSE"]


def test_the_heading_says_how_it_stands_and_why() -> None:
    session = sessions_pb2.Session(state=sessions_pb2.SESSION_STATE_ATTACHED, worker="wk-2")
    answer = Answer(
        session_ids=["ses_a"], session=session, events=[event("OPENED"), event("LINK_LOST", cause="LINK_SILENT")]
    )
    assert heading(answer).splitlines() == [
        "ses_a  attached, on wk-2, from 2026-01-31 12:00:00 UTC",
        "- LINK_SILENT: the connection to the model hung, and was given up",
    ]
    assert heading(Answer(session_ids=["ses_a"], events=[event("OPENED")])).endswith("UTC\nnothing went wrong")
    refused = Answer(session_ids=["ses_a"], events=[event("REFUSED", cause="NO_CAPACITY")])
    assert heading(refused).startswith("ses_a  refused, ")


@pytest.mark.parametrize(
    ("what", "words"),
    [
        (event("OPENED", model="gemini", profile="support", tries=2), "gemini; profile support; 2 workers asked"),
        (event("OPENED", model="gemini", tries=1), "gemini; inline config"),
        (event("TURN", turn=3, interrupted=True), "turn 3; interrupted"),
        (event("TURN_RESTARTED", turn=3), "turn 3"),
        (event("TOOL_CALL", tool="f", outcome=live_pb2.TOOL_OUTCOME_TIMED_OUT), "f: timed_out"),
        (event("TOOL_TROUBLE", tool="f", message="tl-1: runs again elsewhere"), "f; tl-1: runs again elsewhere"),
        (event("ROTATED", method="RESUMED", state_restored=True), "resumed"),
        (
            event("RECOVERED", method="RESEEDED", replayed=3, dropped=1),
            "reseeded; state not restored; 3 messages given again; 1 message could not be given again",
        ),
        (event("LINK_REFUSED", method="RESUME", tries=2, message="HTTP 503"), "resume, try 2; HTTP 503"),
        (
            event(
                "GAP",
                gap=live_pb2.Gap(
                    direction=live_pb2.DIRECTION_UPLINK,
                    from_seq=4,
                    to_seq=9,
                    media_class=live_pb2.MEDIA_CLASS_AUDIO,
                ),
                count=2,
            ),
            "uplink 4 to 9, audio; 2 of them",
        ),
        (
            event("GAP", gap=live_pb2.Gap(direction=live_pb2.DIRECTION_DOWNLINK, from_seq=4, to_seq=4)),
            "downlink 4 to 4",
        ),
        (event("ATTACHED", attach_generation=2), "stream 2"),
        (event("EVENTS_DROPPED", count=7), "7 of them"),
    ],
)
def test_what_an_event_says(what: Event, words: str) -> None:
    assert "; ".join(details(what)) == words


def test_a_trace_is_said_once() -> None:
    events = [
        event("OPENED", trace_id=TRACE),
        event("TURN", turn=1, trace_id=TRACE),
        event("ATTACHED", trace_id="f" * 32),
    ]
    said = [row[-1] for row in rows(events, Columns(events))]
    assert said == [f"; inline config; trace {TRACE}", "turn 1", f"trace {'f' * 32}"]


def test_a_first_audio_is_told() -> None:
    turn = event("TURN", took=2.5, turn=1)
    turn.first_audio.FromMilliseconds(380)
    assert list(details(turn)) == ["turn 1", "first audio after 0.380 s"]


def test_rows_count_from_the_first_event() -> None:
    events = [
        event("OPENED", 0.0, 0.021, worker="wk-1", gateway="gw-1", model="gemini"),
        event("LINK_LOST", 61.5, cause="LINK_LOST", worker="wk-1"),
        event("ENDED", 3_725.0625, cause="CALLER"),
    ]
    assert list(rows(events, Columns(events))) == [
        ("+0.000 s", "0.021 s", "opened", "", "gw-1 wk-1", "gemini; inline config"),
        ("+1:01.500", "", "link lost", "LINK_LOST", "wk-1", ""),
        ("+1:02:05.062", "", "ended", "CALLER", "", ""),
    ]


def test_a_beginning_that_is_not_kept_is_said() -> None:
    events = [event("ROTATED", method="RESUMED", state_restored=True)]
    assert next(rows(events, Columns(events)))[-1] == "what came before is not kept any more"


def test_lines_are_aligned_and_a_type_of_a_later_release_is_printed() -> None:
    columns = Columns([])
    line = columns.line(event("LINK_LOST", 5.0, cause="GO_AWAY", worker="wk-1"))
    assert line == "+0.000 s            link lost         GO_AWAY           wk-1"
    later = Event(type=99, cause="SOMETHING")
    assert name_of(later) == "99"


def test_the_document_has_causes_and_plain_types() -> None:
    answer = Answer(session_ids=["ses_a"], events=[event("LINK_LOST", cause="GO_AWAY", worker="wk-1")])
    found = document(answer)
    assert found["causes"] == [{"cause": "GO_AWAY", "count": 1, "meaning": MEANINGS["GO_AWAY"]}]
    assert found["events"] == [
        {"time": "2026-01-31T12:00:00Z", "type": "LINK_LOST", "cause": "GO_AWAY", "worker": "wk-1"}
    ]
    assert (found["session_id"], found["session"]) == ("ses_a", None)


def test_the_document_names_every_cause_and_every_kind() -> None:
    text = (Path(__file__).parents[2] / "docs" / "timeline.md").read_text()
    table = dict(re.findall(r"^\| `([A-Z_]+)` \| (.+) \|$", text, re.MULTILINE))
    assert table == MEANINGS
    told = set(re.findall(r"`([a-z ]+)`", text.partition("## What is told")[2].partition("## Causes")[0]))
    every = {name_of(Event(type=kind)) for kind in kinds.TimelineEventType.values() if kind}
    assert every <= told, every - told
