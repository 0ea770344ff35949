"""`parley fabric`: what Parley keeps in JetStream, checked or made as it should be."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Annotated, Any

import typer

command = typer.Typer(
    help="Create or check the streams and buckets in JetStream. Settings: `parley settings fabric`.",
    no_args_is_help=True,
)

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


@command.command("diff")
def diff(as_json: AsJson = False) -> None:
    """Show how streams and buckets differ from what this deployment wants. Changes nothing; exits with 1 if they do.

    [dim]Example:[/dim] PARLEY_FABRIC_REPLICAS=3 parley fabric diff
    """
    from parley.cli import _output
    from services.fabric import administration

    async def look() -> list[administration.Found]:
        settings = administration.FabricSettings()
        async with administration.connected(settings, "parley-fabric") as client:
            return await administration.look(client, settings)

    found = asyncio.run(look())
    listed = [each for stream in found for each in stream.differences]
    if as_json:
        _output.print_json([_document(each) for each in listed])
    else:
        for each in listed:
            typer.echo(_line(each))
        typer.echo(f"{len(found)} streams and buckets, {len(listed)} differences", err=True)
    if listed:
        raise typer.Exit(1)


@command.command("apply")
def apply(as_json: AsJson = False) -> None:
    """Create what is missing and change what differs, as far as a stream can be changed.

    Nothing else about a stream is touched, and no message. Exits with 1 when something differs still.

    [dim]Example:[/dim] PARLEY_FABRIC_NATS_URL=tls://nats:4222 PARLEY_FABRIC_REPLICAS=3 parley fabric apply
    """
    from parley.cli import _output
    from services.fabric import administration

    async def change() -> administration.Applied:
        settings = administration.FabricSettings()
        async with administration.connected(settings, "parley-fabric") as client:
            return await administration.apply(client, settings)

    done = asyncio.run(change())
    if as_json:
        document = {
            "created": done.created,
            "changed": [_document(each) for each in done.changed],
            "refused": done.refused,
            "left": [_document(each) for each in done.left],
        }
        _output.print_json(document)
    else:
        _tell(done.created, done.changed, done.refused, done.left)
    if done.refused or done.left:
        raise typer.Exit(1)


def _tell(created: Iterable[str], changed: Iterable[Any], refused: Iterable[str], left: Iterable[Any]) -> None:
    from services.fabric.topology import shown

    for name in created:
        typer.echo(f"created  {name}")
    for each in changed:
        was, wanted = shown(each.field, each.found), shown(each.field, each.wanted)
        typer.echo(f"changed  {each.stream}: {each.field} from {was} to {wanted}")
    for problem in refused:
        typer.echo(f"refused  {problem}", err=True)
    for each in left:
        typer.echo(f"left     {each}", err=True)


def _line(each: Any) -> str:
    return f"{each.weight.value:8} {each}  (to mend it: {each.mend})"


def _document(each: Any) -> dict[str, Any]:
    return {
        "stream": each.stream,
        "field": each.field,
        "found": each.found,
        "wanted": each.wanted,
        "weight": each.weight.value,
        "meaning": each.meaning,
        "mendable": each.mendable,
    }
