"""Streams as they are in JetStream, against what `topology` wants."""

from __future__ import annotations

from collections.abc import Iterable

import nats.js.errors
import structlog
from nats.js import JetStreamContext
from nats.js.api import StreamConfig

from parley.v1 import errors_pb2
from services.fabric.errors import ServiceError
from services.fabric.topology import Difference, Weight, differences

log = structlog.get_logger()


class MismatchError(ServiceError):
    """A stream lacks what a promise rests on. Whoever runs into it does not serve."""

    exit_status = 78

    def __init__(self, broken: Iterable[Difference]) -> None:
        told = "; ".join(map(str, broken))
        super().__init__(errors_pb2.ERROR_REASON_FABRIC_UNAVAILABLE, f"{told}. `parley fabric apply` mends it")


async def ensure_stream(js: JetStreamContext, config: StreamConfig) -> None:
    """Create a stream unless it is there. What an operator changed on it is left alone and said; MismatchError where
    nothing can work with it."""
    assert config.name is not None
    try:
        found = await js.stream_info(config.name)
    except nats.js.errors.NotFoundError:
        try:
            await js.add_stream(config)
        except nats.js.errors.BadRequestError:
            found = await js.stream_info(config.name)  # another process was faster, with other limits
        else:
            return
    listed = differences(found.config.as_dict(), config)
    if broken := [each for each in listed if each.weight is Weight.BROKEN]:
        raise MismatchError(broken)
    for each in listed:
        tell = log.warning if each.weight is Weight.WEAKER else log.info
        tell("stream is not as wanted", stream=each.stream, difference=str(each), mend="parley fabric apply")
