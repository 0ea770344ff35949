"""What every RPC of the gateway has in common: who calls, and how errors leave."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, NoReturn, TypeVar

import grpc
import grpc.aio
import structlog
from grpc_status import rpc_status

from parley.v1 import errors_pb2
from services.fabric import metrics, names
from services.fabric.auth import Authenticator, Identity
from services.fabric.errors import ServiceError
from services.fabric.ids import sortable_id
from services.fabric.meters import count

log = structlog.get_logger()
MAX_METADATA: Final = 16 * 1024
"""Bytes, counted as HTTP/2 does. Far above it gRPC itself refuses the call, which nothing here sees."""
_PER_ENTRY: Final = 32
_UNDER_WAY: Final = 0.5
"""Seconds that a call may take to get here: its deadline began to run, and ends, that much earlier at the caller."""
R = TypeVar("R")
AnyContext = grpc.aio.ServicerContext[Any, Any]


class CallerGoneError(Exception):
    """Nobody is there to be told anything."""


def metadata_of(context: AnyContext) -> list[tuple[str, str | bytes]]:
    """The caller's metadata. ServiceError when there is more than anybody needs."""
    metadata = [(str(key), value) for key, value in context.invocation_metadata() or ()]
    if sum(len(key) + len(value) + _PER_ENTRY for key, value in metadata) > MAX_METADATA:
        raise ServiceError(
            errors_pb2.ERROR_REASON_FIELD_INVALID,
            f"the call's metadata must not have more than {MAX_METADATA} bytes",
            {"metadata": "too large"},
        )
    return metadata


def count_expired(context: AnyContext) -> None:
    """The call was ended from outside: if its deadline did that, it counts. What a caller ends itself does not."""
    remaining: float | None = context.time_remaining()
    if remaining is not None and remaining < _UNDER_WAY:
        code: int = grpc.StatusCode.DEADLINE_EXCEEDED.value[0]
        count(metrics.REFUSALS, 1, {names.RPC_STATUS: str(code)})


async def abort(context: AnyContext, error: ServiceError) -> NoReturn:
    """End a call with this error and its details."""
    code: int = error.code.value[0]
    count(metrics.REFUSALS, 1, {names.ERROR_REASON: error.reason_name, names.RPC_STATUS: str(code)})
    status = rpc_status.to_status(error.to_status())
    await context.abort(status.code, status.details, status.trailing_metadata)
    raise AssertionError("abort returns by raising")


async def answer(context: AnyContext, authenticator: Authenticator, call: Callable[[Identity], Awaitable[R]]) -> R:
    """Answer a call: identify the caller, run `call`, turn errors into status and details.

    CallerGoneError passes: nobody is there to be told anything.
    """
    try:
        caller = authenticator.identify(metadata_of(context))
        return await call(caller)
    except ServiceError as error:
        await abort(context, error)
    except (CallerGoneError, asyncio.CancelledError):
        count_expired(context)
        raise
    except Exception as error:  # noqa: BLE001 - the last line of defence: logged with an id
        await abort(context, internal_error(error))


def internal_error(error: Exception) -> ServiceError:
    """A fault of ours: logged with an id, and only the id is told."""
    fault = sortable_id()
    log.error("internal fault", fault=fault, exc_info=error)
    return ServiceError(errors_pb2.ERROR_REASON_INTERNAL, f"a fault of the service; its id is {fault}")
