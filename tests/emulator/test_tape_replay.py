"""A replay over sockets: who gets which connection, what ends it, and what is said of a client that does otherwise."""

import asyncio
import json
import ssl
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import WSMsgType
from typer.testing import CliRunner

from emulator.cli import command
from emulator.tape.captured import Answer, Close, Frame, Lost, Note, Request, Upgrade, Upgraded
from emulator.tape.playback import Manner
from emulator.tape.player import Player
from emulator.tape.recording import FromServer
from emulator.tape.scribe import Scribe
from tests.emulator.behaviour import behaviour, patched
from tests.emulator.patience import LIMIT, in_time
from tests.emulator.taping import dialled, received, replaying
from tests.support.eventually import eventually

SETUP = b'{"setup":{"model":"m"}}'
STRICT = Manner(None, strict=True)


def tape(path: Path, *captured: Any) -> Path:
    scribe = Scribe()
    path.write_bytes(b"".join(scribe.line(one) for one in captured))
    return path


def client(number: int, data: bytes, t: float = 0.0) -> Frame:
    return Frame(number, t, True, 1, data)


def server(number: int, data: bytes, t: float = 0.0, opcode: int = 2) -> Frame:
    return Frame(number, t, False, opcode, data)


def greeting(number: int) -> list[Any]:
    """A connection that says its number."""
    return [Upgrade(number, "/", (), None), client(number, SETUP), server(number, b'{"n":%d}' % number)]


async def greeted(player: Player, **options: Any) -> Any:
    async with dialled(player.ready(), **options) as socket:
        await socket.send_frame(SETUP, WSMsgType.TEXT)
        return json.loads((await received(socket))[1])["n"]


async def report(player: Player) -> dict[str, Any]:
    async with aiohttp.ClientSession() as http, http.get(player.ready()["control"] + "/report") as response:
        facts: dict[str, Any] = await response.json()
        return facts


@behaviour("replay.order", off=patched("emulator.tape.player.Player._choose", lambda self, _: self._order[0]))
async def test_connections_are_played_in_order_or_as_the_header_says(tmp_path: Path) -> None:
    file = tape(tmp_path / "tape", *greeting(3), *greeting(5), *greeting(9))
    async with replaying(file) as player:
        assert await greeted(player) == 3
        assert await greeted(player, headers={"x-emulator-replay": "9"}) == 9
        assert await greeted(player) == 5
        assert await greeted(player) == 9
        for headers, status, text in (
            ({}, 503, "all 3 recorded connections have been played"),
            ({"x-emulator-replay": "4"}, 400, "x-emulator-replay: there are 3, 5, 9"),
            ({"x-emulator-replay": "x"}, 400, "x-emulator-replay: there are 3, 5, 9"),
        ):
            with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
                await greeted(player, headers=headers)
            assert caught.value.status == status, text
    async with replaying(file, loop=True) as player:
        assert [await greeted(player) for _ in range(4)] == [3, 5, 9, 3]


def _binary(t: float, number: int, opcode: int, data: bytes) -> FromServer:
    return FromServer(t, number, 2, data)


@behaviour("replay.frames", off=patched("emulator.tape.load.FromServer", _binary))
async def test_frames_are_of_the_recorded_type_and_pings_are_sent(tmp_path: Path) -> None:
    sent = [
        server(1, b'{"a":1}', opcode=1),
        server(1, b"\xff\x00", opcode=2),
        server(1, b"not json", opcode=1),
        server(1, b"", opcode=2),
        server(1, b"there?", opcode=9),
    ]
    file = tape(tmp_path / "tape", Upgrade(1, "/", (), None), *sent)
    async with replaying(file) as player, dialled(player.ready()) as socket:
        got = [(await received(socket))[:2] for _ in sent]
    assert got == [(WSMsgType(one.opcode), one.data) for one in sent]


