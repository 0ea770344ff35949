"""A session in the rig whose model calls tools that leave a row in a file."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from parley.v1 import fabric_pb2
from services.fabric import subjects
from services.fabric.claims import Claim, Claims
from services.session_worker import events
from services.session_worker.responses import duration
from services.session_worker.session import Session
from services.session_worker.toolcalls import ToolCalls
from tests.support.eventually import eventually
from tests.support.ledger import Ledger

if TYPE_CHECKING:
    from tests.session_worker.conftest import FakeLink, Rig

LEDGER = "tests.support.ledger"
MARKS = [
    pytest.mark.parametrize("rig", [{"attachment_timeout": "60s"}], indirect=True),
    pytest.mark.usefixtures("hurry"),
]
"""A gateway that may be silent as long as a test takes, and a worker that waits less for tools."""
UNKNOWN_EFFECT = "whether it had its effect is unknown"


class Talk:
    """A session whose model calls the tools of the ledger."""

    def __init__(self, rig: Rig, ledger: Ledger) -> None:
        self.rig = rig
        self.ledger = ledger
        self.claims = Claims(rig.js)
        self.id = ""
        self.link: FakeLink

    async def open(self, timeout: float = 15) -> None:
        spec = self.rig.spec("enter", "look", "fill")
        for tool in spec.tools:
            tool.timeout.CopyFrom(duration(timeout))
            tool.idempotent = tool.declaration.name == "look"
        reply = await self.rig.control(open=spec)
        assert reply.HasField("attached"), reply
        self.id, self.link = spec.session_id, self.rig.dialer.links[-1]

    @property
    def session(self) -> Session:
        return self.rig.worker._sessions[self.id]

    @property
    def tools(self) -> ToolCalls:
        return self.session._parts.tools

    def call(self, call_id: str = "c1", tool: str = "enter", *, held: bool = False, entry: str = "rent") -> None:
        self.link.says(events.FunctionCall(call_id, tool, self.ledger.arguments(entry, held=held)))

    async def answers(self, count: int = 1, timeout: float = 30) -> list[dict[str, Any]]:
        await eventually(lambda: len(self.link.tool_responses) >= count, timeout)
        return [sent.response for sent in self.link.tool_responses]

    async def entered(self, count: int = 1) -> None:
        await eventually(lambda: len(self.ledger.entries()) == count)

    async def the_claim(self) -> Claim:
        [claim] = await self.claims.all(self.id)
        return claim

    async def told(self) -> set[str]:
        """Claims that the log says the model was told of."""
        subscription = await self.rig.js.subscribe(
            subjects.log(self.id), stream=subjects.LOG_STREAM, ordered_consumer=True
        )
        keys = set()
        with contextlib.suppress(TimeoutError):
            while True:
                entry = fabric_pb2.LogEntry.FromString((await subscription.next_msg(timeout=0.2)).data)
                keys |= {entry.tool.claim_key} - {""}
        await subscription.unsubscribe()
        return keys

    async def take_over(self) -> int:
        """Somebody else becomes the owner; return the revision of its `own`."""
        own = await self.rig.records.read_own(self.id)
        assert own is not None
        own[0].session.worker = "worker-2"
        ack = await self.rig.js.publish(
            subjects.own(self.id),
            own[0].SerializeToString(),
            headers={"Nats-Expected-Last-Subject-Sequence": str(own[1]), "Nats-Rollup": "sub"},
        )
        return ack.seq


def entered(entry: str = "rent") -> dict[str, Any]:
    """What the model is answered when a tool of the ledger has returned."""
    return {"output": {"result": f"entered {entry}"}}
