"""The bounds of one connection, and what is counted of all of them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Bounds of one connection; times in seconds."""

    setup_timeout: float
    close_timeout: float
    """For what is decided to be sent, and again for the client to answer the close frame."""
    outbox_bytes: int
    frozen_limit: float
    """For a connection that faults keep from being read."""


@dataclass
class Counters:
    """Of all connections since the start."""

    opened: int = 0
    refused: int = 0
    """Closed by the emulator with a code."""
    turned_away: int = 0
    """Upgrade requests beyond the number of connections that may be open."""
    dropped: int = 0
    """Clients that did not read."""
    dropped_frames: int = 0
    dropped_bytes: int = 0
