"""The caller's side of a session: whose stream is attached, since when nobody's is, and who may take it over."""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final

import structlog

from parley.v1 import errors_pb2, fabric_pb2
from services.fabric.errors import ServiceError, invalid_field
from services.fabric.records import FencedError
from services.session_worker.downlink import Downlink
from services.session_worker.ownership import Ownership
from services.session_worker.restored_state import Numbering
from services.session_worker.settings import WorkerSettings

log = structlog.get_logger()

_STATUS_INTERVAL: Final = 0.5
"""Seconds after which the gateway hears from the worker although there is nothing to say."""
_HEARD_JUST_NOW: Final = 1.5
"""Seconds; a gateway says every 0.5 s that it is there."""


@dataclass(frozen=True)
class Shell:
    """What an attachment needs of its session."""

    ownership: Ownership
    downlink: Downlink
    wake: Callable[[], None]
    """There is something for the gateway."""
    keep: Callable[[Coroutine[Any, Any, None], str], object]
    """Run this beside; a record that cannot be written is no reason to end the session."""
    fenced: Callable[[], None]
    """The session is somebody else's by now."""
    silent: Callable[[str, float], None]
    """This gateway counts as gone, because nothing was heard of it since then (monotonic seconds)."""
    back: Callable[[str], None]
    """It was heard again."""


