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
        self._all: dict[str, Callable[[Any], Coroutine[Any, Any, None]]] = {}

    @property
    def names(self) -> list[str]:
        """Of all stories."""
        return list(self._all)

    def only(self, name: str) -> Stories:
        """One of them."""
        chosen = Stories()
        chosen._all[name] = self._all[name]
        return chosen

    def add(self, *arguments: Any) -> Callable[[Story], Story]:
        """A story, told with these arguments after the place where it is told."""

        def add(story: Story) -> Story:
            name = story.__name__ + (f"[{','.join(map(str, arguments))}]" if arguments else "")
            assert name not in self._all
            self._all[name] = lambda place: story(place, *arguments)
            return story

        return add

    async def tell(self, place: Any, failed: Callable[[], None] = lambda: None) -> dict[str, BaseException | None]:
        """All of them, in a stack or the like; what went wrong in each. `failed` is called for each that goes wrong."""
        outcomes = await asyncio.gather(
            *(self._tell(number, story, place, failed) for number, story in enumerate(self._all.values())),
            return_exceptions=True,
        )
        return dict(zip(self._all, outcomes, strict=True))

    @staticmethod
    async def _tell(
        number: int, story: Callable[[Any], Coroutine[Any, Any, None]], place: Any, failed: Callable[[], None]
    ) -> None:
        # Not all in the same breath: the recogniser of the emulator shares the machine.
        await asyncio.sleep(number * 0.3)
        try:
            async with asyncio.timeout(_LIMIT):
                await story(place)
        except BaseException:
            failed()
            raise
