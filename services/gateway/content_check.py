"""Text, pictures and content with roles, as a caller sends them. Plain code: no I/O."""

from __future__ import annotations

from typing import Final

from parley.v1 import errors_pb2, live_pb2
from services.fabric.errors import invalid_field

_KIB: Final = 1024
MAX_TEXT: Final = 64 * _KIB
MAX_IMAGE: Final = 1024 * _KIB
MAX_PARTS: Final = 100
_VIDEO_TYPES: Final = ("image/jpeg", "image/png")
_IMAGE_TYPES: Final = (*_VIDEO_TYPES, "image/webp")


def check_text(text: str, path: str) -> None:
    """Some text, and not too much. ServiceError."""
    if not 0 < len(text.encode()) <= MAX_TEXT:
        raise invalid_field(path, "1 byte to 64 KiB of UTF-8")


def check_frame(image: live_pb2.Blob, path: str) -> None:
    """A picture of a camera or screen. ServiceError."""
    problem = _problem(image, _VIDEO_TYPES)
    if problem:
        raise invalid_field(path, problem, errors_pb2.ERROR_REASON_VIDEO_INVALID)


def check_content(content: live_pb2.Content, path: str) -> None:
    """Content with a role. ServiceError."""
    if content.role not in (live_pb2.ROLE_USER, live_pb2.ROLE_MODEL):
        raise invalid_field(f"{path}.role", "ROLE_USER or ROLE_MODEL")
    if not 0 < len(content.parts) <= MAX_PARTS:
        raise invalid_field(f"{path}.parts", f"1 to {MAX_PARTS}")
    for number, part in enumerate(content.parts):
        where = f"{path}.parts[{number}]"
        match part.WhichOneof("data"):
            case "text":
                check_text(part.text, f"{where}.text")
            case "image":
                if problem := _problem(part.image, _IMAGE_TYPES):
                    raise invalid_field(f"{where}.image", problem)
            case _:
                raise invalid_field(where, "`text` or `image`")


def _problem(image: live_pb2.Blob, types: tuple[str, ...]) -> str:
    """What is wrong with a picture; empty when nothing is."""
    if image.mime_type not in types:
        return f"its type must be {' or '.join(types)}"
    if not 0 < len(image.data) <= MAX_IMAGE:
        return f"1 byte to 1 MiB of {image.mime_type}"
    if not _begins(image):
        return f"the bytes are no {image.mime_type}"
    return ""


def _begins(image: live_pb2.Blob) -> bool:
    """Whether the bytes begin as pictures of that type do (their signatures); more only a decoder can tell."""
    match image.mime_type:
        case "image/jpeg":
            return image.data.startswith(b"\xff\xd8\xff")
        case "image/png":
            return image.data.startswith(b"\x89PNG\r\n\x1a\n")
        case _:
            return image.data[:4] == b"RIFF" and image.data[8:12] == b"WEBP"