class Attachment:
    """Attached -> half-closed -> let go, or detached: the session waits -> attached again.

    A gateway that is silent for too long counts as gone; when it is heard again with the same stream, that goes on.
    """

    def __init__(self, spec: fabric_pb2.OpenSession, settings: WorkerSettings, shell: Shell) -> None:
        self._spec = spec
        self._settings = settings
        self._shell = shell
        self.generation = 0
        self._token = spec.resume_token_sha256
        self._numbering = Numbering()
        self._gateway = ""
        self._silent_gateway = ""
        """The gateway whose stream was given up for its silence, and which may yet be heard again."""
        self._attaching = asyncio.Lock()
        self._heard = 0.0
        self._said_status = 0.0
        self._half_closed_since: float | None = None
        self._detached_since: float | None = None

    @property
    def detached(self) -> bool:
        """Nobody is attached."""
        return self._detached_since is not None

    @property
    def stream(self) -> tuple[str, float] | None:
        """The gateway of the stream that is attached, and when it was heard last; None: nobody is."""
        return None if self.detached else (self._gateway, self._heard)

    @property
    def detached_since(self) -> float | None:
        """Since when nobody is attached; None: somebody is."""
        return self._detached_since

    def in_touch(self, now: float) -> bool:
        """The gateway was heard just now. Of one that is silent nothing is known: perhaps it sends again what is
        missing, perhaps it is gone and the caller brings that by another one."""
        return not self.detached and now - self._heard < _HEARD_JUST_NOW

    def stood_still(self, seconds: float, now: float) -> None:
        """The worker was out of touch for so long: nobody could be heard, nobody could come back."""
        if not seconds:
            return
        self._heard = now
        if self._detached_since is not None:
            self._detached_since += seconds

    @property
    def window(self) -> float:
        """Seconds that the session waits for its caller: as long as that wants, up to the operator's limit."""
        most = self._settings.resume_window.total_seconds()
        wished = self._spec.config.resumption
        return min(most, wished.window.ToTimedelta().total_seconds()) if wished.HasField("window") else most

    def abandoned(self, now: float) -> bool:
        """Whether nobody came back within the window."""
        return self._detached_since is not None and now - self._detached_since > self.window

    # Attaching

    async def open(self) -> int:
        """Attach the stream of the open; return the first downlink `seq`. ServiceError."""
        return await self._take(self._spec.gateway, 0, self._token, self._numbering)

    async def inherit(self, generation: int, numbering: Numbering, *, acked: int, passed_on: int) -> int:
        """Go on with the stream of the owner before, whose generation this was; return the first downlink `seq`. Its
        caller has everything up to `acked`, its gateway up to `passed_on`. ServiceError."""
        self.generation = generation
        return await self._take(self._spec.gateway, acked, self._token, numbering, passed_on=passed_on)

    async def take_over(self, request: fabric_pb2.AttachSession, numbering: Numbering | None = None) -> int:
        """Let another stream take the session over; return the first downlink `seq` that it gets. `numbering`: of what
        it sends; None: as it was. ServiceError when it may not."""
        if (request.tenant, request.principal) != (self._spec.tenant, self._spec.principal):
            raise ServiceError(errors_pb2.ERROR_REASON_SESSION_UNKNOWN, f"there is no session {request.session_id}")
        presented = request.presented_token_sha256
        if presented and not hmac.compare_digest(presented, self._token):
            raise ServiceError(errors_pb2.ERROR_REASON_RESUME_REFUSED, "the resume token is not this session's")
        newest = self._shell.downlink.last_seq
        if max(request.last_received_seq, request.passed_on_seq) > newest:
            raise invalid_field("open.resume.last_received_seq", f"is beyond the newest message, {newest}")
        token = request.new_token_sha256 or self._token
        return await self._take(
            request.gateway,
            request.last_received_seq,
            token,
            numbering or self._numbering,
            passed_on=request.passed_on_seq,
        )

    async def _take(
        self, gateway: str, last_received: int, token: bytes, numbering: Numbering, *, passed_on: int = 0
    ) -> int:
        async with self._attaching:
            generation = self.generation + 1
            await self._write(generation, gateway, token, numbering)
            # Only now: an attach that fails must leave the stream and the token of the one before it.
            self.generation, self._token, self._numbering = generation, token, numbering
        self._gateway, self._silent_gateway = gateway, ""
        superseded = ServiceError(errors_pb2.ERROR_REASON_SUPERSEDED, "another stream took this session over")
        first = self._shell.downlink.attach(
            gateway, generation, last_received, superseded.to_failure(), passed_on=passed_on
        )
        self._heard = self._said_status = time.monotonic()
        self._detached_since = self._half_closed_since = None
        self._shell.wake()
        return first

    # What the gateway does

    def heard(self, now: float, *, leaving: bool) -> None:
        """An envelope of this stream came; `leaving`: it says that the stream is gone."""
        self._heard = now
        if self.detached and self._silent_gateway and not leaving:
            self._go_on(now)

    def half_close(self, now: float) -> bool:
        """The caller says no more; False when it had said so already."""
        if self._half_closed_since is not None:
            return False
        self._half_closed_since = now
        return True

    def detach(self, now: float) -> None:
        """The stream is gone; the session waits for its caller."""
        if self.detached:
            return
        self._detached_since = now
        self._half_closed_since = None
        self._shell.downlink.detach()
        self._shell.keep(self._record(""), "detach")

    def _go_on(self, now: float) -> None:
        """The gateway that was silent is heard again, with the same stream: go on where it is."""
        gateway, self._silent_gateway = self._silent_gateway, ""
        self._detached_since = None
        downlink = self._shell.downlink
        downlink.attach(gateway, self.generation, downlink.acked, fabric_pb2.Failure())
        self._shell.keep(self._record(gateway), "reattach")
        self._shell.back(gateway)
        self._said_status = now

    # What the session does

    def let_go(self, now: float, failure: ServiceError | None = None) -> None:
        """The caller half-closed and has its answer, or made a mistake: end the stream, keep the session."""
        if self.detached:
            return
        self._half_closed_since = None
        self._detached_since = now
        self._shell.downlink.end_stream(None if failure is None else failure.to_failure())
        self._shell.wake()
        self._shell.keep(self._record(""), "detach")

    def tick(self, now: float, *, connected: bool, busy: bool, last_event: float) -> None:
        """Status, a silent gateway, a half-closed stream whose turn is over.

        `connected`: to NATS; `busy`: the model has something to say; `last_event`: when it was last heard.
        """
        if not connected:
            self._heard = now  # nobody can be heard; silence proves nothing
        if now - self._said_status >= _STATUS_INTERVAL:
            self._said_status = now
            self._shell.downlink.status()
            self._shell.wake()
        if now - self._heard > self._settings.attachment_timeout.total_seconds():
            log.warning("gateway silent", session=self._spec.session_id, gateway=self._gateway)
            self._silent_gateway = self._gateway
            self._shell.silent(self._gateway, self._heard)
            self.detach(now)
        elif self._half_closed_since is not None:
            waited = now - max(self._half_closed_since, last_event)
            if not busy or waited > self._settings.half_close_wait.total_seconds():
                self.let_go(now)

    # Records

    async def _record(self, gateway: str) -> None:
        """Write who is attached, in order with every other such write; an attach that came meanwhile wins."""
        generation = self.generation
        async with self._attaching:
            if generation == self.generation:
                await self._write(generation, gateway, self._token, self._numbering)

    async def _write(self, generation: int, gateway: str, token: bytes, numbering: Numbering) -> None:
        try:
            last_gateway = "" if gateway else self._gateway
            await self._shell.ownership.attach(generation, gateway, token, numbering, last_gateway=last_gateway)
        except FencedError:
            self._shell.fenced()
            raise ServiceError(errors_pb2.ERROR_REASON_WORKER_LOST, "the session moved to another worker") from None
