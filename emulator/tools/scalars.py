"""Proposals for single values: what was wished for, as far as a schema lets it, and then the plainest there are."""

import math
from collections.abc import Iterator
from typing import Any

from emulator.scenarios.language import DIGITS
from emulator.tools import patterns

MANY = 40
"""More proposals than anybody asks for."""
LONGEST = 1000
"""Characters of a text, items of a list: what is to be longer is not proposed."""
_SAMPLES = {
    "date": "2026-01-01",
    "date-time": "2026-01-01T12:00:00Z",
    "time": "12:00:00Z",
    "duration": "PT1H",
    "email": "caller@example.com",
    "idn-email": "caller@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uri": "https://example.com/",
    "uri-reference": "https://example.com/",
    "url": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
    "byte": "",
    "json-pointer": "",
    "regex": ".",
}
_WORDS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


class _Nothing:
    """No value is wished for."""


NOTHING = _Nothing()
"""Stands where no value is wished for."""


def kinds(schema: dict[str, Any], wish: Any) -> list[str]:
    """The types that a value may have, the likeliest first."""
    declared = schema.get("type")
    if declared is None:
        hints = (
            ("object", ("properties", "required", "minProperties", "dependentRequired", "patternProperties")),
            ("array", ("items", "prefixItems", "minItems", "contains")),
            ("number", ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")),
        )
        likely = next((kind for kind, names in hints if any(name in schema for name in names)), kind_of(wish))
        return [likely, "string", "number", "boolean", "null", "array", "object"]
    listed: list[str] = [declared] if isinstance(declared, str) else list(declared)
    return sorted(listed, key=lambda kind: (kind != kind_of(wish), kind == "null"))


def kind_of(wish: Any) -> str:
    """The type that what is wished for has; of nothing, text."""
    names = {bool: "boolean", int: "integer", float: "number", list: "array", dict: "object", type(None): "null"}
    return names.get(type(wish), "string")


def strings(schema: dict[str, Any], wish: Any) -> Iterator[str]:
    """Texts."""
    least, most = schema.get("minLength", 0), schema.get("maxLength", math.inf)
    pattern = schema.get("pattern")
    if isinstance(wish, str | int | float):
        text = str(wish).lower() if isinstance(wish, bool) else str(wish)
        if pattern is None:
            yield text[: int(most)] if most < len(text) else text.ljust(min(least, LONGEST), "x")
        elif patterns.matches(pattern, text):
            yield text
    if least > LONGEST:
        return
    if pattern is not None:
        for length in (least, least + 1, least + 2, least + 5):
            try:
                yield patterns.shortest(pattern, length)
            except patterns.NoMatchError:
                break
        return
    if sample := _SAMPLES.get(schema.get("format", "")):
        yield sample
    yield "x" * least
    for number in range(MANY):
        yield str(number).rjust(least, "x")


def numbers(schema: dict[str, Any], wish: Any, *, whole: bool) -> Iterator[int | float]:
    """Numbers, or whole ones."""
    lowest, highest = schema.get("minimum", -math.inf), schema.get("maximum", math.inf)
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    step = schema.get("multipleOf", 1)
    if whole and isinstance(step, float):
        step = next((step * times for times in range(1, 1001) if (step * times).is_integer()), 1)
    if (number := _spoken(wish)) is not None:
        number = min(max(number, lowest), highest)
        if isinstance(number, int):
            yield number
        yield from dict.fromkeys((round(number), number) if whole else (number, round(number)))
        yield _on_step(number, step)
    bottom = max(lowest, -math.inf if above is None else above)
    top = min(highest, math.inf if below is None else below)
    start = 0 if bottom <= 0 <= top else bottom if bottom > 0 else top
    upwards = (start >= 0 and bottom != -math.inf) or start == 0
    first = _on_step(start, step, up=upwards)
    for times in range(MANY // 2):
        yield first + times * step if upwards else first - times * step
    if start == 0 and bottom < 0:
        yield _on_step(max(-step, bottom), step)
    if not whole and math.isfinite(bottom) and math.isfinite(top):
        yield from ((bottom + top) / 2, bottom, top)


def _on_step(number: float, step: float, *, up: bool = True) -> int | float:
    """The multiple of ``step`` beside ``number``."""
    times = math.ceil(number / step) if up else math.floor(number / step)
    found = times * step
    return int(found) if float(found).is_integer() else found


def _spoken(wish: Any) -> int | float | None:
    """A number as it was heard."""
    if isinstance(wish, int | float) and not isinstance(wish, bool):
        return wish if isinstance(wish, int) or math.isfinite(wish) else None
    if not isinstance(wish, str):
        return None
    if wish in DIGITS:
        return DIGITS.index(wish)
    try:
        number = float(wish)
    except ValueError:
        return None
    if not math.isfinite(number):
        return None
    return int(number) if number.is_integer() else number


def booleans(wish: Any) -> Iterator[bool]:
    """Both."""
    heard = wish if isinstance(wish, bool) else _WORDS.get(str(wish).lower())
    yield from (False, True) if heard is None else (heard, not heard)
