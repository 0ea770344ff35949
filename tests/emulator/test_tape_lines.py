"""What a recording holds, and what is made of it: no sockets."""

import base64
import json
import os
import string
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emulator.tape import blobs, shape
from emulator.tape.captured import Answer, Close, Frame, Note, Request, Upgrade, Upgraded
from emulator.tape.errors import TapeError
from emulator.tape.file import RESERVE, TapeFile
from emulator.tape.load import load
from emulator.tape.playback import Manner, Mismatch, Playback
from emulator.tape.recording import Closed, Connection, FromServer
from emulator.tape.scribe import Scribe
from tests.emulator.behaviour import behaviour, patched
from tests.emulator.patience import LIMIT
from tests.support.eventually import eventually

KEY = "AIzaSyD-0123456789abcdefghijklmnopqrstu"
TOKEN = "auth_tokens/5f0c0ffee5f0c0ffee"
HANDLE = "Cig2OWRjYTBkNy1oYW5kbGU"
PATH = "/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent"
GIVEN = Path(__file__).parents[1] / "data" / "live-frames.jsonl"


def frame(message: Any, *, from_client: bool = True, opcode: int = 1, t: float = 0.0) -> Frame:
    data = message if isinstance(message, bytes) else json.dumps(message).encode()
    return Frame(1, t, from_client, opcode, data)


def line(scribe: Scribe, captured: Any) -> dict[str, Any]:
    text = scribe.line(captured)
    assert text.endswith(b"\n") and text.count(b"\n") == 1
    parsed: dict[str, Any] = json.loads(text)
    return parsed


def test_a_frame_is_a_line_of_the_known_format() -> None:
    written = line(Scribe(), frame({"client_content": {"turnComplete": True}}, t=0.1234567))
    assert written == {
        "direction": "client->server",
        "label": "client_content",
        "transport": "ws-text",
        "frame": {"client_content": {"turnComplete": True}},
        "connection": 1,
        "t": 0.123457,
        "opcode": 1,
    }


@behaviour("tape.secrets", off=patched("emulator.tape.scrub.Scrubber._name", lambda self, secret, prefix: secret))
def test_no_credential_is_written_wherever_the_client_puts_it() -> None:
    scribe = Scribe()
    secrets = [KEY, TOKEN, "ya29.a0bearer-of-google", "c00kie=crumbs", "hush-hush-hush", "plain-secret-key"]
    headers = (
        ("x-goog-api-key", KEY),
        ("Authorization", f"Token {TOKEN}"),
        ("Cookie", "c00kie=crumbs"),
        ("X-Tenant-Secret", "hush-hush-hush"),
        ("x-emulator-scenario", "support"),
    )
    path = f"{PATH}?key=plain-secret-key&alt=json&access_token={TOKEN.replace('/', '%2F')}"
    written = [
        scribe.line(one)
        for one in (
            Upgrade(1, path, headers, None),
            Upgraded(1, 0.1, 403, (("Set-Cookie", "c00kie=crumbs"),), f"{KEY} is not allowed".encode()),
            Request(1, "POST", "/v1beta/auth_tokens", (("Authorization", "Bearer ya29.a0bearer-of-google"),), b""),
            Answer(1, 0.2, 200, (), json.dumps({"name": TOKEN}).encode()),
            frame({"realtime_input": {"text": f"my key is {KEY}, my token {TOKEN}, that plain-secret-key"}}),
            frame(f"not json but {TOKEN}".encode()),
            frame(b"\xff\xfe" + KEY.encode()),
            Close(1, 1.0, False, 1008, f"{TOKEN} has expired"),
        )
    ]
    text = b"".join(written).decode()
    assert [secret for secret in secrets if secret in text] == []
    assert base64.b64encode(KEY.encode()).decode().rstrip("=")[4:-4] not in text
    upgrade = json.loads(written[0])["frame"]
    assert upgrade["path"] == f"{PATH}?key=key-1&alt=json&access_token=auth_tokens/token-1"
    assert upgrade["headers"] == {
        "x-goog-api-key": "key-2",
        "Authorization": "Token auth_tokens/token-1",
        "Cookie": "removed",
        "X-Tenant-Secret": "removed",
        "x-emulator-scenario": "support",
    }
    assert json.loads(written[3])["frame"] == {"name": "auth_tokens/token-1"}


