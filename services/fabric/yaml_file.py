"""YAML that remembers where things stand, so that every complaint names file and line."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode


class ConfigurationError(Exception):
    """A file is wrong. Its text is one line for each problem: `FILE:LINE: what is wrong`."""


@dataclass(frozen=True, slots=True)
class Value:
    """A value, the line it stands on, and its children."""

    path: Path
    line: int
    plain: Any
    """As plain Python: dict, list or scalar."""
    items: dict[str, Value] = field(default_factory=dict)
    """Children of a mapping."""
    key_lines: dict[str, int] = field(default_factory=dict)
    elements: tuple[Value, ...] = ()
    """Children of a sequence."""

    def problem(self, text: str, key: str | None = None) -> ConfigurationError:
        """A complaint about this value, or about one of its keys."""
        line = self.line if key is None else self.key_lines.get(key, self.line)
        return ConfigurationError(f"{self.path}:{line}: {text}")

    @property
    def is_mapping(self) -> bool:
        """Whether it has keys."""
        return isinstance(self.plain, dict)

    @property
    def is_sequence(self) -> bool:
        """Whether it is a list."""
        return isinstance(self.plain, list)


def load(path: Path) -> Value:
    """Read one document. ConfigurationError names file, line and reason."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ConfigurationError(f"{path}:{line}: is not UTF-8") from None
    try:
        return _parse(path, text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise ConfigurationError(f"{path}:{mark.line + 1 if mark else 1}: {error.problem or error.context}") from None
    except yaml.YAMLError as error:  # a character that YAML does not allow: it says where, but not on which line
        line = text[: getattr(error, "position", 0)].count("\n") + 1
        raise ConfigurationError(f"{path}:{line}: {getattr(error, 'reason', 'is not YAML')}") from None
    except RecursionError:
        raise ConfigurationError(f"{path}:1: is nested too deeply") from None


def _parse(path: Path, text: str) -> Value:
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            raise ConfigurationError(f"{path}:1: is empty")
        return _value(path, loader, node)
    finally:
        loader.dispose()


def _value(path: Path, loader: yaml.SafeLoader, node: Node) -> Value:
    line = node.start_mark.line + 1
    if isinstance(node, MappingNode):
        items: dict[str, Value] = {}
        lines: dict[str, int] = {}
        for key_node, value_node in node.value:
            key_line = key_node.start_mark.line + 1
            if not isinstance(key_node, ScalarNode) or not isinstance(key_node.value, str):
                raise ConfigurationError(f"{path}:{key_line}: a key must be a word")
            key = key_node.value
            if key in items:
                raise ConfigurationError(f"{path}:{key_line}: `{key}` is set twice (first on line {lines[key]})")
            items[key] = _value(path, loader, value_node)
            lines[key] = key_line
        return Value(path, line, {key: value.plain for key, value in items.items()}, items, lines)
    if isinstance(node, SequenceNode):
        elements = tuple(_value(path, loader, child) for child in node.value)
        return Value(path, line, [element.plain for element in elements], elements=elements)
    try:
        plain = loader.construct_object(node, deep=True)
    except ValueError as error:
        raise ConfigurationError(f"{path}:{line}: {error}") from None
    return Value(path, line, plain)
