"""`parley tools`: run the tools service, or check what it would serve."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

command = typer.Typer(invoke_without_command=True, help="The tools service: runs the functions that models call.")


@command.callback()
def serve(context: typer.Context) -> None:
    """Run the tools service until SIGTERM or SIGINT. Settings: `parley settings tools`."""
    if context.invoked_subcommand is not None:
        return
    from services.fabric import process

    with process.importing():
        from services.fabric.yaml_file import ConfigurationError
        from services.tools.runtime import run
        from services.tools.settings import ToolsSettings

    try:
        run(ToolsSettings())
    except ConfigurationError as error:
        _refused(error)


@command.command("check")
def check_sources(
    file: Annotated[
        Path | None, typer.Argument(help="YAML file of sources; default: the one of PARLEY_TOOLS_SOURCES.")
    ] = None,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds that a source has for its first answer.")] = 30.0,
) -> None:
    """Start the sources of tools, print what would be served and what could not be, and stop them.

    Exits with 1 when something could not be served, with 78 when the file is wrong.

    [dim]Example:[/dim] parley tools check sources.yaml
    """
    import asyncio
    import logging

    import structlog

    from services.fabric.yaml_file import ConfigurationError
    from services.tools.check import check
    from services.tools.settings import ToolsSettings

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    logging.disable(logging.ERROR)
    settings = ToolsSettings() if file is None else ToolsSettings(sources=file)
    try:
        checked = asyncio.run(check(settings, timeout))
    except ConfigurationError as error:
        _refused(error)
    for tool in checked.tools:
        hints = ["idempotent"] if tool.idempotent else []
        hints += [tool.behavior] if tool.behavior else []
        hints += [f"{tool.timeout.total_seconds():g} s"] if tool.timeout else []
        typer.echo(f"{tool.name}  ({tool.site}{'; ' if hints else ''}{', '.join(hints)})")
    for remark in checked.remarks:
        typer.echo(f"remark: {remark}", err=True)
    for problem in checked.problems:
        typer.echo(f"problem: {problem}", err=True)
    typer.echo(
        f"{len(checked.tools)} tools, {len(checked.problems)} problems, {len(checked.remarks)} remarks", err=True
    )
    if checked.problems:
        raise typer.Exit(1)


def _refused(error: Exception) -> None:
    typer.echo(str(error), err=True)
    raise typer.Exit(78) from error
