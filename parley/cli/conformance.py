"""`parley conformance`: holds a client, or a gateway, to the contract of `Converse` (docs/converse.md)."""

from collections.abc import AsyncIterator
from typing import Annotated

import typer

from parley.cli import _interrupt, _output
from parley.cli._connection import ApiKey, AsJson, quiet_grpc
from parley.cli._failures import EX_FAILED, CliError
from parley.conformance.client_checks import CLIENT_CHECKS
from parley.conformance.client_run import run_client_checks
from parley.conformance.command import arguments
from parley.conformance.gateway_checks import GATEWAY_CHECKS
from parley.conformance.gateway_run import run_gateway_checks
from parley.conformance.outcome import Outcome, chosen

EX_USAGE = 2


def conformance(
    *,
    client: Annotated[
        str,
        typer.Option(
            metavar="COMMAND",
            help="Check this client: the command is started once a check, with the gateway's address in PARLEY_TARGET "
            "and in place of {target}. It must hold one conversation: ask something, hear the answer, end.",
        ),
    ] = "",
    target: Annotated[str, typer.Option(metavar="HOST:PORT", help="Check this gateway.")] = "",
    api_key: ApiKey = "",
    profile: Annotated[str, typer.Option(help="Profile of the gateway to open sessions with.")] = "plain",
    only: Annotated[list[str] | None, typer.Option(metavar="CHECK", help="Only this check; may be repeated.")] = None,
    at_once: Annotated[int, typer.Option(min=1, max=32, help="Checks of a client that run at the same time.")] = 4,
    patience: Annotated[
        float, typer.Option(min=1, max=300, help="Seconds that a client may take for each thing it must do next.")
    ] = 10,
    time_limit: Annotated[float, typer.Option(min=1, max=600, help="Seconds that each check may take.")] = 30,
    list_checks: Annotated[bool, typer.Option("--list", help="List the checks instead of running them.")] = False,
    as_json: AsJson = False,
) -> None:
    """Check a client in any language, or a gateway, against the contract of Converse. Exit status 1: something failed.

    One line a check. What is asked of clients and of gateways: docs/converse.md.
    """
    if list_checks:
        _list(as_json=as_json)
        return
    if bool(client) == bool(target):
        raise CliError('give either --client "COMMAND" or --target HOST:PORT', EX_USAGE)
    try:
        if client:
            arguments(client, "")
            checks = chosen(CLIENT_CHECKS, only or [])
            outcomes = run_client_checks(checks, client, at_once=at_once, patience=patience, limit=time_limit)
        else:
            cases = chosen(GATEWAY_CHECKS, only or [])
            outcomes = run_gateway_checks(cases, target, api_key=api_key, profile=profile, limit=time_limit)
    except KeyError as error:
        raise CliError(f"there is no check {error.args[0]!r}: see parley conformance --list", EX_USAGE) from None
    except ValueError as error:
        raise CliError(f"--client: {error}", EX_USAGE) from None
    quiet_grpc()
    if not _interrupt.run(_print(outcomes, as_json=as_json)):
        raise typer.Exit(EX_FAILED)


async def _print(outcomes: AsyncIterator[Outcome], *, as_json: bool) -> bool:
    """Print them as they come; whether all passed."""
    seen: list[Outcome] = []
    async for outcome in outcomes:
        seen.append(outcome)
        if not as_json:
            print(outcome.line(), flush=True)
            for line in outcome.stderr:
                print(f"     | {line}", flush=True)
    failed = [outcome for outcome in seen if not outcome.passed]
    if as_json:
        document = {"passed": len(seen) - len(failed), "failed": len(failed)}
        _output.print_json({**document, "checks": [outcome.document() for outcome in seen]})
    else:
        print(f"{len(seen) - len(failed)} passed, {len(failed)} failed")
    return not failed


def _list(*, as_json: bool) -> None:
    rows = [("client", check.name, check.what) for check in CLIENT_CHECKS.values()]
    rows += [("gateway", case.name, case.what) for case in GATEWAY_CHECKS.values()]
    if as_json:
        _output.print_json([dict(zip(("of", "name", "what"), row, strict=True)) for row in rows])
    else:
        _output.print_table("", ("of", "check", "what must happen"), rows)
