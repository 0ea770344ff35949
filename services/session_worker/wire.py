"""Bytes of the Live protocol: the only module that knows what google-genai puts on its socket.

Connect, set-up and everything rare go through the unmodified SDK. Audio is encoded and decoded here, because the SDK
spends 60 us on a 20 ms frame and 120-180 us on an answer where this codec spends 1 and 6. It touches three private
names of the SDK (`AsyncSession._ws`, `._api_client`, `._receive`), so the SDK's version is checked at start and a
differential test holds both ways against each other on recorded frames.
"""

from __future__ import annotations

import json
import re
import warnings
from binascii import b2a_base64
from collections.abc import Mapping
from typing import Any, Final, cast

import msgspec
from google.genai import types
from google.genai import version as sdk_version
from google.genai.live import AsyncSession

from services.fabric import ids
from services.session_worker import call_arguments, events

# An enum value of a newer server is passed through; it is not worth a line of log per frame.
warnings.filterwarnings("ignore", category=UserWarning, module=r"google\.genai")

SUPPORTED_SDK: Final = "3.4.0"
_DEFAULT_OUTPUT_RATE: Final = 24_000
_UNNAMED: Final = "unnamed_"
"""Begins the ids of calls that came without one: what is waited for, told and cancelled goes by its id."""
_RATE: Final = re.compile(r"rate=(\d+)")
_SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F]")
"""How JSON writes halves of characters."""
_SECONDS: Final = re.compile(r"^(\d+(?:\.\d+)?)s$")


def check_sdk_version() -> None:
    """RuntimeError when the SDK is not the one whose private names this module was tested with."""
    if sdk_version.__version__ != SUPPORTED_SDK:
        raise RuntimeError(
            f"google-genai {sdk_version.__version__} is installed; this worker's codec is made for {SUPPORTED_SDK}: "
            "install that version or set PARLEY_WORKER_LINK_CODEC=sdk"
        )


class AudioEncoder:
    """Client message with audio, for one sample rate."""

    def __init__(self, rate: int) -> None:
        self._prefix = b'{"realtime_input":{"audio":{"data":"'
        self._suffix = b'","mime_type":"audio/pcm;rate=%d"}}}' % rate

    def encode(self, pcm: bytes) -> bytes:
        """One text frame, as UTF-8 bytes."""
        return self._prefix + b2a_base64(pcm, newline=False) + self._suffix


class _InlineData(msgspec.Struct, forbid_unknown_fields=True):
    data: bytes
    mimeType: str = ""  # noqa: N815 - the wire's spelling


class _Part(msgspec.Struct, forbid_unknown_fields=True):
    inlineData: _InlineData  # noqa: N815


class _ModelTurn(msgspec.Struct, forbid_unknown_fields=True):
    parts: list[_Part]
    role: str = ""


class _ServerContent(msgspec.Struct, forbid_unknown_fields=True):
    modelTurn: _ModelTurn  # noqa: N815


class _AudioMessage(msgspec.Struct, forbid_unknown_fields=True):
    """A server message that is audio and nothing else: the only kind worth a decoder of its own."""

    serverContent: _ServerContent  # noqa: N815


_audio_decoder = msgspec.json.Decoder(_AudioMessage)


class _OneMessage:
    """Stands in for the SDK's socket to have one message parsed."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw

    async def recv(self, decode: bool = False) -> bytes:
        """The message."""
        return self._raw


async def decode(session: AsyncSession, raw: bytes, *, fast: bool) -> list[events.Event]:
    """One server frame as events. Never raises for what a server may send: what the SDK cannot read is Unknown."""
    if fast:
        try:
            message = _audio_decoder.decode(raw)
        except msgspec.DecodeError:
            pass
        else:
            parts = message.serverContent.modelTurn.parts
            if all(part.inlineData.mimeType.startswith("audio/") for part in parts):
                return [_audio(part.inlineData.data, part.inlineData.mimeType) for part in parts]
    raw = _whole_characters(raw)
    parser = AsyncSession(session._api_client, cast(Any, _OneMessage(raw)))
    try:
        message_in_full = await parser._receive()
    except Exception:  # noqa: BLE001 - the SDK raises TypeError, ValueError, ValidationError and APIError alike
        return [events.Unknown(raw.decode("utf-8", "replace"))]
    try:
        content = json.loads(raw or b"{}")
    except ValueError:
        return [events.Unknown(raw.decode("utf-8", "replace"))]
    found = _translate(message_in_full)
    # What has no name here comes first: behind the end of a turn nobody may look for it any more.
    rest = _unnamed(content, _NAMED if found else _ECHO)
    return [events.Unknown(json.dumps(rest)), *found] if rest else found


def _whole_characters(raw: bytes) -> bytes:
    """The message with a `?` for each half of a character without its other half, which nobody could hand on."""
    if _SURROGATE.search(raw) is None:
        return raw
    try:
        return json.dumps(json.loads(raw), ensure_ascii=False).encode(errors="replace")
    except (ValueError, RecursionError):
        return raw


_ECHO: Final[Mapping[str, Any]] = {"setupComplete": None}
_TRANSCRIPTION: Final = {"text": None, "finished": None, "languageCode": None}
_NAMED: Final[Mapping[str, Any]] = {
    **_ECHO,
    "serverContent": {
        **dict.fromkeys(("modelTurn", "interrupted", "generationComplete")),
        **dict.fromkeys(("turnComplete", "turnCompleteReason", "waitingForInput", "interactionStatus")),
        **dict.fromkeys(("inputTranscription", "outputTranscription"), _TRANSCRIPTION),
    },
    **dict.fromkeys(("toolCall", "toolCallCancellation", "usageMetadata", "voiceActivity")),
    **dict.fromkeys(("goAway", "sessionResumptionUpdate")),
}
"""Members of a server's message that events are made of; None: with all that is in it."""


