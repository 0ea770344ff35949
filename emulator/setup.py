"""A setup checked against its model's rules: what this connection is, or why it is refused."""

from dataclasses import dataclass, field, replace
from typing import Any

from emulator import models
from emulator.errors import invalid
from emulator.protocol import Content, content
from emulator.switches import Switches

TEXT_REFUSED = "The requested combination of response modalities (TEXT) is not supported by the model"
THINKING_REFUSED = "Thinking level is not supported for this model."
THINKING_MISSING = "Thinking level must be specified for this model."
BLOCKING_REFUSED = "BLOCKING function calls are not supported for this model."
CODE_EXECUTION_REFUSED = "Code Execution tool is not supported for this model"
PROACTIVITY_REFUSED = "Proactive audio is not supported for this model."


@dataclass(frozen=True)
class Function:
    """One declared function."""

    name: str
    blocking: bool
    properties: dict[str, Any]
    """Schema of each argument, as declared."""
    required: tuple[str, ...]


@dataclass(frozen=True)
class Detection:
    """Automatic activity detection as far as the setup speaks of it; None leaves it to the emulator's settings."""

    manual: bool = False
    silence_ms: int | None = None
    prefix_ms: int | None = None
    easy_start: bool = True
    easy_end: bool = True


@dataclass(frozen=True)
class Config:
    """What a connection was set up with, and what context updates made of it since."""

    model: str
    rules: models.Rules
    switches: Switches = field(default_factory=Switches)
    vertex: bool = False
    functions: dict[str, Function] = field(default_factory=dict)
    instructions: str = ""
    input_transcription: bool = False
    output_transcription: bool = False
    detection: Detection = Detection()
    interruptible: bool = True
    seeds_history: bool = False
    """The first client content is history and is not answered."""
    resumable: bool = False
    handle: str | None = None
    broken_by_affective_dialog: bool = False
    """The first message after the setup is refused."""

    def with_tools(self, tools: list[dict[str, Any]]) -> "Config":
        """With other tools; raises as the setup would."""
        return replace(self, functions=_functions(tools, self.rules))

    def with_instructions(self, instructions: Content) -> "Config":
        """With other system instructions."""
        return replace(self, instructions=instructions.text)


def accept(body: dict[str, Any], *, backend: str, api_version: str, switches: Switches | None = None) -> Config:
    """The configuration that a parsed setup asks for. Raises :class:`emulator.errors.Refusal`."""
    switches = switches or Switches()
    if not body.get("model"):
        raise invalid("model is required")
    if api_version not in switches.api_versions:
        raise models.not_found(body["model"], api_version)
    name, rules = models.find(body["model"], api_version)
    generation = body.get("generationConfig", {})
    if any(str(modality).upper() != "AUDIO" for modality in generation.get("responseModalities", ())):
        raise invalid(TEXT_REFUSED)
    _check_thinking(generation.get("thinkingConfig", {}), rules)
    _check_proactivity(body.get("proactivity", {}), rules)
    affective = generation.get("enableAffectiveDialog", False)
    if affective and rules.affective_dialog == "refused":
        raise invalid()
    resumption = body.get("sessionResumption")
    realtime = body.get("realtimeInputConfig", {})
    return Config(
        model=name,
        rules=rules,
        switches=switches,
        vertex=backend == "vertex",
        functions=_functions(body.get("tools", []), rules),
        instructions=content(body.get("systemInstruction", {})).text,
        input_transcription="inputAudioTranscription" in body,
        output_transcription="outputAudioTranscription" in body,
        detection=_detection(realtime.get("automaticActivityDetection", {}), backend),
        interruptible=realtime.get("activityHandling") != "NO_INTERRUPTION",
        seeds_history=body.get("historyConfig", {}).get("initialHistoryInClientContent", False),
        resumable=resumption is not None,
        handle=(resumption or {}).get("handle") or None,
        broken_by_affective_dialog=affective and rules.affective_dialog == "refused at first send",
    )


def _check_thinking(thinking: dict[str, Any], rules: models.Rules) -> None:
    level = str(thinking.get("thinkingLevel", "")).upper()
    budget = "thinkingBudget" in thinking
    match rules.thinking:
        case "refused":
            if level or budget:
                raise invalid(THINKING_REFUSED)
        case "level required":
            if not level or level == "THINKING_LEVEL_UNSPECIFIED":
                raise invalid(THINKING_MISSING)
            if level == "MINIMAL" or budget:
                raise invalid(THINKING_REFUSED)
        case "level":
            if budget:
                raise invalid()
        case "budget":
            if level:
                raise invalid(THINKING_REFUSED)


def _check_proactivity(proactivity: dict[str, Any], rules: models.Rules) -> None:
    if not proactivity:
        return
    if rules.proactivity == "unknown":
        raise invalid(PROACTIVITY_REFUSED)
    if rules.proactivity == "always" and proactivity.get("proactiveAudio") is False:
        raise invalid()


def _functions(tools: list[dict[str, Any]], rules: models.Rules) -> dict[str, Function]:
    if not rules.code_execution and any("codeExecution" in tool for tool in tools):
        raise invalid(CODE_EXECUTION_REFUSED)
    functions: dict[str, Function] = {}
    for tool in tools:
        for declaration in tool.get("functionDeclarations", ()):
            name = declaration.get("name", "")
            if not name or name in functions:
                raise invalid()
            parameters = declaration.get("parametersJsonSchema") or declaration.get("parameters") or {}
            if not isinstance(parameters, dict):
                raise invalid()
            functions[name] = Function(
                name=name,
                blocking=_blocking(str(declaration.get("behavior", "")).upper(), rules),
                properties=parameters.get("properties") or {},
                required=tuple(parameters.get("required") or ()),
            )
    return functions


def _blocking(behavior: str, rules: models.Rules) -> bool:
    match rules.blocking:
        case "refused":
            # NON_BLOCKING has to be said on every declaration.
            if behavior != "NON_BLOCKING":
                raise invalid(BLOCKING_REFUSED)
            return False
        case "only":
            return True
        case "default":
            return behavior != "NON_BLOCKING"
        case "opt-in":
            return behavior == "BLOCKING"


def _detection(body: dict[str, Any], backend: str) -> Detection:
    default = "LOW" if backend == "vertex" else "HIGH"
    silence, prefix = body.get("silenceDurationMs"), body.get("prefixPaddingMs")
    if (silence is not None and silence < 0) or (prefix is not None and prefix < 0):
        raise invalid()
    return Detection(
        manual=body.get("disabled", False),
        silence_ms=silence,
        prefix_ms=prefix,
        easy_start=_sensitivity(body.get("startOfSpeechSensitivity"), default) == "HIGH",
        easy_end=_sensitivity(body.get("endOfSpeechSensitivity"), default) == "HIGH",
    )


def _sensitivity(value: Any, default: str) -> str:
    level = str(value).rsplit("_", 1)[-1]
    return level if level in ("HIGH", "LOW") else default
