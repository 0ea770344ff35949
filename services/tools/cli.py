"""`parley tools`: run the tools service."""

from __future__ import annotations

import typer

command = typer.Typer(invoke_without_command=True, help="The tools service: runs the functions that models call.")


@command.callback()
def serve(context: typer.Context) -> None:
    """Run the tools service until SIGTERM or SIGINT. Settings: `parley settings tools`."""
    if context.invoked_subcommand is not None:
        return
    from services.tools.runtime import run
    from services.tools.settings import ToolsSettings

    run(ToolsSettings())
