"""The contents of a scenario file: rules, and what the model does by each of them, step after step.

docs/emulator-scenarios.md tells the same to those who write such files.
"""

import operator
import re
from datetime import timedelta
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, model_validator

from emulator.durations import Duration

_COMPARISON = re.compile(r"(>=|<=|>|<|=)?\s*(\d+)")
_COMPARE = {"=": operator.eq, ">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le}
_LONGEST_WAIT = timedelta(hours=24)


def _one_or_more(value: Any) -> Any:
    return [value] if isinstance(value, str | dict) else value


def _result(value: Any) -> Any:
    return {"output": value} if isinstance(value, str) else value


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CallSpec(_Strict):
    """A function call. ``<slot>`` in an argument is what was heard there, or a field of an earlier result."""

    tool: str = Field(min_length=1)
    args: dict[str, JsonValue] = {}
    label: str = Field("", alias="as", pattern=r"^([a-z][a-z0-9_]*)?$")
    """What its result is called in ``<label.field>``; without it, the tool's own name."""


class CodeResult(_Strict):
    """What the model's own code execution brought."""

    outcome: str = Field("OUTCOME_OK", pattern=r"^[A-Z][A-Z0-9_]*$")
    output: str = ""


class Condition(_Strict):
    """What must be so for a rule to hold."""

    pictures: Annotated[str, BeforeValidator(str)] = Field(pattern=r"^\s*(>=|<=|>|<|=)?\s*\d{1,9}\s*$")
    """How many pictures the turn sees: ``">=1"``, ``"<3"``, ``2``."""

    def holds(self, pictures: int) -> bool:
        """Whether it is so."""
        found = _COMPARISON.search(self.pictures)
        assert found is not None
        return bool(_COMPARE[found.group(1) or "="](pictures, int(found.group(2))))


class Step(_Strict):
    """What the model does: think, call, speak. A step without ``call`` and ``say`` is an empty turn."""

    delay: Duration = Field(timedelta(0), ge=timedelta(0), le=_LONGEST_WAIT)
    """Thinking time before anything else. An interruption ends it, too."""
    thought: str = ""
    """Sent as a thought part of its own, before anything is said or called."""
    code_execution_result: Annotated[CodeResult | None, BeforeValidator(_result)] = None
    """Sent as a part of its own after the thought, with no code before it."""
    filler: str = ""
    """Spoken before the call."""
    call: Annotated[tuple[CallSpec, ...], BeforeValidator(_one_or_more)] = ()
    """Calls that run beside one another."""
    frames: Literal["together", "each"] = "together"
    """Several calls in one ``toolCall`` message, or in one each."""
    trailing: str = ""
    """Spoken after the call, before its result: speech that comes late, as the service sends it at times."""
    interim: str = ""
    """Said about a result that is not the last (``willContinue``); without it, what ``say`` says."""
    then: "Step | None" = None
    """What follows the results of the calls, instead of ``say``: another step, which may call again."""
    say: Annotated[tuple[str, ...], BeforeValidator(_one_or_more)] = ()
    """Words with ``<slot>``, ``<field of a result>``, ``<label.field>`` or ``<pictures>``. Several are spoken one after
    another; where one ends and the next begins, both are parts of one ``modelTurn``."""
    grounding: dict[str, JsonValue] = {}
    """``groundingMetadata`` of what is said."""
    turn_complete_reason: str = Field("", pattern=r"^([A-Z][A-Z0-9_]*)?$")
    """``turnCompleteReason`` of the turn that this step ends, known to the API or not."""
    waiting_for_input: bool = False
    """Whether that turn says ``waitingForInput``."""

    @model_validator(mode="after")
    def _calls_where_it_must(self) -> Self:
        if not self.call:
            wants = [name for name in ("filler", "trailing", "interim", "then") if getattr(self, name)]
            if wants:
                raise ValueError(f"`{wants[0]}` belongs to a `call`, and there is none")
        if self.then is not None and (self.say or self.grounding):
            raise ValueError("what is said after `then` belongs into it")
        labels = [call.label or call.tool for call in self.call]
        if len(set(labels)) != len(labels):
            raise ValueError("two calls of the same tool need different names: `as`")
        return self


class Rule(Step):
    """Why the model does something, and what."""

    name: str = Field(min_length=1)
    hear: Annotated[list[str], BeforeValidator(_one_or_more)] = []
    """Sentences that it answers."""
    on: Literal["start", "timer", "picture"] | None = None
    """Instead of ``hear``: the model acts unasked, when the conversation begins (not when it is resumed), when a time
    has passed since the connection was set up, or when a picture makes ``when`` true."""
    after: Duration | None = Field(None, gt=timedelta(0), le=_LONGEST_WAIT)
    """Of a timer: how long that is."""
    every: Duration | None = Field(None, ge=timedelta(milliseconds=100), le=_LONGEST_WAIT)
    """Of a timer: how long until it comes again; without it, it does not."""
    when: Condition | None = None

    @model_validator(mode="after")
    def _one_cause(self) -> Self:
        if bool(self.hear) == (self.on is not None):
            raise ValueError("a rule has either `hear` or `on`")
        if (self.after is not None) != (self.on == "timer"):
            raise ValueError("`on: timer` and `after` belong together")
        if self.every is not None and self.on != "timer":
            raise ValueError("`every` belongs to `on: timer`")
        if self.when is not None and self.on in ("start", "timer"):
            raise ValueError(f"`when` does not go with `on: {self.on}`")
        return self

    def holds(self, pictures: int) -> bool:
        """Whether its condition is met."""
        return self.when is None or self.when.holds(pictures)


class ScenarioFile(_Strict):
    """The file."""

    name: str = Field(min_length=1, pattern=r"^[a-z][a-z0-9_-]*$")
    description: str = ""
    mode: Literal["rules", "echo"] = "rules"
    switches: dict[str, str | int | float | bool] = {}
    """Values of :class:`emulator.switches.Switches` for connections that choose this scenario."""
    faults: list[str | dict[str, JsonValue]] = []
    """What goes wrong on connections that choose this scenario; see :mod:`emulator.faults`."""
    slots: dict[str, Literal["digits"] | list[str]] = {}
    rules: list[Rule] = []
    unknown: str = ""
    tool_failed: str = ""
    tool_missing: str = ""
