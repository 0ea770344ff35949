"""When to tell the service what the application has taken: a decision without clock or I/O."""

AUDIO_BETWEEN_ACKS = 0.1
"""Seconds of audio. The service sends at most 0.4 s beyond the last ack, so this keeps it going without a message for
each frame."""
TIME_BETWEEN_ACKS = 0.2
"""Seconds. How long something may stay unacked when there is little audio."""


class AckPolicy:
    """Collects what was consumed and says when the next ack is due."""

    def __init__(self, *, after: int = 0) -> None:
        """`after`: what an earlier stream of the session has acked."""
        self._consumed = after
        self._acked = after
        self._audio = 0.0
        self._since: float | None = None

    @property
    def taken(self) -> int:
        """Everything up to here was taken or void."""
        return self._consumed

    def consumed(self, seq: int, audio_seconds: float, now: float) -> None:
        """The application took the message `seq` (0: unnumbered); everything below it was taken or void."""
        if seq <= self._consumed:
            return
        self._consumed = seq
        self._audio += audio_seconds
        if self._since is None:
            self._since = now

    def due_at(self) -> float | None:
        """When to ack, on the clock of `consumed`; in the past when it is due already, None when nothing is unacked."""
        if self._since is None:
            return None
        return self._since if self._audio >= AUDIO_BETWEEN_ACKS - 1e-9 else self._since + TIME_BETWEEN_ACKS

    def take(self) -> int:
        """The number to ack; counts as acked from here on."""
        self._acked = self._consumed
        self._audio = 0.0
        self._since = None
        return self._acked