@behaviour("tape.handles", off=patched("emulator.tape.scrub.is_handle", lambda field, parent: False))
@pytest.mark.parametrize("spelling", ["sessionResumption", "session_resumption"])
def test_a_handle_has_one_name_in_both_directions(spelling: str) -> None:
    scribe = Scribe()
    issued = line(scribe, frame({"sessionResumptionUpdate": {"newHandle": HANDLE, "resumable": True}}))
    other = line(scribe, frame({"sessionResumptionUpdate": {"newHandle": "h-2"}}))
    resumed = line(scribe, frame({"setup": {spelling: {"handle": HANDLE}}}))
    refused = line(scribe, Close(1, 0, False, 1008, f"no session {HANDLE}"))
    assert issued["frame"]["sessionResumptionUpdate"] == {"newHandle": "handle-1", "resumable": True}
    assert other["frame"]["sessionResumptionUpdate"]["newHandle"] == "handle-2"
    assert resumed["frame"]["setup"][spelling] == {"handle": "handle-1"}
    assert refused["frame"]["reason"] == "no session handle-1"
    # A tool's argument of that name is the tool's.
    call = {"toolCall": {"functionCalls": [{"args": {"handle": "door"}}]}}
    assert line(scribe, frame(call))["frame"] == call


def test_a_handle_in_a_frame_that_is_kept_as_text_has_its_name_too() -> None:
    twice = f'{{"sessionResumptionUpdate": {{"newHandle": "{HANDLE}", "newHandle": "{HANDLE}"}}}}'.encode()
    written = line(Scribe(), frame(twice, from_client=False))
    assert written["raw"] == "text"
    assert written["frame"] == twice.decode().replace(HANDLE, "handle-1")


@pytest.mark.parametrize(
    ("data", "raw"),
    [
        (b"not json", "text"),
        (b"", "text"),
        (b'"a string"', "text"),
        (b'{"a": 1, "a": 2}', "text"),
        (b'{"a": NaN}', "text"),
        (b'{"a": 1e999}', "text"),
        (b"[" * 100_000, "text"),
        (b'{"a":' * 300 + b"1" + b"}" * 300, "text"),
        (b"\xff\x00", "base64"),
        ('{"a": "\\ud800", "ü": 40.0}'.encode(), None),
        (b"[1]", None),
    ],
)
def test_whatever_was_sent_can_be_sent_again(data: bytes, raw: str | None, tmp_path: Path) -> None:
    file = tmp_path / "tape.jsonl"
    file.write_bytes(Scribe().line(frame(data, from_client=False, opcode=2)))
    assert json.loads(file.read_bytes()).get("raw") == raw
    (sent,) = load(file).connections[1].steps
    assert isinstance(sent, FromServer)
    assert sent.opcode == 2
    assert sent.data == data if raw else json.loads(sent.data) == json.loads(data)


