"""The model's side of the wire: how what it says, and the end of its turn, is put into messages."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from emulator.configuration.setup import Config
from emulator.tools.pending import Group

Message = dict[str, Any]
_TOGETHER = "together"
Status = Literal["IN_PROGRESS", "IDLE"]


def content(**members: Any) -> Message:
    """A ``serverContent``."""
    return {"serverContent": members}


def model_turn(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A ``modelTurn``."""
    return {"role": "model", "parts": list(parts)}


def audio(turn: Mapping[str, Any], transcription: dict[str, Any], config: Config) -> list[Message]:
    """A frame of speech with what it says. Some models tell that in a frame of its own."""
    switch = config.switches.server_content
    if switch == "joined" or (switch == "model" and config.rules.joins_fields):
        return [content(modelTurn=turn, outputTranscription=transcription)]
    return [content(modelTurn=turn), content(outputTranscription=transcription)]


def tool_calls(group: Group, *, ids: bool) -> list[Message]:
    """A group's calls, in one message or in one each."""
    made = [{name: value for name, value in call.facts.items() if name != "id" or ids} for call in group.calls]
    frames = [made] if group.step.frames == _TOGETHER else [[call] for call in made]
    return [{"toolCall": {"functionCalls": frame}} for frame in frames]


def turn_complete(
    usage: dict[str, Any], config: Config, *, pending: bool, reason: str = "", wants_more: bool = False
) -> list[Message]:
    """The end of a turn, with its usage and, where the model tells it, whether it is idle now."""
    members: dict[str, Any] = {"turnComplete": True}
    if reason:
        members["turnCompleteReason"] = reason
    if wants_more:
        members["waitingForInput"] = True
    messages: list[Message] = [content(**members)]
    status = _status(config, pending=pending)
    if status == "IDLE" and config.switches.idle_frame == "alone":
        if config.rules.interaction_status == "full":
            _tell(messages[0], "IN_PROGRESS", config)
        messages.append({})
        _tell(messages[1], status, config)
    elif status is not None:
        _tell(messages[0], status, config)
    messages[0]["usageMetadata"] = usage
    return [message for message in messages if message]


def _status(config: Config, *, pending: bool) -> Status | None:
    told = config.rules.interaction_status
    if pending:
        return "IN_PROGRESS" if told == "full" else None
    return "IDLE" if told != "none" else None


def _tell(message: Message, status: Status, config: Config) -> None:
    """Put the status where it belongs."""
    value = config.switches.idle_name if status == "IDLE" else status
    where = config.switches.interaction_status
    if where in ("nested", "both"):
        message.setdefault("serverContent", {})["interactionStatus"] = value
    if where in ("top", "both"):
        message["interactionStatus"] = value
