"""Takes what the gateway sends of a session's uplink: for the log, for the link, and how far the caller may forget."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from parley.v1 import fabric_pb2
from services.session_worker.uplink import Taken

if TYPE_CHECKING:
    from services.session_worker.parts import Parts

_ASK_AGAIN: Final = 0.05
"""Seconds after which what is missing is asked for again."""


class Intake:
    """One session's."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._asked = 0.0

    def take(self, envelope: fabric_pb2.UplinkEnvelope, now: float) -> None:
        """What an envelope brings, and what it says of the downlink."""
        parts, downlink = self._parts, self._parts.downlink
        downlink.passed_on(envelope.downlink_received_seq)
        downlink.acknowledge(envelope.downlink_acked_seq)
        if envelope.downlink_missing:
            downlink.resend([(item.from_seq, item.to_seq) for item in envelope.downlink_missing])
        if not downlink.drained:
            parts.wake()  # the window may have opened
        self.act_on(parts.uplink.take(envelope, now), now)

    def all_came(self, now: float) -> None:
        """The caller says no more."""
        self.act_on(self._parts.uplink.all_came(), now)

    def renumbered(self) -> None:
        """Another stream of the caller numbers what it sends from what was received on."""
        self._parts.uplink.renumber()
        self._parts.conversation.unnumber(self._parts.uplink.received + 1)
        self._tell()

    def tick(self, now: float) -> None:
        """Holes that waited too long become gaps."""
        self.act_on(self._parts.uplink.give_up(now), now)

    def tell_losses(self, now: float) -> None:
        """Bursts of losses that are over, or take long, become gaps."""
        downlink = self._parts.downlink
        if downlink.losses.is_due(now):
            downlink.tell_losses()
            self._parts.wake()

    def ask_for_missing(self, now: float) -> None:
        """Ask the gateway for what did not come."""
        missing = self._parts.uplink.missing()
        if missing and now - self._asked >= _ASK_AGAIN:
            self._asked = now
            self._parts.downlink.ask_for(missing)
            self._parts.wake()

    def stored(self, seq: int) -> None:
        """This request is in the log."""
        self._parts.uplink.coverage.stored(seq)
        self._tell()

    def checkpointed(self, record: fabric_pb2.CheckpointRecord) -> None:
        """Only now can another worker do without what it covers, and so can the caller."""
        parts = self._parts
        if parts.uplink.coverage.cover(record.covered_uplink_seq) > parts.downlink.uplink.acked:
            self._tell()

    def act_on(self, taken: Taken, now: float) -> None:
        """What came, or was found: some of it is for the log, and the caller is told of what is lost."""
        parts = self._parts
        for entry, seq in taken.to_store:
            parts.log(entry, seq)
        for gap in taken.lost:
            parts.downlink.losses.add(gap, now)
        if taken.input_waits:
            parts.feeder.wake()
        parts.downlink.uplink.received = parts.uplink.received

    def _tell(self) -> None:
        downlink, coverage = self._parts.downlink, self._parts.uplink.coverage
        told = downlink.uplink
        if coverage.acked > told.acked:
            downlink.tell_losses()  # before the caller forgets what they name
        told.acked = coverage.acked
        told.stored = coverage.settled_beyond()
        if told.stored:
            downlink.tell()
            self._parts.wake()
