"""What a conversation leaves in its trace, over real OTLP: every scene is played at once, in one stack."""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

import parley
from parley import events
from parley.cli.otlp import OtlpReceiver, Span
from parley.cli.stack import Stack, StackConfig
from tests.faults.call import Call, calling
from tests.faults.scene import kill, owner
from tests.faults.test_drain import move, moved, parley_says
from tests.support import order_ledger
from tests.support.eventually import eventually
from tests.support.silent_server import SilentServer
from tests.support.span_tree import TOOL, longest, most_in_a_minute, paths

pytestmark = pytest.mark.timeout(200)  # the first test plays all the scenes
WAITS = 60.0
TOOL_CALL = f"{TOOL} lookup_order/{TOOL} lookup_order"


class Scene:
    """One conversation, and what became of it."""

    def __init__(self) -> None:
        self.trace, self.span = secrets.token_hex(16), secrets.token_hex(8)
        self.session = ""
        self.spans: list[Span] = []

    @property
    def traceparent(self) -> str:
        """What the caller sends."""
        return f"00-{self.trace}-{self.span}-01"

    def paths(self) -> Counter[str]:
        """Of the spans."""
        return paths(self.spans, self.span)

    def named(self, name: str) -> list[Span]:
        """Spans of this name, by begin."""
        return sorted((span for span in self.spans if span.name == name), key=lambda span: span.start_ns)


class Play:
    """The stack, the receiver, and the scenes by name."""

    def __init__(self, stack: Stack, receiver: OtlpReceiver, folder: Path) -> None:
        self.stack = stack
        self.receiver = receiver
        self.folder = folder
        self.scenes: dict[str, Scene] = {}
        self.dead = ""
        """The worker that was killed."""

    def scene(self, name: str) -> Scene:
        """A new one."""
        return self.scenes.setdefault(name, Scene())

    async def says(self, call: Call, words: str, containing: str = "") -> None:
        """A typed question, and the end of its answer."""
        since = len(call.got)
        await call.session.send_text(words)
        await call.answer(since, containing=containing)

    # Scenes

    async def plain(self) -> None:
        scene = self.scene("plain")
        async with calling(self.stack, microphone=False, traceparent=scene.traceparent) as call:
            scene.session = call.session.id
            await self.says(call, "hello")

    async def without_context(self) -> None:
        scene = self.scene("without context")
        async with calling(self.stack, microphone=False) as call:
            scene.session = call.session.id
            await self.says(call, "hello")

    async def with_tools(self) -> None:
        scene = self.scene("with tools")
        async with calling(self.stack, microphone=False, traceparent=scene.traceparent) as call:
            scene.session = call.session.id
            await self.says(call, "where is my order 4711", "shipped")

    async def go_away(self) -> None:
        scene = self.scene("go away")
        async with calling(self.stack, microphone=False, traceparent=scene.traceparent) as call:
            scene.session = call.session.id
            await call.fault("go_away time_left=20s on=turn_complete")
            await self.says(call, "hello")
            await call.until(lambda event: isinstance(event, events.LinkRecovered))
            await self.says(call, "where is my order 4712", "shipped")

    async def refused(self) -> None:
        scene = self.scene("refused")
        with pytest.raises(parley.errors.ParleyError):
            async with calling(self.stack, profile="nobody", traceparent=scene.traceparent):
                pass

    async def killed_and_drained(self, killed: Scene, drained: Scene) -> None:
        """Each on a worker of its own; one worker dies with a tool running, then the other is drained."""
        stack = self.stack
        first = stack.workers[0]
        async with (
            calling(stack, microphone=False, traceparent=killed.traceparent) as dies,
            calling(stack, microphone=False, traceparent=drained.traceparent) as goes,
        ):
            killed.session, drained.session = dies.session.id, goes.session.id
            second, third = await asyncio.gather(stack.start_worker(), stack.start_worker())
            await asyncio.gather(self.says(dies, "hello"), self.says(goes, "hello"))
            await asyncio.gather(move(dies, second), move(goes, third))
            await asyncio.gather(moved(dies, cause="MOVED"), moved(goes, cause="MOVED"))
            assert await owner(dies) is second
            hold = self.folder / "1357"
            hold.touch()
            since = len(dies.got)
            await dies.session.send_text("where is my order 1357")
            await eventually(lambda: order_ledger.runs(self.folder, "1357") == 1, WAITS)
            self.dead = str(second.ready["id"])
            await kill(second)
            await moved(dies, since, cause="WORKER_LOST")
            hold.unlink()
            since_drain = len(goes.got)
            await asyncio.gather(
                dies.answer(since, containing="shipped"),
                parley_says(stack, "worker", "drain", str(third.ready["id"]), "--wait", "60"),
            )
            await moved(goes, since_drain, cause="DRAIN")
            await self.says(goes, "where is my order 4713", "shipped")
        assert first.running

    async def collector_hangs(self) -> None:
        """Through a gateway whose collector says nothing, and from a worker that has one all the same."""
        scene = self.scene("collector hangs")
        async with SilentServer() as collector:
            gateway = await self.stack.start_gateway(PARLEY_GATEWAY_OTLP_ENDPOINT=collector.endpoint)
            target = str(gateway.ready["address"])
            async with calling(self.stack, microphone=False, targets=[target], traceparent=scene.traceparent) as call:
                scene.session = call.session.id
                await self.says(call, "hello")
            await eventually(lambda: collector.connections, WAITS)
            assert await gateway.stop(WAITS) == 0

    async def all(self) -> None:
        """All of them at once."""
        killed, drained = self.scene("killed"), self.scene("drained")
        async with asyncio.TaskGroup() as group:
            for scene in (self.plain, self.without_context, self.with_tools, self.go_away, self.refused):
                group.create_task(scene())
            group.create_task(self.collector_hangs())
            group.create_task(self.killed_and_drained(killed, drained))

    async def collect(self) -> None:
        """The spans of each scene, once they have come."""
        ended = [scene.session for scene in self.scenes.values() if scene.session]

        def complete() -> bool:
            over = {span.attributes["session.id"] for span in self.receiver.spans if span.name == "parley.end"}
            return over.issuperset(ended)

        await eventually(complete, WAITS)
        await self.receiver.settle()
        for scene in self.scenes.values():
            if scene.session:
                scene.spans = [s for s in self.receiver.spans if s.attributes.get("session.id") == scene.session]
            else:
                scene.spans = self.receiver.trace(scene.trace)


