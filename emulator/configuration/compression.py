"""Context-window compression: when the oldest part of a conversation is cut off, and how much of it."""

from dataclasses import dataclass
from typing import Any

from emulator.errors import invalid

VERTEX_TRIGGER = range(5_000, 128_001)
VERTEX_TARGET = range(128_001)


@dataclass(frozen=True)
class Compression:
    """``contextWindowCompression`` of a setup, in tokens."""

    trigger: int
    """A longer context is cut."""
    target: int
    """What is kept of it."""


def read(body: dict[str, Any] | None, *, window: int, vertex: bool = False) -> Compression | None:
    """What a parsed setup asks for; None where it asks for none. Raises :class:`emulator.errors.Refusal`.

    Defaults (API reference): the trigger is 80 % of the model's context window, the target half of the trigger.
    """
    if body is None:
        return None
    trigger = body.get("triggerTokens", window * 8 // 10)
    target = body.get("slidingWindow", {}).get("targetTokens", trigger // 2)
    if not 0 < trigger <= window or not 0 <= target < trigger:
        raise invalid()
    outside = "triggerTokens" in body and trigger not in VERTEX_TRIGGER
    if vertex and (outside or target not in VERTEX_TARGET):
        raise invalid()
    return Compression(trigger, target)
