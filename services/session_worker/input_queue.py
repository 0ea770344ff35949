"""What waits for the link: in order, bounded, joined, pictures at the model's pace. Plain code: the time is given."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

from parley.v1 import live_pb2
from services.session_worker.voice import has_voice

PACE: Final = "PACE"
"""Reason for which a picture gives way to a newer one: no trouble, cameras have more of them than models take."""
_MOST_PICTURES = 8
"""Pictures in the queue, each with text that follows it. They are large: a link that takes nothing costs the oldest."""


@dataclass(frozen=True, slots=True)
class AudioBatch:
    """Audio that leaves as one message: of one request, or of several that waited together."""

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
    is_loss: bool = True
    """A gap names it."""


class InputQueue:
    """Requests of the caller on their way to the link.

    Text, turns and tool results are never shed: they are bounded where they enter (the gateway stops reading). Over
    the bound the oldest audio goes. Without a link, silence that goes is no loss before a sound has gone: the link may
    be away for longer than the bound, and whoever listened meanwhile has said nothing. After it all of it is one loss,
    pauses too, until the link takes audio again.

    One picture waits at a time, beside the queue, until the model takes the next: a newer one takes its place, audio
    passes it, and anything else first sends it off, so that a question about a picture comes after it.
    """

    JOIN_BYTES = 6400
    """Audio joined into one message at most: 200 ms at 16 kHz."""

    def __init__(self, max_audio_bytes: int, picture_interval: float = 0.0) -> None:
        self._queue: deque[AudioBatch | live_pb2.ConverseRequest] = deque()
        self._max_audio_bytes = max_audio_bytes
        self._audio_bytes = 0
        self._picture: live_pb2.ConverseRequest | None = None
        self._picture_interval = picture_interval
        self._picture_due = 0.0
        self.has_link = True
        """Somebody takes what is here."""
        self._caller_marks_speech = False
        """What is silent between the marks is part of what it says."""
        self._sound_shed = False
        """Since the link last took audio."""
        self.end: live_pb2.ConverseRequest | None = None
        """With which the caller ends the session; it may still be in the queue."""
        self.shed_items = 0
        self.shed_bytes = 0

    def __len__(self) -> int:
        return len(self._queue) + (self._picture is not None)

    def append(self, request: live_pb2.ConverseRequest) -> list[Shed]:
        """Take one request in order; return what had to go for it."""
        match request.WhichOneof("payload"):
            case "audio":
                pcm = b"".join(request.audio.frames)
                self._queue.append(AudioBatch(pcm, request.seq, request.seq))
                self._audio_bytes += len(pcm)
                return self._shed_audio()
            case "video":
                older, self._picture = self._picture, request
                if older is None:
                    return []
                return [self._gone(older.seq, live_pb2.MEDIA_CLASS_VIDEO, len(older.video.image.data), PACE)]
            case payload:
                if payload == "end":
                    self.end = request
                elif payload == "activity_start":
                    self._caller_marks_speech = True
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
        following = self._queue.popleft()
        return self._joined(following) if isinstance(following, AudioBatch) else self._sent(following, now)

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
        queued = [item for item in self._queue if not isinstance(item, AudioBatch) and item.HasField("video")]
        if len(queued) <= _MOST_PICTURES:
            return []
        self._queue.remove(queued[0])
        return [self._gone(queued[0].seq, live_pb2.MEDIA_CLASS_VIDEO, len(queued[0].video.image.data), "OVERLOAD")]

    def _is_next(self, picture: live_pb2.ConverseRequest) -> bool:
        if not self._queue:
            return True
        first = self._queue[0]
        return picture.seq < (first.last_seq if isinstance(first, AudioBatch) else first.seq)

    def _sent(self, request: live_pb2.ConverseRequest, now: float) -> live_pb2.ConverseRequest:
        if request.HasField("video"):
            self._picture_due = now + self._picture_interval
        return request

    def _joined(self, first: AudioBatch) -> AudioBatch:
        """`first` and the audio behind it, up to the bound of a message."""
        self._sound_shed = False
        pieces, size, last = [first.pcm], len(first.pcm), first.last_seq
        while self._queue and isinstance(more := self._queue[0], AudioBatch):
            if size + len(more.pcm) > self.JOIN_BYTES:
                break
            self._queue.popleft()
            pieces.append(more.pcm)
            size += len(more.pcm)
            last = more.last_seq
        self._audio_bytes -= size
        return first if len(pieces) == 1 else AudioBatch(b"".join(pieces), first.first_seq, last)

    def _shed_audio(self) -> list[Shed]:
        shed: list[Shed] = []
        while self._audio_bytes > self._max_audio_bytes:
            oldest = next(item for item in self._queue if isinstance(item, AudioBatch))
            self._queue.remove(oldest)
            self._audio_bytes -= len(oldest.pcm)
            misses = self.has_link or self._caller_marks_speech or has_voice(oldest.pcm)
            self._sound_shed = self._sound_shed or misses
            audio = live_pb2.MEDIA_CLASS_AUDIO
            shed.append(self._gone(oldest.last_seq, audio, len(oldest.pcm), "OVERLOAD", is_loss=self._sound_shed))
        return shed

    def _gone(
        self, seq: int, media_class: live_pb2.MediaClass, size: int, reason: str, *, is_loss: bool = True
    ) -> Shed:
        self.shed_items += 1
        self.shed_bytes += size
        return Shed(seq, media_class, size, reason, is_loss)
