"""What a gateway notes of sessions, and GetSessionTimeline, over real sockets with a real nats-server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio
import pytest

from parley.v1 import errors_pb2, fabric_pb2, live_pb2, sessions_pb2, sessions_pb2_grpc, timeline_pb2
from parley.v1 import timeline_pb2 as kinds
from services.fabric import ids
from services.fabric.errors import ServiceError
from services.gateway.server import Gateway
from tests.gateway.conftest import KEY, OTHER_KEY, Refusal, StartGateway, channel_to, converse, open_request, opened
from tests.gateway.conftest import refusal as refused
from tests.gateway.fake_worker import FakeWorker
from tests.support.eventually import eventually
from tests.support.nats import NatsServer

AUTH = (("x-parley-api-key", KEY),)
OTHER = (("x-parley-api-key", OTHER_KEY),)
Answer = sessions_pb2.GetSessionTimelineResponse


def new_trace() -> tuple[str, str]:
    trace = (ids.sortable_id().encode().hex() * 2)[-32:]
    return trace, f"00-{trace}-b7ad6b7169203331-01"


async def timeline(channel: grpc.aio.Channel, metadata: Any = AUTH, **fields: Any) -> Answer:
    stub = sessions_pb2_grpc.SessionServiceStub(channel)
    answer = await stub.GetSessionTimeline(sessions_pb2.GetSessionTimelineRequest(**fields), metadata=metadata)
    assert isinstance(answer, Answer)
    return answer


async def until(
    channel: grpc.aio.Channel, wanted: Callable[[list[timeline_pb2.TimelineEvent]], bool], **fields: Any
) -> Answer:
    """The timeline, as soon as it has what is wanted."""
    found = Answer()

    async def there() -> bool:
        nonlocal found
        try:
            found = await timeline(channel, **fields)
        except grpc.aio.AioRpcError as error:
            assert error.code() is grpc.StatusCode.NOT_FOUND, error
            return False
        return wanted(list(found.events))

    await eventually(there, 10)
    return found


def has(kind: str, cause: str = "") -> Callable[[list[timeline_pb2.TimelineEvent]], bool]:
    number = kinds.TimelineEventType.Value(f"TIMELINE_EVENT_TYPE_{kind}")
    return lambda found: any(event.type == number and cause in ("", event.cause) for event in found)


def brief(answer: Answer) -> list[tuple[str, str]]:
    return [
        (kinds.TimelineEventType.Name(event.type).removeprefix("TIMELINE_EVENT_TYPE_"), event.cause)
        for event in answer.events
    ]


async def asked_badly(channel: grpc.aio.Channel, metadata: Any = AUTH, **fields: Any) -> Refusal:
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await timeline(channel, metadata, **fields)
    return Refusal(failed.value)


async def test_an_open_is_found_by_its_trace_with_what_it_took(
    channel: grpc.aio.Channel, gateway: Gateway, worker: FakeWorker
) -> None:
    trace, traceparent = new_trace()
    call = converse(channel, metadata=[("traceparent", traceparent)])
    session = await opened(call)
    answer = await until(channel, has("OPENED"), trace_id=trace)
    assert list(answer.session_ids) == [session.session_id]
    assert answer.session.session_id == session.session_id
    (event,) = answer.events
    assert (event.gateway, event.worker, event.profile, event.model, event.trace_id, event.tries) == (
        gateway.id,
        worker.name,
        "support",
        "gemini-3.8-live",
        trace,
        1,
    )
    assert event.duration.ToTimedelta().total_seconds() > 0
    assert (await timeline(channel, trace_id=trace.upper())).session_ids == answer.session_ids
    call.cancel()


async def test_a_refused_open_is_found_by_its_trace(channel: grpc.aio.Channel, worker: FakeWorker) -> None:
    trace, traceparent = new_trace()
    worker.refuse = ServiceError(errors_pb2.ERROR_REASON_BACKEND_QUOTA, "the project has too many links")
    call = converse(channel, metadata=[("traceparent", traceparent)])
    await call.write(open_request())
    await refused(call)
    answer = await until(channel, has("REFUSED"), trace_id=trace)
    assert brief(answer) == [("REFUSED", "BACKEND_QUOTA")]
    assert answer.events[0].message == "the project has too many links"
    assert not answer.HasField("session")


async def test_streams_that_come_and_go(
    nats: NatsServer, start_gateway: StartGateway, worker: FakeWorker, gateway: Gateway
) -> None:
    trace, traceparent = new_trace()
    other = await start_gateway(nats.url)
    async with channel_to(gateway) as channel, channel_to(other) as channel_of_other:
        call = converse(channel)
        session = await opened(call)
        call.cancel()
        of = {"session_id": session.session_id}
        await until(channel, has("DETACHED", "CALLER_GONE"), **of)
        resume = live_pb2.Resume(session_id=session.session_id, resume_token=session.resume_token)
        again = converse(channel_of_other, metadata=[("traceparent", traceparent)])
        await opened(again, live_pb2.ConverseRequest(open=live_pb2.Open(resume=resume)))
        await until(channel, has("ATTACHED"), **of)
        await other.stop()
        answer = await until(channel, has("DETACHED", "GATEWAY_DRAINING"), **of)
        assert brief(answer) == [
            ("OPENED", ""),
            ("DETACHED", "CALLER_GONE"),
            ("ATTACHED", ""),
            ("GATEWAY_DRAINING", "GATEWAY_DRAINING"),
            ("DETACHED", "GATEWAY_DRAINING"),
        ]
        assert [event.gateway for event in answer.events] == [gateway.id, gateway.id, other.id, other.id, other.id]
        # A caller that comes back in another trace is found by that, too.
        assert list((await timeline(channel, trace_id=trace)).session_ids) == [session.session_id]


async def test_a_trace_of_several_sessions_names_them(channel: grpc.aio.Channel, worker: FakeWorker) -> None:
    trace, traceparent = new_trace()
    calls = [converse(channel, metadata=[("traceparent", traceparent)]) for _ in range(2)]
    sessions = [(await opened(call)).session_id for call in calls]
    for session in sessions:
        await until(channel, has("OPENED"), session_id=session)
    answer = await timeline(channel, trace_id=trace)
    assert (list(answer.session_ids), list(answer.events)) == (sorted(sessions), [])
    for call in calls:
        call.cancel()


async def test_what_came_since_can_be_asked_for(channel: grpc.aio.Channel, worker: FakeWorker) -> None:
    call = converse(channel)
    session = await opened(call)
    of = {"session_id": session.session_id}
    first = await until(channel, has("OPENED"), **of)
    nothing = await timeline(channel, after=first.next_after, **of)
    assert (list(nothing.events), nothing.next_after) == ([], first.next_after)
    call.cancel()
    later = await until(channel, has("DETACHED"), after=first.next_after, **of)
    assert brief(later) == [("DETACHED", "CALLER_GONE")]


async def test_a_session_that_a_gateway_ends_is_told_of(channel: grpc.aio.Channel, worker: FakeWorker) -> None:
    session = ids.session_id()
    own = sessions_pb2.Session(session_id=session, tenant="acme", worker="wk-nobody", epoch=1)
    await worker.records.create_own(session, fabric_pb2.OwnRecord(schema_version=1, session=own))
    stub = sessions_pb2_grpc.SessionServiceStub(channel)
    await stub.EndSession(sessions_pb2.EndSessionRequest(session_id=session, reason="a test"), metadata=AUTH)
    answer = await until(channel, has("ENDED"), session_id=session)
    assert brief(answer) == [("ENDED", "OPERATOR")]
    assert (answer.events[0].message, answer.session.state) == ("a test", sessions_pb2.SESSION_STATE_ENDED)


async def test_only_the_tenant_is_told(channel: grpc.aio.Channel, worker: FakeWorker) -> None:
    trace, traceparent = new_trace()
    call = converse(channel, metadata=[("traceparent", traceparent)])
    session = await opened(call)
    await until(channel, has("OPENED"), trace_id=trace)
    for asked in ({"session_id": session.session_id}, {"trace_id": trace}):
        refusal = await asked_badly(channel, OTHER, **asked)
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "SESSION_UNKNOWN")
    call.cancel()


@pytest.mark.parametrize(
    ("asked", "reason", "fields"),
    [
        ({}, "FIELD_INVALID", ["session_id"]),
        ({"session_id": ""}, "SESSION_UNKNOWN", []),
        ({"session_id": "ses_*"}, "SESSION_UNKNOWN", []),
        ({"session_id": ids.session_id()}, "SESSION_UNKNOWN", []),
        ({"trace_id": "0" * 31}, "FIELD_INVALID", ["trace_id"]),
        ({"trace_id": "*"}, "FIELD_INVALID", ["trace_id"]),
        ({"trace_id": "f" * 32}, "SESSION_UNKNOWN", []),
        ({"session_id": ids.session_id(), "after": "-1"}, "FIELD_INVALID", ["after"]),
        ({"session_id": ids.session_id(), "after": "9" * 19}, "FIELD_INVALID", ["after"]),
    ],
)
async def test_what_cannot_be_told_is_refused(
    channel: grpc.aio.Channel, asked: dict[str, str], reason: str, fields: list[str]
) -> None:
    refusal = await asked_badly(channel, **asked)
    assert (refusal.reason, refusal.fields) == (reason, fields)