@behaviour("replay.ends", off=patched("emulator.tape.player._Performance._farewell", lambda self, *_: (1000, "")))
@pytest.mark.parametrize(
    "end", [Close(1, 1.0, False, 1011, "Deadline expired"), Close(1, 1.0, False, 1005, ""), Lost(1, 1.0, False, "gone")]
)
async def test_a_recording_ends_as_it_ended(tmp_path: Path, end: Close | Lost) -> None:
    file = tape(tmp_path / "tape", *greeting(1), end)
    async with replaying(file, manner=Manner(None)) as player, dialled(player.ready()) as socket:
        await socket.send_frame(SETUP, WSMsgType.TEXT)
        assert (await received(socket))[1] == b'{"n":1}'
        ended = await received(socket)
        if isinstance(end, Lost):
            assert ended[0] is WSMsgType.CLOSED
            assert socket.close_code == 1006
        else:
            assert ended == (WSMsgType.CLOSE, 0 if end.code == 1005 else end.code, end.reason)
            await socket.close()
        await eventually(lambda: player.report()["connections"][0]["state"] == "finished", LIMIT)


async def test_a_recording_without_an_end_stays_open_until_the_client_closes(tmp_path: Path) -> None:
    file = tape(tmp_path / "tape", *greeting(1), Close(1, 5.0, True, 1000, ""), Close(1, 5.1, False, 1001, "well then"))
    async with replaying(file, manner=Manner(None)) as player:
        async with dialled(player.ready()) as socket:
            await socket.send_frame(SETUP, WSMsgType.TEXT)
            await received(socket)
            # More than was recorded is no reason to close.
            await socket.send_frame(b'{"more":1}', WSMsgType.TEXT)
            await socket.ping(b"still there?")
            assert await received(socket) == (WSMsgType.PONG, b"still there?", "")
            await socket.send_frame(b"\x03\xe8", WSMsgType.CLOSE)
            assert await received(socket) == (WSMsgType.CLOSE, 1001, "well then")
        await eventually(lambda: player.report()["connections"][0]["state"] == "client closed", LIMIT)


