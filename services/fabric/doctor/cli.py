"""`parley doctor`: is this deployment well, and what is to be mended?"""

from __future__ import annotations

from typing import Annotated

import typer


def command(
    *,
    gateway: Annotated[
        list[str] | None, typer.Option(help="Gateway as HOST:PORT; may be repeated.", envvar="PARLEY_TARGET")
    ] = None,
    ops: Annotated[
        list[str] | None,
        typer.Option(help="Operations port of a process as http://HOST:PORT; may be repeated.", envvar="PARLEY_OPS"),
    ] = None,
    otlp: Annotated[str, typer.Option(help="Where services send traces, http://HOST:PORT.")] = "",
    otlp_metrics: Annotated[str, typer.Option(help="Where services send metrics, http://HOST:PORT.")] = "",
    backend: Annotated[bool, typer.Option(help="Have the workers connect to the model once; costs no tokens.")] = True,
    model: Annotated[str, typer.Option(help="Model to try.", show_default="the first that Parley knows")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Look at a deployment and say what is wrong and what to do about it. Exits with 1 when there is a problem.

    Where NATS is, and what its streams should be like, is set as for `parley fabric`: see `parley settings fabric`.

    [dim]Example:[/dim] PARLEY_FABRIC_NATS_URL=nats://nats:4222 parley doctor --gateway gateway:50051
    """
    from parley.cli import _interrupt, _output
    from parley.cli._connection import quiet_grpc
    from services.fabric.administration import FabricSettings
    from services.fabric.doctor import judgement
    from services.fabric.doctor.checks import Targets, examine

    settings = FabricSettings()
    targets = Targets(gateway or (), ops or (), otlp, otlp_metrics, backend=backend, model=model)
    quiet_grpc()

    async def run() -> list[judgement.Finding]:
        found = []
        async for finding in examine(settings, targets):
            found.append(finding)
            if not as_json:
                typer.echo(f"{finding.level.value:8} {finding.about:10} {finding.message}")
                if finding.mend:
                    typer.echo(f"{'':8} {'':10} to mend it: {finding.mend}")
        return found

    found = _interrupt.run(run())
    if as_json:
        _output.print_json(
            [
                {"level": each.level.value, "about": each.about, "message": each.message, "mend": each.mend}
                for each in found
            ]
        )
    else:
        levels = [each.level for each in found]
        problems, warnings = levels.count(judgement.Level.PROBLEM), levels.count(judgement.Level.WARNING)
        typer.echo(f"{problems} problems, {warnings} warnings", err=True)
    if status := judgement.verdict(found):
        raise typer.Exit(status)
