"""``parley emulator fault`` and ``parley emulator faults``: faults of a running emulator, from a terminal."""

import json
import urllib.error
import urllib.request
from typing import Annotated, Any
from urllib.parse import quote

import typer
from typer.core import TyperCommand

EX_UNAVAILABLE = 69

Control = Annotated[
    str,
    typer.Option(envvar="PARLEY_EMULATOR_CONTROL", help="The emulator's control API, as its ready line tells it."),
]


class _ListsFaults(TyperCommand):
    """Says in its help which faults there are."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        from emulator.faults.reference import brief

        self.epilog = "\n\n".join(
            ["Faults and their parameters (`parley emulator faults --known` explains them):", *brief()]
        )
        super().format_help(ctx, formatter)


def register(command: typer.Typer) -> None:
    """Add both commands to ``command``."""
    unknown = {"allow_extra_args": True, "ignore_unknown_options": True}
    command.command("fault", cls=_ListsFaults, context_settings=unknown)(fault)
    command.command("faults", cls=_ListsFaults)(faults)


def fault(  # noqa: PLR0917 - the command line's own order
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="[CONVERSATION] FAULT [--PARAMETER VALUE]...",
            help="The conversation (not with --all), the fault, and its parameters: go_away --time-left 10s.",
        ),
    ],
    control: Control,
    everyone: Annotated[bool, typer.Option("--all", help="Connections of every conversation.")] = False,
    reach: Annotated[
        str, typer.Option(help="Connections that are `open` now, those to come (`future`), or `all`.")
    ] = "all",
    count: Annotated[
        int | None,
        typer.Option(min=1, help="How many connections are hit; unset: one of a conversation, with --all every one."),
    ] = None,
    scenario: Annotated[str | None, typer.Option(help="Only connections with this scenario.")] = None,
) -> None:
    """Make something go wrong on connections of a running emulator."""
    from emulator.faults.text import FaultError, read

    wanted = words if everyone else words[1:]
    if not wanted:
        raise typer.BadParameter("say the conversation (or --all) and the fault")
    try:
        given = read({"do": wanted[0], **_parameters(wanted[1:])})
    except FaultError as error:
        raise typer.BadParameter(str(error)) from error
    path = "/faults" if everyone else f"/conversations/{quote(words[0], safe='')}/faults"
    beside = {"reach": reach, "count": count, "scenario": scenario}
    placed = _ask(control, path, {"fault": given.told(), **{key: value for key, value in beside.items() if value}})
    for order in placed:
        typer.echo(json.dumps(order))


def faults(
    control: Annotated[
        str | None, typer.Option(envvar="PARLEY_EMULATOR_CONTROL", help="The control API of the emulator to ask.")
    ] = None,
    conversation: Annotated[str | None, typer.Option(help="Only those of one conversation.")] = None,
    cancel: Annotated[str | None, typer.Option(help="Cancel the pending one with this id, or `all`.")] = None,
    known: Annotated[bool, typer.Option(help="Explain all faults instead.")] = False,
    markdown: Annotated[bool, typer.Option(help="The same as the tables of the documents.")] = False,
) -> None:
    """What is pending and what has fired in a running emulator; without --control, all that can go wrong."""
    from emulator.faults import reference

    if markdown:
        typer.echo(reference.markdown())
        return
    if known or control is None:
        if cancel or conversation:
            raise typer.BadParameter("--control says which emulator is meant")
        typer.echo(reference.plain())
        return
    path = f"/conversations/{quote(conversation, safe='')}/faults" if conversation else "/faults"
    if cancel is None:
        told = _ask(control, path)
        for state in ("pending", "fired"):
            for one in told[state]:
                typer.echo(json.dumps({state: one}))
    else:
        typer.echo(json.dumps(_ask(control, path if cancel == "all" else f"/faults/{quote(cancel)}", method="DELETE")))


def _parameters(words: list[str]) -> dict[str, str]:
    """``--time-left 10s``, ``--time-left=10s`` or ``time_left=10s``."""
    found: dict[str, str] = {}
    rest = iter(words)
    for word in rest:
        name, equals, value = word.partition("=")
        if not equals and not word.startswith("--"):
            raise typer.BadParameter(f"{word!r} is no parameter: say --name value")
        name = name.removeprefix("--").replace("-", "_")
        if not equals:
            following = next(rest, None)
            if following is None:
                raise typer.BadParameter(f"{word} needs a value")
            value = following
        found[name] = value
    return found


def _ask(control: str, path: str, body: Any = None, *, method: str | None = None) -> Any:
    """What the control API says; a failure ends the command."""
    url = control.rstrip("/") + path
    data = None if body is None else json.dumps(body).encode()
    if not url.startswith(("http://", "https://")):
        raise typer.BadParameter(f"--control is an address like http://127.0.0.1:8080, not {control}")
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return json.load(response)
    except urllib.error.HTTPError as error:
        typer.echo(f"the emulator refuses: {_reason(error.read())}", err=True)
        raise typer.Exit(1) from error
    except OSError as error:
        typer.echo(f"no emulator answers at {control}: {error}", err=True)
        raise typer.Exit(EX_UNAVAILABLE) from error


def _reason(body: bytes) -> str:
    """What an answer says is wrong."""
    try:
        return str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        return body.decode(errors="replace")
