"""A step of the scenario as what the open turn does one after another."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from emulator.scenarios.script import Step
from emulator.tools.pending import Group


@dataclass(frozen=True, slots=True)
class Pause:
    """Think."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Show:
    """Send a part that is not spoken."""

    part: Mapping[str, Any]
    thought: str = ""


@dataclass(frozen=True, slots=True)
class Say:
    """Speak, until all of it has been sent."""

    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Generated:
    """What was said is all there is."""

    grounding: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Played:
    """Wait until all that was said has been heard."""


@dataclass(frozen=True, slots=True)
class Place:
    """Call functions."""

    group: Group
    after_complete: bool = False
    """Whether ``turnComplete`` is said before the call."""


@dataclass(frozen=True, slots=True)
class CompleteEarly:
    """Say ``turnComplete`` though the turn goes on."""


@dataclass(frozen=True, slots=True)
class Await:
    """Wait for the results of a group."""

    group: Group


@dataclass(frozen=True, slots=True)
class Complete:
    """End the turn."""

    reason: str = ""
    wants_more: bool = False


@dataclass(frozen=True, slots=True)
class End:
    """End a turn that has been said to be complete already."""


Op = Pause | Show | Say | Generated | Played | Place | CompleteEarly | Await | Complete | End


def opening(step: Step) -> list[Op]:
    """What comes before anything is said or called."""
    ops: list[Op] = []
    if step.delay:
        ops.append(Pause(step.delay.total_seconds()))
    if step.thought:
        ops.append(Show({"text": step.thought, "thought": True}, step.thought))
    if step.code_execution_result is not None:
        ops.append(Show({"codeExecutionResult": step.code_execution_result.model_dump()}))
    return ops


def speech(texts: Iterable[str], step: Step | None = None) -> list[Op]:
    """Say something, and end the turn when it has been heard."""
    spoken = tuple(text for text in texts if text)
    grounding = step.grounding if step else {}
    end = Complete(step.turn_complete_reason, step.waiting_for_input) if step else Complete()
    return [Say(spoken), Generated(grounding), Played(), end]


def calling(group: Group, *, filler: str, trailing: str, completes_early: bool, completes_before: bool) -> list[Op]:
    """Call functions, and wait for their results if they block.

    ``completes_early``: whether a turn that waits says ``turnComplete`` at the call already. ``completes_before``:
    whether one that does not wait says it before the call, and not with it.
    """
    before: list[Op] = [Say((filler,))] if filler else []
    after: list[Op] = [Say((trailing,))] if trailing else []
    if group.blocking:
        # One generation from the filler to the answer: it is complete after the answer only.
        return [*before, Place(group), *after, *([CompleteEarly()] if completes_early else []), Await(group)]
    if filler:
        before.append(Generated({}))
    if completes_before:
        end: list[Op] = [*after, Played(), Complete()] if after else [End()]
        return [*before, Played(), Place(group, after_complete=True), *end]
    return [*before, Place(group), *after, Played(), Complete()]
