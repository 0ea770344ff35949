"""`examples/microphone.py` with a sound card of the tests, against real processes and real speech."""

from __future__ import annotations

import asyncio
import importlib.util
import re
import sqlite3
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from parley.audio import Resampler
from parley.cli.stack import Stack, StackConfig
from parley.v1 import live_pb2 as pb
from tests.client.fake_gateway import Stream, converse_until_end, fake_gateway
from tests.examples.card import RATE, Card
from tests.support.eventually import eventually
from tests.support.hearing import hear
from tests.support.speech import question

EXAMPLE = Path(__file__).parents[2] / "examples" / "microphone.py"


@pytest.fixture(scope="module")
def microphone() -> ModuleType:
    spec = importlib.util.spec_from_file_location("microphone", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def spoken(name: str) -> bytes:
    """A recorded question as a sound card records it."""
    resampler = Resampler(16_000, RATE)
    return resampler.push(question(name)) + resampler.flush()


@asynccontextmanager
async def running(microphone: ModuleType, target: str, card: Card):
    """The example's main, in a thread of its own with a loop of its own."""
    main = asyncio.create_task(asyncio.to_thread(microphone.main, ["--target", target], card))
    try:
        await eventually(card.opened.is_set)
        yield main
    finally:
        card.unplug()
        await asyncio.wait([main])


async def test_the_reply_is_heard_and_a_barge_in_empties_the_queue(microphone: ModuleType, capsys: Any) -> None:
    card = Card()
    async with Stack(StackConfig()) as stack:
        with sqlite3.connect(stack.state_dir / "orders.sqlite") as orders:
            orders.execute("UPDATE orders SET status = 'delayed', arrives = 'thursday' WHERE order_id = '4711'")
        async with running(microphone, stack.gateways[0].ready["address"], card) as main:
            card.say(spoken("tell_me_about_your_service"))
            await eventually(lambda: card.speech_after(0) > 0.5, 30)
            card.say(spoken("order_4711"))
            await eventually(lambda: card.silent, 30)
            # What was queued of the first answer is not played while the model thinks.
            await eventually(lambda: card.quiet_for(0.5), 30)
            mark = len(card.played)
            await eventually(lambda: card.speech_after(mark) > 1 and card.quiet_for(1), 30)
            reply = bytes(card.played[mark:])
            card.unplug()
            assert await main == 69
    out, err = capsys.readouterr()
    grammar = "order four seven one one is (shipped | delayed) and arrives on (monday | thursday | friday)"
    assert hear(reply, RATE, grammar) == "order four seven one one is delayed and arrives on thursday"
    numbers = re.search(r"played (.*) s, interrupted (.*) s, dropped (.*) pieces", out)
    assert numbers is not None, out
    played, interrupted, dropped = map(float, numbers.groups())
    assert interrupted > 1, "the first answer was not cut off"
    assert played > 2
    assert dropped <= 50, "while the session opened"
    assert "tool: lookup_order" in out
    assert "interrupted" in out
    assert err.strip() == "microphone: the sound card is gone"


async def test_the_session_s_end_ends_the_example(microphone: ModuleType, capsys: Any) -> None:
    async def script(stream: Stream) -> None:
        await stream.opened()
        await stream.read_until("audio")
        await stream.send(ended=pb.Ended(reason=pb.END_REASON_LIMIT, message="15 minutes"))

    card = Card()
    async with fake_gateway(script) as gateway, running(microphone, gateway.target, card) as main:
        assert await main == 0
    assert "ended: LIMIT 15 minutes" in capsys.readouterr().out


async def test_while_the_gateway_is_away_nothing_that_is_said_is_dropped(microphone: ModuleType, capsys: Any) -> None:
    away = 4.0  # seconds: more than the microphone and the queue of a stream hold together
    card = Card()
    lost_at = len(card.played)

    async def script(stream: Stream) -> None:
        nonlocal lost_at
        if len(gateway.streams) == 1:
            await stream.opened(resume_window={"seconds": 60})
            lost_at = len(card.played)
            await stream.lose()
        if len(card.played) < lost_at + away * RATE * 2:
            await stream.lose(reason="NO_WORKER", after=0.1)
        await stream.opened(existing=True, resume_window={"seconds": 60})
        while sum(len(frame) for request in stream.of("audio") for frame in request.audio.frames) < away * 32_000:
            await stream.read()
        await stream.send(ended=pb.Ended(reason=pb.END_REASON_OPERATOR))

    async with fake_gateway(script) as gateway, running(microphone, gateway.target, card) as main:
        assert await main == 0
        assert len(gateway.streams) > 2
    assert "dropped 0 pieces of yours" in capsys.readouterr().out


async def test_ctrl_c_ends_the_session(microphone: ModuleType) -> None:
    card = Card()
    async with fake_gateway(converse_until_end) as gateway:
        options = microphone.argparse.Namespace(target=gateway.target, profile="support", api_key=None)
        talking = asyncio.create_task(microphone.converse(options, card))
        stream = await gateway.stream()
        await eventually(lambda: stream.of("audio"))
        talking.cancel()  # what asyncio.run does
        await talking
        assert stream.of("end")


async def test_an_error_is_one_line_with_what_to_do(microphone: ModuleType, capsys: Any) -> None:
    card = Card()
    assert await asyncio.to_thread(microphone.main, ["--target", "127.0.0.1:1"], card) == 1
    err = capsys.readouterr().err
    assert err.startswith("microphone: ")
    assert "Check that the service runs" in err
    assert err.count("\n") == 1


async def test_while_nothing_can_be_sent_the_oldest_speech_is_dropped(microphone: ModuleType) -> None:
    pieces = microphone.Microphone()
    for number in range(60):
        pieces.put(bytes([number]))
    await eventually(lambda: pieces.dropped == 10)
    assert [(await pieces.get())[0] for _ in range(50)] == list(range(10, 60))


# -- PortAudio -------------------------------------------------------------------------------------------------------

NO_DEVICE = """
class PortAudioError(Exception): pass
def query_devices(kind): raise PortAudioError("Error querying device -1")
"""
WITHOUT = {
    "raise ImportError(name='sounddevice')": "sounddevice is not installed: pip install sounddevice",
    "raise OSError('PortAudio library not found')": (
        "PortAudio library not found: install PortAudio, e.g. apt install libportaudio2"
    ),
    NO_DEVICE: "no microphone or no loudspeaker: Error querying device -1",
}


@pytest.mark.parametrize("module", WITHOUT)
async def test_without_a_sound_card_one_line_says_what_is_missing(module: str, tmp_path: Path) -> None:
    (tmp_path / "sounddevice.py").write_text(module)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", f"import sys, runpy; sys.path.insert(0, {str(tmp_path)!r}); "
          f"sys.argv = ['microphone.py', '--target', '127.0.0.1:1']; "
          f"runpy.run_path({str(EXAMPLE)!r}, run_name='__main__')"),
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    _, err = await process.communicate()
    assert err.decode() == f"microphone: {WITHOUT[module]}\n"
    assert process.returncode == 69