def _unnamed(content: Mapping[str, Any], named: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a message that no event is made of, in its place; empty members say nothing."""
    rest: dict[str, Any] = {}
    for key, value in content.items():
        inner = named.get(key)
        if isinstance(inner, Mapping) and isinstance(value, Mapping):
            left: Any = _unnamed(value, inner)
        else:
            left = None if key in named else value
        if left not in ({}, None):
            rest[key] = left
    return rest


def _audio(data: bytes, mime_type: str) -> events.Audio:
    rate = _RATE.search(mime_type)
    return events.Audio(data, int(rate.group(1)) if rate else _DEFAULT_OUTPUT_RATE)


def _call(call: types.FunctionCall) -> events.FunctionCall:
    call_id = call.id or f"{_UNNAMED}{ids.sortable_id()}"
    arguments = dict(call.args or {})
    if problem := call_arguments.problem_of(arguments):
        return events.FunctionCall(call_id, call.name or "", {}, problem)
    return events.FunctionCall(call_id, call.name or "", arguments)


def as_called(response: types.FunctionResponse, session: AsyncSession) -> types.FunctionResponse:
    """The result of a function as the model that called it takes it: without an id where the call came without.

    That was seen of Vertex alone; for the Developer API the SDK sends none without.
    """
    if session._api_client.vertexai and (response.id or "").startswith(_UNNAMED):
        return response.model_copy(update={"id": None})
    return response


def _seconds(value: str | None) -> float | None:
    match = _SECONDS.match(value or "")
    return float(match.group(1)) if match else None


def _translate(message: types.LiveServerMessage) -> list[events.Event]:
    """The SDK's message as events, in the order in which they make sense when one frame carries several."""
    out: list[events.Event] = []
    if (activity := message.voice_activity) is not None and activity.voice_activity_type is not None:
        started = activity.voice_activity_type == types.VoiceActivityType.ACTIVITY_START
        out.append(events.VoiceActivity(started, _seconds(activity.audio_offset) or 0.0))
    content = message.server_content
    if content is not None:
        out += _content_before_end(content)
    if message.tool_call is not None:
        for call in message.tool_call.function_calls or []:
            out.append(_call(call))
    if message.tool_call_cancellation is not None:
        out.append(events.CallsCancelled(tuple(message.tool_call_cancellation.ids or ())))
    if message.usage_metadata is not None:
        out.append(_usage(message.usage_metadata))
    if content is not None:
        out += _content_end(content)
    if (update := message.session_resumption_update) is not None:
        out.append(
            events.HandleUpdate(
                update.new_handle or "", bool(update.resumable), update.last_consumed_client_message_index
            )
        )
    if message.go_away is not None:
        out.append(events.GoAway(_seconds(message.go_away.time_left)))
    return out


def _content_before_end(content: types.LiveServerContent) -> list[events.Event]:
    out: list[events.Event] = []
    if (heard := content.input_transcription) is not None and (heard.text or heard.finished):
        out.append(events.InputTranscript(heard.text or "", bool(heard.finished), heard.language_code or ""))
    if content.interrupted:
        out.append(events.Interrupted())
    for part in (content.model_turn.parts if content.model_turn else None) or []:
        blob = part.inline_data
        if blob is not None and blob.data and (blob.mime_type or "audio/").startswith("audio/"):
            out.append(_audio(blob.data, blob.mime_type or ""))
        elif part.text:
            out.append(events.Text(part.text, bool(part.thought)))
        else:
            out.append(events.Unknown(part.model_dump_json(exclude_none=True)))
    if (said := content.output_transcription) is not None and (said.text or said.finished):
        out.append(events.OutputTranscript(said.text or "", bool(said.finished), said.language_code or ""))
    return out


def _content_end(content: types.LiveServerContent) -> list[events.Event]:
    out: list[events.Event] = []
    if content.generation_complete:
        out.append(events.GenerationComplete())
    idle_alone = content.interaction_status in (types.InteractionStatus.IDLE, types.InteractionStatus.REQUIRES_ACTION)
    if content.turn_complete or idle_alone:
        reason = content.turn_complete_reason
        out.append(
            events.TurnComplete(
                reason=reason.value if reason is not None else "",
                waiting_for_input=bool(content.waiting_for_input),
                idle=content.interaction_status != types.InteractionStatus.IN_PROGRESS,
            )
        )
    return out


def _usage(usage: types.UsageMetadata) -> events.Usage:
    def by_modality(details: list[types.ModalityTokenCount] | None) -> dict[str, int]:
        return {item.modality.value: item.token_count or 0 for item in details or [] if item.modality is not None}

    return events.Usage(
        prompt=usage.prompt_token_count or 0,
        response=usage.response_token_count or 0,
        total=usage.total_token_count or 0,
        tool_use=usage.tool_use_prompt_token_count or 0,
        thoughts=usage.thoughts_token_count or 0,
        cached=usage.cached_content_token_count or 0,
        prompt_by_modality=by_modality(usage.prompt_tokens_details),
        response_by_modality=by_modality(usage.response_tokens_details),
    )
