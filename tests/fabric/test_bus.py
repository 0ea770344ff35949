"""One connection, its writer, and its failures, on a real nats-server."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import nats as nats_py
import pytest
import trustme
from nats.aio.client import Client
from nats.aio.msg import Msg

from parley.v1 import fabric_pb2
from services.fabric.bus import Bus, NoResponderError, Writer, settle
from services.fabric.errors import ServiceError
from services.fabric.settings import ServiceSettings
from tests.support.eventually import eventually
from tests.support.nats import NatsServer, nats_server


@asynccontextmanager
async def bus_to(url: str) -> AsyncIterator[Bus]:
    bus = Bus(ServiceSettings(nats_url=url), "test", "test-1")
    bus.start()
    try:
        yield bus
    finally:
        await bus.close()


@pytest.fixture
async def bus(nats: NatsServer) -> AsyncIterator[Bus]:
    async with bus_to(nats.url) as bus:
        await bus.wait_connected(5)
        yield bus


class Queue:
    """A sender with a plain queue."""

    def __init__(self, subject: str, items: list[bytes]) -> None:
        self.subject = subject
        self.items = deque(items)

    def next_publication(self) -> tuple[str, bytes] | None:
        return (self.subject, self.items.popleft()) if self.items else None


async def collect(client: Client, subject: str) -> list[tuple[str, bytes]]:
    seen: list[tuple[str, bytes]] = []

    async def take(message: Msg) -> None:
        seen.append((message.subject, message.data))

    await client.subscribe(subject, cb=take)
    await settle(client)
    return seen


async def test_tls_with_an_authority_of_ones_own(tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    files = {name: str(tmp_path / name) for name in ("ca.pem", "cert_file", "key_file")}
    authority.cert_pem.write_to_path(files["ca.pem"])
    certificate.cert_chain_pems[0].write_to_path(files["cert_file"])
    certificate.private_key_pem.write_to_path(files["key_file"])
    async with nats_server(tls={name: files[name] for name in ("cert_file", "key_file")}) as server:
        url = server.url.replace("nats:", "tls:")
        trusting = Bus(ServiceSettings(nats_url=url, nats_ca_file=files["ca.pem"]), "test", "test-1")
        doubting = Bus(ServiceSettings(nats_url=url), "test", "test-2")
        trusting.start()
        doubting.start()
        try:
            await trusting.wait_connected(5)
            await trusting.barrier()
            await eventually(lambda: doubting.errors > 0)
            assert not doubting.connected.is_set()
        finally:
            await trusting.close()
            await doubting.close()


async def test_nobody_there_is_not_the_same_as_no_answer(bus: Bus, client: Client) -> None:
    ping = fabric_pb2.ControlRequest(ping=fabric_pb2.Ping())
    with pytest.raises(NoResponderError):
        await bus.request("test.nobody", ping, fabric_pb2.ControlReply, timeout=5)
    await collect(client, "test.silent")
    with pytest.raises(ServiceError, match=r"no answer on test\.silent within 0\.1 s"):
        await bus.request("test.silent", ping, fabric_pb2.ControlReply, timeout=0.1)


async def test_request_carries_headers_and_returns_the_reply(bus: Bus, client: Client) -> None:
    async def answer(message: Msg) -> None:
        assert (message.headers or {})["traceparent"] == "x"
        await message.respond(fabric_pb2.ControlReply(schema_version=7).SerializeToString())

    await client.subscribe("test.echo", cb=answer)
    await settle(client)
    reply = await bus.request(
        "test.echo", fabric_pb2.ControlRequest(), fabric_pb2.ControlReply, timeout=5, headers={"traceparent": "x"}
    )
    assert reply.schema_version == 7


async def test_unreadable_reply_is_a_fault_of_ours(bus: Bus, client: Client) -> None:
    async def answer(message: Msg) -> None:
        await message.respond(b"\xff\xff\xff")

    await client.subscribe("test.garbage", cb=answer)
    await settle(client)
    with pytest.raises(ServiceError, match="INTERNAL"):
        await bus.request("test.garbage", fabric_pb2.ControlRequest(), fabric_pb2.ControlReply, timeout=5)


async def test_a_barrier_does_not_hold_while_the_server_is_gone() -> None:
    """The client's own flush returns then as if it had been answered."""
    async with nats_server() as server, bus_to(server.url) as bus:
        await bus.wait_connected(5)
        await bus.barrier()
        server.kill()
        await eventually(lambda: bus.client.is_reconnecting)
        for _ in range(3):
            with pytest.raises(ServiceError, match="does not answer"):
                await bus.barrier()


async def test_without_a_server_everything_is_refused_quickly_and_nothing_is_left() -> None:
    before = asyncio.all_tasks()
    async with bus_to("nats://127.0.0.1:1") as bus:
        with pytest.raises(ServiceError, match="cannot be reached"):
            await bus.wait_connected(0.05)
        with pytest.raises(ServiceError, match="cannot be reached"):
            await bus.request("x", fabric_pb2.ControlRequest(), fabric_pb2.ControlReply, timeout=60)
        await eventually(lambda: bus.errors > 0)
    await eventually(lambda: asyncio.all_tasks() == before)


