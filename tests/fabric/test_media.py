"""Media beside nats-py on one connection, on a real nats-server."""

import asyncio
import ssl
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import nats as nats_py
import pytest
import trustme
import uvloop
from nats.aio.client import Client
from nats.aio.msg import Msg

from parley.v1 import fabric_pb2
from services.fabric.bus import Bus, Writer, settle
from services.fabric.media_transport import MediaTransport
from services.fabric.settings import ServiceSettings
from tests.support.eventually import eventually
from tests.support.nats import NatsServer, nats_server

Taken = list[tuple[str, bytes]]


class Flood:
    """A sender with a bounded number of large messages."""

    def __init__(self, subject: str, count: int) -> None:
        self.left = count
        self._subject = subject

    def next_publication(self) -> tuple[str, bytes] | None:
        if not self.left:
            return None
        self.left -= 1
        return self._subject, bytes(32 * 1024)


@asynccontextmanager
async def bus_to(server: NatsServer) -> AsyncIterator[Bus]:
    bus = Bus(ServiceSettings(nats_url=server.url), "test", "test-1")
    bus.start()
    try:
        await bus.wait_connected(10)
        yield bus
    finally:
        await bus.close()


@pytest.fixture
async def bus(nats: NatsServer) -> AsyncIterator[Bus]:
    async with bus_to(nats) as bus:
        yield bus


async def taking(bus: Bus) -> Taken:
    taken: Taken = []
    await bus.subscribe_media("media.*", lambda subject, payload: taken.append((subject, payload)))
    await bus.barrier()
    return taken


async def test_media_comes_in_order_whatever_its_size_while_the_connection_serves_requests(
    bus: Bus, client: Client
) -> None:
    taken = await taking(bus)

    async def answer(message: Msg) -> None:
        await message.respond(fabric_pb2.ControlReply(schema_version=7).SerializeToString())

    await client.subscribe("ctl", cb=answer)
    await settle(client)
    sent = [(f"media.{number % 3}", bytes([number]) * size) for number, size in enumerate([0, 1, 640, 70_000, 900_000])]
    for subject, payload in sent:
        await client.publish(subject, payload)
        reply = await bus.request("ctl", fabric_pb2.ControlRequest(), fabric_pb2.ControlReply, timeout=5)
        assert reply.schema_version == 7
    await eventually(lambda: len(taken) == len(sent))
    assert taken == sent


async def test_media_with_headers_comes_too(bus: Bus, client: Client) -> None:
    taken = await taking(bus)
    await client.publish("media.x", b"payload", headers={"a": "b"})
    await eventually(lambda: taken == [("media.x", b"payload")])


async def test_what_taking_raises_is_counted_and_the_next_message_comes(bus: Bus, client: Client) -> None:
    taken: Taken = []

    def take(subject: str, payload: bytes) -> None:
        if payload == b"bad":
            raise ValueError(payload)
        taken.append((subject, payload))

    await bus.subscribe_media("media.*", take)
    await bus.barrier()
    for payload in (b"1", b"bad", b"2"):
        await client.publish("media.x", payload)
    await eventually(lambda: [payload for _, payload in taken] == [b"1", b"2"])
    assert bus.errors == 1
    assert bus.connected.is_set()


async def test_media_comes_after_a_reconnect() -> None:
    async with nats_server() as server, bus_to(server) as bus:
        taken = await taking(bus)
        await asyncio.to_thread(server.kill)
        await eventually(lambda: not bus.connected.is_set())
        assert not bus.writable
        await asyncio.to_thread(server.start)
        await bus.wait_connected(10)
        await bus.barrier()
        bus.publish_media([("media.x", b"again"), ("media.y", b"and again")])
        await eventually(lambda: taken == [("media.x", b"again"), ("media.y", b"and again")])


async def test_nonsense_ends_the_connection_and_the_next_one_serves() -> None:
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        writer.write(b'INFO {"max_payload": 1048576}\r\n')
        await reader.readuntil(b"PING\r\n")
        writer.write(b"PONG\r\n" + (b"MSG media.x 1 nonsense\r\n" if connections == 1 else b""))
        while await reader.read(1000):
            writer.write(b"PONG\r\n")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    bus = Bus(ServiceSettings(nats_url=f"nats://127.0.0.1:{port}"), "test", "test-1")
    bus.start()
    await eventually(lambda: connections == 2 and bus.writable)
    await bus.close()
    server.close()


async def test_a_server_that_does_not_read_stops_the_writer_which_goes_on_when_it_does() -> None:
    async with nats_server(max_pending=1 << 28) as server, bus_to(server) as bus:
        client = await nats_py.connect(server.url)
        seen: list[int] = []

        async def count(message: Msg) -> None:
            seen.append(len(message.data))

        await client.subscribe("media.*", cb=count)
        await settle(client)
        writer, sender = Writer(bus), Flood("media.x", 1000)
        server.freeze()
        try:
            writer.wake(sender)
            await eventually(lambda: not bus.writable)
            left = sender.left
            assert left  # the rest is its owner's, who may shed it
            writer.wake(sender)
            for _ in range(20):
                await asyncio.sleep(0)
            assert sender.left == left
        finally:
            server.thaw()
        await eventually(lambda: len(seen) == 1000)
        assert writer.failed == 0
        await client.close()


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_media_goes_over_tls(tmp_path: Path, loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(_media_goes_over_tls(tmp_path))


async def _media_goes_over_tls(tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1", "localhost")
    files = {"cert_file": tmp_path / "cert.pem", "key_file": tmp_path / "key.pem"}
    certificate.cert_chain_pems[0].write_to_path(str(files["cert_file"]))
    certificate.private_key_pem.write_to_path(str(files["key_file"]))
    context = ssl.create_default_context()
    authority.configure_trust(context)
    async with nats_server(tls={name: str(file) for name, file in files.items()}) as server:
        client, transport = Client(), MediaTransport()
        client._transport = transport
        taken: deque[tuple[str, bytes]] = deque()
        transport.splitter.route("media.", lambda subject, payload: taken.append((subject, payload)))
        await client.connect(server.url.replace("nats:", "tls:"), tls=context)

        async def never(message: Msg) -> None:
            raise AssertionError(message)

        await client.subscribe("media.*", cb=never)
        await settle(client)
        transport.publish([("media.x", b"one"), ("media.y", bytes(100_000))])
        await eventually(lambda: list(taken) == [("media.x", b"one"), ("media.y", bytes(100_000))])
        await client.close()
        assert not transport.writable
