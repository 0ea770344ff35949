"""``parley emulator`` and ``python -m emulator``."""

import asyncio
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any

import typer
import uvloop

from emulator.faults import cli as faults
from emulator.logs import log_to_stderr
from emulator.tape import cli as tape

EX_CONFIG = 78

command = typer.Typer(name="emulator", invoke_without_command=True, no_args_is_help=False)
tape.register(command)
faults.register(command)


@command.callback(invoke_without_command=True)
def serve(  # noqa: PLR0917 - the command line's own order
    context: typer.Context,
    port: Annotated[int | None, typer.Option(help="TCP port of the Live endpoint (TLS); 0 chooses one.")] = None,
    control_port: Annotated[int | None, typer.Option(help="TCP port of the control API; 0 chooses one.")] = None,
    scenario: Annotated[str | None, typer.Option(help="Packaged scenario by name, or the path of a YAML file.")] = None,
    ca_file: Annotated[Path | None, typer.Option(help="File to write the authority's certificate (PEM) to.")] = None,
    processes: Annotated[int | None, typer.Option(help="Processes that serve together.")] = None,
) -> None:
    """Run the Gemini Live emulator. Further settings: PARLEY_EMULATOR_* (`parley settings emulator` lists them)."""
    if context.invoked_subcommand is not None:
        return
    from emulator.settings import EmulatorSettings

    given: dict[str, Any] = {"port": port, "control_port": control_port, "scenario": scenario, "ca_file": ca_file}
    given["processes"] = processes
    settings = EmulatorSettings(**{name: value for name, value in given.items() if value is not None})
    log_to_stderr(settings.log_level)
    if settings.processes == 1:
        from emulator.server import run as run_one

        status = explained(lambda: on_uvloop(run_one(settings)))
    else:
        from emulator.processes.parent import run as run_several

        status = explained(lambda: asyncio.run(run_several(settings)))
    if status:
        raise typer.Exit(status)


def explained(serve: Callable[[], int | None]) -> int:
    """The exit status of what serves; a setting that cannot be is named on stderr."""
    from emulator.hearing.recogniser import HearingError
    from emulator.scenarios.scenario import ScenarioError

    try:
        return serve() or 0
    except (ScenarioError, HearingError) as error:
        sys.stderr.write(f"emulator: setting scenario: {error}\n")
    except (OSError, UnicodeError) as error:
        # An address that cannot be listened on, or a CA file that cannot be written; the error names which.
        sys.stderr.write(f"emulator: setting host, port, control_port or ca_file: {error}\n")
    return EX_CONFIG


def on_uvloop(serving: Coroutine[Any, Any, None]) -> None:
    """Serve on uvloop, where a connection costs less time and memory."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serving)
