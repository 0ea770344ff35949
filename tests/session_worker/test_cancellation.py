"""The model takes a call back: whatever kind of tool it is, whoever works on it is told."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from parley.v1 import live_pb2
from services.session_worker import events
from services.session_worker.responses import duration
from tests.session_worker.conftest import Rig
from tests.session_worker.talk import MARKS, Talk
from tests.support import live_tools
from tests.support.eventually import eventually
from tests.support.ledger import Ledger
from tests.support.live_tools import Order
from tests.support.nats import NatsServer
from tests.tools.conftest import tools_process
from tests.tools.sources.conftest import UNRULY, http_server
from tests.tools.sources.test_openapi_http import Shop, document

pytestmark = MARKS


class Kind:
    """A tool that takes for ever, and how it shows that it was called, and told to stop."""

    def __init__(self, name: str, arguments: dict[str, str], called: Callable[[], bool], told: Callable[[], bool]):
        self.name = name
        self.arguments = arguments
        self.called = called
        self.told = told


def marked(folder: Path, name: str) -> Callable[[], bool]:
    return (folder / name).exists


@asynccontextmanager
async def kinds(nats: NatsServer, folder: Path) -> AsyncIterator[dict[str, Kind]]:
    """A tools service with one of each."""
    shop = Shop()
    async with http_server(shop.app) as address:
        (folder / "shop.json").write_text(json.dumps(document(address, "hangs")))
        command = {"command": sys.executable, "args": [str(UNRULY), str(folder)]}
        sources = [
            {"name": "unruly", "kind": "mcp_stdio", "include": ["sleep"], **command},
            {"name": "shop", "kind": "openapi", "document": "shop.json"},
        ]
        (folder / "sources.yaml").write_text(json.dumps({"sources": sources}))
        modules = f"{live_tools.MODULES},tests.tools.functions"
        with tools_process(
            nats.url,
            folder,
            modules=modules,
            sources=str(folder / "sources.yaml"),
            environment={live_tools.FOLDER: str(folder)},
        ):

            def story(name: str) -> tuple[Callable[[], bool], Callable[[], bool]]:
                order = Order(folder, name)
                return lambda: "began" in order.notes, lambda: "ended" in order.notes

            yield {
                "coroutine": Kind("wait_for_order", {"order_id": "1"}, *story("1")),
                "async generator": Kind("lookup_order", {"order_id": "2"}, *story("2")),
                "generator": Kind("get_weather", {"city": "paris"}, *story("paris")),
                "thread": Kind("wait_for_weather", {"city": "rome"}, *story("rome")),
                "mcp": Kind("sleep", {}, marked(folder, "called-sleep"), marked(folder, "cancelled")),
                "openapi": Kind("hangs", {}, lambda: shop.seen["hangs"] == 1, shop.cancelled.is_set),
            }


async def test_whoever_works_on_a_call_that_is_taken_back_is_told(rig: Rig, nats: NatsServer, tmp_path: Path) -> None:
    async with kinds(nats, tmp_path) as every:
        talk = Talk(rig, Ledger(tmp_path))
        spec = rig.spec(*(kind.name for kind in every.values()))
        for tool in spec.tools:
            tool.timeout.CopyFrom(duration(60))
        reply = await rig.control(open=spec)
        assert reply.HasField("attached"), reply
        talk.id, talk.link = spec.session_id, rig.dialer.links[-1]
        for call_id, kind in every.items():
            talk.link.says(events.FunctionCall(call_id, kind.name, dict(kind.arguments)))
        for call_id, kind in every.items():
            await eventually(kind.called)
            assert not kind.told(), call_id
        talk.link.says(events.CallsCancelled(tuple(every)))
        for kind in every.values():
            await eventually(kind.told)

        async def settled() -> bool:
            claims = await talk.claims.all(talk.id)
            outcomes = {claim.record.outcome.outcome for claim in claims}
            return len(claims) == len(every) and outcomes == {live_pb2.TOOL_OUTCOME_CANCELLED}

        await eventually(settled)
        assert not [sent for sent in talk.link.tool_responses if not sent.will_continue]
