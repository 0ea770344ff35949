"""The emulator's table against the services' one, trait by trait: each with a setup that only works if both agree.

Neither knows of the other; only this test may import both.
"""

import json
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any, get_args, get_type_hints

import pytest

from emulator import prebuilt
from emulator.api.protocol import Decoder
from emulator.configuration.setup import accept
from emulator.errors import Refusal
from emulator.hearing.pictures import SECONDS_PER_FRAME
from emulator.models import ALIASES, MODELS, Backend, Rules
from parley.v1 import live_pb2
from services.fabric.capabilities import MODELS as CAPABILITIES
from services.fabric.capabilities import ModelCapabilities, capabilities_of
from tests.emulator.behaviour import behaviour
from tests.emulator.caller import Caller, scenario, typed
from tests.emulator.rows import row

DEVELOPER = {name: rules for name, rules in MODELS["developer"].items() if rules.kind == "conversation"}
LIVE = "gemini-3.8-live"


def generation_for(model: str) -> dict[str, Any]:
    """What the model always needs."""
    return {"thinkingConfig": {"thinkingLevel": "LOW"}} if DEVELOPER[model].thinking == "level required" else {}


def accepted(model: str, version: str = "v1beta", **setup: Any) -> bool:
    """Whether the emulator takes this, beside what the model always needs."""
    generation = setup.setdefault("generationConfig", {})
    if DEVELOPER[model].thinking == "level required":
        generation.setdefault("thinkingConfig", {"thinkingLevel": "LOW"})
    frame = json.dumps({"setup": {"model": f"models/{model}", **setup}})
    try:
        parsed = Decoder("developer", version, strict=True).decode(frame)
        accept(parsed.body, backend="developer", api_version=version)
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
    caller = Caller(model, tools=tools, generationConfig=generation_for(model))
    return caller.config.functions["f0"].blocking


def idle_by_status(model: str) -> bool:
    """Whether a turn can be complete with the model still at work, so that only the status tells when it is idle."""
    rule = {"name": "ask", "hear": "ask", "call": {"tool": "f0"}, "say": "hello"}
    generation = generation_for(model)
    caller = Caller(model, scenario=scenario(rule), tools=declared("NON_BLOCKING"), generationConfig=generation)
    caller.send(clientContent=typed("ask"))
    statuses = [message.get("serverContent", {}).get("interactionStatus") for message in caller.messages]
    return "IN_PROGRESS" in statuses


def levels(model: str) -> frozenset[int]:
    """Thinking levels that a setup may have."""
    return frozenset(
        value
        for name, value in live_pb2.ThinkingLevel.items()
        if value
        and accepted(
            model, generationConfig={"thinkingConfig": {"thinkingLevel": name.removeprefix("THINKING_LEVEL_")}}
        )
    )


def speech(model: str, **config: Any) -> bool:
    return accepted(model, generationConfig={"speechConfig": config})


def voices(model: str) -> frozenset[str]:
    asked = prebuilt.VOICES | {"Nobody"}
    return frozenset(name for name in asked if speech(model, voiceConfig={"prebuiltVoiceConfig": {"voiceName": name}}))


def languages(model: str) -> frozenset[str] | None:
    if speech(model, languageCode="ar-XA"):
        return None
    return frozenset(code for code in prebuilt.HALF_CASCADE_LANGUAGES | {"en"} if speech(model, languageCode=code))


def proactivity(model: str) -> str:
    """Whether it may be silent, by what a setup may say of it."""
    if not accepted(model, version="v1alpha", proactivity={"proactiveAudio": True}):
        return "never"
    return "opt-in" if accepted(model, version="v1alpha", proactivity={"proactiveAudio": False}) else "always"


def affective(model: str) -> bool:
    """Whether a conversation with affective dialog goes beyond its setup."""
    if not accepted(model, generationConfig={"enableAffectiveDialog": True}):
        return False
    caller = Caller(model, generationConfig=generation_for(model) | {"enableAffectiveDialog": True})
    return not caller.config.broken_by_affective_dialog


def ends_with_user(model: str) -> bool:
    return DEVELOPER[model].seeds_end_with_user


