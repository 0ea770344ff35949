"""A whole worker on a real nats-server, with a link and a gateway that do as they are told."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import nats as nats_py
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from parley.v1 import fabric_pb2, live_pb2, tools_pb2
from services.fabric import subjects, telemetry
from services.fabric.bus import Bus, Writer, settle
from services.fabric.catalog import Catalog
from services.fabric.conversation_log import ensure_log
from services.fabric.errors import ServiceError
from services.fabric.process import LoopLag, stop_tasks
from services.fabric.records import SessionRecords
from services.fabric.timeline import Timeline
from services.session_worker import claim_wait, events, execution
from services.session_worker import lifeline as lifeline_module
from services.session_worker.leftovers import Leftovers
from services.session_worker.lifeline import Lifeline
from services.session_worker.link import Dialer, Link, LinkClosedError
from services.session_worker.link_in_use import LinkInUse
from services.session_worker.round_trips import RoundTrips
from services.session_worker.settings import WorkerSettings
from services.session_worker.shared import Services
from services.session_worker.worker import Worker
from tests.session_worker.talk import Talk
from tests.support.eventually import eventually
from tests.support.ledger import Ledger
from tests.support.nats import NatsServer, running_nats_server

TOKEN = b"\x07" * 32
_NUMBERS = itertools.count(1)


class FakeLink:
    """Keeps what the worker says to the model; says to the worker what a test puts into it."""

    def __init__(self) -> None:
        self.audio: list[bytes] = []
        self.realtime: list[dict[str, Any]] = []
        self.tool_responses: list[Any] = []
        self.turns: list[tuple[list[Any], bool]] = []
        self.updates: list[tuple[str | None, Any]] = []
        self.closed = self.aborted = False
        self.sent = 0
        self.pings = 0
        self._events: asyncio.Queue[list[events.Event] | LinkClosedError] = asyncio.Queue()

    def says(self, *what: events.Event) -> None:
        self._events.put_nowait(list(what))

    @property
    def texts(self) -> list[str]:
        return [sent["text"] for sent in self.realtime if "text" in sent]

    @property
    def pictures(self) -> list[bytes]:
        return [sent["video"].data for sent in self.realtime if "video" in sent]

    async def receive(self) -> list[events.Event]:
        found = await self._events.get()
        if isinstance(found, LinkClosedError):
            raise found
        return found

    async def send_audio(self, pcm: bytes) -> None:
        self.audio.append(pcm)

    async def send_realtime(self, **content: Any) -> None:
        self.realtime.append(content)

    async def send_tool_response(self, response: Any) -> None:
        self.tool_responses.append(response)

    async def send_turn(self, turns: list[Any], turn_complete: bool) -> None:
        self.turns.append((turns, turn_complete))

    async def send_context_update(self, instructions: str | None, tools: Any) -> None:
        self.updates.append((instructions, tools))

    async def ping(self) -> None:
        self.pings += 1

    def abort(self) -> None:
        self.aborted = True

    async def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._events.put_nowait(LinkClosedError(1000, ""))


class FakeDialer:
    def __init__(self) -> None:
        self.links: list[FakeLink] = []
        self.refuse: ServiceError | None = None
        self.round_trips = RoundTrips()
        self.slots = True
        """Whether a link may be replaced."""

    async def dial(self, _model: str, _config: object, _rate: int) -> FakeLink:
        if self.refuse is not None:
            raise self.refuse
        self.links.append(FakeLink())
        return self.links[-1]

    async def slot(self) -> None:
        pass

    def take_slot(self, _now: float) -> bool:
        return self.slots


def link_in_use(
    link: FakeLink, dialer: FakeDialer, tasks: list[asyncio.Task[None]], *, asks_what_is_read: bool = False
) -> LinkInUse:
    """The first link of a session that has nothing else; `tasks` gets what runs beside it."""
    return LinkInUse(
        cast(Link, link),
        1,
        cast(Dialer, dialer),
        most_age=None,
        told_until=0,
        asks_what_is_read=asks_what_is_read,
        keep=lambda work, _: tasks.append(asyncio.create_task(work)),
    )


class Rig:
    """The worker, and a gateway's view of it."""

    def __init__(self, client: Client, worker: Worker, dialer: FakeDialer, me: str) -> None:
        self.client = client
        self.js = client.jetstream()
        self.records = SessionRecords(self.js)
        self.worker = worker
        self.dialer = dialer
        self.me = me
        self.envelopes: list[fabric_pb2.DownlinkEnvelope] = []
        self.generation = 1

    async def start(self) -> None:
        await self.client.subscribe(subjects.downlink_wildcard("gw-test"), cb=self._on_downlink)
        await settle(self.client)

    async def _on_downlink(self, message: Msg) -> None:
        self.envelopes.append(fabric_pb2.DownlinkEnvelope.FromString(message.data))

    async def control(self, headers: dict[str, str] | None = None, **command: Any) -> fabric_pb2.ControlReply:
        request = fabric_pb2.ControlRequest(schema_version=1, **command)
        answer = await self.client.request(
            subjects.control(self.me), request.SerializeToString(), timeout=30, headers=headers
        )
        return fabric_pb2.ControlReply.FromString(answer.data)

    async def declare(self, *tools: str) -> None:
        """Put tools into the catalog."""
        catalog = Catalog(self.js)
        await catalog.ensure(1)
        await catalog.publish([tools_pb2.Tool(declaration={"name": name}) for name in tools])  # type: ignore[arg-type]

    def spec(self, *tools: str, **config: Any) -> fabric_pb2.OpenSession:
        number = next(_NUMBERS)
        declared = [tools_pb2.Tool(declaration=live_pb2.FunctionDeclaration(name=name)) for name in tools]
        return fabric_pb2.OpenSession(
            session_id=f"ses_{number:026d}",
            tenant="acme",
            principal="bot",
            config=live_pb2.SessionConfig(**{"model": "gemini-3.8-live", "tools": tools, **config}),
            tools=declared,
            request_key=f"key{number}",
            gateway="gw-test",
            resume_token_sha256=TOKEN,
        )

    async def open(self, *tools: str, headers: dict[str, str] | None = None, **config: Any) -> tuple[str, FakeLink]:
        spec = self.spec(*tools, **config)
        await self.records.claim_request(spec.request_key, spec.session_id)
        reply = await self.control(headers, open=spec)
        assert reply.HasField("attached"), reply
        return spec.session_id, self.dialer.links[-1]

    async def send(self, session: str, *requests: live_pb2.ConverseRequest, **fields: Any) -> None:
        values: dict[str, Any] = {"epoch": 1, "attach_generation": self.generation, **fields}
        values.setdefault("last_seq", max((request.seq for request in requests), default=0))
        raw = [request.SerializeToString() for request in requests]
        envelope = fabric_pb2.UplinkEnvelope(schema_version=1, requests=raw, **values)
        await self.client.publish(subjects.uplink(self.me, session), envelope.SerializeToString())

    @property
    def responses(self) -> list[live_pb2.ConverseResponse]:
        return [
            live_pb2.ConverseResponse.FromString(item.response)
            for envelope in self.envelopes
            for item in envelope.items
        ]

    async def statuses(self, count: int) -> list[fabric_pb2.DownlinkEnvelope]:
        """The next envelopes: the worker says where it stands every 500 ms."""
        seen = len(self.envelopes)
        await eventually(lambda: len(self.envelopes) >= seen + count)
        return self.envelopes[seen:]

    async def ended(self) -> None:
        await eventually(lambda: not self.worker.counts["sessions"])

    async def messages(self, subject: str, stream: str) -> int:
        info = await self.js.stream_info(stream, subjects_filter=subject)
        return sum((info.state.subjects or {}).values())