def test_a_body_that_came_compressed_is_left_out_and_said_to_be(tmp_path: Path) -> None:
    scribe, headers = Scribe(), (("Content-Encoding", "gzip"), ("X-Told", "yes"))
    body = b"\x1f\x8b" + KEY.encode()
    file = tmp_path / "tape.jsonl"
    captured = (
        Upgraded(1, 0.1, 403, headers, body),
        Request(1, "GET", "/v1beta/models", (), b""),
        Answer(1, 0.1, 200, headers, body),
    )
    file.write_bytes(b"".join(scribe.line(one) for one in captured))
    written = [json.loads(text) for text in file.read_text().splitlines()]
    assert written[0]["omitted"] == written[2]["omitted"] == f"{len(body)} bytes in encoding gzip"
    recording = load(file)
    for answer in (recording.connections[1].refused, *recording.exchanges["GET", "/v1beta/models"]):
        assert answer is not None
        assert (answer.headers, answer.body) == ((("X-Told", "yes"),), b"")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["setup", "handle", "data", "mimeType", "newHandle", "x"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(message=JSON | st.binary(max_size=64), limit=st.none() | st.integers(0, 20))
@settings(max_examples=150, deadline=None)
def test_any_frame_is_one_line(message: Any, limit: int | None) -> None:
    line(Scribe(limit), frame(message))


@behaviour("tape.truncation", off=patched("emulator.tape.blobs.cut", lambda message, limit: []))
@pytest.mark.parametrize("alphabet", [base64.b64encode, base64.urlsafe_b64encode])
def test_blobs_are_cut_on_request_and_have_their_length_in_a_replay(alphabet: Any, tmp_path: Path) -> None:
    pcm = bytes(range(240, 256)) * 80
    blob = {"inlineData": {"mimeType": "audio/pcm;rate=24000", "data": alphabet(pcm).decode()}}
    message = {"serverContent": {"modelTurn": {"parts": [{"text": "x" * 50}, blob]}}}
    file = tmp_path / "tape.jsonl"
    file.write_bytes(Scribe(100).line(frame(message, from_client=False)))
    written = json.loads(file.read_text())
    part = ["serverContent", "modelTurn", "parts", 1, "inlineData", "data"]
    assert written["truncated"] == [{"at": part, "bytes": 1280}]
    assert len(written["frame"]["serverContent"]["modelTurn"]["parts"][1]["inlineData"]["data"]) == 128
    (sent,) = load(file).connections[1].steps
    assert isinstance(sent, FromServer)
    parts = json.loads(sent.data)["serverContent"]["modelTurn"]["parts"]
    assert parts[0] == {"text": "x" * 50}
    heard = base64.b64decode(parts[1]["inlineData"]["data"].translate(str.maketrans("-_", "+/")))
    assert heard == pcm[:96] + bytes(1280 - 96)


@given(size=st.integers(0, 60), limit=st.integers(0, 70), padded=st.booleans())
def test_a_cut_blob_is_padded_to_its_length(size: int, limit: int, padded: bool) -> None:
    data = base64.b64encode(b"\xab" * size).decode()
    message = {"audio": {"data": data if padded else data.rstrip("="), "mime_type": "audio/pcm"}}
    notes = blobs.cut(message, limit)
    blobs.pad(message, notes)
    result = base64.b64decode(message["audio"]["data"] + "==" * (not padded))
    assert len(result) == size
    if notes:
        assert size > limit
        assert result.rstrip(b"\0") == b"\xab" * (limit // 6 * 6)


# The file.


def tape(path: Path, *, max_bytes: int = 2**20, queue_bytes: int = 2**20, scribe: Scribe | None = None) -> TapeFile:
    file = TapeFile(path, scribe or Scribe(), max_bytes=max_bytes, queue_bytes=queue_bytes)
    file.open(Note("begin"))
    return file


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(text) for text in path.read_text().splitlines()]


@behaviour("tape.full", off=patched("emulator.tape.file.RESERVE", -(2**30)))
def test_a_full_file_says_so_and_stays_below_its_limit(tmp_path: Path) -> None:
    path, limit = tmp_path / "tape", 64 * 1024
    file = tape(path, max_bytes=limit)
    for _ in range(100):
        file.put(frame({"realtime_input": {"text": "x" * 1000}}))
    assert file.close(5.0)
    written = lines(path)
    assert limit - RESERVE - 2000 < path.stat().st_size <= limit
    assert written[-2]["label"].startswith("full")
    frames = sum(one["transport"] == "ws-text" for one in written)
    assert written[-1]["frame"] == {"dropped": 0, "unrecorded_frames": 100 - frames}


class SlowScribe(Scribe):
    """As a disk that hangs."""

    def __init__(self) -> None:
        super().__init__()
        self.reached = threading.Event()
        self.released = threading.Event()

    def line(self, captured: Any) -> bytes:
        self.reached.set()
        assert self.released.wait(10)
        return super().line(captured)


@behaviour("tape.slow-disk", off=patched("emulator.tape.file.TapeFile._drop", lambda self, *_: None))
async def test_a_slow_disk_costs_lines_that_are_counted_and_no_time(tmp_path: Path) -> None:
    path, scribe = tmp_path / "tape", SlowScribe()
    file = tape(path, queue_bytes=20_000, scribe=scribe)
    await eventually(scribe.reached.is_set, LIMIT)
    for _ in range(100):
        file.put(frame({"realtime_input": {"text": "x" * 1000}}))
    scribe.released.set()
    await eventually(lambda: len(lines(path)) > 1, LIMIT)
    file.put(Close(1, 0.0, True, 1000, ""))
    assert file.close(5.0)
    written = lines(path)
    kept = sum(one["transport"] == "ws-text" for one in written)
    assert 5 < kept < 20
    (note,) = [one for one in written if one["label"].startswith("dropped")]
    assert note["connection"] == 1
    assert note["frame"]["values"] == 100 - kept == file.dropped == written[-1]["frame"]["dropped"]
    assert written.index(note) == len(written) - 3


def test_a_disk_that_hangs_for_good_does_not_keep_the_recorder(tmp_path: Path) -> None:
    scribe = SlowScribe()
    file = tape(tmp_path / "tape", scribe=scribe)
    assert not file.close(0.05)
    scribe.released.set()
    assert file.close(5.0)


async def test_a_disk_that_fails_ends_the_recording_with_whole_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "tape"
    file = tape(path)
    file.put(frame({"setup": {}}))
    await eventually(lambda: len(lines(path)) == 2, LIMIT)
    write = os.write

    def full(descriptor: int, data: memoryview) -> int:
        if len(data) > 100:
            return write(descriptor, data[:100])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("emulator.tape.file.os.write", full)
    file.put(frame({"realtime_input": {"text": "x" * 1000}}))
    await eventually(lambda: file.failure is not None, LIMIT)
    file.put(frame({"realtime_input": {"text": "y"}}))
    assert not file.close(5.0)
    assert file.unrecorded_frames == 1
    assert [one["label"] for one in lines(path)] == ["begin", "setup"]


def test_a_recording_is_never_overwritten_and_is_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "tape"
    assert tape(path).close(5.0)
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(FileExistsError):
        tape(path)


# Bad files.

OPENED = {"direction": "client->server", "label": "", "transport": "http-upgrade", "frame": {}, "connection": 1}
SENT = {"direction": "server->client", "label": "", "transport": "ws-text", "frame": {}, "connection": 1}


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ("{", "not JSON"),
        ('{"direction": "cli', "may have been cut"),
        ("7", "not a JSON object"),
        ("[" * 100_000, "nested too deeply"),
        ({**SENT, "direction": "up"}, "direction: Input should be"),
        ({**SENT, "transport": "pigeon"}, "transport: Input should be"),
        ({"direction": "meta", "transport": "none"}, "frame: Field required"),
        ({**SENT, "t": "soon"}, "t: Input should be a valid number"),
        ({**SENT, "t": -1.0}, "t: Input should be greater"),
        ({**SENT, "connection": 0}, "connection: Input should be greater"),
        ({**SENT, "connection": None}, "`connection` is in all lines of connections or in none"),
        ({**SENT, "opcode": 2}, "opcode 2 is not that of ws-text"),
        ({**SENT, "raw": "text"}, "`raw` is for a frame that is a string"),
        ({**SENT, "raw": "base64", "frame": "@@"}, "the frame is not what `raw` says"),
        ({**SENT, "raw": "text", "frame": "\ud800"}, "the frame is not what `raw` says"),
        ({**SENT, "truncated": [{"at": ["a"], "bytes": 9}]}, "where there is no blob"),
        ({**SENT, "truncated": [{"at": ["a"], "bytes": 9}], "frame": {"a": "AAA"}}, "`truncated`"),
        ({**SENT, "truncated": [{"at": ["a"], "bytes": 1}], "frame": {"a": "AAAA"}}, "had 1 bytes"),
        ({**SENT, "truncated": [{"at": ["a"], "bytes": 2**40}]}, "truncated.0.bytes: Input should be less"),
        ({**SENT, "transport": "ws-close", "frame": {"code": 1006}}, "1006 is no close code that can be sent"),
        ({**SENT, "transport": "ws-close", "frame": {"code": 1000, "reason": "\ud800"}}, "a close reason is text"),
        ({**SENT, "transport": "ws-close", "frame": {"code": 1000, "reason": "x" * 124}}, "at most 123 bytes"),
        ({**SENT, "transport": "ws-ping", "frame": "x" * 126}, "a ping has at most 125 bytes"),
        ({**SENT, "transport": "http-upgrade", "frame": {"status": 100}}, "no answer to an upgrade"),
        ({**SENT, "transport": "ws-close", "frame": "bye"}, "frame: Input should be"),
        ({**SENT, "transport": "http-upgrade", "frame": {"status": 7}}, "status: Input should be"),
        ({**SENT, "transport": "http", "exchange": 1}, "an answer without the request before it"),
        ({**SENT, "headers": {"a": "b\r\nc: d"}}, "headers.a: String should match"),
        ({**SENT, "transport": "none"}, "transport `none` is for direction `meta`"),
    ],
)
def test_a_bad_file_is_refused_with_the_line_and_the_reason(tmp_path: Path, broken: Any, reason: str) -> None:
    path = tmp_path / "tape.jsonl"
    text = broken if isinstance(broken, str) else json.dumps(broken)
    path.write_text("\n".join([json.dumps(OPENED), "", text]))
    with pytest.raises(TapeError) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}: line 3: ")
    assert reason in caught.value.reason


