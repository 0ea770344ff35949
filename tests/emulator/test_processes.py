"""Several processes that are one emulator: connections anywhere, each conversation in one place, all or none alive."""

import asyncio
import itertools
import json
import os
import signal
import stat
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from emulator import texts
from emulator.errors import Refusal
from emulator.processes import ownership
from emulator.processes.crew import Crew, Passed
from emulator.processes.shared import Shared, SharedHits, SharedQuota, SharedTokens
from emulator.processes.terms import Terms, read, written
from emulator.session.tokens import Grant, TokensFullError
from emulator.settings import EmulatorSettings
from tests.emulator.behaviour import behaviour, patched
from tests.emulator.patience import LIMIT, in_time
from tests.emulator.raw import HELLO, PATH, SETUP, Socket, dial, headers, masked
from tests.support.children import bound
from tests.support.emulator import ROOT, RunningEmulator, start_emulator
from tests.support.eventually import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

COUNT = 3
RESUMABLE = {"setup": {**SETUP["setup"], "sessionResumption": {}}}
names = (f"c{number}" for number in itertools.count())


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def emulator() -> AsyncIterator[RunningEmulator]:
    async with start_emulator(processes=COUNT, generation_speed=50, playback_speed=50, quota=40) as it:
        yield it


@pytest_asyncio.fixture(autouse=True, loop_scope="module")
async def nothing_left(request: pytest.FixtureRequest) -> AsyncIterator[None]:
    yield
    if "emulator" in request.fixturenames:
        await until_alone(request.getfixturevalue("emulator"))


async def until_alone(emulator: RunningEmulator) -> None:
    """Every process has seen its clients go: until then it refuses to resume their sessions, with 1011."""

    async def gone() -> bool:
        return (await emulator.stats())["connections"] == 0

    await eventually(gone, timeout=LIMIT)


async def until_passed_on(emulator: RunningEmulator, work: Callable[[str], Awaitable[Any]]) -> None:
    """Do it with new conversations until one of them belonged to another process than took the connection."""
    for name in itertools.islice(names, 40):
        before = (await emulator.stats())["passed_on"]
        await work(name)
        if (await emulator.stats())["passed_on"] > before:
            return
    raise AssertionError("every connection came to the process that it belonged to")


def setup(handle: str) -> dict[str, Any]:
    return {"setup": {**SETUP["setup"], "sessionResumption": {"handle": handle}}}


async def handle_after(client: Socket, text: str) -> str:
    """Ask something; the handle that comes with the answer."""
    await client.send({"realtimeInput": {"text": text}})
    await client.until("turnComplete")
    frames = await client.until("newHandle")
    handle: str = json.loads(frames[-1].data)["sessionResumptionUpdate"]["newHandle"]
    return handle


async def post(emulator: RunningEmulator, path: str, body: Any) -> tuple[int, Any]:
    async with aiohttp.ClientSession() as http, http.post(emulator.control + path, json=body) as response:
        return response.status, await response.json()


async def delete(emulator: RunningEmulator, path: str) -> tuple[int, Any]:
    async with aiohttp.ClientSession() as http, http.delete(emulator.control + path) as response:
        return response.status, await response.json() if response.content_type == "application/json" else None


# What belongs to whom


@behaviour("10.46", off=patched("emulator.processes.ownership.owner", lambda conversation, count: 0))
async def test_conversations_and_handles_tell_their_process() -> None:
    owned = Counter(ownership.owner(f"conversation {number}", 4) for number in range(4000))
    assert set(owned) == {0, 1, 2, 3}
    assert min(owned.values()) > 800
    assert ownership.owner("the same everywhere", 64) == 41
    for number in range(3):
        assert ownership.owner(ownership.made_up(number, 3), 3) == number
        ownership.check_handle(ownership.prefix(number) + "rest", number, 3)
    with pytest.raises(ownership.Elsewhere) as raised:
        ownership.check_handle(ownership.prefix(2) + "rest", 0, 3)
    assert raised.value.owner == 2
    # Nobody's: refused where it comes.
    for handle in ("", "!", ownership.prefix(3)):
        ownership.check_handle(handle, 0, 3)
    assert len({ownership.prefix(number) for number in range(ownership.LIMIT)}) == ownership.LIMIT


