"""What Parley keeps in JetStream: every stream and bucket, and what must be so about it. Plain code.

Services create what is missing when they start, and leave alone what an operator has changed; but where a stream lacks
what a promise rests on, they say so and do not serve. `parley fabric` shows and mends the same differences.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import Any, Final

from nats.js.api import DiscardPolicy, StorageType, StreamConfig

from services.fabric import subjects

_MIB: Final = 1024 * 1024
_NANOSECONDS: Final = 1_000_000_000
REQUEST_ID_MEMORY: Final = timedelta(hours=1)
"""How long a request id is remembered at most; it is forgotten sooner with its session's record."""
MOST_TIMELINE_MESSAGES: Final = 500
"""Of one session and kind: the server drops the oldest beyond it. A message holds what happened within a tenth of a
second."""
MOST_LOG_ENTRIES: Final = 5_000
"""Of one session: the server drops the oldest beyond it. A link that begins anew is told less."""


def sessions_stream(replicas: int) -> StreamConfig:
    """Ownership, checkpoints, attachments, claims."""
    return StreamConfig(
        name=subjects.SESSIONS_STREAM,
        subjects=["parley.session.>"],
        max_msgs_per_subject=1,
        discard=DiscardPolicy.NEW,
        discard_new_per_subject=True,
        allow_rollup_hdrs=True,
        allow_msg_ttl=True,
        allow_direct=True,
        max_bytes=512 * _MIB,
        max_msg_size=1 * _MIB,
        num_replicas=replicas,
        storage=StorageType.FILE,
    )


def requests_bucket(replicas: int) -> StreamConfig:
    """Which session a caller's request id made."""
    return StreamConfig(
        name=f"KV_{subjects.REQUESTS_BUCKET}",
        subjects=[f"$KV.{subjects.REQUESTS_BUCKET}.>"],
        max_msgs_per_subject=1,
        discard=DiscardPolicy.NEW,
        allow_rollup_hdrs=True,
        allow_msg_ttl=True,
        allow_direct=True,
        max_age=REQUEST_ID_MEMORY.total_seconds(),
        max_bytes=64 * _MIB,
        num_replicas=replicas,
        storage=StorageType.FILE,
    )


def log_stream(replicas: int, retention: timedelta) -> StreamConfig:
    """Conversations in text. `retention`: age at which entries are dropped of sessions that never ended properly."""
    return StreamConfig(
        name=subjects.LOG_STREAM,
        subjects=["parley.log.*"],
        max_age=retention.total_seconds(),
        max_bytes=2048 * _MIB,
        max_msg_size=4 * _MIB,
        max_msgs_per_subject=MOST_LOG_ENTRIES,
        allow_direct=True,
        num_replicas=replicas,
        storage=StorageType.FILE,
    )


def catalog_bucket(replicas: int) -> StreamConfig:
    """Declarations of tools."""
    return StreamConfig(
        name=f"KV_{subjects.CATALOG_BUCKET}",
        subjects=[f"$KV.{subjects.CATALOG_BUCKET}.>"],
        max_msgs_per_subject=1,
        discard=DiscardPolicy.NEW,
        allow_rollup_hdrs=True,
        allow_direct=True,
        deny_delete=True,
        max_bytes=16 * _MIB,
        num_replicas=replicas,
        storage=StorageType.FILE,
    )


def timeline_stream(replicas: int, retention: timedelta) -> StreamConfig:
    """What happened to sessions. `retention`: how long it is known."""
    return StreamConfig(
        name=subjects.TIMELINE_STREAM,
        subjects=[subjects.timeline("*", "*"), subjects.timeline_trace("*", "*")],
        max_age=retention.total_seconds(),
        max_bytes=512 * _MIB,
        max_msg_size=_MIB // 4,
        max_msgs_per_subject=MOST_TIMELINE_MESSAGES,
        discard=DiscardPolicy.OLD,
        allow_direct=True,
        num_replicas=replicas,
        storage=StorageType.FILE,
    )


def every_stream(replicas: int, log_retention: timedelta, timeline_retention: timedelta) -> list[StreamConfig]:
    """All of them, as a deployment with these settings wants them."""
    return [
        sessions_stream(replicas),
        log_stream(replicas, log_retention),
        timeline_stream(replicas, timeline_retention),
        requests_bucket(replicas),
        catalog_bucket(replicas),
    ]


class Weight(Enum):
    """What a difference means."""

    BROKEN = "broken"
    """A promise does not hold, or nothing works: services do not serve."""
    WEAKER = "weaker"
    """Less than was asked for: it works, and breaks sooner."""
    OTHER = "other"
    """Not what was asked for, and no harm as far as is known here."""


@dataclass(frozen=True, slots=True)
class Difference:
    """Something about a stream that is not as wanted."""

    stream: str
    field: str
    """Of the stream's configuration, as NATS spells it; empty: there is no such stream."""
    found: Any
    wanted: Any
    weight: Weight
    meaning: str
    """What comes of it."""
    mendable: bool = True
    """An existing stream can be changed so."""

    @property
    def mend(self) -> str:
        """What to do about it."""
        return "`parley fabric apply`" if self.mendable else "it cannot be changed: remove the stream and make it anew"

    def __str__(self) -> str:
        if not self.field:
            return f"{self.stream} is missing: {self.meaning}"
        what = f"{self.stream}: {self.field} is {shown(self.field, self.found)}"
        return f"{what}, wanted {shown(self.field, self.wanted)}: {self.meaning}"


