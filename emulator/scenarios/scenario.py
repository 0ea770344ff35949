"""What the model knows: a checked scenario file that finds the rule for a sentence and words what is said."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from emulator.faults import text as faults
from emulator.scenarios import language
from emulator.scenarios.script import CallSpec, Rule, ScenarioFile
from emulator.scenarios.yaml_file import Document, ScenarioError
from emulator.switches import SwitchError, Switches

__all__ = ["Match", "Rule", "Scenario", "ScenarioError", "ScenarioFile", "load", "named", "packaged"]

PACKAGED = Path(__file__).parent
_SLOT = re.compile(r"<([a-z][a-z0-9_]*)>")
_FIELD = re.compile(r"<([A-Za-z][A-Za-z0-9_]*(?:\.[A-Za-z0-9_]+)*)>")
_DIGIT_WORDS = "|".join((*language.DIGITS, "oh"))


@dataclass(frozen=True)
class Match:
    """The rule that a sentence fits; None when it fits none."""

    rule: Rule | None
    slots: dict[str, str] = field(default_factory=dict)


class Scenario:
    """A checked scenario: matches sentences and words answers."""

    def __init__(self, file: ScenarioFile, document: Document | None = None) -> None:
        self.file = file
        self._document = document
        self.faults = faults.parse_all(file.faults)
        """What goes wrong on connections that choose it."""
        self.name = file.name
        self._patterns = [(re.compile(self._pattern(text)), rule) for rule in file.rules for text in rule.hear]

    @property
    def echoes(self) -> bool:
        """Whether audio is sent straight back."""
        return self.file.mode == "echo"

    def match(self, text: str, pictures: int = 0) -> Match:
        """The rule for a typed or heard sentence: one that fits it all, else the one that fits most of it."""
        sentence = language.normalise(text)
        best: tuple[int, Match] = (0, Match(None))
        for pattern, rule in self._patterns:
            found = pattern.search(sentence) if rule.holds(pictures) else None
            if found and found.end() - found.start() > best[0]:
                best = (found.end() - found.start(), Match(rule, self._values(found)))
        return best[1]

    def seen(self, pictures: int) -> Match | None:
        """The first rule that the latest of so many pictures calls for."""
        for rule in self.unasked("picture"):
            news = rule.when is None or not rule.holds(pictures - 1)
            if rule.holds(pictures) and news:
                return Match(rule)
        return None

    def unasked(self, on: str) -> list[Rule]:
        """The rules that wait for no sentence but for this."""
        return [rule for rule in self.file.rules if rule.on == on]

    def arguments(self, call: CallSpec, values: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments of a call, filled with what was heard and what other calls brought."""
        return {name: _filled(value, values) for name, value in call.args.items()}

    def word(self, template: str, values: Mapping[str, Any]) -> str:
        """``template`` with its slots in words; one that nothing is known about is left out."""

        def value(found: re.Match[str]) -> str:
            name = found.group(1)
            known = look_up(values, name)
            return "" if known is None else language.say(known, digits=self.file.slots.get(name) == "digits")

        return " ".join(_FIELD.sub(value, template).split())

    def sentences(self) -> Iterator[str]:
        """Every sentence of every rule, slots unfilled."""
        for rule in self.file.rules:
            yield from rule.hear

    def unknown_words(self, words: list[str]) -> ScenarioError:
        """That nobody can hear these, and where the first of them stands."""
        reason = f"the recogniser does not know {', '.join(words)}"
        if self._document is None:
            return ScenarioError(Path(self.name), None, reason)
        for index, rule in enumerate(self.file.rules):
            for number, sentence in enumerate(rule.hear):
                if words[0] in language.normalise(_SLOT.sub(" ", sentence)).split():
                    return self._document.error(("rules", index, "hear", number), reason)
        for slot, values in self.file.slots.items():
            for number, value in enumerate(values if isinstance(values, list) else ()):
                if words[0] in language.normalise(value).split():
                    return self._document.error(("slots", slot, number), reason)
        return self._document.error((), reason)

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


def look_up(values: Mapping[str, Any], path: str) -> Any:
    """What ``a.b.0`` means in ``values``; None where nothing is known of it."""
    found: Any = values
    for part in path.split("."):
        if isinstance(found, Mapping):
            found = found.get(part)
        elif isinstance(found, list) and part.isdigit() and int(part) < len(found):
            found = found[int(part)]
        else:
            return None
    return found


def _filled(value: Any, values: Mapping[str, Any]) -> Any:
    """``value`` with what stands for something filled in, at any depth; what is nothing else keeps its type."""
    if isinstance(value, Mapping):
        return {name: _filled(item, values) for name, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, values) for item in value]
    if not isinstance(value, str):
        return value
    if whole := _FIELD.fullmatch(value):
        known = look_up(values, whole.group(1))
        return "" if known is None else known

    def text(found: re.Match[str]) -> str:
        known = look_up(values, found.group(1))
        return "" if known is None else str(known)

    return _FIELD.sub(text, value)


def load(path: Path) -> Scenario:
    """The scenario in ``path``. Raises :class:`ScenarioError` with the line at fault."""
    document = Document(path)
    try:
        file = ScenarioFile.model_validate(document.data)
    except ValidationError as error:
        first = error.errors()[0]
        raise document.error(first["loc"], first["msg"].removeprefix("Value error, ")) from error
    for name, value in file.switches.items():
        try:
            Switches().changed({name: value})
        except SwitchError as error:
            raise document.error(("switches", name), str(error)) from error
    for index, fault in enumerate(file.faults):
        try:
            faults.read(fault)
        except faults.FaultError as error:
            raise document.error(("faults", index), str(error)) from error
    _check_slots(document, file)
    _check_rules(document, file)
    return Scenario(file, document)


def _check_slots(document: Document, file: ScenarioFile) -> None:
    for slot, words in file.slots.items():
        if not re.fullmatch(r"[a-z][a-z0-9_]*", slot):
            raise document.error(("slots", slot), "a slot's name has small letters, digits and underscores")
        if words != "digits" and not (words and all(map(language.normalise, words))):
            raise document.error(("slots", slot), "a slot is `digits` or a list of words")


def _check_rules(document: Document, file: ScenarioFile) -> None:
    names: set[str] = set()
    for index, rule in enumerate(file.rules):
        if rule.name in names:
            raise document.error(("rules", index, "name"), f"another rule is called {rule.name}")
        names.add(rule.name)
        for number, sentence in enumerate(rule.hear):
            where = ("rules", index, "hear", number)
            slots = _SLOT.findall(sentence)
            if unknown := [slot for slot in slots if slot not in file.slots]:
                raise document.error(where, f"slot <{unknown[0]}> is not defined")
            if not language.normalise(_SLOT.sub("x", sentence)):
                raise document.error(where, "nothing to hear")
            if len(set(slots)) != len(slots):
                raise document.error(where, "a slot occurs twice")


def named(name: str) -> Scenario:
    """A packaged scenario by name, or a file by its path."""
    packaged_as = {path.stem: path for path in PACKAGED.glob("*.yaml")}
    return load(packaged_as.get(name) or Path(name))


def packaged() -> list[Scenario]:
    """All scenarios that come with the emulator."""
    return [load(path) for path in sorted(PACKAGED.glob("*.yaml"))]
