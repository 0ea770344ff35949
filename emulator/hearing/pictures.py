"""What a picture is: its kind, its size, its weight; read from its header alone."""

import hashlib
import struct
from typing import Any

from emulator import texts

SECONDS_PER_FRAME = 1.0
# Frames are sent by timers, which are never exact.
_TOLERANCE = 0.1
_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8"
# Start-of-frame markers; the numbers left out mean other things.
_FRAMES = {0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF}
_WITHOUT_LENGTH = {0x01, *range(0xD0, 0xD8)}


def describe(data: bytes, mime_type: str) -> dict[str, Any]:
    """A picture for the record. Raises :class:`emulator.errors.Refusal` for what is none.

    JPEG, PNG, WebP and HEIF are pictures; whether they are whole is not looked at.
    """
    if not mime_type.startswith("image/") or not _known(data):
        raise texts.PICTURE_REFUSED.refusal()
    entry: dict[str, Any] = {"bytes": len(data), "mime": mime_type, "sha256": hashlib.sha256(data).hexdigest()}
    if pixels := size(data):
        entry["width"], entry["height"] = pixels
    return entry


class FrameRate:
    """How streamed pictures follow each other; Live takes one a second."""

    def __init__(self) -> None:
        self._last: float | None = None

    def early(self, now: float) -> float:
        """By how many seconds a picture comes too early; 0 where it does not."""
        since = SECONDS_PER_FRAME if self._last is None else now - self._last
        self._last = now
        return round(SECONDS_PER_FRAME - since, 3) if since < SECONDS_PER_FRAME - _TOLERANCE else 0.0


def size(data: bytes) -> tuple[int, int] | None:
    """Pixels across and down of a JPEG or PNG; None for anything that cannot be read."""
    if data.startswith(_PNG) and len(data) >= 24:
        width, height = struct.unpack(">II", data[16:24])
        return width, height
    return _jpeg_size(data) if data.startswith(_JPEG) else None


def _known(data: bytes) -> bool:
    webp = data.startswith(b"RIFF") and data[8:12] == b"WEBP"
    heif = data[4:8] == b"ftyp" and data[8:12] in (b"heic", b"heix", b"mif1", b"heif")
    return data.startswith((_PNG, _JPEG)) or webp or heif


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker in _FRAMES:
            height, width = struct.unpack(">HH", data[at + 5 : at + 9])
            return width, height
        if marker == 0xFF or marker in _WITHOUT_LENGTH:
            at += 1 if marker == 0xFF else 2
        else:
            at += 2 + struct.unpack(">H", data[at + 2 : at + 4])[0]
    return None
