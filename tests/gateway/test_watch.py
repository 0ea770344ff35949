"""WatchSession over real sockets, with a real nats-server."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

import grpc
import grpc.aio
import pytest

from parley._connect import open_channel
from parley.v1 import fabric_pb2, live_pb2, sessions_pb2, sessions_pb2_grpc
from services.fabric import ids, subjects
from services.fabric.errors import ServiceError
from services.fabric.record_watch import CONSUMER_PREFIX
from services.gateway.server import Gateway
from tests.gateway.conftest import KEY, OTHER_KEY, Refusal, StartGateway, channel_to, refusal
from tests.gateway.fake_worker import FakeWorker, start_worker
from tests.support.eventually import eventually
from tests.support.nats import NatsServer, nats_server

AUTH = (("x-parley-api-key", KEY),)
OTHER = (("x-parley-api-key", OTHER_KEY),)
LIMIT = 10.0


class Owner:
    """A session's records as its owner writes them."""

    def __init__(self, worker: FakeWorker, tenant: str = "acme") -> None:
        self.records = worker.records
        self.js = worker.client.jetstream()
        self.id = ids.session_id()
        session = sessions_pb2.Session(
            session_id=self.id, tenant=tenant, worker=worker.name, epoch=1, state=sessions_pb2.SESSION_STATE_ATTACHED
        )
        self.own = fabric_pb2.OwnRecord(schema_version=1, session=session)
        self.revision = 0

    async def open(self, **fields: Any) -> Owner:
        self.own.session.MergeFrom(sessions_pb2.Session(**fields))
        self.revision = await self.records.create_own(self.id, self.own)
        return self

    async def attach(self, generation: int, gateway: str = "gw-1") -> None:
        record = fabric_pb2.AttachmentRecord(schema_version=1, attach_generation=generation, gateway=gateway)
        await self.records.write_attachment(self.id, self.revision, record)

    async def move(self, worker: str) -> None:
        """As a takeover will write it."""
        self.own.session.epoch += 1
        self.own.session.worker = worker
        headers = {"Nats-Expected-Last-Subject-Sequence": str(self.revision), "Nats-Rollup": "sub"}
        subject = subjects.own(self.id)
        self.revision = (await self.js.publish(subject, self.own.SerializeToString(), headers=headers)).seq

    async def end(self) -> None:
        self.own.session.state = sessions_pb2.SESSION_STATE_ENDED
        self.own.session.end_reason = live_pb2.END_REASON_CALLER
        await self.records.end_own(self.id, self.revision, self.own, timedelta(minutes=1))
        await self.records.forget_work(self.id)


def watch(channel: grpc.aio.Channel, session: str, metadata: Any = AUTH, **options: Any) -> Any:
    stub = sessions_pb2_grpc.SessionServiceStub(channel)
    return stub.WatchSession(sessions_pb2.WatchSessionRequest(session_id=session), metadata=metadata, **options)


async def event(call: Any) -> Any:
    """The next event: its name and the session; None when the watch ended with OK."""
    async with asyncio.timeout(LIMIT):
        response = await call.read()
    if response is grpc.aio.EOF:
        assert await call.code() is grpc.StatusCode.OK
        return None
    assert sessions_pb2.SessionEventType.Name(response.type) == f"SESSION_EVENT_TYPE_{response.event}"
    return response.event, response.session


async def expect(call: Any, name: str, **fields: Any) -> sessions_pb2.Session:
    got = await event(call)
    assert got is not None
    assert got[0] == name
    assert {field: getattr(got[1], field) for field in fields} == fields
    session: sessions_pb2.Session = got[1]
    return session


async def watchers(owner: Owner) -> int:
    """Consumers of watches at the server; other reads of the stream have some of their own, for a moment."""
    consumers = await owner.js.consumers_info(subjects.SESSIONS_STREAM)
    return sum(consumer.name.startswith(CONSUMER_PREFIX) for consumer in consumers)


