"""`parley up`: the whole stack on this machine."""

import asyncio
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from parley.cli import _output
from parley.cli._child import Child, describe_exit
from parley.cli._failures import CliError
from parley.cli.stack import PACKAGED_PROFILES, Stack, StackConfig, is_failure
from parley.cli.tracing import checked_endpoint


def up(
    *,
    workers: Annotated[int, typer.Option(min=0, max=64, help="Session workers to start.")] = 1,
    gateways: Annotated[int, typer.Option(min=0, max=64, help="Gateways to start.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON line when everything is ready.")] = False,
    gemini: Annotated[bool, typer.Option("--gemini", help="Use Google's endpoint (needs GEMINI_API_KEY).")] = False,
    gemini_base_url: Annotated[str, typer.Option(help="Use this Live endpoint, https://HOST:PORT.")] = "",
    gemini_ca_file: Annotated[
        str, typer.Option("--gemini-ca", "--gemini-ca-file", help="PEM file of the CA to trust for that endpoint.")
    ] = "",
    profiles: Annotated[Path, typer.Option(help="Folder of profiles.")] = PACKAGED_PROFILES,
    otlp_endpoint: Annotated[
        str, typer.Option(help="Where traces go, e.g. http://127.0.0.1:4317.", envvar="OTEL_EXPORTER_OTLP_ENDPOINT")
    ] = "",
    state_dir: Annotated[
        Path | None, typer.Option(help="Folder for logs and stores; without it a temporary one.")
    ] = None,
    env: Annotated[
        list[str] | None, typer.Option("--env", metavar="KEY=VALUE", help="A variable for every process.")
    ] = None,
) -> None:
    """Start nats-server, emulator, tools, workers and gateways, and run them until Ctrl-C or SIGTERM.

    Nothing is restarted by itself: a process that dies is reported, the others go on.
    """
    if gemini and gemini_base_url:
        raise CliError("give either --gemini or --gemini-base-url", 2)
    if gemini_ca_file and not gemini_base_url:
        raise CliError("--gemini-ca is the CA of another endpoint: give its --gemini-base-url too", 2)
    config = StackConfig(
        workers=workers,
        gateways=gateways,
        gemini=gemini,
        gemini_base_url=gemini_base_url,
        gemini_ca_file=gemini_ca_file,
        profiles_dir=profiles,
        otlp_endpoint=checked_endpoint(otlp_endpoint),
        state_dir=state_dir,
        env=parse_env(env or []),
    )
    asyncio.run(_serve(Stack(config, _report_exit), as_json=as_json))


def parse_env(pairs: list[str]) -> dict[str, str]:
    """`KEY=VALUE` pairs as a dictionary. CliError names one that is none."""
    variables: dict[str, str] = {}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator or not key:
            raise CliError(f"--env wants KEY=VALUE, not {pair!r}", 2)
        variables[key] = value
    return variables


async def _serve(stack: Stack, *, as_json: bool) -> None:
    stop = asyncio.Event()

    def on_signal() -> None:
        # The first one stops in good order, the second one at once.
        if stop.is_set():
            stack.kill()
        stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal)
    starting = loop.create_task(stack.start(), name="start")
    stopping = loop.create_task(stop.wait(), name="stop")
    try:
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not stop.is_set():
            await starting
            _announce(stack, as_json=as_json)
            await stopping
            if not as_json:
                print("stopping", file=sys.stderr)
    except BaseException as error:
        stack.failed = stack.failed or is_failure(error)
        raise
    finally:
        starting.cancel()
        stopping.cancel()
        await asyncio.wait({starting, stopping})
        await stack.stop()


def _announce(stack: Stack, *, as_json: bool) -> None:
    if stack.gateways and stack.config.development:
        print("parley: DEVELOPMENT MODE IS ON: anybody who reaches the gateway gets in", file=sys.stderr, flush=True)
    if as_json:
        _output.print_json(stack.summary())
        return
    rows = [("nats", str(stack.nats.pid), stack.nats.ready["url"], stack.nats.ready["monitor"])]
    children = [*([stack.emulator] if stack.emulator else []), *stack.tools, *stack.workers, *stack.gateways]
    for child in children:
        other = child.ready.get("ops") or child.ready.get("control") or ""
        rows.append((child.name, str(child.pid), child.ready.get("address", ""), other))
    _output.print_table("", ("process", "pid", "address", "operations"), rows)
    print(f"\nlogs      {stack.state_dir}\nprofiles  {stack.config.profiles_dir}")
    if stack.gateways:
        address = stack.gateways[0].ready["address"]
        print(f"try       parley talk --target {address} --profile support --wav YOUR.wav --out reply.wav")
        print(f"          parley session list --target {address}")
    if stack.tools:
        call = 'parley tools call lookup_order --args \'{"order_id": "4711"}\''
        print(f"          {call} --target {stack.tools[0].ready['address']}")
    print("Ctrl-C stops everything.", flush=True)


def _report_exit(child: Child, status: int) -> None:
    print(
        f"parley: {child.name} (pid {child.pid}) ended with {describe_exit(status)}; the rest goes on; "
        f"its log is {child.log}",
        file=sys.stderr,
        flush=True,
    )
