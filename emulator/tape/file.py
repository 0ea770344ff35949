"""The file of a recording, written by a thread: a slow disk costs lines, never the relay's time."""

import contextlib
import os
import threading
from collections import deque
from pathlib import Path

import structlog

from emulator.tape.captured import Captured, Frame, Note, size
from emulator.tape.scribe import Scribe

log = structlog.get_logger(__name__)

# Kept free below the limit for the lines that say why the file ends.
RESERVE = 4096
_FLUSH_SECONDS = 0.1
_FLUSH_BYTES = 1024 * 1024
# Connections with lines dropped and not yet noted; what is forgotten is still in the sums at the end.
_NOTES_OWED = 10_000


class TapeFile:
    """``put`` never waits. What is written, is whole lines, by a thread that lives from ``open`` to ``close``."""

    def __init__(self, path: Path, scribe: Scribe, *, max_bytes: int, queue_bytes: int) -> None:
        self._path = path
        self._scribe = scribe
        self._max_bytes = max_bytes
        self._queue_bytes = queue_bytes
        self._changed = threading.Condition()
        self._queue: deque[Captured] = deque()
        self._queued = 0
        """Bytes in the queue and in what the thread has taken from it."""
        self._dropped: dict[int | None, list[int]] = {}
        """Values and bytes by connection, since a note last said so."""
        self._closing = False
        self._thread = threading.Thread(target=self._work, name="tape", daemon=True)
        self._descriptor = -1
        self._written = 0
        self._full = False
        self.dropped = 0
        """What came faster than it could be written."""
        self.unrecorded_frames = 0
        """Frames after the file had reached its limit, or had failed."""
        self.failure: Exception | None = None
        """What ended the recording, when it was not the recorder."""

    def open(self, first: Note) -> None:
        """Create the file and begin. Raises OSError, FileExistsError among them: a recording is never overwritten."""
        # Speech is in it: for its owner alone.
        self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        self.put(first)
        self._thread.start()

    def put(self, captured: Captured) -> None:
        """Take one value to be written, or count it as dropped where too many wait."""
        weight = size(captured)
        # What is no frame comes a few times a connection; it gets as much room again.
        room = self._queue_bytes if isinstance(captured, Frame) else 2 * self._queue_bytes
        connection = getattr(captured, "connection", None)
        with self._changed:
            if self._queued + weight > room:
                self._drop(connection, weight)
                return
            if owed := self._dropped.pop(connection, None):
                note = Note("dropped: the disk is too slow", {"values": owed[0], "bytes": owed[1]}, connection)
                self._queue.append(note)
                self._queued += size(note)
            self._queue.append(captured)
            self._queued += weight
            if self._queued > _FLUSH_BYTES:
                self._changed.notify()

    def close(self, limit: float) -> bool:
        """Write what waits, for at most ``limit`` seconds. Whether all of it is in the file."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(limit)
        return not self._thread.is_alive() and self.failure is None

    def _drop(self, connection: int | None, weight: int) -> None:
        if not self.dropped:
            log.warning("the disk is too slow; lines are dropped", file=str(self._path))
        self.dropped += 1
        owed = self._dropped.setdefault(connection, [0, 0])
        owed[0] += 1
        owed[1] += weight
        if len(self._dropped) > _NOTES_OWED:
            self._dropped.pop(next(iter(self._dropped)))

    def _work(self) -> None:
        closing = False
        while not closing:
            with self._changed:
                self._changed.wait_for(lambda: self._closing or self._queued > _FLUSH_BYTES, _FLUSH_SECONDS)
                batch, self._queue = self._queue, deque()
                closing = self._closing
            try:
                self._write(batch)
                if closing:
                    facts = {"dropped": self.dropped, "unrecorded_frames": self.unrecorded_frames}
                    self._store(self._scribe.line(Note("end of the recording", facts)))
            except Exception as error:  # noqa: BLE001 - nobody is above this thread to see it
                self._fail(error)
                self._write(batch)
        with contextlib.suppress(OSError):
            os.close(self._descriptor)

    def _write(self, batch: deque[Captured]) -> None:
        """Empties ``batch``."""
        lines = bytearray()
        while batch:
            captured = batch.popleft()
            with self._changed:
                self._queued -= size(captured)
            if self._full or self.failure is not None:
                self.unrecorded_frames += isinstance(captured, Frame)
                continue
            line = self._scribe.line(captured)
            if self._written + len(lines) + len(line) > self._max_bytes - RESERVE:
                self._full = True
                self.unrecorded_frames += isinstance(captured, Frame)
                log.warning("recording is full", file=str(self._path), max_bytes=self._max_bytes)
                line = self._scribe.line(Note("full: nothing after this was recorded", {"max_bytes": self._max_bytes}))
            lines += line
            if len(lines) > _FLUSH_BYTES:
                self._store(lines)
                lines.clear()
        if lines:
            self._store(lines)

    def _store(self, lines: bytes | bytearray) -> None:
        if self.failure is not None:
            return
        left = memoryview(bytes(lines))
        while left:
            left = left[os.write(self._descriptor, left) :]
        self._written += len(lines)

    def _fail(self, error: Exception) -> None:
        self.failure = error
        log.error("recording has failed", file=str(self._path), error=str(error))
        with contextlib.suppress(OSError):
            # Whole lines only.
            os.ftruncate(self._descriptor, self._written)