async def test_server_that_comes_late_is_found_and_one_that_comes_back_is_told() -> None:
    async with nats_server() as server:
        server.kill()
        async with bus_to(server.url) as bus:
            reconnected = asyncio.Event()

            async def on_reconnect() -> None:
                reconnected.set()

            bus.on_reconnect = on_reconnect
            await eventually(lambda: bus.errors > 0)
            await asyncio.to_thread(server.start)
            await bus.wait_connected(10)
            await asyncio.to_thread(server.kill)
            await eventually(lambda: not bus.connected.is_set())
            await asyncio.to_thread(server.start)
            await bus.wait_connected(10)
            async with asyncio.timeout(30):
                await reconnected.wait()


async def test_closing_leaves_no_tasks(nats: NatsServer) -> None:
    before = asyncio.all_tasks()
    async with bus_to(nats.url) as bus:
        await bus.wait_connected(5)
        await bus.client.subscribe("test.x")
        assert bus.subscriptions() == 1
    await eventually(lambda: asyncio.all_tasks() == before)


async def test_writer_takes_turns(bus: Bus, client: Client) -> None:
    seen = await collect(client, "turns.*")
    writer = Writer(bus)
    long = Queue("turns.long", [b"%d" % number for number in range(100)])
    short = Queue("turns.short", [b"0", b"1"])
    writer.wake(long)
    writer.wake(short)
    await eventually(lambda: len(seen) == 102)
    assert [data for subject, data in seen if subject == "turns.long"] == [b"%d" % number for number in range(100)]
    assert [index for index, (subject, _) in enumerate(seen) if subject == "turns.short"] == [1, 3]


async def test_writer_publishes_what_comes_while_it_runs(bus: Bus, client: Client) -> None:
    seen = await collect(client, "later.x")
    writer, sender = Writer(bus), Queue("later.x", [])
    for number in range(5):
        sender.items.append(b"%d" % number)
        writer.wake(sender)
        await eventually(lambda: seen and seen[-1] == ("later.x", b"%d" % number))  # noqa: B023 - awaited here


async def test_writer_forgets_a_sender_at_once(bus: Bus, client: Client) -> None:
    seen = await collect(client, "gone.*")
    writer = Writer(bus)
    other = Queue("gone.other", [b"x"])

    class Leaving(Queue):
        """Ends another sender and itself while it is asked."""

        def next_publication(self) -> tuple[str, bytes] | None:
            writer.forget(other)
            writer.forget(self)
            return super().next_publication()

    writer.wake(Leaving("gone.me", [b"last", b"too late"]))
    writer.wake(other)
    marker = Queue("gone.marker", [b"1", b"2", b"3"])
    writer.wake(marker)
    await eventually(lambda: sum(subject == "gone.marker" for subject, _ in seen) == 3)
    assert [item for item in seen if item[0] != "gone.marker"] == [("gone.me", b"last")]


async def test_writer_pauses_while_disconnected() -> None:
    async with nats_server() as server, bus_to(server.url) as bus:
        await bus.wait_connected(10)
        writer, sender = Writer(bus), Queue("pause.x", [])
        await asyncio.to_thread(server.kill)
        await eventually(lambda: not bus.connected.is_set())
        sender.items.extend([b"1", b"2"])
        writer.wake(sender)
        for _ in range(20):
            await asyncio.sleep(0)
        # What waits stays in the bounded outbox of its owner, who may shed it.
        assert len(sender.items) == 2
        await asyncio.to_thread(server.start)
        client = await nats_py.connect(server.url)
        await bus.wait_connected(10)
        await eventually(lambda: not sender.items)
        assert writer.failed == 0
        await client.close()


async def test_writer_counts_what_nats_does_not_take(bus: Bus, client: Client) -> None:
    seen = await collect(client, "big.x")
    writer = Writer(bus)
    sender = Queue("big.x", [b"x" * (2 * 1024 * 1024), b"small"])
    writer.wake(sender)
    await eventually(lambda: seen == [("big.x", b"small")])
    assert writer.failed == 1


async def test_a_sender_that_fails_is_counted_and_holds_nobody_up(bus: Bus, client: Client) -> None:
    seen = await collect(client, "fault.x")
    writer = Writer(bus)

    class Faulty(Queue):
        """Fails when it is asked the second time."""

        def next_publication(self) -> tuple[str, bytes] | None:
            if len(self.items) == 1:
                raise ValueError
            return super().next_publication()

    writer.wake(Queue("fault.x", [b"1", b"3"]))
    writer.wake(Faulty("fault.x", [b"2", b"never"]))
    await eventually(lambda: [data for _, data in seen] == [b"1", b"2", b"3"])
    assert writer.failed == 1
