"""Session records in JetStream, and the fences that keep a session to one owner.

`own` changes only by compare-and-set (create, takeover, end). Every other record of a session is written with a fence:
the server refuses it when `own` has a newer revision than the writer knows. All records of a session live in one
stream, because a fence looks only into its own stream. The stream takes a second message on a subject only as a
roll-up (`Nats-Rollup: sub`), so that a write without one is create-only; tool claims (`claims.py`) stand on that.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import math
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from typing import Final

import nats.errors
import nats.js.errors
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, RawStreamMsg
from tenacity import retry, retry_if_exception, stop_after_attempt, wait_random_exponential

from parley.v1 import errors_pb2, fabric_pb2
from services.fabric import ids, subjects
from services.fabric.errors import ServiceError
from services.fabric.streams import ensure_stream
from services.fabric.topology import requests_bucket, sessions_stream

_LAST: Final = "Nats-Expected-Last-Subject-Sequence"
_LAST_SUBJECT: Final = "Nats-Expected-Last-Subject-Sequence-Subject"
_ROLLUP: Final = "Nats-Rollup"
_TTL: Final = "Nats-TTL"
_WRONG_LAST_SEQUENCE: Final = 10071
_WRITE_IN_FLIGHT: Final = 10164
_INACTIVE: Final = 30.0
"""Seconds after which the server removes the consumer of a reader that is gone."""
_PAGE_LIMIT: Final = 5.0
"""Seconds that a page may take."""
_LIST_LIMIT: Final = 10.0
"""Seconds that reading every record of a kind may take."""
_QUIET: Final = 0.1
"""Seconds without a message after which the server is asked whether there is more."""
_MOST_ROUNDS: Final = 5

MAX_SETTINGS: Final = 768 * 1024
"""Bytes of a session's settings with the declarations of its tools: each checkpoint holds them, and is one message of
at most 1 MiB (`max_msg_size`) with what else another worker must know."""


class FencedError(Exception):
    """The session belongs to somebody else now."""


def _in_flight(error: BaseException) -> bool:
    return isinstance(error, nats.js.errors.APIError) and error.err_code == _WRITE_IN_FLIGHT


def stream_gateway(record: fabric_pb2.AttachmentRecord) -> str:
    """The gateway of the stream that is attached, or was last."""
    return record.gateway or record.last_gateway


def handed_over(own: fabric_pb2.OwnRecord) -> bool:
    """The owner has let the session go: whoever may have it need not prove that the owner is gone."""
    return own.HasField("handover") and own.handover.epoch == own.session.epoch


def request_key(tenant: str, principal: str, request_id: str) -> str:
    """The KV key of a request id: one caller cannot find another's session by guessing ids."""
    return hashlib.sha256("\0".join((tenant, principal, request_id)).encode()).hexdigest()


def unavailable(error: Exception) -> ServiceError:
    """JetStream did not answer or could not do it."""
    detail = str(error) or type(error).__name__
    return ServiceError(
        errors_pb2.ERROR_REASON_FABRIC_UNAVAILABLE, f"session records (JetStream) are not available: {detail}"
    )