_MUST_BE: Final = {
    "retention": ("messages would be gone once they are read", False),
    "subjects": ("what Parley writes would not be stored, or stored elsewhere", True),
    "max_msgs_per_subject": ("old records would be taken for new ones", True),
    "discard": ("when it is full it behaves otherwise than Parley counts on", True),
    "discard_new_per_subject": ("a tool call could be claimed twice, and have its effect twice", True),
    "allow_rollup_hdrs": ("records cannot be replaced", True),
    "allow_msg_ttl": ("records of ended sessions would stay for ever", True),
    "allow_direct": ("records cannot be read from the nearest server", True),
}
_DEFAULTS: Final = {
    "retention": "limits",
    "discard": "old",
    "max_msgs_per_subject": -1,
    "max_msg_size": -1,
    "max_bytes": -1,
    "max_age": 0,
    "num_replicas": 1,
}
"""Of what a description leaves out."""


def differences(found: Mapping[str, Any] | None, wanted: StreamConfig) -> list[Difference]:
    """`found`: the stream's configuration as the server describes it; None: there is none."""
    name = str(wanted.name)
    if found is None:
        return [Difference(name, "", None, None, Weight.BROKEN, "services create it when they start, if they may")]
    want = wanted.as_dict()
    listed = [*_must_be(name, found, want), *_at_least(name, found, want)]
    if found.get("storage") != want["storage"]:
        meaning = "records are lost when the server restarts"
        listed.append(Difference(name, "storage", found.get("storage"), want["storage"], Weight.WEAKER, meaning, False))
    for field in ("sealed", "deny_purge"):
        if found.get(field):
            meaning = "records of ended sessions cannot be removed"
            listed.append(Difference(name, field, True, False, Weight.BROKEN, meaning, mendable=False))
    return listed


def _must_be(name: str, found: Mapping[str, Any], want: Mapping[str, Any]) -> Iterable[Difference]:
    for field, (meaning, mendable) in _MUST_BE.items():
        default = _DEFAULTS.get(field, False)
        has: Any = found.get(field) or default
        wants: Any = want.get(field) or default
        if field == "max_msgs_per_subject" and wants != 1:
            if has not in (-1, wants):
                weight = Weight.WEAKER if has < wants else Weight.OTHER
                yield Difference(name, field, has, wants, weight, "links that begin anew are told another length of it")
        elif isinstance(wants, bool) and not wants:
            continue  # more than is needed
        elif has != wants:
            yield Difference(name, field, has, wants, Weight.BROKEN, meaning, mendable)


def _at_least(name: str, found: Mapping[str, Any], want: Mapping[str, Any]) -> Iterable[Difference]:
    """Limits that may be higher; -1 and 0 stand for none."""
    for field, weight, meaning in (
        ("max_msg_size", Weight.BROKEN, "large records are refused"),
        ("max_bytes", Weight.WEAKER, "it is full sooner, and then takes nothing"),
        ("max_age", Weight.WEAKER, "what is needed is gone sooner"),
    ):
        has, wants = _limit(found, field), _limit(want, field)
        if has is not None and (wants is None or has < wants):
            yield Difference(name, field, has, wants, weight, meaning)
        elif field == "max_age" and has != wants:
            yield Difference(name, field, has, wants, Weight.OTHER, "it is kept longer than was asked for")
    if (has := _limit(found, "max_msgs")) is not None:
        yield Difference(name, "max_msgs", has, None, Weight.WEAKER, "it is full sooner, and then takes nothing")
    replicas, wanted = found.get("num_replicas") or 1, want.get("num_replicas") or 1
    if replicas < wanted:
        meaning = "it is lost with fewer servers than was asked for"
        yield Difference(name, "num_replicas", replicas, wanted, Weight.WEAKER, meaning)
    elif replicas > wanted:
        yield Difference(name, "num_replicas", replicas, wanted, Weight.OTHER, "each write costs more than asked for")


def _limit(config: Mapping[str, Any], field: str) -> int | None:
    value = config.get(field)
    return None if value in (None, -1, 0) else int(value)


def mended(found: Mapping[str, Any], listed: Iterable[Difference]) -> dict[str, Any]:
    """The configuration with what can be changed as wanted, and everything else as it was."""
    config = dict(found)
    for difference in listed:
        if difference.mendable and difference.field:
            none = 0 if difference.field == "max_age" else -1
            config[difference.field] = none if difference.wanted is None else difference.wanted
    return config


def shown(field: str, value: Any) -> str:
    """A value of a configuration for people."""
    if value is None:
        return "unlimited"
    if field == "max_age":
        return f"{timedelta(seconds=int(value) / _NANOSECONDS)}"
    if field in ("max_bytes", "max_msg_size"):
        return f"{int(value) / _MIB:g} MiB"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(getattr(value, "value", value))
