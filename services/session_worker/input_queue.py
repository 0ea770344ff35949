"""What waits for the link: in order, bounded, joined. Plain code: no clock, no I/O."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from parley.v1 import live_pb2


@dataclass(frozen=True, slots=True)
class AudioBatch:
    """Audio frames that waited together, to leave as one message."""

    pcm: bytes
    last_seq: int


@dataclass(frozen=True, slots=True)
class Shed:
    """Input that the link did not take in time."""

    first_seq: int
    last_seq: int
    media_class: live_pb2.MediaClass
    size: int


class InputQueue:
    """Requests of the caller on their way to the link.

    Text, turns and tool results are never shed: they are bounded where they enter (the gateway stops reading). Over
    the bound the oldest audio goes. Of pictures only the newest waits: an older one is of no use to the model.
    """

    JOIN_BYTES = 6400
    """Audio joined into one message at most: 200 ms at 16 kHz."""

    def __init__(self, max_audio_bytes: int) -> None:
        self._queue: deque[live_pb2.ConverseRequest] = deque()
        self._max_audio_bytes = max_audio_bytes
        self._audio_bytes = 0
        self.shed_items = 0
        self.shed_bytes = 0

    def __len__(self) -> int:
        return len(self._queue)

    def append(self, request: live_pb2.ConverseRequest) -> list[Shed]:
        """Take one request in order; return what had to go for it."""
        kind = request.WhichOneof("payload")
        shed: list[Shed] = []
        if kind == "audio":
            self._audio_bytes += _audio_size(request)
        elif kind == "video":
            shed += self._drop("video", live_pb2.MEDIA_CLASS_VIDEO, everything=True)
        self._queue.append(request)
        while self._audio_bytes > self._max_audio_bytes:
            dropped = self._drop("audio", live_pb2.MEDIA_CLASS_AUDIO, everything=False)
            if not dropped:
                break
            shed += dropped
        return shed

    def _drop(self, kind: str, media_class: live_pb2.MediaClass, *, everything: bool) -> list[Shed]:
        dropped: list[Shed] = []
        for index, request in enumerate(self._queue):
            if request.WhichOneof("payload") != kind:
                continue
            size = _audio_size(request) if kind == "audio" else len(request.video.image.data)
            if kind == "audio":
                self._audio_bytes -= size
            del self._queue[index]
            self.shed_items += 1
            self.shed_bytes += size
            dropped.append(Shed(request.seq, request.seq, media_class, size))
            break
        if dropped and everything:
            dropped += self._drop(kind, media_class, everything=True)
        return dropped

    def pop(self) -> AudioBatch | live_pb2.ConverseRequest | None:
        """What goes to the link next; audio that waits together comes as one."""
        if not self._queue:
            return None
        if self._queue[0].WhichOneof("payload") != "audio":
            return self._queue.popleft()
        frames: list[bytes] = []
        size = last = 0
        while self._queue and self._queue[0].WhichOneof("payload") == "audio":
            more = _audio_size(self._queue[0])
            if frames and size + more > self.JOIN_BYTES:
                break
            request = self._queue.popleft()
            frames += request.audio.frames
            size += more
            last = request.seq
        self._audio_bytes -= size
        return AudioBatch(frames[0] if len(frames) == 1 else b"".join(frames), last)


def _audio_size(request: live_pb2.ConverseRequest) -> int:
    return sum(map(len, request.audio.frames))
