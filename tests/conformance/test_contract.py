"""What docs/converse.md says is so: its tables against the code, its statements against the real stack."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
import pytest_asyncio

from parley._status import from_rpc_error
from parley.cli.stack import Stack, StackConfig
from parley.conformance.client_checks import CLIENT_CHECKS
from parley.conformance.command import REPORTS
from parley.conformance.gateway_checks import GATEWAY_CHECKS
from parley.conformance.scene import LONGEST_QUESTION
from parley.v1 import errors_pb2, live_pb2_grpc
from parley.v1 import live_pb2 as pb
from services.fabric import names
from services.fabric.errors import ServiceError
from services.fabric.metrics import CAUSES, LOST
from services.gateway import content_check, server
from services.gateway.settings import GatewaySettings
from services.session_worker import journal
from services.session_worker.settings import WorkerSettings
from tests.support.counts import heard, held
from tests.support.eventually import eventually

pytestmark = [pytest.mark.timeout(120)]

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "converse.md").read_text()
PROFILES = ROOT / "tests" / "data" / "profiles"
KEY = "a-test-key-of-the-support-team"
ACTIONS = {"wait", "retry", "change", "new", "give up"}


def table(heading: str) -> dict[str, list[str]]:
    """The rows of the table with this first heading, by their first cell."""
    (block,) = re.findall(rf"^\| {heading} \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in block.splitlines()]
    return {row[0].strip("` "): row[1:] for row in rows}


# The tables


def test_every_reason_stands_in_the_status_table_with_its_code() -> None:
    rows = table("reason")
    reasons = {reason: errors_pb2.ErrorReason.Name(reason).removeprefix("ERROR_REASON_") for reason in _reasons()}
    assert set(rows) == set(reasons.values())
    for reason, name in reasons.items():
        error = ServiceError(reason, "")
        code, action, when = rows[name]
        assert code == error.code.name, name
        assert action in ACTIONS, name
        assert (action == "wait") is (error.delay() is not None), name
        assert when


def _reasons() -> list[errors_pb2.ErrorReason]:
    return [value for value in errors_pb2.ErrorReason.values() if value]


def test_statuses_without_details_are_grpcs_own() -> None:
    rows = table("status")
    assert [row[0] for row in rows.values()] == ["-", "wait", "change", "give up", "wait", "wait", "give up"]
    assert all(name in grpc.StatusCode.__members__ for name in rows if name != "any other")


def test_every_state_of_a_stream_is_there() -> None:
    states = [re.findall(r"\*\*(.+?)\*\*", name)[0] for name in table("state")]
    assert states == ["opening", "open", "ending", "half-closed", "over"]


def test_every_cause_and_every_reason_of_a_gap_is_explained() -> None:
    causes = {cause for name in table("`rotating.cause`") for cause in re.findall(r"[A-Z_]+", name)}
    assert causes == CAUSES.words
    # What is void the caller knows of, by `interrupted`: no gap says it.
    assert set(table("`gap.reason`")) == LOST.labels[names.REASON].words - {"VOID"}


def test_what_a_client_may_report_is_what_is_read() -> None:
    lines = [re.findall(r'"event": "(\w+)"', line) for line in table("line")]
    assert [event for (event,) in lines] == list(REPORTS)


@pytest.mark.parametrize(
    ("said", "value", "unit"),
    [
        (r"at most (\d+) ms of audio are sent beyond", GatewaySettings.model_fields["audio_ahead"].default, "ms"),
        (r"within (\d+) s \|", GatewaySettings.model_fields["open_timeout"].default, "s"),
        (r"`opened.resume_window` \((\d+) min", WorkerSettings.model_fields["resume_window"].default, "min"),
        (r"or (\d+) s after it was sent", timedelta(seconds=journal.HORIZON), "s"),
        (r"speech of less than (\d+) s", timedelta(seconds=LONGEST_QUESTION), "s"),
    ],
)
def test_the_times_on_the_page_are_those_of_the_code(said: str, value: timedelta, unit: str) -> None:
    (number,) = re.findall(said, PAGE)
    assert timedelta(**{{"ms": "milliseconds", "s": "seconds", "min": "minutes"}[unit]: int(number)}) == value


def test_the_sizes_on_the_page_are_those_of_the_code() -> None:
    assert "a message of more than 4 MiB" in PAGE
    assert ("grpc.max_receive_message_length", 4 << 20) in server._GRPC_OPTIONS
    assert "more than 1 MiB" in PAGE
    assert content_check.MAX_IMAGE == 1 << 20


def test_links_and_names_on_the_page_exist() -> None:
    for link in re.findall(r"\]\(([^)#]+)\)", PAGE):
        assert (ROOT / "docs" / link).exists(), link
    headings = {
        line.lstrip("# ").lower().replace(" ", "-").replace("`", "") for line in PAGE.splitlines() if "#" in line
    }
    assert set(re.findall(r"\]\(#([^)]+)\)", PAGE)) <= headings
    assert set(re.findall(r"--only (\S+)", PAGE)) <= set(CLIENT_CHECKS)
    fields = {field.name for message in (pb.Opened, pb.Resume, pb.Open) for field in message.DESCRIPTOR.fields}
    assert {"next_uplink_seq", "last_received_seq", "resume_token", "resume_window", "request_id"} <= fields


# The statements


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    keys = tmp_path_factory.mktemp("keys") / "keys.yaml"
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    keys.write_text(f"keys:\n  - tenant: support\n    principal: bot\n    sha256: {digest}\n")
    # Answers are made, and played, faster than they sound.
    speed = {"PARLEY_EMULATOR_GENERATION_SPEED": "20", "PARLEY_EMULATOR_PLAYBACK_SPEED": "10"}
    env = {"PARLEY_GATEWAY_API_KEYS_FILE": str(keys), **speed}
    # Where the model stays away, tests do not wait a minute for the session to give up.
    env["PARLEY_WORKER_RECOVERY_TIME"] = "1s"
    async with Stack(StackConfig(profiles_dir=PROFILES, env=env)) as running:
        yield running


@pytest.mark.asyncio(loop_scope="module")
async def test_the_real_gateway_passes_every_check_and_keeps_nothing(stack: Stack) -> None:
    """First: the tests below leave sessions that wait."""
    options = ("--target", str(stack.gateways[0].ready["address"]), "--api-key", KEY, "--json")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "parley.cli", "conformance", *options), stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    document = json.loads(out)
    assert [check for check in document["checks"] if not check["passed"]] == []
    assert [check["name"] for check in document["checks"]] == list(GATEWAY_CHECKS)
    assert (document["passed"], document["failed"], process.returncode) == (len(GATEWAY_CHECKS), 0, 0)

    async def nothing_held() -> bool:
        sessions = (await held(stack)).sessions  # records of ended ones stay a while
        return not any(count for name, count in sessions.items() if not name.endswith(" to_forget"))

    await eventually(nothing_held)


class Caller:
    """A stream on bare stubs."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.call: Any = live_pb2_grpc.LiveServiceStub(channel).Converse(timeout=30)
        self.opened = pb.Opened()

    async def open(self, **fields: Any) -> pb.Opened:
        await self.call.write(pb.ConverseRequest(open=pb.Open(**fields)))
        response = await self.call.read()
        assert response.WhichOneof("payload") == "opened"
        self.opened = response.opened
        return self.opened

    async def say(self, seq: int, text: str) -> None:
        await self.call.write(pb.ConverseRequest(seq=seq, text=pb.TextInput(text=text)))

    async def read_until(self, *payloads: str) -> pb.ConverseResponse:
        """The next response with one of these payloads."""
        while (response := await self.call.read()) is not grpc.aio.EOF:
            if response.WhichOneof("payload") in payloads:
                return response
        raise AssertionError(f"ended with {await self.call.code()}")

    async def refusal(self) -> str:
        """The reason of the status that the stream ends with."""
        try:
            while await self.call.read() is not grpc.aio.EOF:
                pass
        except grpc.aio.AioRpcError as error:
            return from_rpc_error(error).reason
        raise AssertionError("ended with OK")


