import pickle
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from hypothesis import given
from hypothesis import strategies as st

from parley.v1 import errors_pb2, fabric_pb2
from services.fabric import errors
from services.fabric.errors import ServiceError, invalid_field, not_implemented

REASONS: list[Any] = [value for value in errors_pb2.ErrorReason.values() if value]


@pytest.mark.parametrize("reason", REASONS, ids=errors_pb2.ErrorReason.Name)
def test_every_reason_has_a_status(reason: errors_pb2.ErrorReason) -> None:
    assert reason in errors._STATUS


@pytest.mark.parametrize("reason", REASONS, ids=errors_pb2.ErrorReason.Name)
def test_every_refusal_that_time_mends_says_when(reason: errors_pb2.ErrorReason) -> None:
    error = ServiceError(reason, "m")
    mends = error.code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED)
    assert (error.delay() is not None) == mends


@given(
    st.sampled_from(REASONS),
    st.text(),
    st.dictionaries(st.text(), st.text()),
    st.none() | st.timedeltas(min_value=timedelta(milliseconds=1), max_value=timedelta(days=1)),
)
def test_failure_travels_through_nats_and_back(
    reason: errors_pb2.ErrorReason, message: str, violations: dict[str, str], delay: timedelta | None
) -> None:
    error = ServiceError(reason, message, violations, delay)
    wire = error.to_failure().SerializeToString()
    back = ServiceError.from_failure(fabric_pb2.Failure.FromString(wire))
    assert (back.reason, back.message, back.violations) == (reason, message, violations)
    assert back.delay() == error.delay()
    assert back.to_failure() == error.to_failure()


def test_helpers_name_field_and_feature() -> None:
    error = invalid_field("open.config.voice", "unknown")
    assert (error.code, error.violations) == (grpc.StatusCode.INVALID_ARGUMENT, {"open.config.voice": "unknown"})
    assert invalid_field("a", "b", errors_pb2.ERROR_REASON_AUDIO_INVALID).reason_name == "AUDIO_INVALID"
    assert not_implemented("video").code == grpc.StatusCode.UNIMPLEMENTED
    assert str(not_implemented("video")) == "NOT_IMPLEMENTED: video is not served by this release"


def test_error_behaves_as_an_exception() -> None:
    error = invalid_field("a", "b")
    assert hash(error) is not None
    assert pickle.loads(pickle.dumps(error)).violations == {"a": "b"}
    try:
        raise ExceptionGroup("group", [error, ValueError()])
    except* ServiceError as group:
        assert group.exceptions == (error,)
    except* ValueError:
        pass


@pytest.fixture
async def channel() -> AsyncIterator[grpc.aio.Channel]:
    """A real server that fails with the error that the request spells out."""

    async def fail(request: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
        error = ServiceError.from_failure(fabric_pb2.Failure.FromString(request))
        await context.abort_with_status(rpc_status.to_status(error.to_status()))
        return b""

    server = grpc.aio.server()
    handler: Any = grpc.unary_unary_rpc_method_handler(fail)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Test", {"Fail": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel
    await server.stop(None)


async def fail_with(channel: grpc.aio.Channel, error: ServiceError) -> None:
    method: Any = channel.unary_unary("/test.Test/Fail")
    await method(error.to_failure().SerializeToString())


async def test_status_details_arrive_at_a_grpc_caller(channel: grpc.aio.Channel) -> None:
    error = ServiceError(
        errors_pb2.ERROR_REASON_TENANT_LIMIT, "at most 3 streams, ä", {"a.b": "c", "d": "e"}, timedelta(seconds=1.5)
    )
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await fail_with(channel, error)
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert caught.value.details() == "at most 3 streams, ä"
    status = rpc_status.from_call(caught.value)
    assert status is not None
    info, bad, retry = (
        error_details_pb2.ErrorInfo(),
        error_details_pb2.BadRequest(),
        error_details_pb2.RetryInfo(),
    )
    for detail, message in zip(status.details, (info, bad, retry), strict=True):
        assert detail.Unpack(message)
    assert (info.reason, info.domain) == ("TENANT_LIMIT", "parley")
    assert {violation.field: violation.description for violation in bad.field_violations} == {"a.b": "c", "d": "e"}
    assert retry.retry_delay.ToTimedelta() == timedelta(seconds=1.5)


async def test_every_reason_arrives_with_its_status(channel: grpc.aio.Channel) -> None:
    for reason in REASONS:
        error = ServiceError(reason, "m")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await fail_with(channel, error)
        assert caught.value.code() == error.code
        status = rpc_status.from_call(caught.value)
        assert status is not None
        info = error_details_pb2.ErrorInfo()
        assert status.details[0].Unpack(info)
        assert info.reason == error.reason_name
