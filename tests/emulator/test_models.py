"""The emulator's table against the services' one, trait by trait: each with a setup that only works if both agree.

Neither knows of the other; only this test may import both.
"""

import json
from collections.abc import Callable
from dataclasses import fields
from typing import Any, get_args, get_type_hints

import pytest

from emulator.api.protocol import Decoder
from emulator.configuration.setup import accept
from emulator.errors import Refusal
from emulator.models import ALIASES, MODELS, Rules
from services.fabric.capabilities import MODELS as CAPABILITIES
from services.fabric.capabilities import ModelCapabilities, capabilities_of
from tests.emulator.behaviour import behaviour
from tests.emulator.caller import Caller, scenario, typed
from tests.emulator.rows import row

DEVELOPER = {name: rules for name, rules in MODELS["developer"].items() if rules.kind == "conversation"}
LIVE = "gemini-3.8-live"


def accepted(model: str, **setup: Any) -> bool:
    """Whether the emulator takes this, beside what the model always needs."""
    generation = setup.setdefault("generationConfig", {})
    if DEVELOPER[model].thinking == "level required":
        generation.setdefault("thinkingConfig", {"thinkingLevel": "LOW"})
    frame = json.dumps({"setup": {"model": f"models/{model}", **setup}})
    parsed = Decoder("developer", "v1beta", strict=True).decode(frame)
    try:
        accept(parsed.body, backend="developer", api_version="v1beta")
    except Refusal as refusal:
        assert refusal.code == 1007
        return False
    return True


def declared(*behaviors: str | None) -> list[dict[str, Any]]:
    functions = [
        {"name": f"f{number}", **({"behavior": behavior} if behavior else {})}
        for number, behavior in enumerate(behaviors)
    ]
    return [{"functionDeclarations": functions}]


def blocking(model: str, behavior: str | None) -> bool | None:
    """Whether a function so declared blocks; None where it cannot be declared so."""
    tools = declared(behavior)
    if not accepted(model, tools=tools):
        return None
    generation = {"thinkingConfig": {"thinkingLevel": "LOW"}} if DEVELOPER[model].thinking == "level required" else {}
    caller = Caller(model, tools=tools, generationConfig=generation)
    return caller.config.functions["f0"].blocking


def idle_by_status(model: str) -> bool:
    """Whether a turn can be complete with the model still at work, so that only the status tells when it is idle."""
    rule = {"name": "ask", "hear": "ask", "call": {"tool": "f0"}, "say": "hello"}
    generation = {"thinkingConfig": {"thinkingLevel": "LOW"}} if DEVELOPER[model].thinking == "level required" else {}
    caller = Caller(model, scenario=scenario(rule), tools=declared("NON_BLOCKING"), generationConfig=generation)
    caller.send(clientContent=typed("ask"))
    statuses = [message.get("serverContent", {}).get("interactionStatus") for message in caller.messages]
    return "IN_PROGRESS" in statuses


# What each trait of the services' table claims, as something that can be seen of the emulator.
PROBES: dict[str, Callable[[str], bool]] = {
    "text_output": lambda model: accepted(model, generationConfig={"responseModalities": ["TEXT"]}),
    "blocking_tools": lambda model: blocking(model, "BLOCKING") is True,
    "non_blocking_tools": lambda model: blocking(model, "NON_BLOCKING") is False,
    # Where it has to be said, nothing is the default; the services say it for such models.
    "default_non_blocking": lambda model: blocking(model, None) is not True,
    "idle_by_interaction_status": idle_by_status,
}


def disagreements() -> list[str]:
    """Model and trait of everything that the two tables see differently."""
    return [
        f"{model}: {trait}"
        for model, traits in CAPABILITIES.items()
        for trait, probe in PROBES.items()
        if probe(model) != getattr(traits, trait)
    ]


def test_both_tables_have_the_same_models() -> None:
    assert set(CAPABILITIES) == set(DEVELOPER)


def test_every_trait_of_the_services_is_looked_at() -> None:
    assert set(PROBES) == {field.name for field in fields(ModelCapabilities)}


def test_the_tables_agree() -> None:
    assert disagreements() == []


@pytest.mark.parametrize("trait", PROBES)
def test_a_disagreement_in_any_trait_is_noticed(trait: str, monkeypatch: pytest.MonkeyPatch) -> None:
    traits = capabilities_of(LIVE)
    assert traits is not None
    values = {field.name: getattr(traits, field.name) for field in fields(traits)}
    values[trait] = not values[trait]
    monkeypatch.setitem(CAPABILITIES, LIVE, ModelCapabilities(**values))
    assert disagreements() == [f"{LIVE}: {trait}"]


@behaviour("models.agree", off=row(LIVE, blocking="default"))
def test_the_emulators_row_is_what_is_compared() -> None:
    assert disagreements() == []


# The table itself


@pytest.mark.parametrize(("backend", "name"), [(backend, name) for backend in MODELS for name in MODELS[backend]])
def test_rows_hold_what_their_types_allow(backend: Any, name: str) -> None:
    rules = MODELS[backend][name]
    for field, hint in get_type_hints(Rules).items():
        value = getattr(rules, field)
        if hint is bool:
            assert isinstance(value, bool), field
        elif get_args(hint) and isinstance(get_args(hint)[0], str):
            assert value in get_args(hint), field
    assert rules.modalities
    assert not rules.tools & rules.idle_tools
    assert (rules.sensitivity == "LOW") == (backend == "vertex")
    assert rules.context_tokens in (32_768, 128_000, 131_072)
    if backend == "vertex":
        # A value that its API does not know cannot be its default.
        assert rules.turn_coverage != "audio activity and all video"


def test_aliases_name_models_of_the_table() -> None:
    for alias, name in ALIASES.items():
        assert alias not in MODELS["developer"]
        assert name in MODELS["developer"]
