"""Options that every command has which talks to a gateway, and the unary calls behind them."""

import os
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypeVar

import grpc
import typer

from parley._connect import call_metadata, open_channel
from parley._status import from_rpc_error
from parley.cli import _interrupt

Target = Annotated[str, typer.Option("--target", help="Gateway as HOST:PORT.", envvar="PARLEY_TARGET")]
ApiKey = Annotated[
    str, typer.Option("--api-key", help="API key of the caller.", envvar="PARLEY_API_KEY", show_default=False)
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]

DEFAULT_TARGET = "127.0.0.1:50051"

# Long enough for a gateway that waits for its message bus (8 s), short enough for somebody at a terminal.
CALL_TIMEOUT = 15.0

Result = TypeVar("Result")


def call(target: str, api_key: str, ask: Callable[[grpc.aio.Channel, dict[str, Any]], Awaitable[Result]]) -> Result:
    """Runs unary calls on a channel; `ask` gets the channel and the keyword arguments of each call."""

    async def run() -> Result:
        async with open_channel(target) as channel:
            try:
                return await ask(channel, {"metadata": call_metadata(api_key), "timeout": CALL_TIMEOUT})
            except grpc.aio.AioRpcError as error:
                raise from_rpc_error(error) from None

    quiet_grpc()
    return _interrupt.run(run())


def quiet_grpc() -> None:
    """Keeps gRPC's own notes (a GOAWAY at shutdown, for instance) off the user's terminal."""
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
