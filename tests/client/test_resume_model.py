"""Streams that break anywhere, again and again, against a model of the service: exactly once, in order, both ways."""

import asyncio
import random
from dataclasses import dataclass, field

import pytest

import parley
from parley import events
from parley.v1 import live_pb2 as pb
from tests.client.fake_gateway import Stream, fake_gateway

MESSAGES = 60


@dataclass
class Service:
    """What a session is to its caller: what it has heard, what of it is safe, and what it said."""

    chance: random.Random
    heard: list[str] = field(default_factory=list)
    safe: int = 0
    """Messages that are acked; those after it are lost when the service loses its worker."""
    kept: dict[int, str] = field(default_factory=dict)
    """What was said and is not acked."""
    said: int = 0
    generation: int = 0
    losses: int = 0
    ended: bool = False

    async def __call__(self, stream: Stream) -> None:
        opening = (await stream.read()).open
        if self.chance.random() < 0.2:
            await stream.lose(after=0.0)
        self.generation += 1
        mine = self.generation
        if self.chance.random() < 0.3:
            del self.heard[self.chance.randint(self.safe, len(self.heard)) :]
        # What the resume acks is not said again, or, by a service that is more careful than it has to be, it is.
        again = dict(self.kept)
        self._ack(opening.resume.last_received_seq)
        if self.chance.random() < 0.7:
            again = dict(self.kept)
        opened = pb.Opened(session_id="s", resume_token="t", next_uplink_seq=len(self.heard) + 1, existing=mine > 1)
        opened.resume_window.FromSeconds(20)
        await stream.context.write(pb.ConverseResponse(opened=opened))
        for seq, text in sorted(again.items()):
            await stream.send(seq=seq, text=pb.TextOutput(text=text))
        await self._converse(stream, mine)

    async def _converse(self, stream: Stream, mine: int) -> None:
        life = self.chance.randint(0, 25)
        for _ in range(life):
            request = await stream.read()
            if request is None or mine != self.generation:
                return
            if request.WhichOneof("payload") == "ack":
                self._ack(request.ack.seq)
                continue
            assert request.seq == len(self.heard) + 1, "a hole, or a step back"
            if request.WhichOneof("payload") == "end":
                self.ended = True
                self.said += 1
                await stream.send(seq=self.said, ended=pb.Ended(reason=pb.END_REASON_CALLER))
                return
            self.heard.append(request.text.text)
            if self.chance.random() < 0.5:
                self.safe = self.chance.randint(self.safe, len(self.heard))
            for _ in range(self.chance.randint(0, 2)):
                self.said += 1
                self.kept[self.said] = str(self.said)
                # Said, but this stream does not live to bring it.
                if self.chance.random() < 0.9:
                    await stream.send(seq=self.said, acked_seq=self.safe, text=pb.TextOutput(text=str(self.said)))
                else:
                    await stream.lose(after=0.0)
        self.losses += 1
        if self.chance.random() < 0.3:
            draining = pb.GatewayDraining(time_left={"seconds": 1})
            await stream.context.write(pb.ConverseResponse(gateway_draining=draining))
            await asyncio.sleep(self.chance.random() * 0.05)  # of its own accord, not a wait
        await stream.lose(after=0.0)

    def _ack(self, seq: int) -> None:
        self.kept = {number: text for number, text in self.kept.items() if number > seq}


@pytest.mark.parametrize("seed", range(12))
async def test_everything_arrives_once_and_in_order_however_streams_break(seed, monkeypatch):
    monkeypatch.setattr("parley._retry.FIRST_BACKOFF", 0.005)
    service = Service(random.Random(seed))
    sent = [f"{number}" for number in range(MESSAGES)]
    seen = []

    async with asyncio.timeout(20), fake_gateway(service) as gateway:
        async with parley.connect(gateway.target, profile="p") as session:

            async def listen() -> None:
                async for event in session:
                    seen.append(event)

            listening = asyncio.create_task(listen())
            for text in sent:
                await session.send_text(text)
                await asyncio.sleep(0.002)
            await session.end()
            await listening
        result = session.audit.result()
    assert service.heard == sent
    texts = [event.text for event in seen if isinstance(event, events.Text)]
    assert texts == [str(number) for number in range(1, service.said)]
    assert isinstance(seen[-1], events.Ended)
    assert result.whole, result
    assert service.losses or session.stats.resumes
    assert session.stats.undelivered_messages == 0
