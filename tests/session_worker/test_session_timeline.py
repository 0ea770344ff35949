"""What a worker notes of a session: taken from what its caller is told, and nothing of what was said."""

from __future__ import annotations

import time
from typing import Any, cast

import pytest
from opentelemetry.context import Context

from parley.v1 import errors_pb2, fabric_pb2, live_pb2, timeline_pb2
from parley.v1 import timeline_pb2 as kinds
from services.fabric import telemetry
from services.fabric.bus import Bus, NoResponderError
from services.fabric.errors import ServiceError
from services.fabric.timeline import Timeline
from services.session_worker import responses
from services.session_worker.input_queue import PACE
from services.session_worker.session_timeline import SessionTimeline
from services.session_worker.turns import Turn

TRACE = "0af7651916cd43dd8448eb211c80319c"


class Notes:
    """Keeps what is noted."""

    def __init__(self) -> None:
        self.events: list[timeline_pb2.TimelineEvent] = []
        self.since: list[float | None] = []
        self.context = Context()
        spec = fabric_pb2.OpenSession(session_id="ses_a", tenant="acme")
        self.timeline = SessionTimeline(cast(Timeline, self), spec, "wk-1", 3, lambda: self.context)

    def note(self, session: str, tenant: str, event: timeline_pb2.TimelineEvent, *, since: float | None = None) -> None:
        assert (session, tenant, event.epoch) == ("ses_a", "acme", 3)
        self.events.append(event)
        self.since.append(since)

    def told(self, **payload: Any) -> Notes:
        self.timeline.told(live_pb2.ConverseResponse(**payload))
        return self

    @property
    def brief(self) -> list[tuple[str, str]]:
        names = [kinds.TimelineEventType.Name(event.type).removeprefix("TIMELINE_EVENT_TYPE_") for event in self.events]
        return [(name, event.cause) for name, event in zip(names, self.events, strict=True)]


def test_nothing_is_noted_after_the_end() -> None:
    notes = Notes().told(ended=live_pb2.Ended(reason=live_pb2.END_REASON_CALLER))
    notes.timeline.turn_restarted(Turn(1, 0.0))
    notes.told(link_state=rotating("LINK_LOST"))
    assert notes.brief == [("ENDED", "CALLER")]


def rotating(cause: str) -> live_pb2.LinkState:
    return live_pb2.LinkState(rotating=live_pb2.Rotating(cause=cause))


def recovered(gap: float = 0.0, **fields: Any) -> live_pb2.LinkState:
    return live_pb2.LinkState(recovered=live_pb2.Recovered(gap=responses.duration(gap), **fields))


@pytest.mark.parametrize(
    ("cause", "wanted"),
    [
        ("GO_AWAY", [("LINK_LOST", "GO_AWAY"), ("ROTATED", "GO_AWAY")]),
        ("OWNERSHIP_LAPSED", [("LINK_LOST", "OWNERSHIP_LAPSED"), ("ROTATED", "OWNERSHIP_LAPSED")]),
        ("WORKER_LOST", [("RECOVERED", "WORKER_LOST")]),
        ("DRAIN", [("MIGRATED", "DRAIN")]),
        ("MOVED", [("MIGRATED", "MOVED")]),
    ],
)
def test_a_link_that_goes_and_the_next(cause: str, wanted: list[tuple[str, str]]) -> None:
    notes = Notes().told(link_state=rotating(cause)).told(link_state=recovered())
    assert notes.brief == wanted
    assert {event.worker for event in notes.events} == {"wk-1"}


def test_what_the_next_link_is_told_with() -> None:
    notes = Notes()
    notes.timeline.link_over("the model's link closed: 1006")
    notes.told(link_state=rotating("LINK_LOST"))
    ranges = [live_pb2.SeqRange(from_seq=3, to_seq=5), live_pb2.SeqRange(from_seq=9, to_seq=9)]
    notes.told(link_state=recovered(0.5, method="RESEEDED", replayed=ranges, dropped=ranges[1:], state_restored=True))
    lost, rotated = notes.events
    assert lost.message == "the model's link closed: 1006"
    assert (rotated.method, rotated.state_restored, rotated.replayed, rotated.dropped) == ("RESEEDED", True, 4, 1)
    assert rotated.duration.ToMilliseconds() == 500
    notes.told(link_state=rotating("PARKED"))
    assert notes.events[-1].message == ""