# What each trait of the services' table claims, as something that can be seen of the emulator.
PROBES: dict[str, Callable[[str], Any]] = {
    "task": lambda model: DEVELOPER[model].kind,
    "audio_output": lambda model: accepted(model, generationConfig={"responseModalities": ["AUDIO"]}),
    "text_output": lambda model: accepted(model, generationConfig={"responseModalities": ["TEXT"]}),
    "voices": voices,
    "languages": languages,
    "thinking_levels": levels,
    "thinking_level_required": lambda model: DEVELOPER[model].thinking == "level required",
    "thinking_budget": lambda model: (
        24_576 if accepted(model, generationConfig={"thinkingConfig": {"thinkingBudget": 24_576}}) else None
    ),
    "proactive_audio": proactivity,
    "affective_dialog": affective,
    "all_video_coverage": lambda model: accepted(
        model, realtimeInputConfig={"turnCoverage": "TURN_INCLUDES_AUDIO_ACTIVITY_AND_ALL_VIDEO"}
    ),
    "functions": lambda model: accepted(model, tools=declared("NON_BLOCKING")),
    "google_search": lambda model: accepted(model, tools=[{"googleSearch": {}}]),
    "history_ends_with_user": ends_with_user,
    "answers_nothing": lambda model: not DEVELOPER[model].refuses_empty_turn,
    "max_output_tokens": lambda model: DEVELOPER[model].output_tokens,
    "context_tokens": lambda model: DEVELOPER[model].context_tokens,
    "blocking_tools": lambda model: blocking(model, "BLOCKING") is True,
    "non_blocking_tools": lambda model: blocking(model, "NON_BLOCKING") is False,
    # Where it has to be said, nothing is the default; the services say it for such models.
    "default_non_blocking": lambda model: blocking(model, None) is not True,
    "behavior_required": lambda model: blocking(model, None) is None,
    "response_scheduling": lambda model: DEVELOPER[model].scheduling == "allowed",
    # Where no function goes on beside the conversation, none has several results.
    "continued_responses": lambda model: (
        DEVELOPER[model].will_continue == "followed" and blocking(model, "NON_BLOCKING") is False
    ),
    "context_update": lambda model: DEVELOPER[model].context_update,
    "idle_by_interaction_status": idle_by_status,
    "completes_turns": lambda model: DEVELOPER[model].kind != "transcription",
    "stuck_on_lost_calls": lambda model: DEVELOPER[model].lost_calls == "stuck",
    # The switch `handle_scope` has it so; other kinds of models take no ordered content.
    "handles_cover_typed_turns": lambda model: (
        DEVELOPER[model].kind == "conversation" and not DEVELOPER[model].not_resumable_at_typed_turn
    ),
    "transcribes_words": lambda model: DEVELOPER[model].transcribes_words,
    "pictures_per_second": lambda _: 1 / SECONDS_PER_FRAME,
}


def disagreements() -> list[str]:
    """Model and trait of everything that the two tables see differently."""
    return [
        f"{model}: {trait}"
        for model in DEVELOPER
        for trait, probe in PROBES.items()
        if probe(model) != getattr(CAPABILITIES["developer"][model], trait)
    ]


@pytest.mark.parametrize("backend", get_args(Backend))
def test_both_tables_have_the_same_models_for_the_same_tasks(backend: Backend) -> None:
    assert {name: traits.task for name, traits in CAPABILITIES[backend].items()} == {
        name: rules.kind for name, rules in MODELS[backend].items()
    }


def test_every_trait_of_the_services_is_looked_at() -> None:
    assert set(PROBES) == {field.name for field in fields(ModelCapabilities)}


def test_the_tables_agree() -> None:
    assert disagreements() == []


def test_they_agree_on_vertex_as_well() -> None:
    for name, rules in MODELS["vertex"].items():
        traits = CAPABILITIES["vertex"][name]
        assert traits.context_tokens == rules.context_tokens
        assert traits.all_video_coverage is (rules.turn_coverage == "audio activity and all video")
        assert traits.text_output is ("TEXT" in rules.modalities)
        assert traits.audio_output is ("AUDIO" in rules.modalities)
        assert traits.affective_dialog is (rules.affective_dialog == "allowed")
        if rules.kind == "conversation":
            assert (traits.voices, traits.languages) == (rules.voices, rules.languages)


@pytest.mark.parametrize("trait", PROBES)
def test_a_disagreement_in_any_trait_is_noticed(trait: str, monkeypatch: pytest.MonkeyPatch) -> None:
    traits = capabilities_of(LIVE)
    assert traits is not None
    value = getattr(traits, trait)
    another: Any = not value if isinstance(value, bool) else "another"
    changed = {**CAPABILITIES["developer"], LIVE: replace(traits, **{trait: another})}
    monkeypatch.setitem(CAPABILITIES, "developer", changed)  # type: ignore[arg-type]
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
