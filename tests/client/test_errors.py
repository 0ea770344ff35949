"""Every reason that a service can give becomes a typed error that says what to do."""

import grpc
import pytest

from parley import errors
from parley._status import FirstStatus, Status
from parley.v1 import errors_pb2
from services.fabric.errors import ServiceError

REASONS = {
    number: name.removeprefix("ERROR_REASON_")
    for name, number in errors_pb2.ErrorReason.items()
    if number != errors_pb2.ERROR_REASON_UNSPECIFIED
}
SAID_BY_THE_CLASS = {
    "FIELD_INVALID": errors.InvalidRequest,
    "SESSION_ENDED": errors.SessionEnded,
    "SUPERSEDED": errors.Superseded,
    "CREDENTIAL_INVALID": errors.Unauthenticated,
    "NOT_IMPLEMENTED": errors.Unimplemented,
    "INTERNAL": errors.InternalError,
}
"""Reasons that have a class, and so an advice, of their own."""


def subclasses(kind):
    return {kind}.union(*map(subclasses, kind.__subclasses__()))


def received(reason):
    """The error that a client raises when a service refuses a call for this reason."""
    refusal = ServiceError(reason, "no", {"open.config": "wrong"})
    details = (("grpc-status-details-bin", refusal.to_status().SerializeToString()),)
    return Status(refusal.code, refusal.message, details).error(), refusal


@pytest.mark.parametrize("number", REASONS, ids=REASONS.get)
def test_a_reason_becomes_a_typed_error_with_advice_of_its_own(number):
    name = REASONS[number]
    error, refusal = received(number)
    assert type(error) is not errors.ParleyError
    assert (error.reason, error.code) == (name, refusal.code.name)
    if name in SAID_BY_THE_CLASS:
        assert type(error) is SAID_BY_THE_CLASS[name]
        assert error.what_to_do == type(error).advice
        assert name not in errors._ADVICE
    else:
        assert errors._ADVICE[name] in error.what_to_do
    assert error.retry_delay == refusal.delay()
    if error.retry_delay is not None:
        assert error.what_to_do.endswith(f"Try again in {error.retry_delay.total_seconds():g} s.")
    assert str(error) == f"no (open.config: wrong) [{error.code}/{name}]"


def test_there_is_no_advice_for_reasons_that_nobody_gives():
    assert set(errors._ADVICE) | set(SAID_BY_THE_CLASS) == set(REASONS.values())


def test_every_error_can_be_had_and_says_what_to_do():
    by_code = {type(Status(code, "", ()).error()) for code in grpc.StatusCode}
    by_reason = {type(received(number)[0]) for number in REASONS}
    assert by_code | by_reason == subclasses(errors.ParleyError)
    assert all(kind.advice.endswith(".") and kind.__doc__ for kind in subclasses(errors.ParleyError))
    sentences = [*errors._ADVICE.values(), *(kind.advice for kind in subclasses(errors.ParleyError))]
    assert all(sentence[0].isupper() and sentence.endswith(".") for sentence in sentences)


def test_a_reason_newer_than_this_client_falls_back_to_its_status():
    info = errors_pb2.ErrorInfoDetail(reason="MOON_PHASE", domain="parley")
    status = errors_pb2.StatusDetails(code=14)
    status.details.add(type_url="type.googleapis.com/google.rpc.ErrorInfo", value=info.SerializeToString())
    error = Status(
        grpc.StatusCode.UNAVAILABLE, "no", (("grpc-status-details-bin", status.SerializeToString()),)
    ).error()
    assert (type(error), error.reason) == (errors.Unavailable, "MOON_PHASE")
    assert error.what_to_do == errors.Unavailable.advice


def test_a_status_without_a_class_is_still_a_parley_error():
    error = Status(grpc.StatusCode.ABORTED, "gone", ()).error()
    assert (type(error), error.code, error.what_to_do) == (errors.ParleyError, "ABORTED", errors.ParleyError.advice)


def test_a_call_that_a_closing_gateway_never_looked_at_may_be_repeated():
    error = Status(grpc.StatusCode.CANCELLED, "CANCELLED", ()).error()
    assert (type(error), error.code) == (errors.Unavailable, "CANCELLED")


class EndedCall:
    """A call of grpc.aio whose status is replaced as time goes by."""

    def __init__(self, *statuses):
        self.statuses = list(statuses)

    def add_done_callback(self, callback):
        callback(self)

    async def code(self):
        return self.statuses[0][0]

    async def details(self):
        return self.statuses[0][1]

    async def trailing_metadata(self):
        if len(self.statuses) > 1:
            del self.statuses[0]
        return ()


FROM_CORE = (grpc.StatusCode.INTERNAL, 'Internal error from Core. Batch completion with failure ops "send message"')


async def test_the_status_of_the_service_counts_also_when_it_is_the_second():
    said = (grpc.StatusCode.NOT_FOUND, "no such session")
    status = await FirstStatus(EndedCall(FROM_CORE, said)).settled()
    assert (status.code, status.message) == said
    fault = (grpc.StatusCode.INTERNAL, "a fault of the service")
    assert (await FirstStatus(EndedCall(fault)).settled()).code is grpc.StatusCode.INTERNAL


async def test_a_connection_that_failed_without_a_word_of_the_service_is_unavailable(monkeypatch):
    monkeypatch.setattr(FirstStatus, "_WAIT", 0.02)
    error = (await FirstStatus(EndedCall(FROM_CORE)).settled()).error()
    assert type(error) is errors.Unavailable
    assert "from Core" in error.message