@pytest.fixture
async def owner(gateway: Gateway, worker: FakeWorker) -> AsyncIterator[Owner]:
    owner = await Owner(worker).open()
    before = await watchers(owner)
    subscriptions = gateway.counts()["subscriptions"]
    yield owner

    async def nothing_is_left() -> bool:
        counts = gateway.counts()
        left = await watchers(owner) - before, counts["subscriptions"] - subscriptions, counts["watches"]
        return left == (0, 0, 0)

    await eventually(nothing_is_left)


async def test_every_change_is_told_until_the_end(channel: grpc.aio.Channel, owner: Owner) -> None:
    call = watch(channel, owner.id)
    attached, detached = sessions_pb2.SESSION_STATE_ATTACHED, sessions_pb2.SESSION_STATE_DETACHED
    await expect(call, "CURRENT", session_id=owner.id, state=detached, worker="wk-fake", epoch=1)
    await owner.attach(1)
    await expect(call, "ATTACHED", state=attached, gateway="gw-1", attach_generation=1)
    await owner.attach(1, "")
    await expect(call, "DETACHED", state=detached, gateway="", attach_generation=1)
    await owner.attach(2, "gw-2")
    await expect(call, "ATTACHED", state=attached, gateway="gw-2", attach_generation=2)
    await owner.move("wk-2")
    await expect(call, "MOVED", state=attached, worker="wk-2", epoch=2, gateway="gw-2")
    await owner.end()
    await expect(
        call, "ENDED", state=sessions_pb2.SESSION_STATE_ENDED, end_reason=live_pb2.END_REASON_CALLER, gateway=""
    )
    assert await event(call) is None


async def test_a_watch_begins_with_what_there_is(channel: grpc.aio.Channel, owner: Owner) -> None:
    await owner.attach(3, "gw-3")
    first, second = watch(channel, owner.id), watch(channel, owner.id)
    for call in (first, second):
        await expect(call, "CURRENT", gateway="gw-3", attach_generation=3)
    await owner.end()
    for call in (first, second):
        await expect(call, "ENDED")
        assert await event(call) is None


async def test_a_session_that_has_ended_is_one_response(channel: grpc.aio.Channel, owner: Owner) -> None:
    await owner.end()
    call = watch(channel, owner.id)
    await expect(call, "CURRENT", state=sessions_pb2.SESSION_STATE_ENDED, end_reason=live_pb2.END_REASON_CALLER)
    assert await event(call) is None


async def test_only_what_is_there_and_yours_can_be_watched(
    channel: grpc.aio.Channel, owner: Owner, worker: FakeWorker
) -> None:
    foreign = await Owner(worker, tenant="umbrella").open()
    for session in ("ses_*", ">", ids.session_id(), foreign.id):
        answer = await refusal(watch(channel, session))
        assert (answer.code, answer.reason) == (grpc.StatusCode.NOT_FOUND, "SESSION_UNKNOWN")
    answer = await refusal(watch(channel, ""))
    assert (answer.code, answer.reason, answer.fields) == (
        grpc.StatusCode.INVALID_ARGUMENT, "FIELD_INVALID", ["session_id"],
    )  # fmt: skip
    assert (await refusal(watch(channel, owner.id, metadata=()))).code is grpc.StatusCode.UNAUTHENTICATED


async def test_a_caller_that_leaves_leaves_nothing_behind(
    channel: grpc.aio.Channel, owner: Owner, gateway: Gateway
) -> None:
    before = await watchers(owner)
    calls = [watch(channel, owner.id) for _ in range(5)]
    for call in calls:
        await expect(call, "CURRENT")

    async def all_watch() -> bool:
        return await watchers(owner) == before + 5

    await eventually(all_watch)
    assert gateway.counts()["watches"] == 5
    for call in calls:
        call.cancel()

    async def none_watches() -> bool:
        return await watchers(owner) == before

    await eventually(none_watches)
    # Nor when it leaves at once, in the middle of whatever the gateway does for it.
    for pause in range(20):
        call = watch(channel, owner.id)
        await asyncio.sleep(pause / 2000)
        call.cancel()
    await eventually(none_watches)


