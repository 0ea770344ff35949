"""A worker of the release before, as far as a gateway sees it: `python -m tests.support.old_worker NATS_URL`.

Stands on the stubs of that release and nats-py alone: services of today know more than those. Prints one JSON line when
it serves, and one for the text that it hears. Ends when its input does.
"""

from __future__ import annotations

import asyncio
import json
import sys

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg

from parley.v1 import fabric_pb2, fleet_pb2, live_pb2

ME = "wk-old"


class OldWorker:
    """Takes sessions, and answers the first message of each with a text."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._opened: dict[str, fabric_pb2.OpenSession] = {}

    async def start(self) -> None:
        await self._client.subscribe(f"parley.worker.{ME}.ctl", cb=self._on_control)
        await self._client.subscribe(f"parley.worker.{ME}.up.>", cb=self._on_uplink)
        await self.announce()

    async def announce(self) -> None:
        worker = fleet_pb2.Worker(worker=ME, capacity=10)
        message = fabric_pb2.WorkerAnnouncement(schema_version=1, worker=worker)
        await self._client.publish("parley.fleet.announce", message.SerializeToString())

    async def _on_control(self, message: Msg) -> None:
        request = fabric_pb2.ControlRequest.FromString(message.data)
        reply = fabric_pb2.ControlReply(schema_version=1)
        if request.HasField("open"):
            self._opened[request.open.session_id] = request.open
            reply.attached.epoch = reply.attached.attach_generation = 1
            reply.attached.next_uplink_seq = reply.attached.next_downlink_seq = 1
        else:
            reply.done.SetInParent()
        if message.reply:
            await message.respond(reply.SerializeToString())

    async def _on_uplink(self, message: Msg) -> None:
        envelope = fabric_pb2.UplinkEnvelope.FromString(message.data)
        session = message.subject.rpartition(".")[2]
        spec = self._opened.get(session)
        if spec is None or not envelope.requests:
            return
        heard = [live_pb2.ConverseRequest.FromString(raw).text.text for raw in envelope.requests]
        raw = [request.hex() for request in envelope.requests]
        print(json.dumps({"config": spec.config.SerializeToString().hex(), "heard": heard, "raw": raw}), flush=True)
        said = live_pb2.ConverseResponse(seq=1, text=live_pb2.TextOutput(text="from the release before"))
        answer = fabric_pb2.DownlinkEnvelope(schema_version=1, epoch=1, attach_generation=1, last_seq=1)
        answer.items.add(response=said.SerializeToString(), seq=1)
        await self._client.publish(f"parley.gateway.{spec.gateway}.down.{session}", answer.SerializeToString())


async def main(url: str) -> None:
    client = await nats.connect(url)
    worker = OldWorker(client)
    await worker.start()
    fields = [field.name for field in live_pb2.SessionConfig.DESCRIPTOR.fields]
    print(json.dumps({"ready": True, "fields": fields}), flush=True)
    stdin = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    while not stdin.done():
        await asyncio.wait({stdin}, timeout=0.5)
        await worker.announce()
    await client.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