async def _play(folder: Path) -> Play:
    env = {order_ledger.FOLDER: str(folder), "PARLEY_TOOLS_MODULES": order_ledger.MODULES}
    async with OtlpReceiver() as receiver:
        async with Stack(StackConfig(otlp_endpoint=receiver.endpoint, env=env)) as stack:
            play = Play(stack, receiver, folder)
            async with asyncio.timeout(150):
                await play.all()
                await play.collect()
        return play


@pytest.fixture(scope="module")
def play(tmp_path_factory: pytest.TempPathFactory) -> Play:
    return asyncio.run(_play(tmp_path_factory.mktemp("orders")))


OPENED = {"parley.open": 1, "parley.open/parley.place": 1, "parley.open/parley.place/parley.connect": 1}
ENDED = {"parley.open/parley.end": 1}
TURN = "parley.open/parley.turn"


def test_a_plain_call(play: Play) -> None:
    assert play.scenes["plain"].paths() == {**OPENED, TURN: 1, **ENDED}


def test_a_call_with_tools(play: Play) -> None:
    scene = play.scenes["with tools"]
    found = scene.paths()
    turns = found.pop(TURN)
    assert found == {**OPENED, f"{TURN}/{TOOL} lookup_order": 1, f"{TURN}/{TOOL_CALL}": 1, **ENDED}
    assert turns in (1, 2)
    asked, ran = scene.named(f"{TOOL} lookup_order")
    assert (asked.service, ran.service) == ("parley-session-worker", "parley-tools")
    assert asked.attributes["gen_ai.tool.call.id"] == ran.attributes["gen_ai.tool.call.id"]
    assert [event.name for event in ran.events] == ["claimed"]


