"""Declarations as the Live API takes them."""

from __future__ import annotations

from services.session_worker.live_schema import as_taken


def test_nothing_but_keywords_of_its_kind_stands_beside_a_reference() -> None:
    schema = {
        "type": "object",
        "properties": {
            "root": {"$ref": "#/$defs/Node", "description": "Where to begin.", "default": None, "$anchor": "a"},
            "$ref": {"type": "string", "default": {"$ref": "no reference", "description": "a value"}},
            "rest": {"type": "array", "items": {"anyOf": [{"$ref": "#/$defs/Node", "title": "N"}, {"type": "null"}]}},
        },
        "required": ["root"],
        "$defs": {"Node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/Node", "title": "Next"}}}},
    }
    assert as_taken(schema) == {
        "type": "object",
        "properties": {
            "root": {"$ref": "#/$defs/Node", "$anchor": "a"},
            "$ref": {"type": "string", "default": {"$ref": "no reference", "description": "a value"}},
            "rest": {"type": "array", "items": {"anyOf": [{"$ref": "#/$defs/Node"}, {"type": "null"}]}},
        },
        "required": ["root"],
        "$defs": {"Node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/Node"}}}},
    }
