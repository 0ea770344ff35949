"""Cuts the audio and pictures of a recorded message short, and gives replayed ones their length back."""

import base64
import binascii
from typing import Any

from emulator.tape.scrub import is_blob

# Groups of 8 characters are 6 bytes: whole base64 groups and whole 16-bit samples.
_GROUP_CHARACTERS = 8
_GROUP_BYTES = 6

Path = list[str | int]


def decoded_size(text: str) -> int:
    """Bytes that base64 stands for, in either alphabet, padded or not."""
    return len(text.rstrip("=")) * 3 // 4


def cut(message: Any, limit: int) -> list[dict[str, Any]]:
    """Cut every blob of ``message``, in place, to at most ``limit`` bytes.

    Returns ``{"at": path of keys, "bytes": length before}`` for each that was longer.
    """
    notes: list[dict[str, Any]] = []
    _cut(message, limit, [], notes)
    return notes


def _cut(value: Any, limit: int, path: Path, notes: list[dict[str, Any]]) -> None:
    if isinstance(value, dict):
        if is_blob(value) and (length := decoded_size(value["data"])) > limit:
            notes.append({"at": [*path, "data"], "bytes": length})
            value["data"] = value["data"][: limit // _GROUP_BYTES * _GROUP_CHARACTERS]
        for name, item in value.items():
            if isinstance(item, dict | list):
                _cut(item, limit, [*path, name], notes)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _cut(item, limit, [*path, index], notes)


def pad(message: Any, notes: list[dict[str, Any]]) -> None:
    """Undo :func:`cut` in length, with zeros: silence in audio. Raises ValueError where the notes do not fit."""
    for note in notes:
        *path, last = note["at"]
        holder = message
        try:
            for step in path:
                holder = holder[step]
            kept = holder[last]
            missing = note["bytes"] - len(base64.b64decode(kept.translate(_TO_STANDARD), validate=True))
        except (KeyError, IndexError, TypeError, AttributeError, binascii.Error) as error:
            raise ValueError(f"`truncated` names {note['at']}, where there is no blob") from error
        if missing < 0 or len(kept) % 4:
            raise ValueError(f"`truncated` says that the blob at {note['at']} had {note['bytes']} bytes")
        holder[last] = kept + base64.b64encode(bytes(missing)).decode()


_TO_STANDARD = str.maketrans("-_", "+/")
