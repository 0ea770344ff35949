"""Stories that are told at once, because a conversation takes as long as it sounds; each is a test.

`make test` tells what fits into a minute or two; stories marked as long are for `make test-faults`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container, Coroutine, Iterable
from typing import Any

import pytest
from _pytest.mark import ParameterSet

from parley import events
from tests.faults.call import Call

Story = Callable[..., Coroutine[Any, Any, None]]
_LIMIT = 150.0
"""Seconds for one story, among all the others."""
WEATHER = "degrees"
"""In every answer to a question for the weather."""
ORDER = "four seven one one"


async def recovered(call: Call, since: int = 0) -> events.LinkRecovered:
    """The session is on another link."""
    event = await call.until(lambda event: isinstance(event, events.LinkRecovered), since)
    assert isinstance(event, events.LinkRecovered)
    return event


def long(names: Iterable[str]) -> list[ParameterSet]:
    """As parameters of a test: stories of the long form."""
    return [pytest.param(name, marks=pytest.mark.long) for name in names]


def chosen(request: pytest.FixtureRequest, parameter: str = "story") -> set[str]:
    """The stories of a module that are to be told, by the parameter of its test: not every run has the long ones."""
    items = [item for item in request.session.items if item.getparent(pytest.Module) is request.node]
    parameters = [
        item.callspec.params for item in items if isinstance(item, pytest.Function) and hasattr(item, "callspec")
    ]
    return {str(found[parameter]) for found in parameters if parameter in found}


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

    def and_those_of(self, other: Stories) -> Stories:
        """Theirs too."""
        both = Stories()
        both._all = {**self._all, **other._all}
        return both

    def among(self, names: Container[str]) -> Stories:
        """Those of them that have one of these names."""
        found = Stories()
        found._all = {name: story for name, story in self._all.items() if name in names}
        return found

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
