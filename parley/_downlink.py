"""What comes from the service, across streams: drops what comes again, queues the rest, knows what to ack.

Plain code: what waits is the inbox.
"""

from parley import events
from parley._acks import AckPolicy
from parley._inbox import Inbox
from parley.audit import SequenceAudit


class Downlink:
    """One session's events."""

    def __init__(self, *, after: int) -> None:
        """`after`: the highest number that the caller already has."""
        self.inbox = Inbox()
        self.acks = AckPolicy(after=after)
        self.audit = SequenceAudit(after=after)
        self.received = after
        """The highest number that came."""
        self.ended: events.Ended | None = None
        self.repeated = 0
        """Messages that came again on a later stream, and were dropped."""
        self._known = after

    def attach(self) -> None:
        """What comes from here on comes on a new stream."""
        self._known = self.received

    def take(self, event: events.Event) -> None:
        """The next event of the stream of the moment."""
        if 0 < event.seq <= self._known:
            self.repeated += 1
            return
        # The same number twice on one stream is a fault, which the audit is to see.
        self.audit.feed_event(event)
        if event.seq:
            if event.seq <= self.received:
                return
            self.received = event.seq
        if isinstance(event, events.Interrupted):
            self.inbox.void(event.void_from, event.void_to)
        elif isinstance(event, events.Ended):
            self.ended = event
        self.inbox.put(event)
