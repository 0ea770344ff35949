"""A scenario's sentences as a JSGF grammar."""

import re

from emulator.scenarios import language
from emulator.scenarios.scenario import Scenario

_SLOT = re.compile(r"(<[a-z][a-z0-9_]*>)")


def jsgf(scenario: Scenario) -> str:
    """The grammar of everything the scenario can hear; empty where it hears nothing."""
    if not any(scenario.sentences()):
        return ""
    lines = ["#JSGF V1.0;", f"grammar {scenario.name.replace('-', '_')};"]
    lines.append(f"<a_digit> = {' | '.join((*language.DIGITS, 'oh'))};")
    for slot, kind in scenario.file.slots.items():
        words = "<a_digit>+" if kind == "digits" else " | ".join(language.normalise(word) for word in kind)
        lines.append(f"<slot_{slot}> = {words};")
    sentences = [_sentence(text) for text in scenario.sentences()]
    lines.append(f"public <sentence> = {' | '.join(sentences)};")
    return "\n".join(lines) + "\n"


def _sentence(text: str) -> str:
    parts = [
        f"<slot_{piece[1:-1]}>" if _SLOT.fullmatch(piece) else language.normalise(piece) for piece in _SLOT.split(text)
    ]
    return " ".join(part for part in parts if part)
