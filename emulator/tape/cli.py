"""``parley emulator record`` and ``parley emulator replay``."""

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

EX_CONFIG = 78
EX_IOERR = 74

_Host = Annotated[str, typer.Option(help="Address to listen on (TLS).")]
_Port = Annotated[int, typer.Option(min=0, max=65535, help="TCP port to listen on; 0 chooses a free one.")]
_CaFile = Annotated[
    Path | None, typer.Option(help="File to write the certificate (PEM) of the command's own authority to.")
]
_LogLevel = Annotated[str, typer.Option(help="Least severe log lines on stderr: debug, info, warning or error.")]


def register(command: typer.Typer) -> None:
    """Add both to ``parley emulator``."""
    command.command("record")(record)
    command.command("replay")(replay)


def record(
    *,
    upstream: Annotated[str, typer.Option(help="The endpoint, https://HOST[:PORT]: the service's, or an emulator's.")],
    out: Annotated[Path, typer.Option(help="File to write (JSON lines); it must not exist yet.")],
    host: _Host = "127.0.0.1",
    port: _Port = 0,
    ca_file: _CaFile = None,
    upstream_ca: Annotated[
        Path | None, typer.Option(help="Authority (PEM) to trust for the endpoint instead of the system's.")
    ] = None,
    max_audio_bytes: Annotated[
        int | None, typer.Option(min=0, help="Bytes to keep of each piece of audio or picture; all where not given.")
    ] = None,
    max_bytes: Annotated[
        int, typer.Option(min=64 * 1024, help="Size of the file at which recording stops; relaying goes on.")
    ] = 256 * 1024 * 1024,
    queue_bytes: Annotated[
        int, typer.Option(min=64 * 1024, help="Bytes that may wait for a slow disk; what is more is dropped and noted.")
    ] = 64 * 1024 * 1024,
    log_level: _LogLevel = "info",
) -> None:
    """Stand between clients and a Live endpoint, and record what passes, without secrets."""
    from emulator.tape.recorder import Recorder, RecorderOptions

    options = RecorderOptions(
        upstream=upstream,
        out=out,
        host=host,
        port=port,
        ca_file=ca_file,
        upstream_ca=upstream_ca,
        max_audio_bytes=max_audio_bytes,
        max_bytes=max_bytes,
        queue_bytes=queue_bytes,
    )

    async def run() -> Recorder:
        from emulator.tape.listener import until_stopped

        async with Recorder(options) as recorder:
            await until_stopped(recorder.ready())
        return recorder

    with _explained("record", log_level):
        recorder = asyncio.run(run())
    if not recorder.complete:
        sys.stderr.write(f"record: {out} is not complete: {recorder.tape.failure or 'the disk is too slow'}\n")
        raise typer.Exit(EX_IOERR)


def replay(
    *,
    file: Annotated[Path, typer.Argument(help="What `record` wrote.")],
    host: _Host = "127.0.0.1",
    port: _Port = 0,
    control_host: Annotated[str, typer.Option(help="Address of the control API (plain HTTP).")] = "127.0.0.1",
    control_port: _Port = 0,
    ca_file: _CaFile = None,
    speed: Annotated[float, typer.Option(min=0.001, max=1000, help="As many times as fast as recorded.")] = 1.0,
    immediately: Annotated[bool, typer.Option(help="Wait for what the client has to do, and for no time.")] = False,
    strict: Annotated[
        bool, typer.Option(help="Close with 1007 when a client frame is not of the recorded shape.")
    ] = False,
    unprompted: Annotated[bool, typer.Option(help="Wait for nothing of the client's but its setup.")] = False,
    loop: Annotated[bool, typer.Option(help="Begin again after the last connection.")] = False,
    log_level: _LogLevel = "info",
) -> None:
    """Serve a recording: each connection plays the next recorded one, or the one that x-emulator-replay names."""
    from emulator.tape.playback import Manner
    from emulator.tape.player import Player, PlayerOptions

    options = PlayerOptions(
        file=file,
        host=host,
        port=port,
        control_host=control_host,
        control_port=control_port,
        ca_file=ca_file,
        manner=Manner(None if immediately else speed, strict=strict, unprompted=unprompted),
        loop=loop,
    )

    async def run() -> None:
        from emulator.tape.listener import until_stopped

        async with Player(options) as player:
            await until_stopped(player.ready())

    with _explained("replay", log_level):
        asyncio.run(run())


@contextmanager
def _explained(name: str, log_level: str) -> Iterator[None]:
    """What is wrong with the options or the file, in one line; status 78."""
    from emulator.logs import log_to_stderr
    from emulator.tape.errors import OptionError, TapeError

    try:
        if log_level not in ("debug", "info", "warning", "error"):
            raise OptionError(f"--log-level: {log_level!r} is not one of debug, info, warning, error")
        log_to_stderr(log_level)
        yield
    except (OptionError, TapeError) as error:
        sys.stderr.write(f"{name}: {error}\n")
        raise typer.Exit(EX_CONFIG) from error
    except OSError as error:
        sys.stderr.write(f"{name}: --host, --port or --ca-file: {error}\n")
        raise typer.Exit(EX_CONFIG) from error