def terms(folder: Path, number: int = 0) -> Terms:
    return Terms(number, 2, folder, "secret", 12.5, 443, None)


async def test_settings_reach_every_process_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARLEY_EMULATOR_QUOTA", "5")
    settings = EmulatorSettings(api_keys="a, b", chunk="20ms", scenarios="x.yaml", quota=7, processes=2, seed=3)
    assert read(written(terms(tmp_path), settings)) == (terms(tmp_path), settings)


@pytest.fixture
def shared(tmp_path: Path) -> Any:
    """Two processes' ways to the same numbers."""
    path = terms(tmp_path).database
    both = Shared(path, create=True), Shared(path)
    yield both
    for one in both:
        one.close()


async def test_quota_and_hits_are_counted_over_all_processes(shared: tuple[Shared, Shared]) -> None:
    here, there = (SharedQuota(one) for one in shared)
    with (
        here.connection("key", 1) as first,
        there.connection("key", 1) as second,
        there.connection("other", 1) as third,
    ):
        assert (first, second, third) == (True, False, True)
    with there.connection("key", 1) as again:
        assert again
    hits = [SharedHits("fault_1", 2, one) for one in shared]
    assert [hits[0].take(), hits[1].take(), hits[0].take()] == [True, True, False]
    hits[1].give_back()
    assert hits[0].left == 1
    shared[0].forget_counts("order/", kept={"order/fault_1"})
    assert hits[1].left == 1
    shared[1].forget_counts("order/", kept=())
    assert hits[0].left == 2


async def test_tokens_are_used_up_whichever_process_asks(shared: tuple[Shared, Shared]) -> None:
    here, there = (SharedTokens(limit=2, shared=one) for one in shared)
    token = here.issue(Grant(1, 100.0, 50.0, {"model": "models/gemini-3.8-live"}), 0.0, key="k")
    assert token.name in there
    assert there.project(token.name) == "k"
    assert len(there) == 1
    both = [store.apply(token.name, {}, 1.0)[0] for store in (here, there)]
    both[0].use(resuming=False)
    with pytest.raises(Refusal) as raised:
        # It was good when it was looked at.
        both[1].use(resuming=False)
    assert raised.value.text == texts.TOKEN_USED_UP.text
    both[1].use(resuming=True)
    with pytest.raises(Refusal):
        there.apply(token.name, {}, 1.0)
    there.issue(Grant(0, 5.0, 5.0), 0.0)
    with pytest.raises(TokensFullError):
        here.issue(Grant(0, 5.0, 5.0), 1.0)
    here.issue(Grant(0, 50.0, 5.0), 6.0)
    assert "auth_tokens/unknown" not in here
    assert here.project("auth_tokens/unknown") == ""


async def test_nobody_but_the_emulator_itself_passes_on(shared: tuple[Shared, Shared], tmp_path: Path) -> None:
    crew = Crew(terms(tmp_path), max_frame_bytes=1, patience=1)

    def passed(value: str) -> Passed:
        return crew.passed(make_mocked_request("GET", PATH, headers={"x-emulator-passed-on": value}))

    assert passed("secret") == Passed()
    assert passed("secret conv_1 4 2") == Passed("conv_1", 4, 2)
    for wrong in ("", "secrets", " secret", "s conv_1 4"):
        with pytest.raises(web.HTTPForbidden):
            passed(wrong)
    crew.close()


# Connections


async def test_connections_spread_and_numbers_add_up(emulator: RunningEmulator) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(30):
            client = await stack.enter_async_context(Socket(emulator))
            await client.send(SETUP)
            await client.next()
        numbers = await emulator.stats()
        each = [process["connections"] for process in numbers["processes"]]
        assert numbers["connections"] == sum(each) == 30
        assert sum(count > 0 for count in each) > 1
        # Without an id of its own a conversation belongs to where it is.
        assert numbers["passed_on"] == 0
        lines = await emulator.get("/conversations")
        assert sum(line["open"] for line in lines) == 30
    assert await emulator.get("/healthz") == {"status": "ok"}
    assert (await delete(emulator, "/conversations"))[0] == 204
    assert not [line for line in await emulator.get("/conversations") if not line["open"]]


