"""``generationConfig``, checked against the model's rules and the limits of the API."""

from dataclasses import dataclass
from typing import Any

from emulator import models, prebuilt, texts
from emulator.api.protojson import snake
from emulator.errors import invalid

POSITIVE = "{name} must be positive"
NOT_NEGATIVE = "{name} must not be negative"
BETWEEN = "{name} must be in the range [{least}, {most}]"
_UNLIMITED = 2**31
# One of these texts was seen (max_output_tokens); the others follow it, with the limits that the API documents.
_LIMITS: tuple[tuple[str, float, float, str], ...] = (
    ("temperature", 0.0, 2.0, BETWEEN),
    ("topP", 0.0, 1.0, BETWEEN),
    ("topK", 1, _UNLIMITED, POSITIVE),
    ("candidateCount", 1, 8, BETWEEN),
    ("presencePenalty", -2.0, 2.0, BETWEEN),
    ("frequencyPenalty", -2.0, 2.0, BETWEEN),
    ("maxOutputTokens", 1, _UNLIMITED, POSITIVE),
)
_MOST_THINKING = 24_576


@dataclass(frozen=True)
class Generation:
    """What of ``generationConfig`` the emulator heeds; all of it is checked."""

    modality: str = "AUDIO"
    seed: int | None = None
    thoughts: bool = False
    """Whether thoughts are wanted as well."""
    max_output_tokens: int | None = None
    media_resolution: str = ""
    """LOW, MEDIUM, HIGH, or empty where the setup does not say."""
    affective: bool = False


def read(body: dict[str, Any], model: str, rules: models.Rules) -> Generation:
    """Raises :class:`emulator.errors.Refusal` for what the model does not take; ``model`` is its name as given."""
    for name, least, most, rule in _LIMITS:
        limit(body, name, "generation_config", least, most, rule=rule)
    limit(body, "maxOutputTokens", "generation_config", 1, rules.output_tokens)
    thinking = body.get("thinkingConfig", {})
    _check_thinking(thinking, rules)
    modality = _modality(body.get("responseModalities", []), rules)
    _check_speech(body.get("speechConfig", {}), model, rules, modality)
    affective = body.get("enableAffectiveDialog", False)
    if affective and rules.affective_dialog == "refused":
        raise invalid()
    return Generation(
        modality=modality,
        seed=body.get("seed"),
        thoughts=thinking.get("includeThoughts", False),
        max_output_tokens=body.get("maxOutputTokens"),
        media_resolution=body.get("mediaResolution", "").removeprefix("MEDIA_RESOLUTION_"),
        affective=affective,
    )


def limit(body: dict[str, Any], name: str, path: str, least: float, most: float, *, rule: str = BETWEEN) -> None:
    """Raise :class:`emulator.errors.Refusal` where a number that the setup has at ``path`` is beyond its limits."""
    if name in body and not least <= body[name] <= most:
        told = rule.format(name=snake(name), least=least, most=most)
        raise texts.INVALID_FIELD.refusal(path=f"setup.{path}.{snake(name)}", rule=told)


def _modality(wanted: list[str], rules: models.Rules) -> str:
    """The one that is wanted; a setup that wants none gets the model's own, AUDIO for all that converse."""
    chosen = list(dict.fromkeys(wanted)) or [rules.modalities[0]]
    if len(chosen) > 1 or chosen[0] not in rules.modalities:
        raise texts.TEXT_REFUSED.refusal(modalities=", ".join(chosen))
    if chosen[0] == "TEXT" and rules.kind == "conversation":
        raise texts.NOT_EMULATED.refusal(what="answers in text (response modality TEXT)")
    return chosen[0]


def _check_speech(speech: dict[str, Any], model: str, rules: models.Rules, modality: str) -> None:
    choice = speech.get("voiceConfig", {})
    voice = choice.get("prebuiltVoiceConfig", {}).get("voiceName") or choice.get("voice")
    if voice and modality != "AUDIO":
        raise texts.VOICE_WITHOUT_AUDIO.refusal()
    # The service's own lists spell them in lower case elsewhere, so case is taken not to count.
    if voice and voice.casefold() not in {name.casefold() for name in rules.voices}:
        raise texts.VOICE_UNKNOWN.refusal(voice=voice, model=model)
    language = speech.get("languageCode")
    if language and not (prebuilt.well_formed(language) if rules.languages is None else language in rules.languages):
        raise texts.LANGUAGE_REFUSED.refusal(language=language, model=model)


def _check_thinking(thinking: dict[str, Any], rules: models.Rules) -> None:
    level, budget = thinking.get("thinkingLevel"), thinking.get("thinkingBudget")
    match rules.thinking:
        case "refused":
            if level or budget is not None:
                raise texts.THINKING_REFUSED.refusal()
        case "level required":
            if not level:
                raise texts.THINKING_MISSING.refusal()
            if budget is not None:
                raise texts.THINKING_REFUSED.refusal()
            if level not in ("LOW", "MEDIUM", "HIGH"):
                raise texts.LEVEL_REFUSED.refusal(level=level)
        case "level":
            if budget is not None:
                raise invalid()
            if level == "XHIGH":
                raise texts.LEVEL_REFUSED.refusal(level=level)
        case "budget":
            if level:
                raise texts.THINKING_REFUSED.refusal()
            # -1 leaves it to the model.
            limit(thinking, "thinkingBudget", "generation_config.thinking_config", -1, _MOST_THINKING)
