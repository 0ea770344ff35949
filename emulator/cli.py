"""``parley emulator`` and ``python -m emulator``."""

import asyncio
import logging
import sys
from pathlib import Path
from typing import Annotated, Any

import structlog
import typer

EX_CONFIG = 78

command = typer.Typer(name="emulator", invoke_without_command=True, no_args_is_help=False)


@command.callback(invoke_without_command=True)
def serve(
    context: typer.Context,
    port: Annotated[int | None, typer.Option(help="TCP port of the Live endpoint (TLS); 0 chooses one.")] = None,
    control_port: Annotated[int | None, typer.Option(help="TCP port of the control API; 0 chooses one.")] = None,
    scenario: Annotated[str | None, typer.Option(help="Packaged scenario by name, or the path of a YAML file.")] = None,
    ca_file: Annotated[Path | None, typer.Option(help="File to write the authority's certificate (PEM) to.")] = None,
) -> None:
    """Run the Gemini Live emulator. Further settings: PARLEY_EMULATOR_* (`parley settings emulator` lists them)."""
    if context.invoked_subcommand is not None:
        return
    from emulator.server import run
    from emulator.settings import EmulatorSettings

    given: dict[str, Any] = {"port": port, "control_port": control_port, "scenario": scenario, "ca_file": ca_file}
    settings = EmulatorSettings(**{name: value for name, value in given.items() if value is not None})
    log_to_stderr(settings.log_level)
    from emulator.hearing.ears import HearingError
    from emulator.scenario import ScenarioError

    try:
        asyncio.run(run(settings))
    except (ScenarioError, HearingError) as error:
        sys.stderr.write(f"emulator: setting scenario: {error}\n")
        raise typer.Exit(EX_CONFIG) from error
    except OSError as error:
        # An address that cannot be listened on, or a CA file that cannot be written; the error names which.
        sys.stderr.write(f"emulator: setting host, port, control_port or ca_file: {error}\n")
        raise typer.Exit(EX_CONFIG) from error


def log_to_stderr(level: str) -> None:
    """One JSON object a line; stdout stays for the line that says ready."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