class RecordStore:
    """Reads and writes of single records, with their fences."""

    def __init__(self, js: JetStreamContext) -> None:
        self._js = js

    async def read_own(self, session: str) -> tuple[fabric_pb2.OwnRecord, int] | None:
        """The current `own` and its revision; None when there is none."""
        found = await self._read(subjects.own(session))
        return None if found is None else (fabric_pb2.OwnRecord.FromString(found[0]), found[1])

    async def own_age(self, session: str) -> float | None:
        """Seconds since `own` was written, by the clocks of the server and of this machine: negative where they differ
        by more. None when there is none."""
        message = await self._last(subjects.own(session))
        if message is None or message.time is None:
            return None
        return (datetime.now(UTC) - message.time).total_seconds()

    async def _fenced(self, session: str, own: int, subject: str, payload: bytes, *, create_only: bool = False) -> int:
        headers = {_LAST: str(own), _LAST_SUBJECT: subjects.own(session)}
        if not create_only:
            headers[_ROLLUP] = "sub"
        try:
            return await self._publish(subject, payload, headers)
        except FencedError:
            current = await self.read_own(session)
            if current is not None and current[1] == own:
                raise unavailable(FencedError("refused although the ownership is ours")) from None
            raise

    async def _replace(self, subject: str, revision: int, payload: bytes) -> int:
        """Write over the record of this revision. FencedError when it is not the newest any more."""
        return await self._publish(subject, payload, {_LAST: str(revision), _ROLLUP: "sub"})

    async def _all(self, subject: str) -> list[Msg]:
        """The newest message of every subject that matches, also of those that are written or removed meanwhile."""
        messages: dict[str, Msg] = {}
        try:
            async with asyncio.timeout(_LIST_LIMIT):
                subscription = await self._js.subscribe(
                    subject,
                    stream=subjects.SESSIONS_STREAM,
                    ordered_consumer=True,
                    config=ConsumerConfig(deliver_policy=DeliverPolicy.LAST_PER_SUBJECT),
                )
                try:
                    await self._read_up(subscription, subject, messages)
                finally:
                    await subscription.unsubscribe()
        except (nats.errors.Error, TimeoutError) as error:
            raise unavailable(error) from error
        return list(messages.values())

    async def _read_up(
        self, subscription: JetStreamContext.PushSubscription, subject: str, messages: dict[str, Msg]
    ) -> None:
        """Take messages up to the newest that matches; again, because what is written anew before its turn goes behind
        it. Not by the server's count of what is pending, which is too low while others write."""
        seen = rounds = 0
        while rounds < _MOST_ROUNDS:
            found = await self._read(subject)
            if found is None or found[1] <= seen:
                return
            with contextlib.suppress(TimeoutError):  # the newest may have been removed
                while seen < found[1]:
                    message = await subscription.next_msg(timeout=_QUIET)
                    messages[message.subject] = message
                    seen = message.metadata.sequence.stream
                rounds += 1

    @retry(
        retry=retry_if_exception(_in_flight),
        stop=stop_after_attempt(6),
        wait=wait_random_exponential(multiplier=0.01, max=0.25),
        reraise=True,
    )
    async def _publish_once(self, subject: str, payload: bytes, headers: dict[str, str]) -> int:
        return (await self._js.publish(subject, payload, headers=headers)).seq

    async def _publish(self, subject: str, payload: bytes, headers: dict[str, str]) -> int:
        try:
            return await self._publish_once(subject, payload, headers)
        except nats.js.errors.APIError as error:
            if error.err_code == _WRONG_LAST_SEQUENCE:
                raise FencedError(subject) from error
            raise unavailable(error) from error
        except (nats.errors.Error, TimeoutError) as error:
            raise unavailable(error) from error

    async def _read(self, subject: str, stream: str = subjects.SESSIONS_STREAM) -> tuple[bytes, int] | None:
        message = await self._last(subject, stream)
        return None if message is None else (message.data or b"", message.seq or 0)

    async def _last(self, subject: str, stream: str = subjects.SESSIONS_STREAM) -> RawStreamMsg | None:
        try:
            return await self._js.get_last_msg(stream, subject)
        except nats.js.errors.NotFoundError:
            return None
        except (nats.errors.Error, TimeoutError) as error:
            raise unavailable(error) from error

    async def _purge(self, stream: str, subject: str) -> None:
        try:
            await self._js.purge_stream(stream, subject=subject)
        except (nats.errors.Error, TimeoutError) as error:
            raise unavailable(error) from error


