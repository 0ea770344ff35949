"""The faults' documentation, made of the models themselves: for the terminal and for the documents."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from emulator.faults.base import Fault, Lasting, LinkFault, MindFault, Moment, UpgradeFault
from emulator.faults.closes import CLOSES
from emulator.faults.frames import DESCRIPTIONS
from emulator.faults.text import MODELS, parameters

_COMMON = {
    name: field
    for model in (Fault, LinkFault, Lasting)
    for name, field in parameters(model).items()
    if name not in ("do",)
}


_MOMENTS = ("upgrade", *get_args(Moment))
# Their values have tables of their own.
_TABLED = {*_MOMENTS, *DESCRIPTIONS}


def own(model: type[Fault]) -> dict[str, FieldInfo]:
    """The parameters that only this fault has, or that mean something else for it."""
    common = {**parameters(Fault), **parameters(UpgradeFault), **parameters(Lasting), **parameters(MindFault)}
    return {
        name: field
        for name, field in parameters(model).items()
        if name != "do" and (name not in common or (name == "on" and field.default not in ("setup", "upgrade")))
    }


def plain() -> str:
    """Every fault with its parameters, for a terminal."""
    lines: list[str] = []
    for name, model in MODELS.items():
        lines.append(f"{name}  {_sentence(model)}")
        lines += [f"    {key}={_shown(field)}  {_meaning(field)}" for key, field in own(model).items()]
    lines += ["", "All of them:"]
    lines += [f"    {key}={_shown(field)}  {_meaning(field)}" for key, field in _COMMON.items()]
    lines += ["", f"Moments: {', '.join(_MOMENTS)}."]
    lines += [f"Closes (preset): {', '.join(CLOSES)}.", f"Frames (what): {', '.join(DESCRIPTIONS)}."]
    return "\n".join(lines).replace("`", "")


def brief() -> list[str]:
    """One line a fault: its name and all its parameters."""
    return [f"{name}: {', '.join(key for key in parameters(model) if key != 'do')}" for name, model in MODELS.items()]


def markdown() -> str:
    """The tables of the document."""
    faults = [
        (f"`{name}`", _sentence(model), "<br>".join(_cell(key, field) for key, field in own(model).items()))
        for name, model in MODELS.items()
    ]
    common = [(f"`{key}`", _shown(field) or "unset", _meaning(field)) for key, field in _COMMON.items()]
    closes = [
        (f"`{name}`", str(one.code), f"`{one.text}`" if one.text else "", one.when) for name, one in CLOSES.items()
    ]
    odd = [(f"`{name}`", description) for name, description in DESCRIPTIONS.items()]
    moments = ", ".join(f"`{moment}`" for moment in _MOMENTS)
    return "\n\n".join(
        (
            "### Parameters of all faults",
            _table(("Parameter", "Default", "Meaning"), common),
            "`for` belongs to the faults that last; `on`, `nth`, `times` and `after` do not belong to "
            + ", ".join(f"`{name}`" for name, model in MODELS.items() if not issubclass(model, LinkFault))
            + ".",
            f"Moments: {moments}.",
            "### Faults",
            _table(("Fault", "What happens", "Parameters of its own"), faults),
            "### Closes",
            _table(("`preset`", "Code", "Reason", "When the service says so"), closes),
            "### Frames",
            _table(("`what`", "Frame"), odd),
        )
    )


def _sentence(model: type[Fault]) -> str:
    return " ".join((model.__doc__ or "").split())


def _cell(name: str, field: FieldInfo) -> str:
    default = _shown(field)
    return f"`{name}`{f' (`{default}`)' if default else ''}: {_meaning(field)}"


def _meaning(field: FieldInfo) -> str:
    """The description, with the values there are to choose from."""
    choices = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
    described = field.description or ""
    if not choices or _TABLED.issuperset(choices):
        return described
    return f"{described} One of {', '.join(f'`{choice}`' for choice in choices)}."


def _shown(field: FieldInfo) -> str:
    """A default as one would write it; nothing where it is unset."""
    value = field.default
    if value is None or value == "":
        return ""
    if isinstance(value, timedelta):
        return f"{value.total_seconds():g}s"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _table(heads: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [heads, ("---",) * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '&#124;') for cell in line)} |" for line in lines)