async def test_a_deadline_ends_a_watch(channel: grpc.aio.Channel, owner: Owner) -> None:
    call = watch(channel, owner.id, timeout=1.5)
    await expect(call, "CURRENT")
    assert (await refusal(call)).code is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_there_are_only_so_many_watches(
    nats: NatsServer, worker: FakeWorker, start_gateway: StartGateway
) -> None:
    gateway = await start_gateway(nats.url, max_watches=3, max_watches_per_tenant=2)
    mine, foreign = await Owner(worker).open(), await Owner(worker, tenant="umbrella").open()
    async with channel_to(gateway) as channel:
        calls = [watch(channel, mine.id) for _ in range(2)]
        for call in calls:
            await expect(call, "CURRENT")
        third = await refusal(watch(channel, mine.id))
        assert (third.code, third.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TENANT_LIMIT")
        assert third.retry is not None
        calls.append(watch(channel, foreign.id, OTHER))
        await expect(calls[-1], "CURRENT")
        fourth = await refusal(watch(channel, foreign.id, OTHER))
        assert (fourth.code, fourth.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "NO_CAPACITY")
        assert fourth.retry is not None
        calls[0].cancel()
        await eventually(lambda: gateway.counts()["watches"] == 2)
        again = watch(channel, mine.id)
        await expect(again, "CURRENT")
        # A watch that was refused for its request takes no room.
        for _ in range(3):
            assert (await refusal(watch(channel, "ses_x", OTHER))).reason in {"SESSION_UNKNOWN", "NO_CAPACITY"}
        assert gateway.counts()["watches"] == 3


async def test_a_gateway_that_goes_away_says_so(
    nats: NatsServer, worker: FakeWorker, start_gateway: StartGateway
) -> None:
    gateway = await start_gateway(nats.url)
    owner = await Owner(worker).open()
    async with channel_to(gateway) as channel:
        call = watch(channel, owner.id)
        await expect(call, "CURRENT")

        async def is_watched() -> bool:
            return await watchers(owner) == 1

        await eventually(is_watched)
        stopping = asyncio.create_task(gateway.stop())
        answer = await refusal(call)
        assert (answer.code, answer.reason) == (grpc.StatusCode.UNAVAILABLE, "GATEWAY_DRAINING")
        assert answer.retry is not None
        await stopping
        assert await watchers(owner) == 0


async def test_a_caller_that_does_not_read_is_given_up(
    nats: NatsServer, worker: FakeWorker, start_gateway: StartGateway
) -> None:
    gateway = await start_gateway(nats.url, watch_send_timeout="300ms", max_watches=1)
    # Sessions with as many labels as there may be: a few dozen events fill what gRPC buffers.
    owner = await Owner(worker).open(labels={f"label-{number}": "x" * 128 for number in range(16)})
    before = await watchers(owner)
    async with open_channel(gateway.address) as channel:  # with windows that stay small
        call = watch(channel, owner.id)
        await expect(call, "CURRENT")
        generation = 1
        await owner.attach(generation)
        await expect(call, "ATTACHED")

        async def is_given_up() -> bool:
            nonlocal generation
            generation += 1
            await owner.attach(generation)
            return await watchers(owner) == before

        await eventually(is_given_up)
        # What gRPC still holds for it counts, until it reads or leaves.
        await eventually(lambda: gateway.counts()["watches"] == 1)
        async with channel_to(gateway) as other:
            assert (await refusal(watch(other, owner.id))).reason == "NO_CAPACITY"
        seen = []
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            while True:
                seen.append((await event(call))[1].attach_generation)
        answer = Refusal(raised.value)
        assert (answer.code, answer.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "CALLER_SLOW")
        assert answer.retry is not None
        assert seen == sorted(set(seen))
        assert len(seen) < generation  # what it had no room for was kept nowhere
        await eventually(lambda: gateway.counts()["watches"] == 0)
        await expect(watch(channel, owner.id), "CURRENT")


async def test_a_slow_caller_sees_the_newest_of_what_it_missed(
    nats: NatsServer, worker: FakeWorker, start_gateway: StartGateway
) -> None:
    gateway = await start_gateway(nats.url)
    owner = await Owner(worker).open(labels={f"label-{number}": "x" * 128 for number in range(16)})
    async with open_channel(gateway.address) as channel:
        call = watch(channel, owner.id)
        await expect(call, "CURRENT")
        for generation in range(1, 200):
            await owner.attach(generation)
        seen = [0]
        while seen[-1] < 199:
            seen.append((await expect(call, "ATTACHED")).attach_generation)
        assert seen == sorted(set(seen))
        assert len(seen) < 199
        await owner.end()
        await expect(call, "ENDED")
        assert await event(call) is None


async def test_a_watch_outlives_a_restart_of_nats(start_gateway: StartGateway) -> None:
    async with nats_server() as server:
        worker = await start_worker(server.url)
        gateway = await start_gateway(server.url, watch_check="200ms")
        owner = await Owner(worker).open()
        async with channel_to(gateway) as channel:
            call = watch(channel, owner.id)
            await expect(call, "CURRENT")
            server.kill()
            await eventually(lambda: not worker.client.is_connected)
            server.start()
            await eventually(lambda: worker.client.is_connected)

            async def attached() -> bool:
                with contextlib.suppress(ServiceError):  # JetStream takes a moment
                    await owner.attach(1)
                    return True
                return False

            await eventually(attached)
            await expect(call, "ATTACHED", attach_generation=1)
            await owner.end()
            await expect(call, "ENDED")
            assert await event(call) is None

        async def nobody() -> bool:
            return await watchers(owner) == 0

        await eventually(nobody)
        await worker.stop(quietly=True)


@pytest.mark.parametrize("how", [NatsServer.kill, NatsServer.freeze])
async def test_a_watch_ends_when_nats_stays_away(start_gateway: StartGateway, how: Callable[..., None]) -> None:
    async with nats_server() as server:
        worker = await start_worker(server.url)
        gateway = await start_gateway(server.url, watch_check="200ms", fabric_wait="500ms")
        owner = await Owner(worker).open()
        async with channel_to(gateway) as channel:
            call = watch(channel, owner.id)
            await expect(call, "CURRENT")
            await worker.stop(quietly=True)
            how(server)
            answer = await refusal(call)
            assert (answer.code, answer.reason) == (grpc.StatusCode.UNAVAILABLE, "FABRIC_UNAVAILABLE")
            assert answer.retry is not None
            await eventually(lambda: gateway.counts()["watches"] == 0)
            answer = await refusal(watch(channel, owner.id))
            assert (answer.code, answer.reason) == (grpc.StatusCode.UNAVAILABLE, "FABRIC_UNAVAILABLE")


async def test_an_end_that_left_no_trace_is_noticed(
    nats: NatsServer, worker: FakeWorker, start_gateway: StartGateway
) -> None:
    gateway = await start_gateway(nats.url, watch_check="200ms")
    owner = await Owner(worker).open()
    async with channel_to(gateway) as channel:
        call = watch(channel, owner.id)
        await expect(call, "CURRENT")
        await owner.records.forget(owner.id)
        await expect(call, "ENDED", end_reason=live_pb2.END_REASON_UNSPECIFIED)
        assert await event(call) is None


async def test_a_consumer_that_is_lost_is_made_anew(
    nats: NatsServer, worker: FakeWorker, start_gateway: StartGateway
) -> None:
    gateway = await start_gateway(nats.url, watch_check="200ms")
    owner = await Owner(worker).open()
    async with channel_to(gateway) as channel:
        call = watch(channel, owner.id)
        await expect(call, "CURRENT")
        await owner.attach(1)
        await expect(call, "ATTACHED")
        for consumer in await owner.js.consumers_info(subjects.SESSIONS_STREAM):
            await owner.js.delete_consumer(subjects.SESSIONS_STREAM, consumer.name)
        await owner.attach(2)
        await expect(call, "ATTACHED", attach_generation=2)
        call.cancel()
