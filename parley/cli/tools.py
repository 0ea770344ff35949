"""`parley tools list` and `parley tools call`: questions to a gateway or a tools service."""

import json
import math
import sys
import uuid
from datetime import timedelta
from typing import Annotated, Any

import grpc
import typer
from google.protobuf import json_format, struct_pb2
from google.protobuf.message import DecodeError, EncodeError

from parley.cli import _output
from parley.cli._connection import CALL_TIMEOUT, DEFAULT_TARGET, ApiKey, AsJson, Target, call
from parley.cli._failures import CliError
from parley.v1 import live_pb2, tools_pb2
from parley.v1.tools_pb2_grpc import ToolServiceStub

tools_app = typer.Typer(help="Run the tools service, list the tools, or call one.", no_args_is_help=True)

_MAX_ARGUMENTS = 4 * 1024 * 1024
"""Bytes of arguments that are read from stdin; gRPC takes no larger message."""
_ADVICE = {
    live_pb2.TOOL_OUTCOME_FAILED: "Mend what the tool complains about; a repeated call runs it again.",
    live_pb2.TOOL_OUTCOME_TIMED_OUT: "Allow more time with --timeout, or in the tool's declaration.",
    live_pb2.TOOL_OUTCOME_UNKNOWN: "Look whether it had its effect before calling it again.",
}


def tools_list(target: Target = DEFAULT_TARGET, api_key: ApiKey = "", as_json: AsJson = False) -> None:
    """List the tools that models can call.

    [dim]Example:[/dim] parley tools list --target 127.0.0.1:50051
    """

    async def ask(channel: grpc.aio.Channel, options: dict[str, Any]) -> tools_pb2.ListToolsResponse:
        return await ToolServiceStub(channel).ListTools(tools_pb2.ListToolsRequest(), **options)

    tools = call(target, api_key, ask).tools
    if as_json:
        _output.print_json([_output.document(tool) for tool in tools])
        return
    rows = [
        (
            tool.declaration.name,
            f"{tool.timeout.ToTimedelta().total_seconds():g} s",
            "yes" if tool.idempotent else "no",
            " ".join(tool.declaration.description.split()),
        )
        for tool in tools
    ]
    _output.print_table("", ("tool", "timeout", "idempotent", "description"), rows)


def tools_call(
    *,
    name: Annotated[str, typer.Argument(help="Name of the tool.")],
    target: Annotated[
        str,
        typer.Option(
            "--target",
            help="Tools service as HOST:PORT, not the gateway: `parley up` prints it.",
            envvar="PARLEY_TOOLS_TARGET",
        ),
    ],
    args: Annotated[
        str, typer.Option("--args", metavar="JSON|-", help="Arguments as a JSON object; - reads them from stdin.")
    ] = "{}",
    caller: Annotated[str, typer.Option(help="Who calls, for the record.")] = "parley-cli",
    tenant: Annotated[
        str, typer.Option(help="Tenant on whose behalf; some tools exist for some tenants only.", show_default=False)
    ] = "",
    idempotency_key: Annotated[
        str,
        typer.Option(
            help="The same for the same call, also when it is sent again; a new one by default.", show_default=False
        ),
    ] = "",
    timeout: Annotated[float, typer.Option(min=0.001, help="Seconds that the call may take.")] = CALL_TIMEOUT,
    api_key: ApiKey = "",
    as_json: AsJson = False,
) -> None:
    """Run a tool outside a session and print what it returned, as JSON.

    Exits with 1 unless the tool succeeded.

    [dim]Example:[/dim] parley tools call lookup_order --target 127.0.0.1:PORT --args '{"order_id": "4711"}'
    """
    request = tools_pb2.CallToolRequest(
        name=name,
        arguments=read_arguments(args),
        caller=caller,
        tenant=tenant,
        idempotency_key=idempotency_key or f"req_{uuid.uuid4().hex}",
    )

    async def ask(channel: grpc.aio.Channel, options: dict[str, Any]) -> tools_pb2.CallToolResponse:
        return await ToolServiceStub(channel).CallTool(request, **options | {"timeout": timeout})

    response = call(target, api_key, ask)
    outcome = live_pb2.ToolOutcome.Name(response.outcome).removeprefix("TOOL_OUTCOME_")
    output = json_format.MessageToDict(response.output)
    if as_json:
        _output.print_json(
            {
                "name": name,
                "idempotency_key": request.idempotency_key,
                "outcome": outcome,
                "output": output,
                "error": response.error,
                "duration_seconds": response.duration.ToTimedelta() / timedelta(seconds=1),
            }
        )
    elif response.outcome == live_pb2.TOOL_OUTCOME_SUCCEEDED:
        print(json.dumps(output, ensure_ascii=False, indent=2), flush=True)
    if response.outcome != live_pb2.TOOL_OUTCOME_SUCCEEDED:
        why = " ".join(response.error.split()) or "it gave no reason"
        advice = _ADVICE.get(response.outcome, "Call it again when it is wanted.")
        raise CliError(f"{name}: {why} [{outcome}]. {advice}")


def read_arguments(text: str) -> struct_pb2.Struct:
    """The value of `--args`, from stdin where it is `-`. CliError (2) when it is no JSON object that gRPC can carry."""
    if text == "-":
        data = sys.stdin.buffer.read(_MAX_ARGUMENTS + 1)
        if len(data) > _MAX_ARGUMENTS:
            raise CliError(f"--args takes up to {_MAX_ARGUMENTS} bytes", 2)
        text = data.decode(errors="replace")
    try:
        arguments = json.loads(text, parse_int=_whole, parse_float=_finite, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise CliError(f"--args is no JSON: {error}", 2) from None
    if not isinstance(arguments, dict):
        raise CliError(f'--args must be a JSON object, e.g. {{"order_id": "4711"}}, not {text[:40]!r}', 2)
    request = tools_pb2.CallToolRequest()
    try:
        request.arguments.update(arguments)
        tools_pb2.CallToolRequest.FromString(request.SerializeToString())  # as the service will read it
    except (DecodeError, EncodeError, RecursionError):
        raise CliError("--args holds objects or lists too deep inside each other to be sent", 2) from None
    return request.arguments


def _whole(digits: str) -> int:
    # google.protobuf.Struct has no integers: another order than the one that was asked for must not be cancelled.
    number = int(digits)
    if abs(number) > 2**53:
        raise ValueError(f"{digits} is beyond 2^53, where whole numbers are not exact any more; write it as a string")
    return number


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ValueError(f"{digits} is beyond what a number can be")
    return number


def _no_number(word: str) -> float:
    raise ValueError(f"{word} is no JSON number")


tools_app.command("list")(tools_list)
tools_app.command("call")(tools_call)