async def test_a_named_conversation_is_in_one_place(emulator: RunningEmulator) -> None:
    async def talk(name: str) -> None:
        for text in ("hello", "hello again"):
            async with Socket(emulator, conversation=name) as client:
                await client.send(SETUP, {"realtimeInput": {"text": text}})
                await client.until("turnComplete")
        record = await emulator.conversation(name)
        assert [one["text"] if isinstance(one, dict) else one for one in record["texts"]] == ["hello", "hello again"]
        assert [link["index"] for link in record["links"]] == [0, 1]
        assert name in [line["id"] for line in await emulator.get("/conversations")]
        assert (await emulator.lineage(name))["complete"]
        assert (await emulator.events(name, kind="closed"))["events"]

    await until_passed_on(emulator, talk)


@pytest.mark.parametrize("compress", [0, 15])
async def test_a_handle_is_resumed_wherever_it_lands(emulator: RunningEmulator, compress: int) -> None:
    """Also compressed, where frames build on what came before, and with more than the setup sent at once."""

    async def talk(_: str) -> None:
        async with Socket(emulator) as client:
            client.compress = compress
            await client.send(RESUMABLE)
            handle = await handle_after(client, "hello")
        await until_alone(emulator)
        again = Socket(emulator)
        again.compress = compress
        async with again:
            await again.send(setup(handle), {"realtimeInput": {"text": "what did I say"}})
            await again.until("turnComplete")
            number = (await emulator.stats())["connections"]
            assert number == 1
        lines = [line for line in await emulator.get("/conversations") if line["links"] == 2]
        records = [await emulator.conversation(line["id"]) for line in lines]
        assert all(len(record["texts"]) == 2 for record in records)
        lineages = [await emulator.lineage(line["id"]) for line in lines]
        assert all(not any(one["forgotten"].values()) for one in lineages)
        assert len(lines) == 1
        await delete(emulator, "/conversations")

    await delete(emulator, "/conversations")
    await until_passed_on(emulator, talk)


async def test_a_handle_goes_before_the_name_of_a_conversation(emulator: RunningEmulator) -> None:
    """Accepted here, named there, resumed in a third process."""
    async with Socket(emulator) as client:
        await client.send(RESUMABLE)
        handle = await handle_after(client, "hello")
    for name in itertools.islice(names, 4):
        await until_alone(emulator)
        async with Socket(emulator, conversation=name) as client:
            await client.send(setup(handle))
            handle = await handle_after(client, "hello")


async def test_a_dead_handle_is_refused_in_the_words_of_the_service(emulator: RunningEmulator) -> None:
    for number in range(COUNT + 1):
        async with Socket(emulator) as client:
            await client.send(setup(ownership.prefix(number) + "x" * 43))
            code, reason = await client.closed()
            assert code == 1008
            assert "not found" in reason