def test_files_without_anything_to_replay_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TapeError, match="cannot be read: No such file"):
        load(tmp_path / "none")
    with pytest.raises(TapeError, match="cannot be read: Is a directory"):
        load(tmp_path)
    (tmp_path / "empty").touch()
    with pytest.raises(TapeError, match="holds neither a connection nor an exchange"):
        load(tmp_path / "empty")


@given(text=st.text(alphabet=string.printable, max_size=60) | st.binary(max_size=60), place=st.integers(0, 300))
@settings(max_examples=100, deadline=None)
def test_any_damage_is_a_tape_error(tmp_path_factory: pytest.TempPathFactory, text: Any, place: int) -> None:
    path = tmp_path_factory.mktemp("tape") / "damaged"
    whole = b"".join(Scribe().line(frame({"setup": {"model": "m"}}, from_client=side)) for side in (True, False))
    path.write_bytes(whole[:place] + (text.encode() if isinstance(text, str) else text) + whole[place:])
    try:
        load(path)
    except TapeError as error:
        assert error.line is not None or "neither" in error.reason


def test_the_given_capture_is_read_as_the_connections_that_it_was() -> None:
    recording = load(GIVEN)
    kinds = {
        number: [getattr(step, "kind", "server") for step in connection.steps]
        for number, connection in recording.connections.items()
    }
    assert [number for number, steps in kinds.items() if "server" in steps] == [1, 2, 6]
    assert kinds[1][:3] == ["setup", "server", "clientContent"]
    assert kinds[6] == ["setup", "server"]
    assert kinds[13] == ["setup", "realtimeInput.audio", "clientContent", "toolResponse"]
    assert {key: [answer.body for answer in answers] for key, answers in recording.exchanges.items()} == {
        ("POST", "/v1alpha/auth_tokens"): [b'{"name":"auth_tokens/abcdef"}'] * 4,
        ("POST", "/v1/auth_tokens"): [b'{"name":"auth_tokens/abcdef"}'],
    }


