"""Reads a recording. What is wrong with a file is said with the number of the line."""

import base64
import binascii
import json
import re
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from emulator.tape import blobs, shape
from emulator.tape.captured import NO_CODE
from emulator.tape.errors import TapeError
from emulator.tape.recording import Answer, Closed, Connection, FromClient, FromServer, Recording
from emulator.tape.scribe import CLIENT, META, OPCODES

_HeaderValue = Annotated[str, Field(pattern=r"^[^\r\n\x00]*$")]
_Headers = dict[Annotated[str, Field(pattern=r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")], _HeaderValue]
_Status = Annotated[int, Field(ge=100, le=599)]


_MAX_CONTROL = 125  # bytes of a control frame (RFC 6455, 5.5)
_MAX_REASON = _MAX_CONTROL - 2
_HALF = re.compile("[\ud800-\udfff]")


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True)


class _Truncated(_Strict):
    at: Annotated[list[str | int], Field(min_length=1)]
    # More than any message has: the sum is what memory would be taken for.
    bytes: Annotated[int, Field(ge=0, le=2**28)]


class _Line(_Strict):
    """See :mod:`emulator.tape.scribe`."""

    direction: Literal["client->server", "server->client", "meta"]
    transport: Literal["ws-text", "ws-binary", "ws-ping", "ws-pong", "ws-close", "tcp", "http-upgrade", "http", "none"]
    label: str = ""
    frame: Any
    connection: Annotated[int, Field(ge=1)] | None = None
    exchange: Annotated[int, Field(ge=1)] | None = None
    t: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    opcode: int | None = None
    raw: Literal["text", "base64"] | None = None
    truncated: list[_Truncated] = []
    status: _Status = 200
    headers: _Headers = {}
    omitted: str = ""


class _CloseFrame(_Strict):
    code: int
    reason: str = ""


class _UpgradeAnswer(_Strict):
    status: _Status
    headers: _Headers = {}
    body: Any = None


class _HttpRequest(_Strict):
    path: str
    method: str = "POST"


_Model = TypeVar("_Model", bound=_Strict)


class _BadLineError(ValueError):
    pass


def load(path: Path) -> Recording:
    """The recording in ``path``. Raises :class:`emulator.tape.errors.TapeError`."""
    reader = _Reader()
    number = 0
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    reader.read(number, line)
    except OSError as error:
        raise TapeError(path, None, f"cannot be read: {error.strerror or error}") from error
    except RecursionError as error:
        raise TapeError(path, number, "nested too deeply") from error
    except _BadLineError as error:
        raise TapeError(path, number, str(error)) from error
    recording = reader.recording
    if not recording.connections and not recording.exchanges:
        raise TapeError(path, None, "holds neither a connection nor an exchange to replay")
    return recording


class _Reader:
    """Takes lines in order. Files without connection numbers are captures of one client after the other: there, an
    upgrade or a second setup begins the next connection, and an answer is for all requests that have none yet.
    """

    def __init__(self) -> None:
        self.recording = Recording()
        self._numbered: bool | None = None
        self._set_up = True
        """In files without numbers: whether the connection that is being read has had its setup."""
        self._asked: dict[int | None, list[tuple[str, str]]] = {}
        """Method and path of the requests without an answer, by exchange."""

    def read(self, number: int, text: bytes) -> None:
        """One line. Raises :class:`_BadLineError`."""
        try:
            parsed = json.loads(text)
        except ValueError as error:
            whole = "" if text.endswith(b"\n") else "; it has no end: the file may have been cut"
            raise _BadLineError(f"not JSON ({error}){whole}") from None
        if not isinstance(parsed, dict):
            raise _BadLineError("not a JSON object")
        line = _validated(_Line, parsed)
        if line.direction == META:
            if line.label.startswith("dropped") and line.connection is not None:
                self._connection(line).dropped += 1
        elif line.transport == "http":
            self._exchange(line)
        elif line.transport == "http-upgrade":
            self._upgrade(line)
        elif line.transport in OPCODES:
            self._frame(line, number)
        elif line.transport == "tcp":
            steps = self._connection(line).steps
            steps.append(Closed(line.t, number, line.direction == CLIENT, None))
        else:
            raise _BadLineError("transport `none` is for direction `meta`")

    def _frame(self, line: _Line, number: int) -> None:
        if line.opcode not in (None, OPCODES[line.transport]):
            raise _BadLineError(f"opcode {line.opcode} is not that of {line.transport}")
        from_client = line.direction == CLIENT
        if line.transport == "ws-close":
            close = _validated(_CloseFrame, line.frame)
            if not _sendable(close.code):
                raise _BadLineError(f"{close.code} is no close code that can be sent")
            if len(close.reason.encode("utf-8", "surrogatepass")) > _MAX_REASON or _HALF.search(close.reason):
                raise _BadLineError(f"a close reason is text of at most {_MAX_REASON} bytes")
            step = Closed(line.t, number, from_client, close.code, close.reason)
            self._connection(line).steps.append(step)
        elif line.transport in ("ws-text", "ws-binary"):
            if from_client:
                message = line.frame if _parsed(line) else None
                amount = self._amount(line, message)
                kept = shape.without_blobs(message)
                expected = FromClient(line.t, number, kept, shape.kind(message), amount)
                self._connection(line, setup=expected.kind == "setup").steps.append(expected)
            else:
                sent = FromServer(line.t, number, OPCODES[line.transport], _payload(line))
                self._connection(line).steps.append(sent)
        elif line.transport == "ws-ping" and not from_client:
            # Other pings and pongs are the two WebSocket implementations' own business.
            payload = _payload(line)
            if len(payload) > _MAX_CONTROL:
                raise _BadLineError(f"a ping has at most {_MAX_CONTROL} bytes")
            self._connection(line).steps.append(FromServer(line.t, number, OPCODES["ws-ping"], payload))

    @staticmethod
    def _amount(line: _Line, message: Any) -> int:
        if line.truncated and shape.kind(message) == shape.AUDIO:
            return line.truncated[0].bytes
        return shape.amount(message)

    def _upgrade(self, line: _Line) -> None:
        if line.direction == CLIENT:
            self._connection(line, begins=True)
            return
        answer = _validated(_UpgradeAnswer, line.frame)
        if answer.status != 101:
            if answer.status < 200:
                raise _BadLineError(f"status {answer.status} is no answer to an upgrade")
            body = "" if answer.body is None else answer.body
            facts = {"frame": body, "status": answer.status, "headers": answer.headers}
            self._connection(line).refused = _answer(line.model_copy(update=facts))

    def _exchange(self, line: _Line) -> None:
        if line.direction == CLIENT:
            request = _validated(_HttpRequest, line.frame)
            key = (request.method.upper(), request.path.partition("?")[0])
            self._asked.setdefault(line.exchange, []).append(key)
            return
        asked = self._asked.pop(line.exchange, None)
        if asked is None:
            raise _BadLineError("an answer without the request before it")
        answer = _answer(line)
        for key in asked:
            self.recording.exchanges.setdefault(key, []).append(answer)

    def _connection(self, line: _Line, *, begins: bool = False, setup: bool = False) -> Connection:
        """The connection that a line belongs to."""
        numbered = line.connection is not None
        if self._numbered not in (None, numbered):
            raise _BadLineError("`connection` is in all lines of connections or in none")
        self._numbered = numbered
        connections = self.recording.connections
        if line.connection is not None:
            number = line.connection
        elif not connections or begins or (setup and self._set_up):
            number = len(connections) + 1
            self._set_up = False
        else:
            number = len(connections)
        self._set_up |= setup
        return connections.setdefault(number, Connection(number))


def _validated(model: type[_Model], value: Any) -> _Model:
    try:
        return model.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise _BadLineError(f"{where or 'frame'}: {first['msg']}") from None


def _answer(line: _Line) -> Answer:
    """An HTTP answer; one whose body was not kept, for its encoding, is empty and in none."""
    kept = [pair for pair in line.headers.items() if not line.omitted or pair[0].lower() != "content-encoding"]
    return Answer(line.status, tuple(kept), b"" if line.omitted else _payload(line))


def _parsed(line: _Line) -> bool:
    """Whether the frame is JSON. A capture made by hand leaves out `raw`: text there is text, not a JSON string."""
    return line.raw is None and not isinstance(line.frame, str)


def _payload(line: _Line) -> bytes:
    """The bytes of a frame or a body, with the length that it had."""
    if not _parsed(line):
        if not isinstance(line.frame, str):
            raise _BadLineError("`raw` is for a frame that is a string")
        try:
            return base64.b64decode(line.frame, validate=True) if line.raw == "base64" else line.frame.encode()
        except (binascii.Error, UnicodeEncodeError) as error:
            raise _BadLineError(f"the frame is not what `raw` says: {error}") from error
    try:
        blobs.pad(line.frame, [note.model_dump() for note in line.truncated])
    except ValueError as error:
        raise _BadLineError(str(error)) from error
    text = json.dumps(line.frame, separators=(",", ":"), ensure_ascii=False)
    try:
        return text.encode()
    except UnicodeEncodeError:
        return json.dumps(line.frame, separators=(",", ":")).encode()


def _sendable(code: int) -> bool:
    return code in range(1000, 1004) or code in range(1007, 1015) or code in range(3000, 5000) or code == NO_CODE