@asynccontextmanager
async def connection(stack: Stack) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(str(stack.gateways[0].ready["address"])) as channel:
        yield channel


def resume(opened: pb.Opened, after: int = 0) -> pb.Resume:
    return pb.Resume(session_id=opened.session_id, resume_token=opened.resume_token, last_received_seq=after)


@pytest.mark.asyncio(loop_scope="module")
async def test_the_snippet_gets_an_answer(stack: Stack) -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    address = str(stack.gateways[0].ready["address"])
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", code, address), stdout=asyncio.subprocess.PIPE
    )
    pcm, _ = await process.communicate()
    assert process.returncode == 0
    assert len(pcm) > 100_000


@pytest.mark.asyncio(loop_scope="module")
async def test_what_is_sent_after_end_is_not_heard(stack: Stack) -> None:
    async with connection(stack) as channel:
        caller = Caller(channel)
        await caller.open(request_id="after-end", profile="plain")
        await caller.say(1, "hello")
        await caller.call.write(pb.ConverseRequest(seq=2, end=pb.End()))
        await caller.say(3, "too late")
        assert (await caller.read_until("ended")).ended.reason == pb.END_REASON_CALLER
        assert await caller.call.read() is grpc.aio.EOF
        assert await caller.call.code() is grpc.StatusCode.OK
        assert (await heard(stack, caller.opened.session_id))["texts"] == ["hello"]


