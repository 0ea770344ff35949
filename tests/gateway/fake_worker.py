"""A worker as far as a gateway can see it: answers on NATS, keeps what it was sent, says what a test tells it to."""

from __future__ import annotations

import asyncio
from typing import Any

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg

from parley.v1 import errors_pb2, fabric_pb2, fleet_pb2, live_pb2, sessions_pb2
from services.fabric import subjects
from services.fabric.bus import settle
from services.fabric.errors import ServiceError
from services.fabric.records import SessionRecords

AUDIO = live_pb2.MEDIA_CLASS_AUDIO


class FakeWorker:
    def __init__(self, name: str, client: Client) -> None:
        self.name = name
        self.client = client
        self.records = SessionRecords(client.jetstream())
        self.capacity = 100
        self.sessions: dict[str, fabric_pb2.OpenSession] = {}
        self.generations: dict[str, int] = {}
        self.gateways: dict[str, str] = {}
        self.own: dict[str, int] = {}
        self.epochs: dict[str, int] = {}
        self.envelopes: list[fabric_pb2.UplinkEnvelope] = []
        self.commands: list[fabric_pb2.ControlRequest] = []
        self.headers: list[dict[str, str]] = []
        self.refuse: ServiceError | None = None
        self.next_uplink_seq = 1
        self.open_gate: asyncio.Event | None = None
        self.before_reply: Any = None
        self.silent = False
        self.busy = False
        self.wish: fabric_pb2.MoveWish | None = None
        """Said with everything."""
        self.draining = False
        self.released_gate: asyncio.Event | None = None
        self.unheard = False
        """It does not announce itself any more."""
        self._subscriptions: list[Any] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        for subject, callback in (
            (subjects.control(self.name), self._on_control),
            (subjects.uplink_wildcard(self.name), self._on_uplink),
            (subjects.WORKER_QUERY, self._on_query),
        ):
            self._subscriptions.append(await self.client.subscribe(subject, cb=callback))
        task = asyncio.create_task(self._announce_for_ever())
        self._tasks.add(task)

    async def stop(self, *, quietly: bool = False) -> None:
        for task in self._tasks:
            task.cancel()
        if not quietly and self.client.is_connected:
            await self.announce(leaving=True)
            await settle(self.client)
        if not self.client.is_closed:
            await self.client.close()

    async def _announce_for_ever(self) -> None:
        while True:
            await self.announce()
            await asyncio.sleep(0.5)
            for session in self.sessions:
                if not self.silent:
                    await self.say(session)

    async def announce(self, *, leaving: bool = False, draining: bool = False) -> None:
        worker = fleet_pb2.Worker(
            worker=self.name,
            sessions=len(self.sessions),
            capacity=self.capacity,
            draining=draining or self.draining,
        )
        message = fabric_pb2.WorkerAnnouncement(schema_version=1, worker=worker, leaving=leaving)
        if self.unheard and not leaving:
            return
        await self.client.publish(subjects.FLEET_ANNOUNCE, message.SerializeToString())

    async def _on_query(self, _message: Msg) -> None:
        await self.announce()

    async def _on_uplink(self, message: Msg) -> None:
        self.envelopes.append(fabric_pb2.UplinkEnvelope.FromString(message.data))

    async def _on_control(self, message: Msg) -> None:
        task = asyncio.create_task(self._answer(message))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, message: Msg) -> None:
        request = fabric_pb2.ControlRequest.FromString(message.data)
        self.commands.append(request)
        self.headers.append(dict(message.headers or {}))
        reply = fabric_pb2.ControlReply(schema_version=1)
        try:
            match request.WhichOneof("command"):
                case "open":
                    if self.refuse is not None:
                        raise self.refuse
                    await self._take(request.open)
                    if self.open_gate is not None:
                        await self.open_gate.wait()
                    self._attach(request.open.session_id, request.open.gateway, reply)
                case "attach":
                    if request.attach.session_id not in self.generations:
                        raise ServiceError(errors_pb2.ERROR_REASON_SESSION_UNKNOWN, "not held")
                    spec = self.sessions[request.attach.session_id]
                    presented = request.attach.presented_token_sha256
                    if presented and presented != spec.resume_token_sha256:
                        raise ServiceError(errors_pb2.ERROR_REASON_RESUME_REFUSED, "wrong token")
                    self._attach(request.attach.session_id, request.attach.gateway, reply)
                    if request.attach.session_id in self.epochs:
                        has = max(request.attach.last_received_seq, request.attach.passed_on_seq)
                        reply.attached.next_downlink_seq = has + 1
                case "take_over":
                    if self.refuse is not None:
                        raise self.refuse
                    await self._take_over(request.take_over)
                    self._attach(request.take_over.session_id, request.take_over.gateway, reply)
                    reply.attached.next_downlink_seq = request.take_over.floor + 1
                case "reserve":
                    if self.refuse is not None:
                        raise self.refuse
                    reply.done.SetInParent()
                case "release" if self.busy:
                    reply.busy.SetInParent()
                case "release":
                    await self.let_go(request.release.session_id, request.release.to_worker)
                    if self.released_gate is not None:
                        await self.released_gate.wait()
                    reply.released.SetInParent()
                case "move":
                    if request.move.session_id not in self.sessions:
                        raise ServiceError(errors_pb2.ERROR_REASON_SESSION_UNKNOWN, "not held")
                    reply.done.SetInParent()
                case "set_draining":
                    self.draining = request.set_draining.draining
                    await self.announce()
                    reply.pong.CopyFrom(fleet_pb2.Worker(worker=self.name, draining=self.draining))
                case "end":
                    self.sessions.pop(request.end.session_id, None)
                    reply.done.SetInParent()
                case "ping":
                    if request.ping.session_id and request.ping.session_id not in self.sessions:
                        raise ServiceError(errors_pb2.ERROR_REASON_SESSION_UNKNOWN, "not held")
                    reply.pong.worker = self.name
        except ServiceError as error:
            reply.failure.CopyFrom(error.to_failure())
        if message.reply:
            if self.before_reply is not None and reply.HasField("attached"):
                await self.before_reply()
            await message.respond(reply.SerializeToString())

    async def _take(self, spec: fabric_pb2.OpenSession) -> None:
        self.sessions[spec.session_id] = spec
        self.gateways[spec.session_id] = spec.gateway
        session = sessions_pb2.Session(
            session_id=spec.session_id,
            tenant=spec.tenant,
            principal=spec.principal,
            profile=spec.profile,
            model=spec.config.model,
            worker=self.name,
            epoch=1,
            state=sessions_pb2.SESSION_STATE_ATTACHED,
            labels=dict(spec.labels),
        )
        own = fabric_pb2.OwnRecord(schema_version=1, session=session, request_key=spec.request_key)
        self.own[spec.session_id] = await self.records.create_own(spec.session_id, own)

    async def let_go(self, session: str, to_worker: str = "") -> None:
        """Write that it is let go, and hold it no more."""
        found = await self.records.read_own(session)
        assert found is not None
        own, revision = found
        own.handover.CopyFrom(fabric_pb2.Handover(cause="DRAIN", to_worker=to_worker, epoch=own.session.epoch))
        await self.records.take_own(session, revision, own)
        del self.sessions[session]
        del self.generations[session]

    async def _take_over(self, command: fabric_pb2.TakeOver) -> None:
        session = command.session_id
        own = await self.records.read_own(session)
        assert own is not None
        own[0].session.worker = self.name
        own[0].session.epoch = self.epochs[session] = command.from_epoch + 1
        self.own[session] = await self.records.take_own(session, own[1], own[0])
        self.sessions[session] = fabric_pb2.OpenSession(session_id=session)
        self.generations[session] = command.attach_generation

    def _attach(self, session: str, gateway: str, reply: fabric_pb2.ControlReply) -> None:
        generation = self.generations.get(session, 0) + 1
        self.generations[session] = generation
        self.gateways[session] = gateway
        reply.attached.epoch = self.epochs.get(session, 1)
        reply.attached.attach_generation = generation
        reply.attached.next_uplink_seq = self.next_uplink_seq
        reply.attached.next_downlink_seq = 1
        reply.attached.resume_window.FromSeconds(120)

    async def say(self, session: str, *items: fabric_pb2.DownlinkItem, **fields: Any) -> None:
        """Publish downlink of the newest generation."""
        envelope = fabric_pb2.DownlinkEnvelope(
            schema_version=1,
            epoch=self.epochs.get(session, 1),
            attach_generation=self.generations.get(session, 1),
            items=items,
            move=self.wish,
            last_seq=fields.pop("last_seq", max((item.seq for item in items), default=0)),
        )
        for name, value in fields.items():
            if name == "attach_generation":
                envelope.attach_generation = value
            elif hasattr(value, "CopyFrom"):
                getattr(envelope, name).CopyFrom(value)
            elif isinstance(value, list):
                getattr(envelope, name).extend(value)
            else:
                setattr(envelope, name, value)
        await self.client.publish(subjects.downlink(self.gateways[session], session), envelope.SerializeToString())

    @property
    def requests(self) -> list[bytes]:
        return [raw for envelope in self.envelopes for raw in envelope.requests]

    def asked(self, command: str) -> list[Any]:
        return [getattr(request, command) for request in self.commands if request.WhichOneof("command") == command]


