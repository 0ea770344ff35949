"""Results of function calls: which call one is for, what it says, and what the model is to do about it."""

import json
from dataclasses import dataclass
from typing import Any

from emulator import texts
from emulator.api.protocol import FunctionResponse
from emulator.configuration.setup import Config
from emulator.errors import invalid
from emulator.mind.history import History
from emulator.record import LinkRecord
from emulator.tools import calls
from emulator.tools.pending import Call, Group, Pending

_ABANDONED = "abandoned"


@dataclass(frozen=True)
class Result:
    """What a response came to."""

    group: Group
    interim: bool = False
    """More is to come for the same call."""
    settled: bool = False
    """All calls of the group have their results."""
    scheduling: str = ""


class Results:
    """Takes the responses of one connection in."""

    def __init__(self, pending: Pending, history: History, record: LinkRecord) -> None:
        self._pending = pending
        self._history = history
        self._record = record

    def take(self, response: FunctionResponse, config: Config, now: float) -> Result | None:
        """Take one in; None when nothing follows from it. Raises :class:`emulator.errors.Refusal`."""
        scheduling = check(response, config)
        call = self._pending.find(response.id, response.name, by_name=not config.switches.call_ids)
        if call is None:
            if config.switches.late_response == "refused":
                raise invalid()
            self._record.event("late_response", at=now, id=response.id)
            return None
        self._record.acted_on()
        body = json.dumps(response.response, separators=(",", ":"), ensure_ascii=False)
        self._history.result(body)
        group = call.group
        fields, failed = calls.outcome(response)
        if not group.learn(call, {**self._shown(call, response, config, now), **fields}, len(body)):
            self._record.event("result_dropped", at=now, id=call.id, characters=len(body))
        if _continues(response, group):
            if config.rules.will_continue == _ABANDONED:
                self._pending.close(call)
                self._record.event("call_abandoned", at=now, id=call.id)
                return Result(group)
            return Result(group, interim=True, scheduling=scheduling)
        group.failed |= failed or (not response.name and config.switches.nameless_response == "degraded")
        self._pending.close(call)
        return Result(group, settled=not group.remaining, scheduling=scheduling)

    def _shown(self, call: Call, response: FunctionResponse, config: Config, now: float) -> dict[str, Any]:
        """The pictures of a response are seen; its texts are one field."""
        if not config.rules.response_media:
            return {}
        media = calls.media(response, config.rules.response_media)
        for data, mime_type in media.pictures:
            self._history.saw()
            self._record.add("video", {"bytes": len(data), "mime": mime_type, "call": call.id}, at=now)
        return {"text": media.text} if media.text else {}


def _continues(response: FunctionResponse, group: Group) -> bool:
    """Whether more results are to come for the same call. A call that blocks is answered at once."""
    return response.will_continue and not group.blocking


def check(response: FunctionResponse, config: Config) -> str:
    """When a result is to be spoken about. Raises :class:`emulator.errors.Refusal` where that may not be said."""
    scheduling = calls.scheduling(response)
    if scheduling and config.rules.scheduling == "refused":
        raise texts.SCHEDULING_REFUSED.refusal()
    return scheduling if config.rules.scheduling == "allowed" else ""
