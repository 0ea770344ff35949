"""Looking at a deployment's NATS from outside, and changing its streams: for `parley fabric` and `parley doctor`."""

from __future__ import annotations

import json
import ssl
from collections import deque
from collections.abc import AsyncIterator, Iterable, MutableSequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

import nats
import nats.errors
from nats.aio.client import Client
from nats.js.api import StreamConfig
from pydantic import Field
from pydantic_settings import SettingsConfigDict

from services.fabric.settings import NatsSettings, PositiveDuration
from services.fabric.topology import Difference, differences, every_stream, mended

_CONNECT: Final = 3
"""Seconds."""
_REQUEST: Final = 10.0
"""Seconds that JetStream may take; making a stream with replicas takes an election."""
_NO_STREAM: Final = 10059
_MOST_HEARD: Final = 50


class FabricSettings(NatsSettings):
    """Environment variables with the prefix PARLEY_FABRIC_: what `parley fabric` and `parley doctor` look for."""

    model_config = SettingsConfigDict(env_prefix="PARLEY_FABRIC_")

    replicas: int = Field(1, ge=1, le=5, description="Copies that JetStream is to keep of every stream.")
    log_retention: PositiveDuration = Field(
        timedelta(hours=24), description="As PARLEY_WORKER_LOG_RETENTION of the workers."
    )
    timeline_retention: PositiveDuration = Field(
        timedelta(hours=24), description="As PARLEY_WORKER_TIMELINE_RETENTION and PARLEY_GATEWAY_TIMELINE_RETENTION."
    )


class NatsUnreachableError(Exception):
    """There is no connection to NATS, or no JetStream behind it."""

    exit_status = 69


class JetStreamError(Exception):
    """The server refused a request."""

    exit_status = 1

    def __init__(self, code: int, description: str) -> None:
        super().__init__(f"JetStream: {description}")
        self.code = code
        """JetStream's own, five digits."""


@asynccontextmanager
async def connected(
    settings: NatsSettings, name: str, heard: MutableSequence[str] | None = None
) -> AsyncIterator[Client]:
    """A connection that is tried a few times, not for ever. `heard`: gets what the server says beside its answers, as
    of permissions. NatsUnreachableError."""
    heard = deque(maxlen=_MOST_HEARD) if heard is None else heard

    async def note(error: Exception) -> None:
        heard.append(str(error) or type(error).__name__)

    try:
        client = await nats.connect(
            servers=settings.nats_servers(),
            user=settings.nats_user or None,
            password=settings.nats_password.get_secret_value() or None,
            name=name,
            tls=ssl.create_default_context(cafile=settings.nats_ca_file) if settings.nats_ca_file else None,
            inbox_prefix=f"_INBOX.operator.{name}".encode(),  # as the permissions of NATS users have it
            connect_timeout=_CONNECT,
            reconnect_time_wait=0.1,
            max_reconnect_attempts=1,
            error_cb=note,
        )
    except (nats.errors.Error, OSError, TimeoutError) as error:
        why = heard[-1] if heard else str(error) or type(error).__name__
        raise NatsUnreachableError(f"NATS cannot be reached at {settings.nats_url}: {why}") from error
    try:
        yield client
    finally:
        await client.close()


async def api(client: Client, request: str, body: Any = None) -> dict[str, Any]:
    """Ask JetStream's API. JetStreamError: it refused; NatsUnreachableError: there is none, or it does not answer."""
    payload = b"" if body is None else json.dumps(body).encode()
    try:
        reply = await client.request(f"$JS.API.{request}", payload, timeout=_REQUEST)
    except nats.errors.NoRespondersError:
        raise NatsUnreachableError("JetStream is not enabled on this NATS, or not for this user") from None
    except (nats.errors.Error, TimeoutError) as error:
        why = f"JetStream does not answer ({type(error).__name__}); may this user ask it, on $JS.API.>?"
        raise NatsUnreachableError(why) from error
    answer: dict[str, Any] = json.loads(reply.data)
    if "error" in answer:
        raise JetStreamError(int(answer["error"].get("err_code", 0)), str(answer["error"].get("description", "?")))
    return answer


async def stream_info(client: Client, name: str) -> dict[str, Any] | None:
    """The server's description of a stream; None when there is none. Errors as of `api`."""
    try:
        return await api(client, f"STREAM.INFO.{name}")
    except JetStreamError as error:
        if error.code == _NO_STREAM:
            return None
        raise


@dataclass(frozen=True, slots=True)
class Found:
    """A stream, and how it differs from what is wanted."""

    wanted: StreamConfig
    info: dict[str, Any] | None
    differences: list[Difference]


async def look(client: Client, settings: FabricSettings) -> list[Found]:
    """Every stream of Parley. Errors as of `api`."""
    found = []
    for wanted in every_stream(settings.replicas, settings.log_retention, settings.timeline_retention):
        info = await stream_info(client, str(wanted.name))
        found.append(Found(wanted, info, differences(None if info is None else info["config"], wanted)))
    return found


@dataclass(slots=True)
class Applied:
    """What was done."""

    created: list[str] = field(default_factory=list)
    changed: list[Difference] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    """What the server did not take, and why."""
    left: list[Difference] = field(default_factory=list)
    """What differs still."""


async def apply(client: Client, settings: FabricSettings) -> Applied:
    """Create what is missing and change what can be changed; nothing else about a stream is touched. Safe to repeat.
    NatsUnreachableError."""
    done = Applied()
    for found in await look(client, settings):
        if not found.differences:
            continue
        name = str(found.wanted.name)
        try:
            if found.info is None:
                await api(client, f"STREAM.CREATE.{name}", found.wanted.as_dict())
                done.created.append(name)
            elif any(each.mendable for each in found.differences):
                await api(client, f"STREAM.UPDATE.{name}", mended(found.info["config"], found.differences))
                done.changed += _mendable(found.differences)
        except JetStreamError as error:
            done.refused.append(f"{name}: {error}")
    done.left = [each for found in await look(client, settings) for each in found.differences]
    return done


def _mendable(listed: Iterable[Difference]) -> list[Difference]:
    return [each for each in listed if each.mendable]