# Playing.

SETUP = {"setup": {"model": "m"}}
PCM = {"realtime_input": {"audio": {"data": base64.b64encode(bytes(640)).decode(), "mime_type": "audio/pcm"}}}


def recorded(path: Path, *captured: Any) -> Connection:
    scribe = Scribe(0)
    path.write_bytes(b"".join(scribe.line(one) for one in captured))
    return load(path).connections[1]


def took(playback: Playback, now: float) -> list[Any]:
    """What is due at ``now``."""
    taken = iter(lambda: playback.take(now), None)
    return [json.loads(one.data) if isinstance(one, FromServer) else one.code for one in taken]


@pytest.fixture
def conversation(tmp_path: Path) -> Connection:
    return recorded(
        tmp_path / "tape",
        frame(SETUP, t=0.1),
        frame({"setupComplete": {}}, t=0.3, from_client=False),
        *(frame(PCM, t=1 + i / 50) for i in range(4)),
        frame({"a": 1}, t=2.0, from_client=False),
        frame({"a": 2}, t=3.0, from_client=False),
        frame({"toolResponse": {"functionResponses": []}}, t=5.0),
        frame({"a": 3}, t=5.5, from_client=False),
        Close(1, 6.0, False, 1008, "over"),
    )


@behaviour("replay.causal", off=patched("emulator.tape.playback.Playback._waiting", lambda self: False))
def test_server_frames_come_after_what_came_before_them(conversation: Connection) -> None:
    playback = Playback(conversation, Manner(speed=None))
    assert took(playback, 0.0) == []
    playback.received_frame(json.dumps({"hello": 1}), 0.0)
    assert took(playback, 0.0) == []
    playback.received_frame(json.dumps(SETUP), 1.0)
    assert took(playback, 1.0) == [{"setupComplete": {}}]
    assert playback.progress()["waiting_for"] == {"realtimeInput.audio": 640}
    # As many bytes of audio, cut elsewhere; the recording itself holds none of them.
    half = {"realtimeInput": {"audio": {"data": base64.b64encode(bytes(1279)).decode(), "mimeType": "audio/pcm"}}}
    playback.received_frame(json.dumps(half), 2.0)
    assert took(playback, 2.0) == []
    playback.received_frame(json.dumps(half).encode(), 2.0)
    assert playback.due(2.0) is None
    playback.received_frame(json.dumps(half).encode(), 2.0)
    assert took(playback, 2.0) == [{"a": 1}, {"a": 2}]
    assert playback.due(3.0) is None
    playback.received_frame('{"tool_response": {"function_responses": []}}', 4.0)
    assert took(playback, 4.0) == [{"a": 3}, 1008]
    assert playback.progress() == {"sent": 4, "of": 4, "received": 6, "waiting_for": {}}


