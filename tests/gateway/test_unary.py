"""Everything beside `Converse`, over real sockets."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from parley.v1 import (
    fabric_pb2,
    fleet_pb2,
    fleet_pb2_grpc,
    live_pb2,
    sessions_pb2,
    sessions_pb2_grpc,
    tools_pb2,
    tools_pb2_grpc,
)
from services.fabric import ids
from services.fabric.catalog import Catalog
from services.fabric.records import SessionRecords
from services.gateway.server import Gateway
from tests.gateway.conftest import (
    KEY,
    OTHER_KEY,
    Refusal,
    StartGateway,
    channel_to,
    converse,
    open_request,
    opened,
)
from tests.gateway.fake_worker import FakeWorker, start_worker
from tests.support.eventually import eventually
from tests.support.nats import NatsServer, nats_server

AUTH = (("x-parley-api-key", KEY),)
OTHER = (("x-parley-api-key", OTHER_KEY),)


async def refused(call: Any) -> Refusal:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call
    return Refusal(raised.value)


async def test_a_session_is_shown_listed_and_ended_for_its_tenant_only(start_gateway: StartGateway) -> None:
    async with nats_server() as server:
        worker = await start_worker(server.url)
        gateway = await start_gateway(server.url)
        async with channel_to(gateway) as channel:
            sessions = sessions_pb2_grpc.SessionServiceStub(channel)
            made = [(await opened(converse(channel), open_request())).session_id for _ in range(3)]
            await opened(converse(channel, key=OTHER_KEY), open_request())

            got = await sessions.GetSession(sessions_pb2.GetSessionRequest(session_id=made[0]), metadata=AUTH)
            assert (got.session.session_id, got.session.profile) == (made[0], "support")
            assert got.session.state == sessions_pb2.SESSION_STATE_DETACHED  # the fake writes no attachment

            page = await sessions.ListSessions(sessions_pb2.ListSessionsRequest(page_size=2), metadata=AUTH)
            assert [session.session_id for session in page.sessions] == [made[2], made[1]]
            rest = sessions_pb2.ListSessionsRequest(page_size=2, page_token=page.next_page_token)
            page = await sessions.ListSessions(rest, metadata=AUTH)
            assert [session.session_id for session in page.sessions] == [made[0]]
            assert not page.next_page_token

            for request in (
                sessions_pb2.GetSessionRequest(session_id=made[0]),
                sessions_pb2.GetSessionRequest(session_id="ses_*"),
            ):
                answer = await refused(sessions.GetSession(request, metadata=OTHER))
                assert (answer.code, answer.reason) == (grpc.StatusCode.NOT_FOUND, "SESSION_UNKNOWN")

            await sessions.EndSession(
                sessions_pb2.EndSessionRequest(session_id=made[0], reason="enough"), metadata=AUTH
            )
            (end,) = worker.asked("end")
            assert (end.session_id, end.reason, end.message) == (made[0], live_pb2.END_REASON_OPERATOR, "enough")

            # The worker is gone: the gateway itself records the end, and the request id is free.
            subscriptions = gateway.counts()["subscriptions"]
            await worker.stop(quietly=True)
            await sessions.EndSession(sessions_pb2.EndSessionRequest(session_id=made[1]), metadata=AUTH)
            got = await sessions.GetSession(sessions_pb2.GetSessionRequest(session_id=made[1]), metadata=AUTH)
            assert got.session.state == sessions_pb2.SESSION_STATE_ENDED
            assert got.session.end_reason == live_pb2.END_REASON_OPERATOR
            assert got.session.HasField("end_time")
            await sessions.EndSession(sessions_pb2.EndSessionRequest(session_id=made[1]), metadata=AUTH)
            assert gateway.counts()["subscriptions"] == subscriptions


async def test_sessions_are_listed_by_filter(start_gateway: StartGateway) -> None:
    async with nats_server() as server:
        worker = await start_worker(server.url)
        gateway = await start_gateway(server.url)
        async with channel_to(gateway) as channel:
            sessions = sessions_pb2_grpc.SessionServiceStub(channel)
            made = []
            for number in range(6):
                request = open_request()
                request.open.labels["team"] = "billing" if number % 2 else "sales"
                made.append((await opened(converse(channel), request)).session_id)
            foreign = open_request()
            foreign.open.labels["team"] = "billing"
            await opened(converse(channel, key=OTHER_KEY), foreign)
            for session in (made[1], made[2], made[3]):
                attached = fabric_pb2.AttachmentRecord(attach_generation=1, gateway=gateway.id)
                await worker.records.write_attachment(session, worker.own[session], attached)

            async def listed(text: str, **fields: Any) -> sessions_pb2.ListSessionsResponse:
                request = sessions_pb2.ListSessionsRequest(filter=text, **fields)
                page: sessions_pb2.ListSessionsResponse = await sessions.ListSessions(request, metadata=AUTH)
                return page

            async def found(text: str) -> list[int]:
                return sorted(made.index(session.session_id) for session in (await listed(text)).sessions)

            assert await found("labels.team = billing") == [1, 3, 5]
            assert await found("state = ATTACHED") == [1, 2, 3]
            assert await found(f"state = ATTACHED gateway = {gateway.id} -labels.team = sales") == [1, 3]
            assert await found("profile != support") == []
            await worker.stop(quietly=True)
            await sessions.EndSession(sessions_pb2.EndSessionRequest(session_id=made[3]), metadata=AUTH)
            assert await found("state = ENDED AND end_reason = OPERATOR") == [3]
            assert await found('end_time > "2026-01-01T00:00:00Z"') == [3]
            assert await found("state = DETACHED OR state = ATTACHED") == [0, 1, 2, 4, 5]

            first = await listed("labels.team = billing", page_size=2)
            assert [session.session_id for session in first.sessions] == [made[5], made[3]]
            rest = await listed("labels.team = billing", page_size=1, page_token=first.next_page_token)
            assert [session.session_id for session in rest.sessions] == [made[1]]
            assert not rest.next_page_token
            for other in ("", "labels.team = sales"):
                request = sessions_pb2.ListSessionsRequest(filter=other, page_token=first.next_page_token)
                answer = await refused(sessions.ListSessions(request, metadata=AUTH))
                assert (answer.code, answer.reason, answer.fields) == (
                    grpc.StatusCode.INVALID_ARGUMENT, "FIELD_INVALID", ["page_token"],
                )  # fmt: skip
            answer = await refused(
                sessions.ListSessions(sessions_pb2.ListSessionsRequest(filter="a = "), metadata=AUTH)
            )
            assert "filter: at character 1: read `a`, expected" in answer.message


@pytest.mark.parametrize("remembered", [True, False])
async def test_a_session_that_ends_while_it_is_looked_at_has_ended_and_does_not_wait(
    channel: grpc.aio.Channel, worker: FakeWorker, monkeypatch: pytest.MonkeyPatch, remembered: bool
) -> None:
    session = (await opened(converse(channel))).session_id
    read = SessionRecords.read_attachment

    async def after_the_end(records: SessionRecords, asked: str) -> fabric_pb2.AttachmentRecord | None:
        found = await worker.records.read_own(session) if asked == session else None
        if found is not None:
            found[0].session.state = sessions_pb2.SESSION_STATE_ENDED
            await worker.records.end_own(session, found[1], found[0], timedelta(minutes=1))
            await (worker.records.forget_work if remembered else worker.records.forget)(session)
        return await read(records, asked)

    monkeypatch.setattr(SessionRecords, "read_attachment", after_the_end)
    sessions = sessions_pb2_grpc.SessionServiceStub(channel)
    if remembered:
        got = await sessions.GetSession(sessions_pb2.GetSessionRequest(session_id=session), metadata=AUTH)
        assert got.session.state == sessions_pb2.SESSION_STATE_ENDED
        return
    listed = await sessions.ListSessions(sessions_pb2.ListSessionsRequest(), metadata=AUTH)
    (found,) = [each for each in listed.sessions if each.session_id == session]
    assert (found.state, found.gateway) == (sessions_pb2.SESSION_STATE_ENDED, "")


async def test_wrong_requests_are_refused(channel: grpc.aio.Channel) -> None:
    sessions = sessions_pb2_grpc.SessionServiceStub(channel)
    for request, reason, fields in (
        (sessions_pb2.ListSessionsRequest(page_size=1001), "FIELD_INVALID", ["page_size"]),
        (sessions_pb2.ListSessionsRequest(page_size=-1), "FIELD_INVALID", ["page_size"]),
        (sessions_pb2.ListSessionsRequest(page_token="x"), "FIELD_INVALID", ["page_token"]),
        (sessions_pb2.ListSessionsRequest(filter="x"), "FIELD_INVALID", ["filter"]),
        (sessions_pb2.ListSessionsRequest(filter=" " * 2049), "FIELD_INVALID", ["filter"]),
    ):
        answer = await refused(sessions.ListSessions(request, metadata=AUTH))
        assert (answer.code, answer.reason, answer.fields) == (grpc.StatusCode.INVALID_ARGUMENT, reason, fields)
    assert answer.message == "filter: at most 2048 characters, not 2049"
    for call in (
        sessions.GetSession(sessions_pb2.GetSessionRequest(), metadata=AUTH),
        sessions.EndSession(sessions_pb2.EndSessionRequest(), metadata=AUTH),
    ):
        answer = await refused(call)
        assert (answer.code, answer.reason, answer.fields) == (
            grpc.StatusCode.INVALID_ARGUMENT, "FIELD_INVALID", ["session_id"],
        )  # fmt: skip
    for session in ("ses_1", "*", ">", ids.session_id(), "x" * 4096):
        for call in (
            sessions.GetSession(sessions_pb2.GetSessionRequest(session_id=session), metadata=AUTH),
            sessions.EndSession(sessions_pb2.EndSessionRequest(session_id=session), metadata=AUTH),
        ):
            answer = await refused(call)
            assert (answer.code, answer.reason) == (grpc.StatusCode.NOT_FOUND, "SESSION_UNKNOWN")
    answer = await refused(sessions.EndSession(sessions_pb2.EndSessionRequest(reason="x" * 257), metadata=AUTH))
    assert (answer.code, answer.fields) == (grpc.StatusCode.INVALID_ARGUMENT, ["reason"])


async def test_every_call_wants_a_known_key(channel: grpc.aio.Channel) -> None:
    sessions = sessions_pb2_grpc.SessionServiceStub(channel)
    fleet, tools = fleet_pb2_grpc.FleetServiceStub(channel), tools_pb2_grpc.ToolServiceStub(channel)
    for metadata in ((), (("x-parley-api-key", "nobody's"),)):
        for call in (
            sessions.GetSession(sessions_pb2.GetSessionRequest(session_id="x"), metadata=metadata),
            sessions.ListSessions(sessions_pb2.ListSessionsRequest(), metadata=metadata),
            sessions.EndSession(sessions_pb2.EndSessionRequest(session_id="x"), metadata=metadata),
            sessions.WatchSession(sessions_pb2.WatchSessionRequest(session_id="x"), metadata=metadata).read(),
            fleet.ListWorkers(fleet_pb2.ListWorkersRequest(), metadata=metadata),
            tools.ListTools(tools_pb2.ListToolsRequest(), metadata=metadata),
            tools.CallTool(tools_pb2.CallToolRequest(), metadata=metadata),
        ):
            answer = await refused(call)
            assert (answer.code, answer.reason) == (grpc.StatusCode.UNAUTHENTICATED, "CREDENTIAL_INVALID")


async def test_what_is_not_served_yet_says_so_by_name(channel: grpc.aio.Channel) -> None:
    sessions = sessions_pb2_grpc.SessionServiceStub(channel)
    tools = tools_pb2_grpc.ToolServiceStub(channel)
    for name, call in (
        ("MintEphemeralToken", sessions.MintEphemeralToken(sessions_pb2.MintEphemeralTokenRequest(), metadata=AUTH)),
        ("CallTool", tools.CallTool(tools_pb2.CallToolRequest(), metadata=AUTH)),
    ):
        answer = await refused(call)
        assert (answer.code, answer.reason) == (grpc.StatusCode.UNIMPLEMENTED, "NOT_IMPLEMENTED"), name
        assert name in answer.message


async def test_workers_and_tools_are_listed(channel: grpc.aio.Channel, worker: FakeWorker) -> None:
    fleet = fleet_pb2_grpc.FleetServiceStub(channel)
    (listed,) = (await fleet.ListWorkers(fleet_pb2.ListWorkersRequest(), metadata=AUTH)).workers
    assert (listed.worker, listed.capacity) == (worker.name, 100)
    catalog = Catalog(worker.client.jetstream())
    declaration = live_pb2.FunctionDeclaration(name="lookup_order", description="Finds an order.")
    await catalog.publish([tools_pb2.Tool(declaration=declaration, idempotent=True)])
    tools = tools_pb2_grpc.ToolServiceStub(channel)
    (tool,) = (await tools.ListTools(tools_pb2.ListToolsRequest(), metadata=AUTH)).tools
    assert tool.declaration.name == "lookup_order"
    # And a session that names it brings its declaration to the worker.
    config = live_pb2.SessionConfig(model="gemini-3.8-live", tools=["lookup_order"])
    request = live_pb2.ConverseRequest(open=live_pb2.Open(request_id="with-tool", config=config))
    session = await opened(converse(channel), request)
    spec = worker.sessions[session.session_id]
    assert (spec.profile, spec.config) == ("", config)
    assert [tool.declaration.description for tool in spec.tools] == ["Finds an order."]


async def test_tools_of_one_tenant_are_unknown_to_another(channel: grpc.aio.Channel, worker: FakeWorker) -> None:
    declared = [
        tools_pb2.Tool(declaration=live_pb2.FunctionDeclaration(name=name, description="Finds."), tenants=tenants)
        for name, tenants in (("of_acme", ["acme", "others"]), ("of_others", ["others"]), ("of_all", []))
    ]
    await Catalog(worker.client.jetstream()).publish(declared)
    tools = tools_pb2_grpc.ToolServiceStub(channel)
    listed = (await tools.ListTools(tools_pb2.ListToolsRequest(), metadata=AUTH)).tools
    assert {"of_acme", "of_all"} == {tool.declaration.name for tool in listed} & {"of_acme", "of_others", "of_all"}
    assert not any(tool.tenants for tool in listed)

    def request(*names: str) -> live_pb2.ConverseRequest:
        config = live_pb2.SessionConfig(model="gemini-3.8-live", tools=names)
        return live_pb2.ConverseRequest(open=live_pb2.Open(request_id="-".join(names), config=config))

    session = await opened(converse(channel), request("of_acme", "of_all"))
    assert [list(tool.tenants) for tool in worker.sessions[session.session_id].tools] == [["acme", "others"], []]
    answers = []
    for name in ("of_others", "of_nobody"):
        call = converse(channel)
        await call.write(request("of_all", name))
        answers.append(await refused(call.read()))
        assert answers[-1].reason == "TOOL_UNKNOWN"
    assert answers[0].message.replace("of_others", "of_nobody") == answers[1].message  # nobody learns that it is there


async def test_tools_whose_declarations_do_not_fit_into_a_checkpoint_are_refused(
    channel: grpc.aio.Channel, worker: FakeWorker
) -> None:
    named = [f"large_{number}" for number in range(13)]
    declared = [live_pb2.FunctionDeclaration(name=name, description="x" * 61_440) for name in named]
    await Catalog(worker.client.jetstream()).publish([tools_pb2.Tool(declaration=each) for each in declared])
    for count, right in ((12, True), (13, False)):
        config = live_pb2.SessionConfig(model="gemini-3.8-live", tools=named[:count])
        call = converse(channel)
        request = live_pb2.ConverseRequest(open=live_pb2.Open(request_id=f"large-{count}", config=config))
        if right:
            await opened(call, request)
            continue
        await call.write(request)
        answer = await refused(call.read())
        assert (answer.reason, answer.fields) == ("FIELD_INVALID", ["open.config.tools"])
        assert "768 KiB" in answer.message


async def test_health_follows_readiness(channel: grpc.aio.Channel, worker: FakeWorker, gateway: Gateway) -> None:
    health = health_pb2_grpc.HealthStub(channel)

    async def status(service: str = "") -> health_pb2.HealthCheckResponse.ServingStatus:
        answer: health_pb2.HealthCheckResponse = await health.Check(health_pb2.HealthCheckRequest(service=service))
        return answer.status

    async def serves(service: str = "") -> bool:
        return await status(service) == health_pb2.HealthCheckResponse.SERVING

    await eventually(serves)
    assert await serves("parley.v1.LiveService")
    await worker.stop()
    await eventually(lambda: not gateway.ready())

    async def refuses() -> bool:
        return await status() == health_pb2.HealthCheckResponse.NOT_SERVING

    await eventually(refuses)


async def test_reflection_is_for_development_only(
    nats: NatsServer, worker: FakeWorker, start_gateway: StartGateway
) -> None:
    async def services(gateway: Gateway) -> list[str]:
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        async with channel_to(gateway) as channel:
            stub = reflection_pb2_grpc.ServerReflectionStub(channel)
            async for answer in stub.ServerReflectionInfo(iter([request])):
                return [service.name for service in answer.list_services_response.service]
        return []

    open_house = await start_gateway(nats.url, development=True, api_keys_file="")
    assert "parley.v1.LiveService" in await services(open_house)
    async with channel_to(open_house) as channel:
        session = await opened(converse(channel, key=""), open_request())
    assert worker.sessions[session.session_id].tenant == "dev"
    closed = await start_gateway(nats.url)
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await services(closed)
    assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED
