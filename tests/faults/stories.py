"""Stories that are told at once, because a conversation takes as long as it sounds; each is a test."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

Story = Callable[..., Coroutine[Any, Any, None]]
_LIMIT = 80.0
"""Seconds for one story, among all the others."""


class Stories:
    """Stories by name."""

    def __init__(self) -> None:
        self._all: dict[str, Story] = {}

    @property
    def names(self) -> list[str]:
        """Of all stories."""
        return list(self._all)

    def add(self, *arguments: Any) -> Callable[[Story], Story]:
        """A story, told with these arguments after the stack."""

        def add(story: Story) -> Story:
            name = story.__name__ + (f"[{','.join(map(str, arguments))}]" if arguments else "")
            assert name not in self._all
            self._all[name] = lambda stack, *more: story(stack, *more, *arguments)
            return story

        return add

    def only(self, name: str) -> Stories:
        """One of them."""
        chosen = Stories()
        chosen._all[name] = self._all[name]
        return chosen

    async def tell(self, place: Any, *more: Any) -> dict[str, BaseException | None]:
        """All of them, in a stack or in what has one, with `more` after it; what went wrong in each."""
        outcomes = await asyncio.gather(
            *(self._tell(number, story(place, *more)) for number, story in enumerate(self._all.values())),
            return_exceptions=True,
        )
        return dict(zip(self._all, outcomes, strict=True))

    @staticmethod
    async def _tell(number: int, story: Coroutine[Any, Any, None]) -> None:
        # Not all in the same breath: the recogniser of the emulator shares the machine.
        await asyncio.sleep(number * 0.3)
        async with asyncio.timeout(_LIMIT):
            await story