@behaviour("replay.spacing", off=patched("emulator.tape.playback.Playback._time_of", lambda self, recorded, now: now))
@pytest.mark.parametrize("speed", [1.0, 4.0])
def test_server_frames_are_spaced_as_recorded_from_what_they_follow(conversation: Connection, speed: float) -> None:
    playback = Playback(conversation, Manner(speed))
    playback.received_frame(json.dumps(SETUP), 10.0)
    assert playback.due(10.0) == pytest.approx(10 + 0.2 / speed)
    assert took(playback, 10 + 0.1 / speed) == []
    assert took(playback, 10.3) == [{"setupComplete": {}}]
    for now in (20.0, 20.0, 20.0, 21.0):
        playback.received_frame(json.dumps(PCM), now)
    # The answer waits from the last of the audio; how long the caller took to speak is the caller's affair.
    assert playback.due(21.0) == pytest.approx(21 + (2.0 - 1.06) / speed)
    # A timer that is late does not make the rest later.
    assert took(playback, 21 + (2.1 - 1.06) / speed) == [{"a": 1}]
    assert playback.due(22.0) == pytest.approx(21 + (3.0 - 1.06) / speed)


@behaviour("replay.unprompted", off=patched("emulator.tape.playback.Playback._waits_for", lambda self, step: True))
def test_server_frames_can_be_had_for_the_setup_alone(conversation: Connection) -> None:
    playback = Playback(conversation, Manner(None, unprompted=True))
    assert took(playback, 0.0) == []
    playback.received_frame(json.dumps(SETUP), 0.0)
    assert took(playback, 0.0) == [{"setupComplete": {}}, {"a": 1}, {"a": 2}, {"a": 3}, 1008]


