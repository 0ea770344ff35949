"""What a turn does: from a question, or from results, by the rules of the scenario."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from emulator.configuration.setup import Config
from emulator.mind import plan
from emulator.mind.plan import Op
from emulator.scenarios.scenario import Match, Scenario
from emulator.scenarios.script import Step
from emulator.tools.arguments import fit
from emulator.tools.pending import MAX_CALLS, Call, Group, Pending


@dataclass(frozen=True)
class Question:
    """What the user wants answered."""

    sentences: tuple[str, ...]
    pictures: int
    match: Match | None = None
    """The rule to follow, where no sentence has to be understood first."""
    typed: bool = False
    """Whether ``client_content`` asked for it."""


class Planner:
    """Knows the scenario, and by which functions it can be played."""

    def __init__(self, scenario: Scenario, pending: Pending) -> None:
        self._scenario = scenario
        self._pending = pending

    def answer(self, question: Question, config: Config) -> list[Op]:
        """What the answer to ``question`` is."""
        match = question.match or self._match(question.sentences, question.pictures)
        if match.rule is None:
            return plan.speech([self._scenario.file.unknown])
        return self._step(match.rule, {"pictures": question.pictures, **match.slots}, config)

    def following(self, group: Group, config: Config) -> list[Op]:
        """What comes after the results of ``group``."""
        if group.failed:
            return plan.speech([self._scenario.file.tool_failed])
        if group.step.then is not None:
            return self._step(group.step.then, group.values, config)
        return plan.speech(self._worded(group.step.say, group), group.step)

    def interim(self, group: Group) -> list[str]:
        """What is said about a result of ``group`` that is not the last."""
        return self._worded((group.step.interim,) if group.step.interim else group.step.say, group)

    def _worded(self, templates: Iterable[str], group: Group) -> list[str]:
        return [self._scenario.word(template, group.values) for template in templates]

    def _match(self, sentences: tuple[str, ...], pictures: int) -> Match:
        """The last sentence that means something, else all of them together."""
        for sentence in reversed(sentences):
            match = self._scenario.match(sentence, pictures)
            if match.rule is not None:
                return match
        return self._scenario.match(" ".join(sentences), pictures)

    def _step(self, step: Step, values: dict[str, Any], config: Config) -> list[Op]:
        opening = plan.opening(step)
        if not step.call:
            return [*opening, *plan.speech([self._scenario.word(text, values) for text in step.say], step)]
        group = self._group(step, values, config)
        if group is None:
            return [*opening, *plan.speech([self._scenario.file.tool_missing])]
        switch = config.switches.blocking_call_completes
        return opening + plan.calling(
            group,
            filler=self._scenario.word(step.filler, values),
            trailing=self._scenario.word(step.trailing, values),
            completes_early=config.rules.completes_at_blocking_call if switch == "model" else switch == "yes",
            completes_before=config.rules.interaction_status == "full",
        )

    def _group(self, step: Step, values: dict[str, Any], config: Config) -> Group | None:
        """The calls of a step; None when one of them is to a function that is not declared, or they are too many."""
        functions = [config.functions.get(spec.tool) for spec in step.call]
        if len(self._pending) + len(functions) > MAX_CALLS:
            return None
        group = Group(step, dict(values))
        for spec, function in zip(step.call, functions, strict=True):
            if function is None:
                return None
            arguments = fit(self._scenario.arguments(spec, values), function.schema, values)
            call = Call(self._pending.new_id(), function, arguments, spec.label or spec.tool, group)
            group.calls = (*group.calls, call)
            group.blocking |= function.blocking
        return group