@behaviour("replay.mismatch", off=patched("emulator.tape.playback.Playback._compare", lambda self, message: None))
async def test_a_strict_replay_closes_with_1007_and_reports_what_came(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tape(tmp_path / "tape", *greeting(1), client(1, b'{"realtime_input":{"text":"hi"}}'), server(1, b"{}"))
    async with replaying(file, manner=STRICT) as player, dialled(player.ready()) as socket:
        await socket.send_frame(SETUP, WSMsgType.TEXT)
        await received(socket)
        await socket.send_frame(b'{"clientContent":{}}', WSMsgType.TEXT)
        async with in_time():
            closed = await received(socket)
        difference = "expected realtimeInput.text, got clientContent"
        assert closed == (WSMsgType.CLOSE, 1007, f"client frame 2: {difference}")
        (played,) = (await report(player))["connections"]
    mismatch = {"frame": 2, "line": 4, "difference": difference, "expected": '{"realtime_input":{"text":"hi"}}'}
    assert played == {
        "connection": 1,
        "state": "mismatch",
        "dropped": 0,
        "sent": 1,
        "of": 2,
        "received": 1,
        "waiting_for": {"realtimeInput.text": 1},
        "mismatch": mismatch | {"got": '{"clientContent":{}}'},
    }
    assert difference in capsys.readouterr().out


async def test_refusals_and_plain_answers_are_replayed(tmp_path: Path) -> None:
    file = tape(
        tmp_path / "tape",
        Upgrade(1, "/", (), None),
        Upgraded(1, 0.1, 429, (("Retry-After", "7"), ("Content-Type", "application/json")), b'{"error":{"code":429}}'),
        Request(1, "POST", "/v1beta/auth_tokens?key=k", (), b"{}"),
        Request(2, "POST", "/v1beta/auth_tokens", (), b"{}"),
        Answer(2, 0.1, 200, (), b'{"name":"auth_tokens/b"}'),
        Answer(1, 0.1, 400, (("Content-Encoding", "identity"),), b"no"),
    )
    async with replaying(file) as player:
        where = player.ready()
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await greeted(player)
        assert caught.value.status == 429
        assert caught.value.headers is not None
        assert caught.value.headers["Retry-After"] == "7"
        context = ssl.create_default_context(cafile=where["ca_file"])
        async with aiohttp.ClientSession(where["address"], connector=aiohttp.TCPConnector(ssl=context)) as http:
            seen = []
            for path in ("/v1beta/auth_tokens?key=other", "/v1beta/auth_tokens", "/v1beta/auth_tokens", "/v1/nope"):
                async with http.post(path) as response:
                    seen.append((response.status, await response.text()))
    again = (400, "no")
    assert seen == [(200, '{"name":"auth_tokens/token-1"}'), again, again, (404, "no POST /v1/nope was recorded")]


async def test_what_the_recorder_dropped_is_in_the_report(tmp_path: Path) -> None:
    file = tape(tmp_path / "tape", *greeting(1), Note("dropped: the disk is too slow", {}, 1))
    async with replaying(file) as player:
        assert await greeted(player) == 1
        assert (await report(player))["connections"][0]["dropped"] == 1


async def test_a_replay_that_stops_says_so(tmp_path: Path) -> None:
    async with replaying(tape(tmp_path / "tape", *greeting(1))) as player, dialled(player.ready()) as socket:
        await socket.send_frame(SETUP, WSMsgType.TEXT)
        await received(socket)
        stopping = asyncio.create_task(player.__aexit__(None, None, None))
        assert await received(socket) == (WSMsgType.CLOSE, 1001, "The replay is stopping.")
        await socket.close()
        await stopping


async def test_a_client_that_vanishes_leaves_nothing(tmp_path: Path) -> None:
    async with replaying(tape(tmp_path / "tape", *greeting(1))) as player:
        before = len(asyncio.all_tasks())
        async with dialled(player.ready()) as socket:
            await socket.send_frame(SETUP, WSMsgType.TEXT)
            await received(socket)
            socket._response.connection.transport.abort()  # type: ignore[union-attr]
            await eventually(lambda: player.report()["connections"][0]["state"] == "client lost", LIMIT)
        await eventually(lambda: len(asyncio.all_tasks()) <= before, LIMIT)


# The commands.


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["replay", "none.jsonl"], "replay: none.jsonl: cannot be read: No such file or directory"),
        (["replay", "{bad}"], "replay: {bad}: line 2: not JSON"),
        (["replay", "{good}", "--log-level", "loud"], "replay: --log-level: 'loud' is not one of"),
        (["replay", "{good}", "--host", "192.0.2.1"], "replay: --host, --port or --ca-file: "),
        (["record", "--upstream", "http://h", "--out", "{new}"], "record: --upstream: 'http://h' is not of the form"),
        (["record", "--upstream", "https://h/v1", "--out", "{new}"], "record: --upstream: 'https://h/v1' is not"),
        (["record", "--upstream", "https://h", "--out", "{good}"], "record: --out: {good} exists; name another"),
        (["record", "--upstream", "https://h", "--out", "{new}/x"], "record: --out: {new}/x cannot be written"),
        (
            ["record", "--upstream", "https://h", "--out", "{new}", "--upstream-ca", "{good}"],
            "record: --upstream-ca: {good} holds no certificate",
        ),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line_with_status_78(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], reason: str
) -> None:
    # It is for a whole process; here it would outlive the stream that the runner gives it.
    monkeypatch.setattr("emulator.logs.log_to_stderr", lambda level: None)
    places = {"good": str(tape(tmp_path / "good", *greeting(1))), "bad": str(tmp_path / "bad")}
    places["new"] = str(tmp_path / "new")
    (tmp_path / "bad").write_bytes((tmp_path / "good").read_bytes().splitlines(keepends=True)[0] + b"{broken\n")
    result = CliRunner().invoke(command, [argument.format(**places) for argument in arguments])
    assert result.exit_code == 78
    assert result.stderr.startswith(reason.format(**places))
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "new").exists()


def test_a_recording_that_is_not_complete_is_status_74(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def at_once(_: dict[str, Any]) -> None:
        pass

    def full(*_: Any) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("emulator.logs.log_to_stderr", lambda level: None)
    monkeypatch.setattr("emulator.tape.listener.until_stopped", at_once)
    monkeypatch.setattr("emulator.tape.file.os.write", full)
    out = tmp_path / "tape"
    result = CliRunner().invoke(command, ["record", "--upstream", "https://h", "--out", str(out)])
    assert result.exit_code == 74
    assert result.stderr == f"record: {out} is not complete: [Errno 28] No space left on device\n"