class SessionRecords(RecordStore):
    """Reads and writes `own`, `ckpt`, `att` and request ids."""

    async def ensure(self, replicas: int) -> None:
        """Create the streams that are missing, and look at those that are not. MismatchError,
        StreamUnavailableError."""
        await ensure_stream(self._js, sessions_stream(replicas))
        await ensure_stream(self._js, requests_bucket(replicas))

    # Ownership

    async def create_own(self, session: str, record: fabric_pb2.OwnRecord) -> int:
        """Write the first `own`; return its revision. FencedError when the session exists already."""
        return await self._compare_and_set(session, 0, record, None)

    async def take_own(self, session: str, revision: int, record: fabric_pb2.OwnRecord) -> int:
        """Write `record` over the `own` of this revision; return its revision. FencedError when ownership has moved
        on."""
        return await self._compare_and_set(session, revision, record, None)

    async def end_own(self, session: str, revision: int, record: fabric_pb2.OwnRecord, retention: timedelta) -> int:
        """Replace `own` by a tombstone that stays for `retention`. FencedError when ownership has moved on."""
        return await self._compare_and_set(session, revision, record, retention)

    async def _compare_and_set(
        self, session: str, revision: int, record: fabric_pb2.OwnRecord, ttl: timedelta | None
    ) -> int:
        headers = {_LAST: str(revision), _ROLLUP: "sub"}
        if ttl is not None:
            headers[_TTL] = f"{max(1, math.ceil(ttl.total_seconds()))}s"
        try:
            return await self._publish(subjects.own(session), record.SerializeToString(), headers)
        except FencedError:
            # A write that timed out may have succeeded: what counts is what is there.
            current = await self.read_own(session)
            if current is not None and current[0] == record:
                return current[1]
            raise

    async def list_own(self) -> list[fabric_pb2.OwnRecord]:
        """Every session there is, tombstones included, in order of their ids (oldest first)."""
        found = await self._all(subjects.own("*"))
        records = [fabric_pb2.OwnRecord.FromString(message.data) for message in found]
        return sorted(records, key=lambda record: record.session.session_id)

    async def pages_of_own(self, size: int) -> AsyncGenerator[list[tuple[fabric_pb2.OwnRecord, int]], None]:
        """The same with their revisions, but up to `size` at a time and in no order; for those who are in no hurry."""
        name = f"own-{ids.sortable_id()}"
        config = ConsumerConfig(
            name=name,
            filter_subject=subjects.own("*"),
            ack_policy=AckPolicy.NONE,
            inactive_threshold=_INACTIVE,
            mem_storage=True,
            num_replicas=1,
        )
        try:
            subscription = await self._js.pull_subscribe_bind(name, subjects.SESSIONS_STREAM)
            try:
                left = (await self._js.add_consumer(subjects.SESSIONS_STREAM, config)).num_pending or 0
                while left > 0:
                    messages = await subscription.fetch(min(size, left), timeout=_PAGE_LIMIT)
                    left -= len(messages)
                    yield [
                        (fabric_pb2.OwnRecord.FromString(message.data), message.metadata.sequence.stream)
                        for message in messages
                    ]
            finally:
                with contextlib.suppress(nats.errors.Error, TimeoutError):
                    await subscription.unsubscribe()
                    await self._js.delete_consumer(subjects.SESSIONS_STREAM, name)
        except (nats.errors.Error, TimeoutError) as error:
            raise unavailable(error) from error

    # Fenced records

    async def write_checkpoint(self, session: str, own: int, record: fabric_pb2.CheckpointRecord) -> None:
        """Write `ckpt`, fenced by the `own` revision. FencedError when ownership has moved on."""
        await self._fenced(session, own, subjects.checkpoint(session), record.SerializeToString())

    async def read_checkpoint(self, session: str) -> fabric_pb2.CheckpointRecord | None:
        """The newest checkpoint."""
        found = await self._read(subjects.checkpoint(session))
        return None if found is None else fabric_pb2.CheckpointRecord.FromString(found[0])

    async def write_attachment(self, session: str, own: int, record: fabric_pb2.AttachmentRecord) -> None:
        """Write `att`, fenced by the `own` revision. FencedError when ownership has moved on."""
        await self._fenced(session, own, subjects.attachment(session), record.SerializeToString())

    async def read_attachment(self, session: str) -> fabric_pb2.AttachmentRecord | None:
        """The attachment."""
        found = await self._read(subjects.attachment(session))
        return None if found is None else fabric_pb2.AttachmentRecord.FromString(found[0])

    async def forget_work(self, session: str) -> None:
        """Remove what only a living session needs: checkpoint, attachment, claims."""
        for subject in (subjects.checkpoint(session), subjects.attachment(session), subjects.claim(session, "*")):
            await self._purge(subjects.SESSIONS_STREAM, subject)

    async def forget(self, session: str) -> None:
        """Remove every record of a session."""
        await self._purge(subjects.SESSIONS_STREAM, subjects.session_records(session))

    # Request ids

    async def claim_request(self, key: str, session: str) -> str:
        """Tie a request id to `session` unless it is tied already; return the session that it is tied to."""
        record = fabric_pb2.RequestRecord(schema_version=1, session_id=session)
        subject = f"$KV.{subjects.REQUESTS_BUCKET}.{key}"
        try:
            await self._publish(subject, record.SerializeToString(), {_LAST: "0"})
        except FencedError:
            found = await self._read(subject, stream=f"KV_{subjects.REQUESTS_BUCKET}")
            if found is None:
                raise unavailable(FencedError("the request id was forgotten this very moment; try again")) from None
            return fabric_pb2.RequestRecord.FromString(found[0]).session_id
        return session

    async def forget_request(self, key: str) -> None:
        """Untie a request id."""
        await self._purge(f"KV_{subjects.REQUESTS_BUCKET}", f"$KV.{subjects.REQUESTS_BUCKET}.{key}")
