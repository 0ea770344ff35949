"""`parley demo`: the main job on this machine alone, on real speech, with a verdict."""

import os
import sqlite3
import tempfile
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from parley.cli import _interrupt, _output
from parley.cli._connection import quiet_grpc
from parley.cli._failures import EX_FAILED, CliError
from parley.cli.conversation import Step
from parley.cli.otlp import OtlpReceiver
from parley.cli.report import TalkReport
from parley.cli.screen import Screen, show_summary
from parley.cli.stack import Stack, StackConfig
from parley.cli.talking import INPUT_RATE, TalkOptions, talk
from parley.cli.tracetree import trace_tree
from parley.cli.trouble import TroubledScreen
from parley.cli.wav import read_wav, write_wav

DATA = Path(__file__).parent / "demo_data"
SERVICES = frozenset({"parley-caller", "parley-gateway", "parley-session-worker", "parley-tools"})
"""Every one of them must have a span in the trace."""


def demo(
    *,
    out: Annotated[Path | None, typer.Option(help="Where the reply goes; .work/demo/reply.wav by default.")] = None,
) -> None:
    """Start everything, ask spoken questions, interrupt, want money back, break a link, kill a worker, and see."""
    quiet_grpc()
    _interrupt.run(_demo(out or _default_output()))


async def _demo(out: Path) -> None:
    console = _output.console()
    async with OtlpReceiver() as receiver:
        console.print("Starting nats-server, emulator, tools, two workers and a gateway ...")
        async with Stack(StackConfig(workers=2, otlp_endpoint=receiver.endpoint)) as stack:
            target = stack.gateways[0].ready["address"]
            console.print(f"Everything runs; the gateway is at {target}, logs are in {stack.state_dir}\n")
            console.print("[bold]A conversation: two questions, the second over the first answer")
            steps = [_step("tell_me_about_your_service"), _step("order_4711", barge_in=True), _step("goodbye")]
            report = await _talk(TalkOptions(target, steps, otlp_endpoint=receiver.endpoint))
            write_wav(out, report.reply, 24_000)
            console.print(f"\nThe reply as a listener heard it: {out}\n")
            await _show_trace(receiver, report.trace_id)
            console.print("\n[bold]The same with the camera on")
            pictures = [path.read_bytes() for path in sorted(DATA.glob("frame_*.jpg"))]
            steps = [_step("order_4711"), _step("what_do_you_see"), _step("goodbye")]
            seen = await _talk(TalkOptions(target, steps, video=pictures))
            console.print("\n[bold]In writing, with functions whose effect stays: money back, and an appointment")
            steps = [
                Step("refund", text="I want my money back for order 4711."),
                Step("appointment", text="I would like an appointment on Monday."),
            ]
            written = await _talk(TalkOptions(target, steps, profile="shop"))
            console.print("\n[bold]In trouble: the link ends during one answer, the worker is killed during the next")
            screen = TroubledScreen(stack)
            steps = [_step("tell_me_about_your_service"), _step("order_4711"), _step("weather_paris"), _step("goodbye")]
            troubled = await _talk(TalkOptions(target, steps), screen)
            _judge(report, seen, receiver, pictures)
            _judge_effects(written, stack.state_dir)
            _judge_trouble(troubled, screen)
    console.print("\nThe demo went as it should.")


async def _talk(options: TalkOptions, screen: Screen | None = None) -> TalkReport:
    report = await talk(options, screen or Screen())
    show_summary(report)
    return report


async def _show_trace(receiver: OtlpReceiver, trace_id: str) -> None:
    """Prints the trace once it has come together; spans are exported in batches, so not all are here at once."""
    try:
        await receiver.wait_for(lambda: receiver.services(trace_id) >= SERVICES, timeout=8)
    except TimeoutError:
        missing = ", ".join(sorted(SERVICES - receiver.services(trace_id)))
        _failed(f"the trace has no span of: {missing}")
    await receiver.settle()
    _output.console().print(trace_tree(receiver.trace(trace_id)))


def _judge(report: TalkReport, seen: TalkReport, receiver: OtlpReceiver, pictures: Sequence[bytes]) -> None:
    """CliError names the first thing that did not happen."""
    for name, talked in (("conversation", report), ("conversation with the camera", seen)):
        if not talked.ok:
            _failed(f"the {name} failed: {talked.error or talked.outcome}")
        if not any(tool["outcome"] == "SUCCEEDED" for tool in talked.tools):
            _failed(f"no tool call succeeded in the {name}")
    if not report.interrupted or report.played_seconds >= report.audio_seconds:
        _failed("the first answer was not interrupted")
    if len(seen.sent.video) != len(pictures):
        _failed(f"only {len(seen.sent.video)} of {len(pictures)} pictures were sent")
    if receiver.dropped:
        _failed(f"{receiver.dropped} spans did not fit into the receiver")


def _judge_effects(report: TalkReport, state_dir: Path) -> None:
    if not report.ok:
        _failed(f"the conversation in writing failed: {report.error or report.outcome}")
    for table, file in (("refunds", "orders.sqlite"), ("appointments", "appointments.sqlite3")):
        with closing(sqlite3.connect(state_dir / file)) as connection:
            [rows] = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
        if rows != 1:
            _failed(f"one row was to be in the {table}; there are {rows}")


def _judge_trouble(report: TalkReport, screen: TroubledScreen) -> None:
    if not report.ok:
        _failed(f"the conversation in trouble failed: {report.error or report.outcome}")
    if screen.recovered != ["GO_AWAY", "WORKER_LOST"]:
        _failed(f"the session was to survive a goAway and its worker; it survived {screen.recovered or 'nothing'}")


def _failed(what: str) -> NoReturn:
    raise CliError(f"the demo failed: {what}", EX_FAILED)


def _step(name: str, *, barge_in: bool = False) -> Step:
    return Step(name, read_wav(DATA / f"{name}.wav", INPUT_RATE), barge_in=barge_in)


def _default_output() -> Path:
    """Below the working directory, where `make clean` finds it; elsewhere when that cannot be written."""
    folder = Path.cwd() / ".work" / "demo"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        folder = Path(tempfile.mkdtemp(prefix="parley-demo-"))
    if not os.access(folder, os.W_OK):
        folder = Path(tempfile.mkdtemp(prefix="parley-demo-"))
    return folder / "reply.wav"
