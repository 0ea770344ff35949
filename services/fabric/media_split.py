"""Media out of what a NATS server sends, before the client library sees it. Plain code: bytes in, bytes out.

The protocol is lines: `MSG <subject> <sid> [reply-to] <bytes>` and `HMSG ...` are followed by a payload of that size
and a line end, everything else is a line alone (docs.nats.io, "NATS Protocol").
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from nats.errors import ProtocolError

Take = Callable[[str, bytes], None]
"""Takes a message: subject, payload."""

_END: Final = b"\r\n"
MAX_LINE: Final = 64 * 1024
"""Bytes of a line: servers take 4 KiB of a client's; their own longest, INFO, names the whole cluster."""


class MediaSplitter:
    """Hands messages of one family of subjects to whoever takes them; the rest goes on, byte for byte."""

    def __init__(self) -> None:
        self._prefix = b""
        self._take: Take | None = None
        self._rest = b""
        """What came of a line, or of a message of ours, that is not complete."""
        self._passing = 0
        """Bytes to come of a payload that is not ours."""

    def route(self, prefix: str, take: Take) -> None:
        """From here on `take` gets the messages without headers whose subject begins like this."""
        self._prefix, self._take = prefix.encode(), take

    def reset(self) -> None:
        """Another connection begins."""
        self._rest, self._passing = b"", 0

    def feed(self, data: bytes) -> bytes:
        """Hand on what is complete; return what is not ours. ProtocolError: this is no NATS server."""
        rest = self._rest + data if self._rest else data
        size = len(rest)
        at = min(self._passing, size)
        self._passing -= at
        passed = [rest[:at]] if at else []
        while (end := rest.find(_END, at)) >= 0:
            after = end + 2
            if rest.startswith((b"MSG ", b"HMSG "), at):
                fields = rest[at:end].split()
                after += _size(fields) + 2
                if self._take is not None and fields[0] == b"MSG" and fields[1].startswith(self._prefix):
                    if after > size:
                        break
                    self._take(fields[1].decode(), rest[end + 2 : after - 2])
                    at = after
                    continue
            self._passing = max(0, after - size)
            passed.append(rest[at:after])
            at = min(after, size)
        else:
            if size - at > MAX_LINE:
                raise ProtocolError
        self._rest = rest[at:]
        return b"".join(passed)


def _size(fields: list[bytes]) -> int:
    if not fields[-1].isdigit():
        raise ProtocolError
    return int(fields[-1])
