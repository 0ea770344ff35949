"""Random and mutated frames after a valid setup: whatever comes, the emulator closes as the service does or goes on.

``make test`` runs fifty; ``make fuzz-emulator`` runs 5,000 (``EMULATOR_FUZZ_EXAMPLES``).
"""

import asyncio
import copy
import json
import os
import threading
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import aiohttp
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from emulator.errors import MAX_REASON_BYTES
from emulator.server import Emulator
from emulator.settings import EmulatorSettings
from emulator.texts import documented
from tests.emulator.patience import LIMIT, in_time

T = TypeVar("T")
EXAMPLES = int(os.environ.get("EMULATOR_FUZZ_EXAMPLES", "50"))
PATH = "/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent"
VERTEX = "/ws/google.cloud.aiplatform.v1beta1.LlmBidiService/BidiGenerateContent"
MODELS = (
    "gemini-3.8-live",
    "gemini-3.8-live-extended-thinking",
    "gemini-3.1-flash-live-preview",
    "gemini-2.5-flash-native-audio-preview-12-2025",
)
DOCUMENTED = {1007, 1008, 1009, 1011}


def _recorded() -> list[dict[str, Any]]:
    """Every client message of the recorded frames."""
    lines = Path(__file__).parents[1].joinpath("data", "live-frames.jsonl").read_text().splitlines()
    frames = [json.loads(line) for line in lines]
    return [
        line["frame"]
        for line in frames
        if line["direction"] == "client->server" and line["transport"] == "ws-text" and isinstance(line["frame"], dict)
    ]


RECORDED = _recorded()

junk = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)


@st.composite
def mutated(draw: st.DrawFn) -> str | bytes:
    """A recorded client frame with up to four things changed, as text or bytes."""
    frame: Any = copy.deepcopy(draw(st.sampled_from(RECORDED)))
    for _ in range(draw(st.integers(0, 4))):
        _change(draw, frame)
    text = json.dumps(frame)
    match draw(st.sampled_from(["whole"] * 6 + ["cut", "doubled", "bytes", "invalid"])):
        case "cut":
            return text[: draw(st.integers(0, len(text)))]
        case "doubled":
            return text + text
        case "bytes":
            return text.encode()
        case "invalid":
            return text.encode() + b"\xff\xfe"
        case _:
            return text


def _change(draw: st.DrawFn, frame: Any) -> None:
    """One change somewhere in ``frame``, in place."""
    spot = frame
    while True:
        keys = list(spot) if isinstance(spot, dict) else list(range(len(spot)))
        if not keys:
            if isinstance(spot, dict):
                spot[draw(st.text(max_size=8))] = draw(junk)
            return
        key = draw(st.sampled_from(keys))
        if isinstance(spot[key], dict | list) and draw(st.booleans()):
            spot = spot[key]
            continue
        match draw(st.sampled_from(["replace", "remove", "add", "borrow"])):
            case "replace":
                spot[key] = draw(junk)
            case "remove":
                del spot[key]
            case "add" if isinstance(spot, dict):
                spot[draw(st.text(max_size=8))] = draw(junk)
            case _:
                spot[key] = copy.deepcopy(draw(st.sampled_from(RECORDED)))
        return


