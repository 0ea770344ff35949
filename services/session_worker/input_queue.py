"""What waits for the link: in order, bounded, joined, pictures at the model's pace. Plain code: the time is given."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from parley.v1 import live_pb2

_MOST_PICTURES = 8
"""Pictures in the queue, each with text that follows it. They are large: a link that takes nothing costs the oldest."""


@dataclass(frozen=True, slots=True)
class AudioBatch:
    """Audio frames that waited together, to leave as one message."""

    pcm: bytes
    first_seq: int
    last_seq: int


@dataclass(frozen=True, slots=True)
class Shed:
    """Input that does not reach the link."""

    seq: int
    media_class: live_pb2.MediaClass
    size: int
    reason: str


class InputQueue:
    """Requests of the caller on their way to the link.

    Text, turns and tool results are never shed: they are bounded where they enter (the gateway stops reading). Over
    the bound the oldest audio goes. One picture waits at a time, beside the queue, until the model takes the next: a
    newer one takes its place, audio passes it, and anything else first sends it off, so that a question about a
    picture comes after it.
    """

    JOIN_BYTES = 6400
    """Audio joined into one message at most: 200 ms at 16 kHz."""

    def __init__(self, max_audio_bytes: int, picture_interval: float = 0.0) -> None:
        self._queue: deque[live_pb2.ConverseRequest] = deque()
        self._max_audio_bytes = max_audio_bytes
        self._audio_bytes = 0
        self._picture: live_pb2.ConverseRequest | None = None
        self._picture_interval = picture_interval
        self._picture_due = 0.0
        self.shed_items = 0
        self.shed_bytes = 0

    def __len__(self) -> int:
        return len(self._queue) + (self._picture is not None)

    def append(self, request: live_pb2.ConverseRequest) -> list[Shed]:
        """Take one request in order; return what had to go for it."""
        match request.WhichOneof("payload"):
            case "audio":
                self._queue.append(request)
                self._audio_bytes += _audio_size(request)
                return self._shed_audio()
            case "video":
                older, self._picture = self._picture, request
                if older is None:
                    return []
                return [self._gone(older, live_pb2.MEDIA_CLASS_VIDEO, len(older.video.image.data), "PACE")]
            case _:
                shed = self._enqueue_picture()
                self._queue.append(request)
                return shed

    def pop(self, now: float) -> AudioBatch | live_pb2.ConverseRequest | None:
        """What goes to the link next; audio that waits together comes as one. None: nothing is due."""
        picture = self._picture
        if picture is not None and now >= self._picture_due and self._is_next(picture):
            self._picture = None
            return self._sent(picture, now)
        if not self._queue:
            return None
        if self._queue[0].WhichOneof("payload") == "audio":
            return self._joined_audio()
        return self._sent(self._queue.popleft(), now)

    @property
    def due(self) -> float | None:
        """When the picture that waits may go; None when none does."""
        return None if self._picture is None else self._picture_due

    def handed_over(self, seq: int) -> int:
        """Up to where everything has been handed to the link, once `seq` has: a picture that waits has not."""
        return seq if self._picture is None else min(seq, self._picture.seq - 1)

    def _enqueue_picture(self) -> list[Shed]:
        """What follows is about the picture that waits: it goes first, pace or not."""
        picture, self._picture = self._picture, None
        if picture is None:
            return []
        self._queue.append(picture)
        queued = [request for request in self._queue if request.HasField("video")]
        if len(queued) <= _MOST_PICTURES:
            return []
        self._queue.remove(queued[0])
        return [self._gone(queued[0], live_pb2.MEDIA_CLASS_VIDEO, len(queued[0].video.image.data), "OVERLOAD")]

    def _is_next(self, request: live_pb2.ConverseRequest) -> bool:
        return not self._queue or request.seq < self._queue[0].seq

    def _sent(self, request: live_pb2.ConverseRequest, now: float) -> live_pb2.ConverseRequest:
        if request.HasField("video"):
            self._picture_due = now + self._picture_interval
        return request

    def _joined_audio(self) -> AudioBatch:
        frames: list[bytes] = []
        size = last = 0
        first = self._queue[0].seq
        while self._queue and self._queue[0].WhichOneof("payload") == "audio":
            more = _audio_size(self._queue[0])
            if frames and size + more > self.JOIN_BYTES:
                break
            request = self._queue.popleft()
            frames += request.audio.frames
            size += more
            last = request.seq
        self._audio_bytes -= size
        return AudioBatch(frames[0] if len(frames) == 1 else b"".join(frames), first, last)

    def _shed_audio(self) -> list[Shed]:
        shed: list[Shed] = []
        while self._audio_bytes > self._max_audio_bytes:
            index = next(at for at, request in enumerate(self._queue) if request.WhichOneof("payload") == "audio")
            request = self._queue[index]
            size = _audio_size(request)
            del self._queue[index]
            self._audio_bytes -= size
            shed.append(self._gone(request, live_pb2.MEDIA_CLASS_AUDIO, size, "OVERLOAD"))
        return shed

    def _gone(
        self, request: live_pb2.ConverseRequest, media_class: live_pb2.MediaClass, size: int, reason: str
    ) -> Shed:
        self.shed_items += 1
        self.shed_bytes += size
        return Shed(request.seq, media_class, size, reason)


def _audio_size(request: live_pb2.ConverseRequest) -> int:
    return sum(map(len, request.audio.frames))