@behaviour("replay.strict", off=patched("emulator.tape.playback.Playback._compare", lambda self, message: None))
def test_strictly_a_frame_of_another_shape_is_refused_with_what_was_expected(conversation: Connection) -> None:
    playback = Playback(conversation, Manner(None, strict=True))
    playback.received_frame('{"setup": {"model": "another"}}', 0.0)
    with pytest.raises(Mismatch, match=r"^client frame 2: expected realtimeInput.audio, got clientContent$") as caught:
        playback.received_frame('{"clientContent": {"turnComplete": true}}', 0.0)
    assert caught.value.facts == {
        "frame": 2,
        "line": 3,
        "difference": "expected realtimeInput.audio, got clientContent",
        "expected": '{"realtime_input":{"audio":{"data":"","mime_type":"audio/pcm"}}}',
        "got": '{"clientContent":{"turnComplete":true}}',
    }
    for _ in range(4):
        playback.received_frame(json.dumps(PCM), 0.0)
    playback.received_frame('{"tool_response": {"functionResponses": []}}', 0.0)
    with pytest.raises(Mismatch, match="client frame 7: expected no more, got raw"):
        playback.received_frame("not json", 0.0)


def test_nothing_is_played_after_the_recorded_client_closed(tmp_path: Path) -> None:
    connection = recorded(
        tmp_path / "tape",
        frame(SETUP),
        frame({"a": 1}, from_client=False),
        Close(1, 1.0, True, 1000, "bye"),
        Close(1, 1.1, False, 1000, "bye to you"),
    )
    playback = Playback(connection, Manner(None))
    playback.received_frame(json.dumps(SETUP), 0.0)
    assert took(playback, 0.0) == [{"a": 1}]
    assert playback.due(99.0) is None
    assert playback.answer_to_close == Closed(1.1, 4, False, 1000, "bye to you")


@pytest.mark.parametrize(
    ("expected", "got", "difference"),
    [
        ({"setup": {"a_b": 1}}, {"setup": {"aB": 2.5}}, None),
        ({"x": {"response": {"a": 1}}}, {"x": {"response": {"b": [1]}}}, None),
        ({"x": {"a": None}}, {"x": {"a": False}}, "expected x.a to be null, got a boolean"),
        ({"x": [1]}, {"x": [1, 2]}, "expected 1 in x, got 2"),
        ({"x": [{"a": 1}]}, {"x": [{"a": "1"}]}, "expected x[0].a to be a number, got a string"),
        ({"x": {"a": 1}}, {"x": {}}, "expected x.a, which is missing"),
        ({"x": {}}, {"x": {"a_b": 1}}, "got x.aB, which was not there"),
        ({"x": {}}, {"x": []}, "expected x to be an object, got a list"),
        (
            {"realtimeInput": {"text": "a"}},
            {"realtimeInput": {"audio": {}}},
            "expected realtimeInput.text, got realtimeInput.audio",
        ),
        (None, {"x": 1}, "expected raw, got x"),
        (
            {"setup": {"sessionResumption": {"handle": "handle-1"}}},
            {"setup": {"session_resumption": {"handle": "handle-2"}}},
            "expected setup.sessionResumption.handle to be 'handle-1', got another",
        ),
    ],
)
def test_shapes(expected: Any, got: Any, difference: str | None) -> None:
    assert shape.difference(expected, got) == difference
    assert shape.difference(expected, expected) is None
