"""What faults have in common: when they happen, on which connections, how long they last."""

import re
from datetime import timedelta
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from emulator.actions import Happening
from emulator.durations import Duration
from emulator.faults.closes import CLOSES

_ZERO = timedelta(0)
_LINKS = re.compile(r"([1-9]\d{0,8})(?:(-)([1-9]\d{0,8})?)?")
# What a close frame may carry (RFC 6455, 7.4).
_CODES = frozenset({*range(1000, 1004), *range(1007, 1015), *range(3000, 5000)})

Moment = Literal["connect", Happening]


def _text(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _range(value: str) -> str:
    if _LINKS.fullmatch(value) is None:
        raise ValueError("say 1 or 2-3 or 2-")
    return value


def _preset(value: str) -> str:
    if value not in CLOSES:
        raise ValueError(f"no such close; there are: {', '.join(CLOSES)}")
    return value


def _code(value: int) -> int:
    if value not in _CODES:
        raise ValueError("a close frame carries 1000-1003, 1007-1014 or 3000-4999")
    return value


Span = Annotated[Duration, Field(ge=_ZERO, le=timedelta(days=1))]
Links = Annotated[str, BeforeValidator(_text), AfterValidator(_range)]
Preset = Annotated[str, AfterValidator(_preset)]
Code = Annotated[int, AfterValidator(_code)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]


class Fault(BaseModel):
    """What all faults have in common."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)
    summary: ClassVar[str] = ""

    do: str
    link: Links | None = Field(
        None,
        description="On which connections of a conversation: `1` is the first, so that a reconnect is spared; `2-3`; "
        "`2-`. Unset: on each.",
    )
    chance: float = Field(1.0, gt=0, le=1, description="How likely it is each time; drawn from the seed.")

    def concerns(self, link: int) -> bool:
        """Whether it is meant for a conversation's ``link``-th connection, counted from 1."""
        if self.link is None:
            return True
        found = _LINKS.fullmatch(self.link)
        assert found is not None
        first, dash, last = found.groups()
        return link == int(first) if dash is None else int(first) <= link <= int(last or link)

    def told(self) -> dict[str, Any]:
        """As JSON: its name and what differs from the defaults."""
        changed = self.model_dump(mode="json", by_alias=True, exclude_defaults=True, exclude={"do"})
        return {"do": self.do, **changed}


class UpgradeFault(Fault):
    """One that concerns the upgrade request."""

    on: Literal["upgrade"] = Field("upgrade", description="The moment: always the upgrade request.")


class LinkFault(Fault):
    """One that happens on an open connection."""

    on: Moment = Field("setup", description="The moment that brings it about.")
    nth: Count = Field(1, description="At which occurrence of the moment on a connection, counted from 1.")
    times: Count = Field(1, description="At how many occurrences in a row, on each connection.")
    after: Span = Field(_ZERO, description="How long after the moment, in real time.")

    def at(self, occurrence: int) -> bool:
        """Whether it is meant for that occurrence of its moment, counted from 1."""
        return self.nth <= occurrence < self.nth + self.times


class MindFault(LinkFault):
    """One that concerns what the model does: there is none before the setup."""

    on: Happening = Field("setup", description="The moment that brings it about.")


class Lasting(LinkFault):
    """One that lasts."""

    for_: Span | None = Field(None, alias="for", description="How long it lasts, in real time. Unset: to the end.")
