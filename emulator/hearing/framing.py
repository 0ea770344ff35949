"""How the server and the recogniser's process talk: two big-endian lengths, a JSON header, PCM."""

import json
import struct
from typing import Any, BinaryIO

_LENGTHS = struct.Struct(">II")


def message(header: dict[str, Any], pcm: bytes = b"") -> bytes:
    """One message."""
    body = json.dumps(header).encode()
    return _LENGTHS.pack(len(body), len(pcm)) + body + pcm


def read(source: BinaryIO) -> tuple[dict[str, Any], bytes] | None:
    """The next message; None at the end, also in the middle of one."""
    prefix = source.read(_LENGTHS.size)
    if len(prefix) < _LENGTHS.size:
        return None
    header_length, pcm_length = _LENGTHS.unpack(prefix)
    header, pcm = source.read(header_length), source.read(pcm_length)
    return (json.loads(header), pcm) if len(pcm) == pcm_length else None