async def start_worker(url: str, name: str = "wk-fake") -> FakeWorker:
    worker = FakeWorker(name, await nats.connect(url, reconnect_time_wait=0.1))
    await worker.start()
    return worker


def text(seq: int, words: str = "hello") -> fabric_pb2.DownlinkItem:
    response = live_pb2.ConverseResponse(seq=seq, text=live_pb2.TextOutput(text=words))
    return fabric_pb2.DownlinkItem(response=response.SerializeToString(), seq=seq)


def audio(seq: int, milliseconds: int = 100) -> fabric_pb2.DownlinkItem:
    frames = [bytes(48 * milliseconds)]
    response = live_pb2.ConverseResponse(seq=seq, audio=live_pb2.AudioOutput(frames=frames, sample_rate_hertz=24000))
    return fabric_pb2.DownlinkItem(response=response.SerializeToString(), seq=seq, audio_milliseconds=milliseconds)


def interrupted(seq: int, first: int, last: int) -> fabric_pb2.DownlinkItem:
    body = live_pb2.Interrupted(reason=live_pb2.INTERRUPTION_REASON_BARGE_IN, void_from_seq=first, void_to_seq=last)
    response = live_pb2.ConverseResponse(seq=seq, interrupted=body)
    return fabric_pb2.DownlinkItem(
        response=response.SerializeToString(), seq=seq, void_from_seq=first, void_to_seq=last
    )


def skip(first: int, last: int, reason: str = "VOID") -> fabric_pb2.Skip:
    return fabric_pb2.Skip(range=live_pb2.SeqRange(from_seq=first, to_seq=last), media_class=AUDIO, reason=reason)