def test_a_rotation_for_a_go_away(play: Play) -> None:
    scene = play.scenes["go away"]
    found = scene.paths()
    assert found["parley.open/parley.rotate"] == found["parley.open/parley.rotate/parley.connect"] == 1
    assert found[f"{TURN}/{TOOL_CALL}"] == 1
    assert not [path for path in found if path.startswith("?")]
    [rotation] = scene.named("parley.rotate")
    assert rotation.attributes["parley.link.cause"] == "GO_AWAY"
    assert rotation.attributes["parley.link.method"] == "RESUMED"


def test_a_worker_that_is_killed_while_a_tool_runs(play: Play) -> None:
    scene = play.scenes["killed"]
    found = scene.paths()
    assert not [path for path in found if path.startswith("?")], "what the worker was at hangs together all the same"
    assert found["parley.open/parley.take_over/parley.recover/parley.connect"] == 1
    assert found[f"{TURN}/{TOOL_CALL}"] == 1, "it ran once"
    [recovery] = scene.named("parley.recover")
    taken_over = {span.span_id: span for span in scene.named("parley.take_over")}[recovery.parent_id]
    assert taken_over.attributes["parley.take_over.proof"] == "DEAD"
    assert taken_over.attributes["parley.worker.before"] == play.dead
    stand_ins = [span.name for span in scene.spans if span.attributes.get("parley.stand_in")]
    assert sorted(stand_ins) == [f"{TOOL} lookup_order", "parley.turn"]


def test_a_worker_that_is_drained(play: Play) -> None:
    scene = play.scenes["drained"]
    found = scene.paths()
    assert not [path for path in found if path.startswith("?")]
    assert found["parley.open/parley.take_over/parley.migrate/parley.connect"] == 2
    assert found[f"{TURN}/{TOOL_CALL}"] == 1
    assert [span.attributes["parley.link.cause"] for span in scene.named("parley.migrate")] == ["MOVED", "DRAIN"]
    assert {span.attributes["parley.take_over.proof"] for span in scene.named("parley.take_over")} == {"RELEASED"}


def test_a_call_that_is_refused(play: Play) -> None:
    scene = play.scenes["refused"]
    [span] = scene.spans
    assert scene.paths() == {"parley.open": 1}
    assert (span.status, span.attributes["parley.error.reason"]) == ("ERROR", "PROFILE_UNKNOWN")
    assert span.attributes["parley.tenant"] == "dev"


def test_a_caller_without_context_has_a_trace_of_its_own(play: Play) -> None:
    scene = play.scenes["without context"]
    assert paths(scene.spans) == {**OPENED, TURN: 1, **ENDED}
    assert len({span.trace_id for span in scene.spans}) == 1


def test_a_collector_that_hangs_changes_nothing_for_a_call(play: Play) -> None:
    scene = play.scenes["collector hangs"]
    assert "parley.turn" in {span.name for span in scene.spans}
    assert "parley.open" not in {span.name for span in scene.spans}


def of(play: Play, wanted: Callable[[Scene], bool]) -> Iterable[Scene]:
    return (scene for scene in play.scenes.values() if wanted(scene))


def test_all_of_it_lies_in_the_callers_trace_and_says_whose_it_is(play: Play) -> None:
    for scene in of(play, lambda each: each is not play.scenes["without context"]):
        assert {span.trace_id for span in scene.spans} == {scene.trace}
    for scene in of(play, lambda each: bool(each.session)):
        assert {span.attributes.get("parley.tenant") for span in scene.spans} == {"dev"}


def test_spans_are_few_and_short(play: Play) -> None:
    for scene in of(play, lambda each: bool(each.session)):
        assert most_in_a_minute(scene.spans) <= 25
    every = [span for scene in play.scenes.values() for span in scene.spans]
    assert longest(every, turns=False) <= longest(every, turns=True)
