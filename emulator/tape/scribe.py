"""A captured value as a line of a recording: JSON, without secrets, with blobs cut on request.

The format is that of ``tests/data/live-frames.jsonl``, one object a line:

``direction``   ``client->server``, ``server->client`` or ``meta``
``label``       what it is, for a reader
``transport``   ``ws-text``, ``ws-binary``, ``ws-ping``, ``ws-pong``, ``ws-close``, ``tcp``, ``http-upgrade``, ``http``
                or ``none``
``frame``       the message; for a close ``{code, reason}``; for HTTP what the request or answer holds

and, where they apply: ``connection`` (1, 2, ...), ``t`` (seconds since the connection began), ``opcode``,
``raw`` (``text`` or ``base64``: ``frame`` or its ``body`` is no JSON object but a string in this form),
``truncated`` (see :mod:`emulator.tape.blobs`), ``exchange`` (the number of a pair of HTTP request and answer),
``status`` and ``headers`` of an HTTP answer, ``omitted`` (why a body is not there).
"""

import base64
import json
import math
from typing import Any

from emulator.api.protojson import camel
from emulator.tape import blobs
from emulator.tape.captured import Answer, Captured, Close, Frame, Headers, Lost, Note, Request, Upgrade, Upgraded
from emulator.tape.scrub import Scrubber, is_handle

CLIENT = "client->server"
SERVER = "server->client"
META = "meta"

OPCODES = {"ws-text": 1, "ws-binary": 2, "ws-ping": 9, "ws-pong": 10, "ws-close": 8}
"""By transport."""
_TRANSPORTS = {opcode: transport for transport, opcode in OPCODES.items()}
_CONTROL_LABELS = {9: "ping", 10: "pong"}
_LABEL_NAMES = 4
_LABEL_CHARACTERS = 80


class _NotPlainError(ValueError):
    """JSON that a parsed value does not give back: names that occur twice, or numbers that are none."""


class Scribe:
    """Writes lines, in the order of what was captured: what one line teaches about secrets holds for the next."""

    def __init__(self, max_audio_bytes: int | None = None) -> None:
        self._scrubber = Scrubber()
        self._max_audio_bytes = max_audio_bytes

    def line(self, captured: Captured) -> bytes:
        """One line with its end."""
        # ASCII, because a JSON string may hold half a surrogate pair, which UTF-8 cannot.
        return json.dumps(self._object(captured), allow_nan=False).encode() + b"\n"

    def _object(self, captured: Captured) -> dict[str, Any]:
        match captured:
            case Frame():
                return self._frame(captured)
            case Close(connection, t, from_client, code, reason):
                frame = {"code": code, "reason": self._scrubber.text(reason)}
                return _line(from_client, "close", "ws-close", frame, t, connection=connection) | {"opcode": 8}
            case Lost(connection, t, from_client, why):
                frame = {"why": self._scrubber.text(why)}
                return _line(from_client, "lost without a close frame", "tcp", frame, t, connection=connection)
            case Upgrade(connection, path, headers, extensions):
                frame = {
                    "path": self._scrubber.path(path),
                    "headers": self._scrubber.headers(headers),
                    "negotiated_ext": extensions,
                }
                return _line(True, "handshake request", "http-upgrade", frame, 0.0, connection=connection)
            case Upgraded(connection, t, status, headers, body):
                frame = {"status": status, "headers": self._scrubber.headers(headers)}
                line = _line(False, f"handshake response {status}", "http-upgrade", frame, t, connection=connection)
                body_frame = self._body(headers, body)
                if body:
                    frame["body"] = body_frame.pop("frame")
                    line |= body_frame
                return line
            case Request():
                return self._request(captured)
            case Answer():
                line = _line(False, f"REST answer {captured.status}", "http", {}, captured.t)
                facts = {"exchange": captured.exchange, "status": captured.status}
                headers_kept = {"headers": self._scrubber.headers(captured.headers)}
                return line | facts | headers_kept | self._body(captured.headers, captured.body)
            case Note(label, facts, connection):
                line = {"direction": META, "label": label, "transport": "none", "frame": facts}
                return line if connection is None else line | {"connection": connection}

    def _frame(self, frame: Frame) -> dict[str, Any]:
        transport = _TRANSPORTS[frame.opcode]
        line = _line(frame.from_client, "raw", transport, None, frame.t, connection=frame.connection) | {
            "opcode": frame.opcode
        }
        if label := _CONTROL_LABELS.get(frame.opcode):
            return line | {"label": label} | self._raw(frame.data)
        content = self._content(frame.data, credentials=False)
        if "raw" in content:
            return line | content
        message = content["frame"]
        line |= content | {"label": _label(message)}
        if self._max_audio_bytes is not None and (notes := blobs.cut(message, self._max_audio_bytes)):
            line["truncated"] = notes
        return line

    def _request(self, request: Request) -> dict[str, Any]:
        path = self._scrubber.path(request.path)
        frame = {"path": path, "method": request.method, "headers": self._scrubber.headers(request.headers)}
        label = f"REST {request.method} {path.partition('?')[0]}"
        line = _line(True, label, "http", frame, 0.0) | {"exchange": request.exchange}
        if request.body:
            body = self._body(request.headers, request.body)
            frame["body"] = body.pop("frame")
            line |= body
        return line

    def _body(self, headers: Headers, body: bytes) -> dict[str, Any]:
        encoding = next((value for name, value in headers if name.lower() == "content-encoding"), "identity")
        if encoding != "identity":
            return {"frame": "", "raw": "text", "omitted": f"{len(body)} bytes in encoding {encoding}"}
        return self._content(body, credentials=True)

    def _content(self, data: bytes, *, credentials: bool) -> dict[str, Any]:
        """``frame`` and, where it is no JSON object or list, ``raw``."""
        try:
            return {"frame": self._scrubber.json(self._parsed(data), credentials=credentials)}
        except (ValueError, RecursionError):
            return self._raw(data)

    def _parsed(self, data: bytes) -> Any:
        """The object or list that ``data`` is and that says all there is to it. Raises ValueError, RecursionError."""
        twice = False

        def gathered(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
            nonlocal twice
            found = dict(pairs)
            if len(found) < len(pairs):
                twice = True
                for name, value in pairs:
                    # The frame is kept as text; what it holds twice must be known before that is searched.
                    self._scrubber.json({name: value})
                    if isinstance(value, str) and is_handle(camel(name), "sessionResumption"):
                        self._scrubber.handle(value)
            return found

        value = json.loads(data.decode(), object_pairs_hook=gathered, parse_float=_finite, parse_constant=_finite)
        if not isinstance(value, dict | list):
            raise _NotPlainError
        if twice:
            self._scrubber.json(value)
            raise _NotPlainError
        return value

    def _raw(self, data: bytes) -> dict[str, Any]:
        try:
            return {"frame": self._scrubber.text(data.decode()), "raw": "text"}
        except UnicodeDecodeError:
            clean = self._scrubber.text(data.decode("latin-1")).encode("latin-1")
            return {"frame": base64.b64encode(clean).decode(), "raw": "base64"}


def _line(
    from_client: bool, label: str, transport: str, frame: Any, t: float, *, connection: int | None = None
) -> dict[str, Any]:
    line = {"direction": CLIENT if from_client else SERVER, "label": label, "transport": transport, "frame": frame}
    if connection is not None:
        line["connection"] = connection
    return line | {"t": round(t, 6)}


def _label(message: Any) -> str:
    names = "+".join(list(message)[:_LABEL_NAMES]) if isinstance(message, dict) else ""
    return names[:_LABEL_CHARACTERS] or "json"


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise _NotPlainError
    return number
