"""What an SRE finds in Jaeger of a conversation with a tool call, a goAway and a worker that is killed."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import parley
from parley import events
from parley.cli.stack import Stack, StackConfig
from tests.faults.call import Call, calling
from tests.faults.scene import kill, owner
from tests.faults.test_drain import moved
from tests.jaeger.server import Jaeger, running
from tests.support.eventually import eventually

pytestmark = pytest.mark.timeout(1800)  # the first time Jaeger is built
GATEWAY, WORKER, TOOLS = "parley-gateway", "parley-session-worker", "parley-tools"
WAITS = 60.0


@dataclass
class Found:
    """What happened, and what Jaeger has of it."""

    session: str = ""
    lost_worker: str = ""
    trace: str = field(default_factory=lambda: secrets.token_hex(16))
    later: str = field(default_factory=lambda: secrets.token_hex(16))
    """Trace with which the caller came back."""
    refused: str = field(default_factory=lambda: secrets.token_hex(16))
    caller: str = field(default_factory=lambda: secrets.token_hex(8))
    spans: list[dict[str, Any]] = field(default_factory=list)
    services: list[str] = field(default_factory=list)
    operations: dict[str, set[str]] = field(default_factory=dict)
    links: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """Spans `parley.rollover`, by trace."""
    searches: dict[str, set[str]] = field(default_factory=dict)
    """Traces that a search found, by what was searched for."""

    def parent(self, trace: str) -> str:
        return f"00-{trace}-{self.caller}-01"


def tags(span: dict[str, Any]) -> dict[str, Any]:
    return {tag["key"]: tag["value"] for tag in span["tags"]}


async def converse(stack: Stack, found: Found) -> None:
    """The conversation; it goes on in another trace when its caller comes back."""
    first = calling(stack, microphone=False, traceparent=found.parent(found.trace))
    with contextlib.suppress(parley.errors.Superseded):  # by the caller that comes back
        await talk_and_come_back(first, stack, found)
    with pytest.raises(parley.errors.ParleyError):
        async with calling(stack, profile="nobody", traceparent=found.parent(found.refused)):
            pass


async def talk_and_come_back(first: AbstractAsyncContextManager[Call], stack: Stack, found: Found) -> None:
    """All that is told of in the trace, and then in the later one."""
    async with first as call:
        found.session = call.session.id
        await call.fault("go_away time_left=20s on=turn_complete")
        await call.session.send_text("where is my order 4711")
        await call.answer(containing="four seven one one")
        await call.until(lambda event: isinstance(event, events.LinkRecovered))
        gone = await owner(call)
        found.lost_worker = str(gone.ready["id"])
        since = len(call.got)
        await call.session.send_text("what is the weather in london")
        await call.answer(since, containing="degrees")
        since = len(call.got)
        await kill(gone)
        await moved(call, since, cause="WORKER_LOST")
        await call.session.send_text("hello")
        await call.answer(since, containing="help you")
        await call.give_way()
        point, traceparent = call.session.resume_point, found.parent(found.later)
        async with calling(stack, microphone=False, resume=point, traceparent=traceparent) as again:
            await again.session.send_text("hello")
            await again.answer(containing="help you")


async def look(jaeger: Jaeger, found: Found) -> None:
    """Ask Jaeger, as soon as it has everything."""

    async def complete() -> bool:
        ended = await jaeger.search(WORKER, session__id=found.session, parley__end__reason="CALLER")
        return bool(ended) and bool(await jaeger.search(GATEWAY, parley__error__reason="PROFILE_UNKNOWN"))

    await eventually(complete, WAITS)
    found.spans = await jaeger.trace(found.trace)
    found.services = await jaeger.get("services")
    for service in (GATEWAY, WORKER, TOOLS):
        found.operations[service] = set(await jaeger.get(f"services/{service}/operations"))
    for trace in (found.trace, found.later):
        spans = await jaeger.trace(trace)
        found.links[trace] = [span for span in spans if span["operationName"] == "parley.rollover"]
    for what, service, wanted in (
        ("session", WORKER, {"session__id": found.session}),
        ("session at the tools", TOOLS, {"session__id": found.session}),
        ("tenant", GATEWAY, {"parley__tenant": "dev"}),
        ("error", GATEWAY, {"error": "true"}),
        ("reason", GATEWAY, {"parley__error__reason": "PROFILE_UNKNOWN"}),
        ("lost worker", GATEWAY, {"parley__worker__before": found.lost_worker}),
        ("cause", WORKER, {"parley__link__cause": "GO_AWAY"}),
    ):
        found.searches[what] = {trace["traceID"] for trace in await jaeger.search(service, **wanted)}


async def _find(folder: Path) -> Found:
    found = Found()
    async with running(folder) as jaeger, Stack(StackConfig(workers=2, otlp_endpoint=jaeger.otlp)) as stack:
        async with asyncio.timeout(150):
            await converse(stack, found)
            await look(jaeger, found)
    return found


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Found:
    return asyncio.run(_find(tmp_path_factory.mktemp("jaeger")))


def test_services_and_operations(found: Found) -> None:
    assert {GATEWAY, WORKER, TOOLS} <= set(found.services)
    assert {"parley.open", "parley.place", "parley.take_over"} <= found.operations[GATEWAY]
    wanted = {"parley.connect", "parley.turn", "parley.rotate", "parley.recover", "execute_tool lookup_order"}
    assert wanted <= found.operations[WORKER]
    assert {"execute_tool lookup_order", "execute_tool get_weather"} <= found.operations[TOOLS]


def test_parents(found: Found) -> None:
    by_id = {span["spanID"]: span for span in found.spans}

    def parent(span: dict[str, Any]) -> str:
        [ref] = [ref for ref in span["references"] if ref["refType"] == "CHILD_OF"]
        return str(by_id[ref["spanID"]]["operationName"]) if ref["spanID"] in by_id else str(ref["spanID"])

    found_pairs = {(parent(span), span["operationName"], span["service"]) for span in found.spans}
    assert {
        (found.caller, "parley.open", GATEWAY),
        ("parley.open", "parley.place", GATEWAY),
        ("parley.place", "parley.connect", WORKER),
        ("parley.open", "parley.turn", WORKER),
        ("parley.turn", "execute_tool lookup_order", WORKER),
        ("execute_tool lookup_order", "execute_tool lookup_order", TOOLS),
        ("parley.open", "parley.rotate", WORKER),
        ("parley.rotate", "parley.connect", WORKER),
        ("parley.open", "parley.take_over", GATEWAY),
        ("parley.take_over", "parley.recover", WORKER),
        ("parley.recover", "parley.connect", WORKER),
    } <= found_pairs


def test_tags(found: Found) -> None:
    assert {tags(span)["session.id"] for span in found.spans} == {found.session}
    assert {tags(span)["parley.tenant"] for span in found.spans} == {"dev"}
    by_name = {span["operationName"]: tags(span) for span in found.spans}
    assert by_name["parley.rotate"]["parley.link.cause"] == "GO_AWAY"
    assert by_name["parley.recover"]["parley.link.cause"] == "WORKER_LOST"
    assert by_name["parley.take_over"]["parley.take_over.proof"] == "DEAD"
    assert by_name["parley.turn"]["parley.turn.first_audio_ms"] > 0
    assert by_name["execute_tool lookup_order"]["parley.tool.outcome"] == "succeeded"


def test_links_between_the_traces_of_one_session(found: Found) -> None:
    def linked(trace: str) -> set[str]:
        return {ref["traceID"] for span in found.links[trace] for ref in span["references"] if ref["traceID"] != trace}

    assert linked(found.trace) == {found.later}
    assert linked(found.later) == {found.trace}


def test_searches(found: Found) -> None:
    both = {found.trace, found.later}
    assert found.searches["session"] == both
    assert found.searches["session at the tools"] == {found.trace}
    assert found.searches["tenant"] >= both | {found.refused}
    assert found.searches["error"] >= {found.refused}
    assert found.searches["reason"] >= {found.refused}
    assert found.searches["lost worker"] == {found.trace}
    assert found.searches["cause"] >= {found.trace}
