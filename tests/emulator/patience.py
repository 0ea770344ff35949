"""How long tests wait for what has to come: a limit that no busy machine reaches, not a judgement of speed."""

import asyncio

LIMIT = 30.0
"""Seconds; what is waited for mostly takes milliseconds."""
IN_VAIN = 0.2
"""The same where the behaviour is off, because then a test mostly waits in vain."""


class Patience:
    """The present test's; :func:`tests.emulator.conftest.sabotage` sets it."""

    in_vain = False
    """Whether the behaviour under test is off."""

    @classmethod
    def seconds(cls, in_vain: float = IN_VAIN) -> float:
        """To wait; ``in_vain``: where the behaviour is off."""
        return in_vain if cls.in_vain else LIMIT


def in_time(in_vain: float = IN_VAIN) -> asyncio.Timeout:
    """``async with in_time()``: what comes inside has to come. ``in_vain``: seconds where the behaviour is off."""
    return asyncio.timeout(Patience.seconds(in_vain))
