"""`parley fabric` against a real nats-server, and what services do with streams that are not as wanted."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from typing import Any

import nats as nats_py
import pytest
from nats.aio.client import Client
from nats.js import JetStreamContext

from services.fabric import subjects
from services.fabric.administration import (
    FabricSettings,
    api,
    apply,
    connected,
    look,
    stream_info,
)
from services.fabric.catalog import Catalog
from services.fabric.conversation_log import ensure_log
from services.fabric.records import SessionRecords
from services.fabric.streams import MismatchError, StreamUnavailableError
from services.fabric.timeline import ensure_timeline
from tests.support.command import Parley, in_process
from tests.support.nats import NatsServer, running_nats_server

STREAM = subjects.SESSIONS_STREAM


@pytest.fixture(scope="module")
def server() -> Iterator[NatsServer]:
    with running_nats_server() as running:
        yield running


@pytest.fixture
async def js(server: NatsServer) -> AsyncIterator[JetStreamContext]:
    client = await nats_py.connect(server.url)
    js = client.jetstream(timeout=5)
    yield js
    for info in await js.streams_info():
        await js.delete_stream(str(info.config.name))
    await client.close()


@pytest.fixture
async def client(server: NatsServer, js: JetStreamContext) -> AsyncIterator[Client]:
    async with connected(settings(server), "test") as connection:
        yield connection


def settings(server: NatsServer, **values: Any) -> FabricSettings:
    return FabricSettings(nats_url=server.url, **values)


@pytest.fixture
def parley(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Parley:
    return in_process(monkeypatch, capsys)


@pytest.fixture
def fabric(server: NatsServer, parley: Parley) -> Parley:
    async def run(*arguments: str, **env: str) -> tuple[int, str, str]:
        return await parley("fabric", *arguments, **{"PARLEY_FABRIC_NATS_URL": server.url, **env})

    return run


async def test_the_command_makes_everything_and_then_finds_nothing_to_do(
    server: NatsServer, js: JetStreamContext, fabric: Parley
) -> None:
    status, out, _ = await fabric("diff")
    assert status == 1
    assert f"broken   {STREAM} is missing" in out
    status, out, err = await fabric("apply")
    assert (status, err) == (0, "")
    assert out.splitlines() == [
        f"created  {name}"
        for name in (STREAM, "PARLEY_LOG", "PARLEY_TIMELINE", "KV_PARLEY_REQUESTS", "KV_PARLEY_CATALOG")
    ]
    assert (await fabric("diff", "--json"))[:2] == (0, "[]\n")
    # What services make themselves is the same.
    for info in await js.streams_info():
        await js.delete_stream(str(info.config.name))
    await SessionRecords(js).ensure(1)
    await ensure_log(js, 1, timedelta(hours=24))
    await ensure_timeline(js, 1, timedelta(hours=24))
    await Catalog(js).ensure(1)
    assert [found.differences for found in await look(js._nc, settings(server))] == [[], [], [], [], []]


async def test_what_differs_is_mended_messages_stay_and_nothing_else_is_touched(
    server: NatsServer, js: JetStreamContext, client: Client
) -> None:
    await apply(client, settings(server))
    info = await stream_info(client, STREAM)
    assert info is not None
    config = info["config"] | {
        "max_bytes": 1024 * 1024,
        "discard_new_per_subject": False,
        "max_msgs_per_subject": -1,
        "discard": "old",
        "max_msg_size": 1000,
        "metadata": {"team": "voice"},
        "allow_rollup_hdrs": False,
        "allow_direct": False,
    }
    await api(client, f"STREAM.UPDATE.{STREAM}", config)
    await js.publish("parley.session.ses_1.own", b"kept")
    done = await apply(client, settings(server))
    assert {each.field for each in done.changed} == config.keys() & {
        "max_bytes",
        "discard_new_per_subject",
        "max_msgs_per_subject",
        "discard",
        "max_msg_size",
        "allow_rollup_hdrs",
        "allow_direct",
    }
    assert (done.created, done.refused, done.left) == ([], [], [])
    info = await stream_info(client, STREAM)
    assert info is not None
    assert info["config"]["metadata"]["team"] == "voice"
    assert (await js.get_last_msg(STREAM, "parley.session.ses_1.own")).data == b"kept"


async def test_what_a_server_does_not_take_is_said(js: JetStreamContext, fabric: Parley) -> None:
    status, out, err = await fabric("apply", "--json", PARLEY_FABRIC_REPLICAS="3")
    assert (status, err) == (1, "")
    document = json.loads(out)
    assert len(document["refused"]) == len(document["left"]) == 5
    assert "replicas" in document["refused"][0]


async def test_what_cannot_be_changed_is_left_and_said(
    server: NatsServer, js: JetStreamContext, client: Client, fabric: Parley
) -> None:
    await js.add_stream(name=STREAM, subjects=["parley.session.>"], storage="memory")
    done = await apply(client, settings(server))
    assert [each.field for each in done.left] == ["storage"]
    status, out, _ = await fabric("diff")
    assert status == 1
    assert "weaker   PARLEY_SESSIONS: storage is memory, wanted file" in out
    assert "make it anew" in out


async def test_a_service_does_not_serve_on_a_stream_that_breaks_a_promise(
    server: NatsServer, js: JetStreamContext, client: Client
) -> None:
    records = SessionRecords(js)
    await records.ensure(1)
    info = await stream_info(client, STREAM)
    assert info is not None
    await api(client, f"STREAM.UPDATE.{STREAM}", info["config"] | {"discard_new_per_subject": False})
    with pytest.raises(MismatchError, match=r"discard_new_per_subject is false, wanted true: .*`parley fabric apply`"):
        await records.ensure(1)
    await apply(client, settings(server))
    await records.ensure(1)


async def test_a_service_says_what_is_weaker_than_it_was_told_and_serves(
    server: NatsServer, js: JetStreamContext, capsys: pytest.CaptureFixture[str]
) -> None:
    await SessionRecords(js).ensure(1)
    await SessionRecords(js).ensure(3)
    said = capsys.readouterr()
    assert "num_replicas is 1, wanted 3" in said.out + said.err


async def test_a_stream_that_cannot_be_changed_is_not_promised_to_be_mended(js: JetStreamContext) -> None:
    await js.add_stream(name=STREAM, subjects=["parley.session.>"], retention="interest")
    with pytest.raises(MismatchError, match=r"retention is interest, .*remove the stream and make it anew"):
        await SessionRecords(js).ensure(1)


async def test_a_stream_that_the_server_does_not_make_is_said_with_its_reason(js: JetStreamContext) -> None:
    with pytest.raises(StreamUnavailableError, match=r"does not make the stream PARLEY_SESSIONS: .*replicas"):
        await SessionRecords(js).ensure(3)


def restricted(publish: list[str], subscribe: list[str]) -> dict[str, Any]:
    """Options of a server whose only user may do this."""
    permissions = {"publish": publish, "subscribe": subscribe}
    return {"authorization": {"users": [{"user": "app", "password": "secret", "permissions": permissions}]}}


async def test_a_user_that_may_not_ask_of_a_stream_is_told_the_subjects() -> None:
    with running_nats_server(**restricted(["parley.>"], [">"])) as server:
        client = await nats_py.connect(server.url, user="app", password="secret")
        with pytest.raises(StreamUnavailableError, match=r"\$JS\.API\.STREAM\.INFO\.PARLEY_SESSIONS and") as raised:
            await SessionRecords(client.jetstream(timeout=0.3)).ensure(1)
        await client.close()
    assert raised.value.exit_status == 69


async def test_the_doctor_says_what_its_user_may_not_see(fabric: Parley, parley: Parley) -> None:
    with running_nats_server(**restricted([">"], ["_INBOX.>"])) as server:
        env = {"NATS_URL": server.url, "NATS_USER": "app", "NATS_PASSWORD": "secret"}
        of_fabric = {f"PARLEY_FABRIC_{name}": value for name, value in env.items()}
        assert (await fabric("apply", **of_fabric))[0] == 0
        status, out, _ = await parley("doctor", **of_fabric)
    assert status == 1
    told = out.lower()
    cause = told.index('permissions violation for subscription to "parley.fleet.announce"')
    assert cause < told.index("no session worker announced itself")


async def test_without_nats_one_line_says_so(fabric: Parley) -> None:
    status, out, err = await fabric("diff", PARLEY_FABRIC_NATS_URL="nats://127.0.0.1:1")
    assert (status, out) == (69, "")
    assert err.startswith("parley: NATS cannot be reached at nats://127.0.0.1:1: ")
    assert err.count("\n") == 1


async def test_without_jetstream_one_line_says_so(fabric: Parley) -> None:
    with running_nats_server(jetstream=False) as plain:
        status, out, err = await fabric("diff", PARLEY_FABRIC_NATS_URL=plain.url)
    assert (status, out) == (69, "")
    assert err == "parley: JetStream is not enabled on this NATS, or not for this user\n"


async def test_a_wrong_setting_is_named(fabric: Parley) -> None:
    status, _, err = await fabric("diff", PARLEY_FABRIC_REPLICAS="many")
    assert status == 78
    assert err.startswith("parley: PARLEY_FABRIC_REPLICAS is 'many'")
