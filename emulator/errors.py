"""How the emulator refuses: a close code and a text, as the service words it."""

# The control frame holds 125 bytes, two of which are the code.
MAX_REASON_BYTES = 123

INVALID_ARGUMENT = "Request contains an invalid argument."


class Refusal(Exception):  # noqa: N818 - an outcome of the protocol, not a fault
    """Ends the connection with ``code`` and ``text``; nothing after it is answered."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{code} {text}")
        self.code = code
        """WebSocket close code: 1007 for bad requests, 1008 for what is not there or not allowed, 1011 for faults."""
        self.text = text
        """The whole reason; on the wire it is cut at 123 bytes."""

    def afresh(self) -> "Refusal":
        """The same without where it was raised: it can be kept, and keeps nothing."""
        return Refusal(self.code, self.text)


def invalid(text: str = INVALID_ARGUMENT) -> Refusal:
    """A 1007."""
    return Refusal(1007, text)


def reason_bytes(text: str) -> bytes:
    """``text`` as a close reason: at most 123 bytes, never half a character."""
    return text.encode()[:MAX_REASON_BYTES].decode(errors="ignore").encode()