async def test_what_comes_with_the_upgrade_request_is_not_lost(emulator: RunningEmulator) -> None:
    async def talk(name: str) -> None:
        port = int(emulator.address.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=emulator.ssl_context)
        head = (
            f"GET {PATH}?key=k&x-emulator-conversation={name} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        writer.write(head.encode() + masked(1, json.dumps(SETUP).encode()))
        async with in_time():
            await reader.readuntil(b"setupComplete")
        writer.transport.abort()

    await until_passed_on(emulator, talk)


async def test_a_refused_upgrade_comes_from_the_owner(emulator: RunningEmulator) -> None:
    """And its connection is not used for what may belong to others."""

    async def refused(name: str) -> None:
        headers = {"x-emulator-conversation": name, "x-emulator-faults": "refuse_upgrade status=429"}
        async with aiohttp.ClientSession() as http:
            with pytest.raises(aiohttp.WSServerHandshakeError) as raised:
                await http.ws_connect(emulator.address + PATH, ssl=emulator.ssl_context, headers=headers)
        assert raised.value.status == 429
        assert raised.value.headers is not None
        kept.append(raised.value.headers.get("Connection") != "close")

    kept: list[bool] = []
    await until_passed_on(emulator, refused)
    assert not kept[-1]


async def test_tokens_and_quota_are_good_everywhere(emulator: RunningEmulator) -> None:
    async def made(uses: int) -> str:
        async with aiohttp.ClientSession() as http:
            answer = await http.post(
                emulator.address + "/v1alpha/auth_tokens",
                json={"uses": uses},
                headers={"x-goog-api-key": "tokens"},
                ssl=emulator.ssl_context,
            )
            name: str = (await answer.json())["name"]
            return name

    path = PATH.replace("v1beta", "v1alpha") + "Constrained?access_token="
    for _ in range(3):
        token = await made(2)
        codes = []
        for _ in range(4):
            client = Socket(emulator, path=path + token)
            del client.headers["x-goog-api-key"]
            async with client:
                await client.send(SETUP)
                frame = await client.frame()
                codes.append(frame.data if frame.type is aiohttp.WSMsgType.CLOSE else None)
        assert [code is None for code in codes] == [True, True, False, False]
    assert (await emulator.stats())["tokens"] == 3


async def test_a_quota_is_one_for_all_processes(emulator: RunningEmulator) -> None:
    async with AsyncExitStack() as stack:
        for name in itertools.islice(names, 20):
            await stack.enter_async_context(Socket(emulator, conversation=name))
            await stack.enter_async_context(Socket(emulator))
        for name in itertools.islice(names, 3):
            with pytest.raises(aiohttp.WSServerHandshakeError) as raised:
                async with Socket(emulator, conversation=name):
                    pass
            assert raised.value.status == 429


# Faults


async def test_a_reset_reaches_the_client_as_one(emulator: RunningEmulator) -> None:
    async def reset(name: str) -> None:
        stream = await dial(emulator, "reset on=turn_complete", name)
        stream.send(SETUP)
        stream.send(HELLO)
        with pytest.raises(ConnectionResetError):
            while True:
                await stream.frame()

    async def finish(name: str) -> None:
        stream = await dial(emulator, "reset how=fin on=turn_complete", name)
        stream.send(SETUP)
        stream.send(HELLO)
        opcodes = []
        with pytest.raises(asyncio.IncompleteReadError):
            while True:
                opcodes.append((await stream.frame())[0])
        assert 8 not in opcodes
        stream.writer.close()

    await until_passed_on(emulator, reset)
    await until_passed_on(emulator, finish)


async def test_a_client_that_resets_is_gone_at_its_owner(emulator: RunningEmulator) -> None:
    async def leave(name: str) -> None:
        stream = await dial(emulator, "half_open on=turn_complete", name)
        stream.send(SETUP)
        stream.send(HELLO)

        async def silent() -> bool:
            return bool((await emulator.get(f"/conversations/{name}/faults"))["fired"])

        await eventually(silent, LIMIT)
        # More than all buffers hold, so that nobody reads the client any more.
        block = masked(2, bytes(2**20))
        for _ in range(12):
            stream.writer.write(block)
        stream.leave()

        async def gone() -> bool:
            return (await emulator.stats())["connections"] == 0

        await eventually(gone, timeout=LIMIT)

    await until_passed_on(emulator, leave)


async def test_half_open_is_half_open_and_pongs_are_late(emulator: RunningEmulator) -> None:
    async def frozen(name: str) -> None:
        async with Socket(emulator, conversation=name) as client, Socket(emulator, conversation=name) as neighbour:
            for each in (client, neighbour):
                await each.send(SETUP)
                await each.next()
            fault = {"fault": {"do": "half_open"}, "reach": "open", "count": 2}
            await post(emulator, f"/conversations/{name}/faults", fault)
            await client.socket.ping(b"there?")
            await client.send({"realtimeInput": {"text": "stop"}})
            # Whoever owns it is well, and has read what came.
            async with Socket(emulator, conversation=name) as third:
                await third.send(SETUP, HELLO)
                await third.until("turnComplete")
            assert (await emulator.conversation(name))["texts"] == ["hello"]
            await delete(emulator, f"/conversations/{name}/faults")
            assert (await client.frame()).type is aiohttp.WSMsgType.PONG
            await client.until("turnComplete")

    async def late(name: str) -> None:
        async with Socket(emulator, "pongs delay=300ms", name) as client:
            await client.send(SETUP)
            await client.next()
            await client.socket.ping(b"there?")
            await client.send({"realtimeInput": {"text": "stop"}})
            assert "turnComplete" in (await client.frame()).data.decode()
            pong = await client.frame()
            assert (pong.type, bytes(pong.data)) == (aiohttp.WSMsgType.PONG, b"there?")

    await until_passed_on(emulator, frozen)
    await until_passed_on(emulator, late)


@pytest.mark.parametrize("first", ["", "drip on=connect rate=5000 for=100ms; ", "half_open on=connect for=100ms; "])
async def test_what_faults_send_at_once_is_sent_once_wherever_a_handle_lands(
    emulator: RunningEmulator, first: str
) -> None:
    async def struck(_: str) -> None:
        async with Socket(emulator) as client:
            await client.send(RESUMABLE)
            handle = await handle_after(client, "hello")
        faults = "frame on=connect what=unknown_top; burst on=connect frames=3 what=usage_only"
        await until_alone(emulator)
        async with Socket(emulator, first + faults) as again:
            await again.send(setup(handle))
            assert len(await again.until("setupComplete")) == 5

    await until_passed_on(emulator, struck)


async def test_frames_drip_through_byte_by_byte(emulator: RunningEmulator) -> None:
    async def drip(name: str) -> None:
        stream = await dial(emulator, "drip on=connect rate=400", name)
        stream.send(SETUP)
        async with in_time():
            # Not a whole frame, which a relay of frames would wait for.
            assert len(await stream.reader.read(1000)) <= 20
        stream.writer.transport.abort()

    await until_passed_on(emulator, drip)


async def test_an_order_reaches_its_conversation_and_counts_are_exact(emulator: RunningEmulator) -> None:
    async def ordered(name: str) -> None:
        async with Socket(emulator, conversation=name) as client:
            await client.send(SETUP)
            await client.next()
            status, orders = await post(
                emulator, f"/conversations/{name}/faults", {"do": "close", "preset": "deadline"}
            )
            assert (status, len(orders)) == (201, 1)
            assert (await client.closed())[0] == 1011

    await until_passed_on(emulator, ordered)
    fault = {"fault": {"do": "close", "on": "setup", "code": 4000}, "reach": "future", "count": 2}
    status, (order,) = await post(emulator, "/faults", fault)
    assert (status, order["left"]) == (201, 2)
    codes = []
    for number in range(8):
        async with Socket(emulator) as client:
            await client.send(SETUP)
            await client.next()
            await client.send({"realtimeInput": {"text": "stop"}})
            frame = await client.frame()
            codes.append(frame.data if frame.type is aiohttp.WSMsgType.CLOSE else number)
    assert codes.count(4000) == 2
    _, (one, two) = await post(emulator, "/faults", {"faults": [{"do": "close"}, "reset"], "reach": "future"})
    assert len({order["id"], one["id"], two["id"]}) == 3
    pending = [each["id"] for each in (await emulator.get("/faults"))["pending"]]
    assert pending.count(one["id"]) == 1
    assert await delete(emulator, f"/faults/{one['id']}") == (200, {"cancelled": 1})
    assert (await delete(emulator, f"/faults/{one['id']}"))[0] == 404
    assert (await delete(emulator, "/faults"))[1]["cancelled"] >= 1
    assert (await emulator.get("/faults"))["pending"] == []
    assert (await post(emulator, "/faults", {"do": "nonsense"}))[0] == 400


async def test_a_fault_strikes_once_although_its_connection_moves(emulator: RunningEmulator) -> None:
    async def resumed(_: str) -> None:
        async with Socket(emulator) as client:
            await client.send(RESUMABLE)
            handle = await handle_after(client, "hello")
        before = len((await emulator.get("/faults"))["fired"])
        await until_alone(emulator)
        async with Socket(emulator, "pongs delay=200ms on=connect; slow_upgrade by=50ms") as client:
            await client.send(setup(handle))
            await client.until("setupComplete")
            await client.socket.ping(b"there?")
            await client.send({"realtimeInput": {"text": "stop"}})
            await client.until("turnComplete")
            fired = (await emulator.get("/faults"))["fired"]
            assert len(fired) == before + 2

    await until_passed_on(emulator, resumed)


async def test_unknown_paths_and_conversations_are_told_as_by_one_process(emulator: RunningEmulator) -> None:
    async with aiohttp.ClientSession() as http:
        for path in ("/nothing", "/conversations/unknown", "/conversations/unknown/lineage"):
            async with http.get(emulator.control + path) as response:
                assert response.status == 404
                assert (await response.json())["error"]


# Start and end


def family(pid: int) -> list[int]:
    """Processes below a process."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    children = [int(child) for task in tasks for child in (task / "children").read_text().split()]
    return [*children, *(one for child in children for one in family(child))]


def alive(pids: list[int]) -> list[int]:
    return [pid for pid in pids if Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_bytes()]


async def started(**settings: Any) -> tuple[asyncio.subprocess.Process, dict[str, Any]]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PARLEY_EMULATOR_")}
    process = await asyncio.create_subprocess_exec(
        *bound(sys.executable, "-m", "emulator", "--processes", "2"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment | {f"PARLEY_EMULATOR_{name.upper()}": str(value) for name, value in settings.items()},
        cwd=ROOT,
    )
    assert process.stdout is not None
    line = await process.stdout.readline()
    return process, json.loads(line) if line else {}


@dataclass(frozen=True)
class End:
    """One way to end, and what is said of it."""

    victim: Literal["child", "parent"]
    by: signal.Signals
    status: int
    told: bytes


ENDS = (
    End("child", signal.SIGKILL, 1, b"a process has ended"),
    End("parent", signal.SIGKILL, -9, b"the parent is gone"),
    End("parent", signal.SIGTERM, 0, b"stopping"),
)


async def code_of(client: aiohttp.ClientWebSocketResponse[bool]) -> int | None:
    # Not close_code: aiohttp makes 1006 of it where its own answer comes too late.
    last = await client.receive()
    return last.data if last.type is aiohttp.WSMsgType.CLOSE else 1006


async def ends(end: End) -> None:
    process, ready = await started(plain_port=0)
    folder = Path(ready["ca_file"]).parent
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    # The key was for the processes, which have read it.
    assert not list(folder.glob("*server*"))
    below = family(process.pid)
    assert set(ready["processes"]) <= set(below)
    async with aiohttp.ClientSession() as http:
        # Several, so that some are passed on.
        clients = [
            await http.ws_connect(ready["plain_address"] + PATH, headers=headers(conversation=name))
            for name in itertools.islice(names, 4)
        ]
        for client in clients:
            await client.send_json(SETUP)
            assert "setupComplete" in json.loads((await client.receive()).data)
        os.kill(process.pid if end.victim == "parent" else ready["processes"][1], end.by)
        async with in_time():
            codes = {await code_of(client) for client in clients}
            _, errors = await process.communicate()
    # Where a process was killed, its own connections end without a word.
    assert codes <= {1001, 1006} if end.victim == "child" else codes == {1001}
    assert process.returncode == end.status
    await eventually(lambda: not alive(below), timeout=LIMIT)
    await eventually(lambda: not folder.exists(), timeout=LIMIT)
    assert b"Traceback" not in errors
    assert end.told in errors
    assert not any(other.told in errors for other in ENDS[:2] if other is not end)


async def test_all_live_or_none() -> None:
    await asyncio.gather(*(ends(end) for end in ENDS))


async def test_a_start_that_fails_says_why_once(emulator: RunningEmulator, tmp_path: Path) -> None:
    port = emulator.address.rpartition(":")[2]
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("nonsense: 1\n")

    async def fails(told: bytes, **settings: Any) -> None:
        process, ready = await started(**settings)
        _, errors = await process.communicate()
        assert not ready
        assert process.returncode == 78
        assert errors.count(told) == 1
        assert b"Traceback" not in errors

    await asyncio.gather(
        fails(b"setting host, port", port=port),
        fails(b"setting scenario", scenario=wrong),
    )
