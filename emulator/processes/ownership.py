"""Which of several processes a conversation belongs to, and how ids and handles tell. No I/O."""

import hashlib
import secrets
import string

LIMIT = 64
"""So many processes can be told apart by one character."""

# Those of URL-safe base64, of which handles are made.
_NUMBERS = string.ascii_uppercase + string.ascii_lowercase + string.digits + "-_"


class Elsewhere(Exception):  # noqa: N818 - no fault: the answer to where
    """What was asked for is another process's."""

    def __init__(self, owner: int) -> None:
        super().__init__(owner)
        self.owner = owner


def owner(conversation: str, count: int) -> int:
    """The number, from 0, of the process that a conversation of that id belongs to among ``count``."""
    return int.from_bytes(hashlib.blake2b(conversation.encode(), digest_size=8).digest()) % count


def made_up(number: int, count: int) -> str:
    """A new conversation's id that belongs to process ``number``."""
    while owner(found := f"conv_{secrets.token_hex(8)}", count) != number:
        pass
    return found


def prefix(number: int) -> str:
    """What the handles that process ``number`` issues begin with."""
    return _NUMBERS[number]


def check_handle(handle: str, number: int, count: int) -> None:
    """Raise :class:`Elsewhere` for a handle that process ``number`` cannot have issued, but another can."""
    issuer = _NUMBERS.find(handle[:1]) if handle else -1
    if 0 <= issuer < count and issuer != number:
        raise Elsewhere(issuer)