class Loop:
    """The emulator and its clients, on a loop of their own thread: hypothesis is synchronous."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="machine")
        self._thread.start()
        self.emulator = Emulator(
            EmulatorSettings(generation_speed=200, playback_speed=1000, kept_conversations=10, handle_limit=50)
        )
        self.run(self._start())

    async def _start(self) -> None:
        await self.emulator.__aenter__()
        self.http = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=False))
        self.neighbour = await self.open("neighbour", MODELS[0], PATH)
        self.tasks = await self.settled_tasks()

    async def open(self, conversation: str, model: str, path: str) -> aiohttp.ClientWebSocketResponse:
        """A connection with an accepted setup."""
        socket = await self.http.ws_connect(
            f"https://127.0.0.1:{self.emulator.port}{path}",
            headers={"x-goog-api-key": "key", "x-emulator-conversation": conversation},
        )
        prefix = "publishers/google/models" if path == VERTEX else "models"
        setup: dict[str, Any] = {"model": f"{prefix}/{model}", "sessionResumption": {}}
        if "thinking" in model:
            setup["generationConfig"] = {"thinkingConfig": {"thinkingLevel": "LOW"}}
        await socket.send_str(json.dumps({"setup": setup}))
        first = json.loads((await socket.receive(LIMIT)).data)
        assert "setupComplete" in first, first
        return socket

    async def settled_tasks(self) -> int:
        """Tasks of the loop, once their number stands still."""
        last, same = -1, 0
        while same < 3:
            await asyncio.sleep(0.001)
            now = len(asyncio.all_tasks())
            last, same = now, same + 1 if now == last else 0
        return last

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """From hypothesis's thread."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    def stop(self) -> None:
        async def stopping() -> None:
            await self.neighbour.close()
            await self.http.close()
            await self.emulator.__aexit__()

        self.run(stopping())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class Machine(RuleBasedStateMachine):
    """One connection that is sent anything, beside a neighbour that must notice nothing."""

    shared: ClassVar[Loop]

    @initialize(model=st.sampled_from(MODELS), vertex=st.booleans())
    def connect(self, model: str, vertex: bool) -> None:
        path = VERTEX if vertex and model == MODELS[0] else PATH
        self.socket = self.shared.run(self.shared.open("fuzzed", model, path))

    @rule(frames=st.lists(mutated(), min_size=1, max_size=4))
    def send(self, frames: list[str | bytes]) -> None:
        self.shared.run(self._send(frames))

    @rule(text=st.sampled_from(["hello", "stop", "what do you see"]))
    def talk(self, text: str) -> None:
        self.shared.run(self._send([json.dumps({"realtimeInput": {"text": text}})]))

    async def _send(self, frames: list[str | bytes]) -> None:
        for frame in frames:
            if self.socket.closed:
                return
            try:
                await (self.socket.send_str(frame) if isinstance(frame, str) else self.socket.send_bytes(frame))
            except (aiohttp.ClientError, ConnectionError):
                return

    @invariant()
    def the_neighbour_is_answered(self) -> None:
        self.shared.run(self._ask_neighbour())

    async def _ask_neighbour(self) -> None:
        neighbour = self.shared.neighbour
        await neighbour.send_str(json.dumps({"realtimeInput": {"text": "stop"}}))
        async with in_time():
            while True:
                message = await neighbour.receive()
                assert message.type is aiohttp.WSMsgType.BINARY, (message, neighbour.close_code)
                content = json.loads(message.data).get("serverContent", {})
                assert "inputTranscription" not in content and "interrupted" not in content, content
                if content.get("turnComplete"):
                    return

    def teardown(self) -> None:
        if hasattr(self, "socket"):
            self.shared.run(self._finish())

    async def _finish(self) -> None:
        """Reads what was left, checks how it was closed if it was, and that nothing is left."""
        socket = self.socket
        # An answered question at the end of the queue tells that everything before it was taken.
        while not socket.closed:
            try:
                async with asyncio.timeout(0.02):
                    message = await socket.receive()
            except TimeoutError:
                break
            if message.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR):
                # The frame's own code: a machine that is late to answer the frame finds the connection gone.
                code = message.data if message.type is aiohttp.WSMsgType.CLOSE else socket.close_code
                reason = message.extra or ""
                assert code in DOCUMENTED and documented(code, reason) is not None, (code, reason)
                assert len(reason.encode()) <= MAX_REASON_BYTES
                assert reason != "Internal error encountered.", "a fault of the emulator's own"
                break
        await socket.close()
        async with in_time():
            while len(self.shared.emulator.connections) > 1:
                await asyncio.sleep(0.001)
        assert await self.shared.settled_tasks() <= self.shared.tasks


@pytest.fixture
def shared() -> Iterator[Loop]:
    loop = Loop()
    try:
        yield loop
    finally:
        loop.stop()


@pytest.mark.timeout(3600)
def test_anything_after_a_valid_setup_is_answered_as_the_service_would(shared: Loop) -> None:
    Machine.shared = shared
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        Machine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=5,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            derandomize=EXAMPLES <= 1000,
            database=None,
        ),
    )
