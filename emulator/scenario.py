"""What the model knows: sentences it recognises, calls it makes, answers it gives. Read from YAML, checked, matched."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from emulator import language

PACKAGED = Path(__file__).with_name("scenarios")
_SLOT = re.compile(r"<([a-z][a-z0-9_]*)>")
_DIGIT_WORDS = "|".join((*language.DIGITS, "oh"))


class ScenarioError(Exception):
    """A scenario file that cannot be used."""

    def __init__(self, path: Path, line: int | None, reason: str) -> None:
        super().__init__(f"{path}{f':{line}' if line else ''}: {reason}")
        self.path = path
        self.line = line
        """Counted from 1; None where the whole file is meant."""
        self.reason = reason


def _one_or_more(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CallSpec(_Strict):
    """A function call; ``<slot>`` in an argument is what was heard there."""

    tool: str = Field(min_length=1)
    args: dict[str, Any] = {}


class Rule(_Strict):
    """Sentences and what the model does about them."""

    name: str = Field(min_length=1)
    hear: Annotated[list[str], BeforeValidator(_one_or_more)] = Field(min_length=1)
    call: CallSpec | None = None
    say: str = ""
    """Words with ``<slot>``, ``<field of the result>`` or ``<pictures>``; empty: the model keeps quiet."""


class ScenarioFile(_Strict):
    """The file."""

    name: str = Field(min_length=1, pattern=r"^[a-z][a-z0-9_-]*$")
    description: str = ""
    mode: Literal["rules", "echo"] = "rules"
    switches: dict[str, str | int | float | bool] = {}
    """Values of :class:`emulator.switches.Switches` for connections that choose this scenario."""
    slots: dict[str, Literal["digits"] | list[str]] = {}
    rules: list[Rule] = []
    unknown: str = ""
    tool_failed: str = ""
    tool_missing: str = ""


@dataclass(frozen=True)
class Match:
    """The rule that a sentence fits; None when it fits none."""

    rule: Rule | None
    slots: dict[str, str] = field(default_factory=dict)


class Scenario:
    """A checked scenario: matches sentences and words answers."""

    def __init__(self, file: ScenarioFile) -> None:
        self.file = file
        self.name = file.name
        self._patterns = [(re.compile(self._pattern(text)), rule) for rule in file.rules for text in rule.hear]

    @property
    def echoes(self) -> bool:
        """Whether audio is sent straight back."""
        return self.file.mode == "echo"

    def match(self, text: str) -> Match:
        """The rule for a typed or heard sentence: one that fits it all, else the one that fits most of it."""
        sentence = language.normalise(text)
        best: tuple[int, Match] = (0, Match(None))
        for pattern, rule in self._patterns:
            found = pattern.search(sentence)
            if found and found.end() - found.start() > best[0]:
                best = (found.end() - found.start(), Match(rule, self._values(found)))
        return best[1]

    def arguments(self, match: Match) -> dict[str, Any]:
        """The arguments of a match's call."""
        assert match.rule is not None and match.rule.call is not None
        return {name: _filled(value, match.slots) for name, value in match.rule.call.args.items()}

    def word(self, template: str, values: dict[str, Any]) -> str:
        """``template`` with its slots in words; one that nothing is known about is left out."""

        def value(found: re.Match[str]) -> str:
            name = found.group(1)
            if values.get(name) is None:
                return ""
            return language.say(values[name], digits=self.file.slots.get(name) == "digits")

        return " ".join(_SLOT.sub(value, template).split())

    def sentences(self) -> Iterator[str]:
        """Every sentence of every rule, slots unfilled."""
        for rule in self.file.rules:
            yield from rule.hear

    def _pattern(self, sentence: str) -> str:
        parts = []
        for piece in re.split(r"(<[a-z0-9_]+>)", sentence):
            if found := _SLOT.fullmatch(piece):
                parts.append(f"(?P<{found.group(1)}>{self._alternatives(found.group(1))})")
            elif words := language.normalise(piece):
                parts.append(re.escape(words))
        return r"\b" + " ".join(parts) + r"\b"

    def _alternatives(self, slot: str) -> str:
        kind = self.file.slots[slot]
        if kind == "digits":
            return f"(?:{_DIGIT_WORDS})(?: (?:{_DIGIT_WORDS}))*"
        return "|".join(re.escape(language.normalise(word)) for word in kind)

    def _values(self, found: re.Match[str]) -> dict[str, str]:
        return {
            slot: language.to_digits(words) if self.file.slots[slot] == "digits" else words
            for slot, words in found.groupdict().items()
        }


def _filled(value: Any, slots: dict[str, str]) -> Any:
    if not isinstance(value, str):
        return value
    return _SLOT.sub(lambda found: slots.get(found.group(1), ""), value)


def load(path: Path) -> Scenario:
    """The scenario in ``path``. Raises :class:`ScenarioError` with the line at fault."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ScenarioError(path, None, f"cannot be read: {error}") from error
    try:
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        reason = getattr(error, "problem", None) or str(error)
        raise ScenarioError(path, mark.line + 1 if mark else None, reason) from error
    try:
        file = ScenarioFile.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ScenarioError(path, _line(tree, first["loc"]), f"{where or 'file'}: {first['msg']}") from error
    for index, rule in enumerate(file.rules):
        for number, sentence in enumerate(rule.hear):
            unknown = [slot for slot in _SLOT.findall(sentence) if slot not in file.slots]
            if unknown or not language.normalise(_SLOT.sub("x", sentence)):
                reason = f"slot <{unknown[0]}> is not defined" if unknown else "nothing to hear"
                raise ScenarioError(path, _line(tree, ("rules", index, "hear", number)), reason)
            if len(set(_SLOT.findall(sentence))) != len(_SLOT.findall(sentence)):
                raise ScenarioError(path, _line(tree, ("rules", index, "hear", number)), "a slot occurs twice")
    return Scenario(file)


def named(name: str) -> Scenario:
    """A packaged scenario by name, or a file by its path."""
    packaged = PACKAGED / f"{name}.yaml"
    return load(packaged if packaged.is_file() else Path(name))


def packaged() -> list[Scenario]:
    """All scenarios that come with the emulator."""
    return [load(path) for path in sorted(PACKAGED.glob("*.yaml"))]


def _line(node: yaml.Node | None, location: tuple[str | int, ...]) -> int | None:
    """The line of the deepest part of ``location`` that exists."""
    if node is None:
        return None
    line: int = node.start_mark.line + 1
    for part in location:
        following: yaml.Node | None = None
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if key.value == str(part):
                    line, following = key.start_mark.line + 1, value
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            following = node.value[part]
            line = following.start_mark.line + 1
        if following is None:
            break
        node = following
    return line