@pytest.fixture(scope="package")
def nats() -> Iterator[NatsServer]:
    with running_nats_server() as server:
        yield server


@pytest.fixture
async def rig(nats: NatsServer, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Rig]:
    # Tests start processes, and the worker's loop, which is the test's, stands still meanwhile.
    monkeypatch.setattr(lifeline_module, "FROZEN", 60.0)
    values = {"nats_url": nats.url, "record_retention": "0", "resume_window": "300ms", "ownership_ttl": "60s"}
    settings = WorkerSettings(**{**values, **getattr(request, "param", {})})
    me = f"wk-{next(_NUMBERS)}"
    bus = Bus(settings, "worker", me)
    bus.start()
    await bus.wait_connected(5)
    writer, records, dialer = Writer(bus), SessionRecords(bus.js), FakeDialer()
    await records.ensure(1)
    await ensure_log(bus.js, 1, timedelta(hours=1))
    leftovers = Leftovers(bus.js, records, settings.record_retention.total_seconds())
    lifeline = Lifeline(bus, settings.ownership_ttl.total_seconds())
    catalog, timeline = Catalog(bus.js), Timeline(bus, me)
    services = Services(
        me, bus, writer, records, catalog, cast(Dialer, dialer), leftovers, lifeline, settings, timeline
    )
    worker = Worker(services, LoopLag())
    await worker.subscribe()
    await settle(bus.client)
    running = [asyncio.create_task(work) for work in (worker.run(), leftovers.run(), lifeline.run())]
    client = await nats_py.connect(nats.url)
    try:
        started = Rig(client, worker, dialer, me)
        await started.start()
        yield started
    finally:
        with contextlib.suppress(TimeoutError):
            await worker.stop(0)
        await stop_tasks(running)
        await client.close()
        await bus.close()


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """Keeps every span that ends."""
    kept = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    monkeypatch.setattr(telemetry, "tracer", lambda: provider.get_tracer("test"))
    return kept


@pytest.fixture
async def talk(rig: Rig, tmp_path: Path) -> AsyncIterator[Talk]:
    """A session whose tools leave rows in a file."""
    started = Talk(rig, Ledger(tmp_path))
    await started.open()
    yield started


@pytest.fixture
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tools are waited for less long; what is decided is the same."""
    monkeypatch.setattr(execution, "_LOOK_EVERY", 0.1)
    monkeypatch.setattr(execution, "_CONNECT", 0.2)
    monkeypatch.setattr(execution, "MARGIN", 0.2)
    monkeypatch.setattr(claim_wait, "MARGIN", 0.2)
    monkeypatch.setattr(claim_wait, "GONE_AFTER", 0.3)
    monkeypatch.setattr(claim_wait, "RECORDS_WAIT", 0.5)
