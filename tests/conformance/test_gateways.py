"""Gateways under `parley conformance --target`: bad ones fail what they should. The real one: test_contract."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest

from parley.conformance.gateway_checks import GATEWAY_CHECKS
from parley.conformance.gateway_run import run_gateway_checks
from parley.conformance.outcome import Outcome
from parley.conformance.steps import Status
from parley.v1 import live_pb2 as pb

Answering = Callable[[Any], Awaitable[None]]


@asynccontextmanager
async def gateway(answer: Answering) -> AsyncIterator[str]:
    """A gateway that answers each `Converse` so."""

    async def behave(_requests: object, context: Any) -> None:
        await answer(context)

    converse: grpc.RpcMethodHandler[bytes, bytes] = grpc.stream_stream_rpc_method_handler(behave)
    server = grpc.aio.server()
    service = grpc.method_handlers_generic_handler("parley.v1.LiveService", {"Converse": converse})
    server.add_generic_rpc_handlers((service,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


def refuses(status: Status) -> Answering:
    async def answer(context: Any) -> None:
        details = status.details()
        trailers = (("grpc-status-details-bin", details),) if details else ()
        await context.abort(grpc.StatusCode[status.code], "no", trailers)

    return answer


def says(*responses: pb.ConverseResponse, hangs: bool = False) -> Answering:
    async def answer(context: Any) -> None:
        for response in responses:
            await context.write(response.SerializeToString())
        if hangs:
            await asyncio.Event().wait()

    return answer


def opened(**wrong: Any) -> pb.ConverseResponse:
    right: dict[str, Any] = {"session_id": "ses_1", "resume_token": "t", "next_uplink_seq": 1}
    message = pb.Opened(**{**right, **wrong})
    if "resume_window" not in wrong:
        message.resume_window.seconds = 1
    return pb.ConverseResponse(opened=message)


ENDED = pb.ConverseResponse(seq=1, ended=pb.Ended())


@pytest.mark.parametrize(
    ("check", "answer", "verdict"),
    [
        ("open", refuses(Status("UNIMPLEMENTED")), "expected `opened`, got UNIMPLEMENTED (no reason: no)"),
        ("open", says(), "expected `opened`, got OK"),
        ("open", says(ENDED), "the first response is not `opened`"),
        ("open", says(hangs=True), "not over within 0.3 s"),
        ("open", says(opened(session_id="x")), "it must begin with `ses_`"),
        ("open", says(opened(resume_token="")), "`resume_token` is empty"),
        ("open", says(opened(next_uplink_seq=2)), "`next_uplink_seq` is 2"),
        ("open", says(opened(existing=True)), "`existing` is True; it must be False"),
        ("open", says(opened(resume_window=None)), "`resume_window` is not set"),
        ("open-again", says(opened(), hangs=True), "`existing` is False; it must be True"),
        ("end", says(opened()), "OK without `ended`"),
        ("half-close", says(opened(), ENDED), "a half-close ended the session"),
        ("end", refuses(Status("UNAVAILABLE", "NO_WORKER")), "expected OK, got UNAVAILABLE (NO_WORKER: no)"),
        ("seq-hole", says(opened()), "expected INVALID_ARGUMENT (SEQUENCE_BROKEN), got OK"),
        ("seq-hole", says(opened(), hangs=True), "not over within 0.3 s"),
        ("seq-hole", refuses(Status("INTERNAL")), "got INTERNAL (no reason: no)"),
        ("seq-hole", refuses(Status("INVALID_ARGUMENT", "FIELD_INVALID")), "got INVALID_ARGUMENT (FIELD_INVALID: no)"),
        ("seq-hole", refuses(Status("INVALID_ARGUMENT", "SEQUENCE_BROKEN")), "must name seq; it names nothing"),
    ],
)
async def test_another_gateway_fails(check: str, answer: Answering, verdict: str) -> None:
    async with gateway(answer) as target:
        outcome = await only(check, target)
    assert not outcome.passed
    assert verdict in outcome.detail, outcome.line()


async def test_what_needs_no_field_is_right_without() -> None:
    async with gateway(refuses(Status("NOT_FOUND", "SESSION_UNKNOWN"))) as target:
        assert (await only("resume-unknown", target)).passed


async def test_nobody_there_is_a_failure_not_a_crash() -> None:
    assert "got UNAVAILABLE" in (await only("open", "127.0.0.1:1", 5)).detail


async def only(check: str, target: str, limit: float = 0.3) -> Outcome:
    checks = [GATEWAY_CHECKS[check]]
    (outcome,) = [o async for o in run_gateway_checks(checks, target, api_key="", profile="plain", limit=limit)]
    return outcome
