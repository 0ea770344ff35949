"""YAML as scenarios are written in it, and the line of whatever is wrong with one.

Plain scalars are read as YAML 1.2 does: only ``true`` and ``false`` are booleans, only decimal numbers are numbers. A
scenario is full of words such as yes, no, on and off, of dates and of order numbers with leading zeros; all of them
stay text.
"""

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml


class ScenarioError(Exception):
    """A scenario file that cannot be used."""

    def __init__(self, path: Path, line: int | None, reason: str) -> None:
        super().__init__(f"{path}{f':{line}' if line else ''}: {reason}")
        self.path = path
        self.line = line
        """Counted from 1; None where the whole file is meant."""
        self.reason = reason


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - the class attribute that PyYAML reads

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} is there twice", key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep)

    def _finite(self, node: yaml.ScalarNode) -> float:
        value = float(self.construct_scalar(node))
        if not math.isfinite(value):
            raise yaml.constructor.ConstructorError(None, None, "a number is too large", node.start_mark)
        return value


for _tag, _pattern, _first in (
    ("bool", r"true|false", "tf"),
    ("null", r"~|null|", ["~", "n", ""]),
    ("int", r"[-+]?(0|[1-9][0-9]*)", "-+0123456789"),
    ("float", r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?", "-+.0123456789"),
    ("merge", r"<<", "<"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), list(_first))
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader._finite)


class Document:
    """A YAML file: what it says, and where it says it."""

    def __init__(self, path: Path) -> None:
        """Raises :class:`ScenarioError` for what is no YAML."""
        self.path = path
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ScenarioError(path, None, f"cannot be read: {error}") from error
        loader = None
        try:
            loader = _Loader(text)
            self._tree = loader.get_single_node()
            self.data: Any = None if self._tree is None else loader.construct_document(self._tree)
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            reason = getattr(error, "problem", None) or str(error)
            raise ScenarioError(path, mark.line + 1 if mark else None, reason) from error
        except RecursionError:
            raise ScenarioError(path, None, "nested too deeply") from None
        finally:
            if loader is not None:
                loader.dispose()

    def error(self, location: Sequence[str | int], reason: str) -> ScenarioError:
        """An error at ``location``, a path of keys and indices."""
        where = ".".join(map(str, location))
        return ScenarioError(self.path, self._line(location), f"{where or 'file'}: {reason}")

    def _line(self, location: Sequence[str | int]) -> int | None:
        """The line of the deepest part of ``location`` that exists."""
        node = self._tree
        if node is None:
            return None
        line: int = node.start_mark.line + 1
        for part in location:
            following: yaml.Node | None = None
            if isinstance(node, yaml.MappingNode):
                for key, value in node.value:
                    if key.value == str(part):
                        line, following = key.start_mark.line + 1, value
                # A single thing stands where a list of one would do.
                if following is None and part == 0:
                    following = node
            elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
                following = node.value[part]
                line = following.start_mark.line + 1
            if following is None:
                break
            node = following
        return line
