"""What models do not take of a declaration is said when it is loaded."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, Field

from services.tools import tool
from services.tools.declare import declare
from services.tools.heeded import remarks


class Loose(BaseModel):
    children: list[Loose] = []
    next: Loose | None = None


class Tight(BaseModel):
    children: list[Tight]


class Through(BaseModel):
    by: list[Tight]


def said(function: Any) -> list[str]:
    return remarks(declare(tool(function)).parameters)


def test_keywords_that_forbid_something_and_are_not_heeded_are_named_with_their_arguments() -> None:
    def fine(city: str, day: int = 3, kind: list[str] | None = None) -> None:
        """Fine."""

    def bounded(
        name: Annotated[str, Field(max_length=3, pattern="^a")], count: Annotated[int, Field(gt=3, le=9)]
    ) -> None:
        """Bounded."""

    assert said(fine) == []
    assert said(bounded) == [
        "models do not heed exclusiveMinimum of count, maxLength of name, pattern of name;"
        " wrong arguments are refused all the same"
    ]


def test_annotations_forbid_nothing() -> None:
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {"examples": {"type": "string", "examples": ["a"], "default": "b", "deprecated": True}},
    }
    assert remarks(schema) == []
    assert "nullable of a" in remarks({"properties": {"a": {"type": "string", "nullable": True}}})[0]


def test_form_that_holds_itself_is_taken_where_that_is_optional() -> None:
    def loose(root: Loose) -> None:
        """Loose."""

    def tight(root: Tight) -> None:
        """Tight."""

    def through(root: Through) -> None:
        """Through."""

    assert said(loose) == []
    expected = ["models may refuse Tight, which holds itself where it is required: make that optional"]
    assert said(tight) == said(through) == expected
