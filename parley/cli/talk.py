"""`parley talk`: a conversation in real time, from WAV files to a WAV file."""

from pathlib import Path
from typing import Annotated

import typer

from parley.cli import _interrupt, _output
from parley.cli._connection import DEFAULT_TARGET, ApiKey, Target, quiet_grpc
from parley.cli._failures import EX_FAILED, CliError
from parley.cli.conversation import Step
from parley.cli.report import TalkReport
from parley.cli.talking import INPUT_RATE, TalkOptions, talk
from parley.cli.tracing import checked_endpoint
from parley.cli.wav import read_wav, write_wav


def talk_command(
    *,
    target: Target = DEFAULT_TARGET,
    wav: Annotated[list[Path] | None, typer.Option(help="Speech of the caller, 16 bit PCM mono; repeatable.")] = None,
    more_wavs: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[WAV]...", help="The same as --wav, for shell globs: parley talk *.wav."),
    ] = None,
    text: Annotated[list[str] | None, typer.Option(help="Say this in writing, after the speech; repeatable.")] = None,
    out: Annotated[Path | None, typer.Option(help="Where the reply goes, as a listener would have heard it.")] = None,
    profile: Annotated[str, typer.Option(help="Profile of the session.")] = "support",
    api_key: ApiKey = "",
    barge_in: Annotated[
        bool, typer.Option("--barge-in", help="Speak each WAV over the reply before, after 1 s of it.")
    ] = False,
    video: Annotated[list[Path] | None, typer.Option(help="JPEG pictures, sent one a second; repeatable.")] = None,
    frame_ms: Annotated[int, typer.Option(help="Length of a frame in milliseconds, 20 or 40.")] = 40,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON line at the end, nothing else.")] = False,
    otlp_endpoint: Annotated[
        str, typer.Option(help="Where the caller's span goes (OTLP/gRPC).", envvar="OTEL_EXPORTER_OTLP_ENDPOINT")
    ] = "",
    timeout: Annotated[float, typer.Option(min=1, help="Seconds for the whole conversation.")] = 300.0,
    turn_timeout: Annotated[float, typer.Option(min=1, help="Seconds to wait for any sign of an answer.")] = 30.0,
) -> None:
    """Hold a conversation in real time; show transcripts, tools and latencies.

    Exits non-zero unless the conversation went to its end and its sequence numbers are whole.
    """
    wavs = [*(wav or []), *(more_wavs or [])]
    if not wavs and not text:
        raise CliError("give something to say: --wav IN.wav or --text TEXT", 2)
    if frame_ms not in {20, 40}:
        raise CliError(f"--frame-ms must be 20 or 40, not {frame_ms}", 2)
    quiet_grpc()
    options = TalkOptions(
        target=target,
        steps=make_steps(wavs, text or [], barge_in=barge_in),
        profile=profile,
        api_key=api_key,
        video=[_picture(path) for path in video or []],
        frame_ms=frame_ms,
        otlp_endpoint=checked_endpoint(otlp_endpoint),
        timeout=timeout,
        turn_timeout=turn_timeout,
    )
    if as_json:
        report = _interrupt.run(talk(options))
    else:
        from parley.cli.screen import Screen, show_summary

        report = _interrupt.run(talk(options, Screen()))
        if report.session_id:
            show_summary(report)
    if out is not None:
        write_wav(out, report.reply, 24_000)
    if as_json:
        _output.print_json(report.document())
    finish(report)


def make_steps(wavs: list[Path], texts: list[str], *, barge_in: bool = False) -> list[Step]:
    """What the caller says: each file, then each text. CliError names what cannot be used."""
    if not all(text.strip() for text in texts):
        raise CliError("--text says nothing: give it some words", 2)
    spoken = [
        Step(path.stem, read_wav(path, INPUT_RATE), barge_in=barge_in and index > 0) for index, path in enumerate(wavs)
    ]
    return [*spoken, *(Step(_shortened(text), text=text) for text in texts)]


def finish(report: TalkReport) -> None:
    """Raises what went wrong, unless the conversation went as wished."""
    if report.failure is not None:
        raise report.failure
    if not report.ok:
        raise CliError(f"{report.error or report.outcome}. {report.what_to_do}".strip(), EX_FAILED)


def _shortened(text: str) -> str:
    """A text as the name of its step."""
    return f'"{text}"' if len(text) <= 40 else f'"{text[:37]}..."'


def _picture(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CliError(f"cannot read {path}: {error.strerror}") from None
    if not data.startswith(b"\xff\xd8"):
        raise CliError(f"{path} is no JPEG picture")
    return data