@pytest.mark.asyncio(loop_scope="module")
async def test_a_repeated_open_voids_the_token_of_the_first(stack: Stack) -> None:
    async with connection(stack) as channel:
        first, second = Caller(channel), Caller(channel)
        old = await first.open(request_id="twice", profile="plain", traceparent="nonsense")
        new = await second.open(request_id="twice", profile="plain")
        assert (new.session_id, new.existing) == (old.session_id, True)
        assert await first.refusal() == "SUPERSEDED"
        stranger, back = Caller(channel), Caller(channel)
        await stranger.call.write(pb.ConverseRequest(open=pb.Open(resume=resume(old))))
        assert await stranger.refusal() == "RESUME_REFUSED"
        assert (await back.open(resume=resume(new))).session_id == old.session_id


@pytest.mark.asyncio(loop_scope="module")
async def test_what_was_acked_is_never_sent_again(stack: Stack) -> None:
    async with connection(stack) as channel:
        first, second, third = Caller(channel), Caller(channel), Caller(channel)
        opened = await first.open(request_id="acked", profile="plain")
        await first.say(1, "hello")
        heard_up_to = (await first.read_until("audio")).seq
        await second.open(resume=resume(opened, heard_up_to))  # acks by its `last_received_seq`
        assert (await second.read_until("turn_complete")).seq > heard_up_to + 1
        await third.open(resume=resume(opened, 0))  # claims nothing
        assert (await third.call.read()).seq == heard_up_to + 1


@pytest.mark.asyncio(loop_scope="module")
async def test_a_half_closed_session_waits_and_numbers_on(stack: Stack) -> None:
    async with connection(stack) as channel:
        caller = Caller(channel)
        opened = await caller.open(request_id="half-closed", profile="plain")
        await caller.say(1, "hello")
        await caller.call.done_writing()
        last = await caller.read_until("turn_complete")
        while (response := await caller.call.read()) is not grpc.aio.EOF:
            last = response if response.seq else last
        assert await caller.call.code() is grpc.StatusCode.OK
        back = Caller(channel)
        assert (await back.open(resume=resume(opened, last.seq))).next_uplink_seq == 2
        await back.say(1, "hello")  # what it has already is dropped
        await back.say(2, "hello")
        assert (await back.read_until("audio")).seq > last.seq
        assert (await heard(stack, opened.session_id))["texts"] == ["hello", "hello"]


@pytest.mark.asyncio(loop_scope="module")
async def test_a_session_that_failed_says_ended_before_its_status(stack: Stack) -> None:
    assert stack.emulator is not None
    async with connection(stack) as channel:
        caller, back = Caller(channel), Caller(channel)
        opened = await caller.open(request_id="failed", profile="plain")
        await stack.emulator.stop(10)
        assert (await caller.read_until("ended")).ended.reason == pb.END_REASON_BACKEND
        assert await caller.refusal() == "BACKEND_UNAVAILABLE"
        await back.call.write(pb.ConverseRequest(open=pb.Open(resume=resume(opened))))
        assert await back.refusal() == "SESSION_ENDED"
