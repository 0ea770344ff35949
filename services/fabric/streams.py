"""Streams as they are in JetStream, against what `topology` wants."""

from __future__ import annotations

from collections.abc import Iterable

import nats.errors
import nats.js.errors
import structlog
from nats.js import JetStreamContext
from nats.js.api import StreamConfig, StreamInfo

from parley.v1 import errors_pb2
from services.fabric.errors import ServiceError
from services.fabric.topology import Difference, Weight, differences

log = structlog.get_logger()


class MismatchError(ServiceError):
    """A stream lacks what a promise rests on. Whoever runs into it does not serve."""

    exit_status = 78

    def __init__(self, broken: Iterable[Difference]) -> None:
        listed = list(broken)
        mends = " and ".join(dict.fromkeys(each.mend for each in listed))
        told = "; ".join(map(str, listed))
        super().__init__(errors_pb2.ERROR_REASON_FABRIC_UNAVAILABLE, f"{told}. To mend it: {mends}")


class StreamUnavailableError(ServiceError):
    """A stream is not there and cannot be made, or JetStream does not say."""

    exit_status = 69

    def __init__(self, message: str) -> None:
        super().__init__(errors_pb2.ERROR_REASON_FABRIC_UNAVAILABLE, message)


async def ensure_stream(js: JetStreamContext, config: StreamConfig) -> None:
    """Create a stream unless it is there. What an operator changed on it is left alone and said; MismatchError where
    nothing can work with it; StreamUnavailableError."""
    found = await _found_or_made(js, config)
    listed = [] if found is None else differences(found.config.as_dict(), config)
    if broken := [each for each in listed if each.weight is Weight.BROKEN]:
        raise MismatchError(broken)
    for each in listed:
        tell = log.warning if each.weight is Weight.WEAKER else log.info
        tell("stream is not as wanted", stream=each.stream, difference=str(each), mend=each.mend)


async def _found_or_made(js: JetStreamContext, config: StreamConfig) -> StreamInfo | None:
    """The stream that was there; None: it is made."""
    name = str(config.name)
    try:
        try:
            return await js.stream_info(name)
        except nats.js.errors.NotFoundError:
            pass
        try:
            await js.add_stream(config)
        except nats.js.errors.APIError as refused:
            try:
                return await js.stream_info(name)  # another process was faster, with other limits
            except nats.js.errors.NotFoundError:
                raise StreamUnavailableError(
                    f"JetStream does not make the stream {name}: {refused.description}; see its storage, limits and "
                    "servers, and PARLEY_*_FABRIC_REPLICAS"
                ) from refused
    except (nats.errors.Error, TimeoutError) as error:
        raise StreamUnavailableError(
            f"JetStream does not answer about the stream {name} ({type(error).__name__}): is it enabled, and may this "
            f"user publish to $JS.API.STREAM.INFO.{name} and $JS.API.STREAM.CREATE.{name}?"
        ) from error
    return None