def test_a_rotation_stands_behind_the_loss_and_a_takeover_where_it_began() -> None:
    lost_at = time.monotonic()
    notes = Notes().told(link_state=rotating("LINK_LOST"))
    notes.told(link_state=recovered(3600.0))
    assert notes.since[-1] == notes.since[-2]  # and what is noted later comes later
    notes.told(link_state=rotating("WORKER_LOST")).told(link_state=recovered(3600.0))
    assert notes.since[-1] is not None
    assert notes.since[-1] < lost_at - 60


def test_calls_gaps_and_the_end() -> None:
    activity = live_pb2.ToolActivity(call_id="1", name="f", message="quotes what was said")
    gap = live_pb2.Gap(from_seq=3, to_seq=4, reason="TOO_OLD")
    notes = Notes()
    for phase in (live_pb2.TOOL_PHASE_STARTED, live_pb2.TOOL_PHASE_PROGRESS):
        activity.phase = phase
        notes.told(tool_activity=activity)
    assert not notes.events
    activity.phase, activity.outcome = live_pb2.TOOL_PHASE_FINISHED, live_pb2.TOOL_OUTCOME_FAILED
    notes.told(tool_activity=activity).told(gap=gap)
    notes.told(ended=live_pb2.Ended(reason=live_pb2.END_REASON_BACKEND, message="no link"))
    assert notes.brief == [("TOOL_CALL", ""), ("GAP", "TOO_OLD"), ("ENDED", "BACKEND")]
    call, lost, ended = notes.events
    assert (call.tool, call.outcome, call.message) == ("f", live_pb2.TOOL_OUTCOME_FAILED, "")
    assert (lost.gap, ended.message, ended.end_reason) == (gap, "no link", live_pb2.END_REASON_BACKEND)


def test_pictures_that_gave_way_to_newer_ones_are_no_loss() -> None:
    assert not Notes().told(gap=live_pb2.Gap(from_seq=3, to_seq=4, reason=PACE)).events


@pytest.mark.parametrize(
    "payload",
    [
        {"text": live_pb2.TextOutput(text="words")},
        {"input_transcript": live_pb2.Transcript(text="words")},
        {"output_transcript": live_pb2.Transcript(text="words")},
        {"raw": live_pb2.Raw(json='"words"')},
        {"tool_call": live_pb2.ToolCall(call_id="1", name="f")},
        {"turn_complete": live_pb2.TurnComplete()},
    ],
)
def test_what_was_said_is_not_noted(payload: dict[str, Any]) -> None:
    assert not Notes().told(**payload).events


def test_calls_that_the_caller_runs_have_their_time_and_are_remembered_up_to_a_bound() -> None:
    notes = Notes()
    for number in range(200):
        notes.told(tool_call=live_pb2.ToolCall(call_id=str(number), name="f"))
    assert len(notes.timeline._began) == 128
    notes.timeline.caller_answered("0", "f", live_pb2.TOOL_OUTCOME_SUCCEEDED)
    notes.timeline.caller_answered("199", "f", live_pb2.TOOL_OUTCOME_TIMED_OUT)  # of which it is not known
    assert [event.outcome for event in notes.events] == [
        live_pb2.TOOL_OUTCOME_SUCCEEDED,
        live_pb2.TOOL_OUTCOME_TIMED_OUT,
    ]
    notes.told(tool_call_cancelled=live_pb2.ToolCallCancelled(call_ids=["1", "nobody's"]))
    assert len(notes.timeline._began) == 126


