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


_MOST_NODES = 100_000
_HALF = re.compile("[\ud800-\udfff]")
_PLAIN = {
    "bool": re.compile(r"true|false"),
    "null": re.compile(r"~|null|"),
    "int": re.compile(r"[-+]?(0|[1-9][0-9]{0,99})"),
    "float": re.compile(
        r"[-+]?([0-9]{1,99}\.[0-9]{0,99}|\.[0-9]{1,99}|[0-9]{1,99}(?=[eE])|[0-9]{1,99})([eE][-+]?[0-9]{1,5})?"
    ),
}
"""How each kind of scalar is written, whether it is recognised or tagged so."""


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

    @staticmethod
    def takes(node: yaml.ScalarNode) -> bool:
        """Whether the value is one of its tag."""
        kind = node.tag.removeprefix("tag:yaml.org,2002:")
        written = _PLAIN.get(kind)
        return kind in ("str", "merge", "value") if written is None else bool(written.fullmatch(node.value))

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
        except UnicodeDecodeError as error:
            line = error.object[: error.start].count(b"\n") + 1
            raise ScenarioError(path, line, "is not UTF-8") from error
        except (OSError, ValueError) as error:
            raise ScenarioError(path, None, f"cannot be read: {error}") from error
        loader = None
        try:
            loader = _Loader(text)
            self._tree = loader.get_single_node()
            if self._tree is None:
                raise ScenarioError(path, 1, "is empty")
            self._check(self._tree)
            self.data: Any = loader.construct_document(self._tree)
        except yaml.reader.ReaderError as error:
            line = text.count("\n", 0, error.position) + 1
            raise ScenarioError(path, line, f"a character that YAML does not allow: {error.character:#x}") from error
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            reason = getattr(error, "problem", None) or str(error)
            raise ScenarioError(path, mark.line + 1 if mark else None, reason) from error
        except RecursionError:
            raise ScenarioError(path, _deepest(text), "nested too deeply") from None
        finally:
            if loader is not None:
                loader.dispose()

    def _check(self, tree: yaml.Node) -> None:
        """No more nodes than a scenario has, each counted as often as it is referred to; no tags but YAML's own."""
        waiting, count = [tree], 0
        while waiting:
            node = waiting.pop()
            count += 1
            line = node.start_mark.line + 1
            if count > _MOST_NODES:
                raise ScenarioError(self.path, line, f"more than {_MOST_NODES} values, aliases counted each time")
            if isinstance(node, yaml.ScalarNode):
                if not _Loader.takes(node):
                    raise ScenarioError(self.path, line, f"{node.value[:40]!r} is no {node.tag.rpartition(':')[2]}")
                if _HALF.search(node.value):
                    raise ScenarioError(self.path, line, "half a surrogate pair is no character")
            elif isinstance(node, yaml.MappingNode):
                waiting.extend(part for pair in node.value for part in pair)
            elif isinstance(node, yaml.SequenceNode):
                waiting.extend(node.value)

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


def _deepest(text: str) -> int:
    """The line where brackets are open that never close, or else the one that is indented most."""
    depth = deepest = 0
    line = 1
    for number, one in enumerate(text.splitlines(), 1):
        depth += sum(map(one.count, "[{")) - sum(map(one.count, "]}"))
        level = depth + len(one) - len(one.lstrip(" "))
        if level > deepest:
            deepest, line = level, number
    return line
