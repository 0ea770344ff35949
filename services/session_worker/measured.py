"""What a worker's sessions tell the metrics: links, turns, tool calls, losses. Each of these is rare; media is not."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from parley.v1 import fabric_pb2, live_pb2
from services.fabric import metrics, names
from services.fabric.meters import count, record
from services.session_worker.closes import LinkError
from services.session_worker.input_queue import AudioBatch
from services.session_worker.restoration import Restoration
from services.session_worker.turns import Turn


class Dialling:
    """A link is being connected, within the block."""

    def __enter__(self) -> Self:
        self._began = time.monotonic()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        labels = {} if error is None else {names.ERROR_REASON: getattr(error, "reason_name", "UNSPECIFIED")}
        if error is None or isinstance(error, LinkError):  # who was told to stop has not failed
            record(metrics.DIALS, time.monotonic() - self._began, labels)


class Replacing:
    """A session without a link is brought another one, within the block."""

    def __init__(self, cause: str, since: float) -> None:
        """`since`: when the model heard the caller last; monotonic seconds."""
        self._cause = cause
        self._since = since
        self._method = "NONE"

    def connected(self, method: str) -> None:
        """There is one: resumed or reseeded."""
        self._method = method
        record(metrics.GAPS, time.monotonic() - self._since, {names.LINK_CAUSE: self._cause})

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        outcome = "connected" if error is None else "failed" if isinstance(error, Exception) else "cancelled"
        labels = {names.LINK_CAUSE: self._cause, names.LINK_METHOD: self._method, names.OUTCOME: outcome}
        count(metrics.REPLACEMENTS, 1, labels)


def given_again(begins_with: Restoration) -> None:
    """What a new link is given of what the one before had."""
    classes: dict[str, int] = {}
    for item in begins_with.replay.items:
        if isinstance(item, AudioBatch):
            media_class, messages = "AUDIO", item.last_seq - item.first_seq + 1
        else:
            media_class, messages = "VIDEO" if item.HasField("video") else "VITAL", 1
        classes[media_class] = classes.get(media_class, 0) + messages
    if told := sum(last - first + 1 for first, last in begins_with.told_again):
        classes["VITAL"] = classes.get("VITAL", 0) + told
    for media_class, messages in classes.items():
        count(metrics.REPLAYED, messages, {names.MEDIA_CLASS: media_class})


def told(response: live_pb2.ConverseResponse) -> None:
    """The caller is told this of a change of links: count what is lost, where it says so."""
    if response.HasField("gap"):
        lost(response.gap)


def lost(gap: live_pb2.Gap) -> None:
    """The caller is told that this will not arrive."""
    direction = live_pb2.Direction.Name(gap.direction).removeprefix("DIRECTION_").lower()
    labels = {
        names.DIRECTION: direction,
        names.MEDIA_CLASS: live_pb2.MediaClass.Name(gap.media_class).removeprefix("MEDIA_CLASS_"),
        names.REASON: gap.reason,
    }
    count(metrics.LOST, gap.to_seq - gap.from_seq + 1, labels)


def shed(messages: int) -> None:
    """The caller does not keep up, and is told that so much of its audio will not arrive."""
    labels = {names.DIRECTION: "downlink", names.MEDIA_CLASS: "AUDIO", names.REASON: "OVERLOAD"}
    count(metrics.LOST, messages, labels)


def turn_over(turn: Turn) -> None:
    """The model has ended a turn."""
    count(metrics.TURNS, 1, {names.OUTCOME: "interrupted" if turn.interrupted else "completed"})
    if turn.first_audio is not None:
        record(metrics.FIRST_AUDIO, turn.first_audio - turn.began)
    if turn.usage is not None:
        _tokens("input", turn.usage.prompt_by_modality, turn.usage.prompt)
        _tokens("output", turn.usage.response_by_modality, turn.usage.response)


def turn_restarted() -> None:
    """A link was lost in the middle of a turn."""
    count(metrics.TURNS, 1, {names.OUTCOME: "restarted"})


def tool_called(reply: fabric_pb2.ToolCallReply, seconds: float) -> None:
    """A call of the model has its outcome."""
    outcome = live_pb2.ToolOutcome.Name(reply.outcome).removeprefix("TOOL_OUTCOME_").lower()
    record(metrics.CALL_LATENCY, seconds, {names.TOOL_OUTCOME: outcome})


def session_ended(reason: str) -> None:
    """For good."""
    count(metrics.SESSIONS_ENDED, 1, {names.REASON: reason})


def fenced() -> None:
    """A session turned out to be another worker's."""
    count(metrics.FENCED)


def _tokens(token_type: str, by_modality: dict[str, int], total: int) -> None:
    for modality, tokens in (by_modality or {"MODALITY_UNSPECIFIED": total}).items():
        if tokens:
            count(metrics.TOKENS, tokens, {names.GEN_AI_TOKEN_TYPE: token_type, names.MODALITY: modality})
