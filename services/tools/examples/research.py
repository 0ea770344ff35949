"""A long job that streams: it reads one book after the other, and says meanwhile how far it is and what it has found.

The model does not wait for it, so the conversation goes on. What is read is told to the caller (`progress`); each value
that the generator yields is a result for the model, which may be asked about it at any time, and the last one is the
answer. The model keeps the partial ones to itself and speaks of the answer at the next pause (`schedule`). When nobody
wants it any more, the generator is cancelled at whatever it awaits.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Final, TypedDict

from pydantic import Field

from services.tools import ToolContext, ToolError, tool

_SHELF: Final = {
    "Coffee at Home": "Grind the beans just before brewing. A grinder with burrs gives even coffee.",
    "The Kitchen Repaired": "A grinder that is delayed in starting needs its burrs cleaned. A lamp needs a new bulb.",
    "Light and Shade": "A desk lamp should stand opposite the writing hand. Shade it against glare.",
    "Running Far": "Replace running shoes after six hundred kilometres. A rain jacket should breathe.",
    "Sound in Small Rooms": "Headphones save the neighbours. Closed headphones leak less than open ones.",
    "Walking in the Rain": "A rain jacket is washed without softener. Dry it slowly.",
    "A Camera for Every Day": "A small camera that is there beats a large one at home. Shade the lens.",
    "The Returned Parcel": "What is returned unopened is repaid at once. Keep the receipt.",
}
_READING: Final = 2.0
"""Seconds that a book takes: they stand for the work."""


class Report(TypedDict):
    """What the model is told: first of what has been found so far, in the end of everything."""

    books_read: int
    books: int
    findings: list[str]


@tool(timeout=60, idempotent=True, behavior="non_blocking")
async def research(
    context: ToolContext,
    topic: Annotated[str, Field(description="What to look for, in a word or a few.", min_length=3, max_length=100)],
    books: Annotated[int, Field(description="How many books to read.", ge=1, le=len(_SHELF))] = 4,
) -> AsyncIterator[Report]:
    """Researches a topic in the library. It takes a while; findings come in as they are made."""
    words = {word.strip(".,?!").lower() for word in topic.split() if len(word) > 2}
    if not words:
        raise ToolError("the topic needs at least one word of three letters")
    findings: list[str] = []
    context.schedule("silent")
    for number, (title, text) in enumerate(list(_SHELF.items())[:books], 1):
        context.progress(f"reading {title}", (number - 1) / books)
        await asyncio.sleep(_READING)
        findings += (
            f"{sentence} ({title})" for sentence in text.removesuffix(".").split(". ") if words & _words(sentence)
        )
        if number == books:
            context.schedule("when_idle")
        yield Report(books_read=number, books=books, findings=list(findings))


def _words(sentence: str) -> set[str]:
    return set(sentence.lower().split())