def test_turns_have_their_time_to_first_audio() -> None:
    notes, now = Notes(), time.monotonic()
    notes.timeline.turn_over(Turn(4, now - 2, first_audio=now - 1.5, interrupted=True, heard="words", said="words"))
    notes.timeline.turn_over(Turn(5, now))
    notes.timeline.turn_restarted(Turn(6, now))
    first, second, third = notes.events
    assert (first.turn, first.first_audio.ToMilliseconds(), first.interrupted) == (4, 500, True)
    assert notes.since[0] == now - 2
    assert not second.HasField("first_audio")
    assert (third.turn, third.type) == (6, kinds.TIMELINE_EVENT_TYPE_TURN_RESTARTED)
    assert b"words" not in first.SerializeToString()


def test_a_worker_that_was_lost_is_named_and_one_that_let_go_is_not() -> None:
    notes = Notes()
    request = fabric_pb2.TakeOver(
        from_worker="wk-0", gateway="gw-1", proof=fabric_pb2.PROOF_OF_DEATH_SILENT, silence=responses.duration(6)
    )
    notes.timeline.worker_lost(request)
    request.proof = fabric_pb2.PROOF_OF_DEATH_RELEASED
    notes.timeline.worker_lost(request)
    assert notes.brief == [("WORKER_LOST", "SILENT")]
    assert (notes.events[0].worker, notes.events[0].duration.seconds) == ("wk-0", 6)


def test_what_happens_to_this_worker() -> None:
    notes = Notes()
    error = ServiceError(errors_pb2.ERROR_REASON_BACKEND_UNAVAILABLE, "HTTP 503")
    notes.timeline.link_refused("RESUME", 2, error)
    notes.timeline.tool_trouble("f", "EXECUTOR_LOST", "tl-1")
    notes.timeline.gateway_back("gw-1")
    notes.timeline.ownership_lost()
    notes.timeline.bus_lost(time.monotonic() - 3)
    notes.timeline.released("DRAIN", time.monotonic(), "NATS was away")
    assert notes.brief == [
        ("LINK_REFUSED", "BACKEND_UNAVAILABLE"),
        ("TOOL_TROUBLE", "EXECUTOR_LOST"),
        ("ATTACHED", "GATEWAY_BACK"),
        ("OWNERSHIP_LOST", "FENCED"),
        ("BUS_LOST", "BUS_LOST"),
        ("RELEASED", "DRAIN"),
    ]
    assert (notes.events[0].method, notes.events[0].tries, notes.events[0].message) == ("RESUME", 2, "HTTP 503")


def test_a_trace_is_noted_where_it_begins() -> None:
    notes = Notes()
    notes.timeline.ownership_lost()
    notes.context = telemetry.context_from({"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"})
    notes.timeline.ownership_lost()
    notes.timeline.ownership_lost()
    notes.context = telemetry.context_from({"traceparent": f"00-{TRACE[::-1]}-b7ad6b7169203331-01"})
    notes.timeline.ownership_lost()
    assert [event.trace_id for event in notes.events] == ["", TRACE, "", TRACE[::-1]]


class Answers:
    """A bus on which a gateway is there, is not, or says nothing."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    async def request(self, subject: str, *_: object) -> None:
        assert subject == "parley.gateway.gw-1.down.ses_a"
        raise self._error


@pytest.mark.parametrize(
    ("error", "elsewhere", "wanted"),
    [
        (NoResponderError(), True, [("DETACHED", "GATEWAY_LOST")]),
        (NoResponderError(), False, [("DETACHED", "GATEWAY_LOST")]),
        (ServiceError(errors_pb2.ERROR_REASON_FABRIC_UNAVAILABLE, "no answer"), True, []),
        (
            ServiceError(errors_pb2.ERROR_REASON_FABRIC_UNAVAILABLE, "no answer"),
            False,
            [("DETACHED", "GATEWAY_SILENT")],
        ),
    ],
)
async def test_what_became_of_a_gateway(error: Exception, elsewhere: bool, wanted: list[tuple[str, str]]) -> None:
    notes = Notes()
    since = time.monotonic() - 2
    await notes.timeline.look_for_gateway(cast(Bus, Answers(error)), "gw-1", since, elsewhere=elsewhere)
    assert notes.brief == wanted
    assert notes.since == [since] * len(wanted)
