"""Input that a link was given, and what kind each piece is of. Plain code."""

from __future__ import annotations

from dataclasses import dataclass, field

from parley.v1 import live_pb2
from services.session_worker.input_queue import AudioBatch
from services.session_worker.seq_ranges import Range
from services.session_worker.voice import has_voice

Item = AudioBatch | live_pb2.ConverseRequest


@dataclass(slots=True)
class Sent:
    """One piece of input."""

    item: Item
    at: float
    """Monotonic seconds."""
    number: int
    """Of the message on its link, from 0."""
    sound: bool | None = field(default=None, compare=False)
    """`is_sound`, once that was asked: it is, again and again."""

    @property
    def seqs(self) -> Range:
        """Of the caller's messages that it is made of."""
        return seqs_of(self.item)


@dataclass(frozen=True, slots=True)
class Extent:
    """How far into the input: speech that was sent until `at`, and requests up to number `seq`."""

    at: float
    """Monotonic seconds."""
    seq: int

    def has(self, sent: Sent) -> bool:
        """Whether this is before it."""
        return sent.at <= self.at if is_speech(sent.item) else sent.seqs[0] <= self.seq


def seqs_of(item: Item) -> Range:
    """Of the caller's messages that it is made of."""
    return (item.first_seq, item.last_seq) if isinstance(item, AudioBatch) else (item.seq, item.seq)


def is_sound(sent: Sent) -> bool:
    """Somebody speaks."""
    if sent.sound is None:
        item = sent.item
        # Where it is no audio, the caller itself says that it speaks.
        sent.sound = has_voice(item.pcm) if isinstance(item, AudioBatch) else starts_speech(item)
    return sent.sound


def is_input(item: Item) -> bool:
    """The model is given it as it is: results of calls go their own way, and an end is none of its business."""
    return isinstance(item, AudioBatch) or item.WhichOneof("payload") not in ("tool_result", "end")


def is_speech(item: Item) -> bool:
    """Audio, or what tells where speech begins and ends in it."""
    return isinstance(item, AudioBatch) or marks_speech(item)


def marks_speech(item: Item) -> bool:
    """The caller says where its speech begins or ends."""
    if isinstance(item, AudioBatch):
        return False
    return item.WhichOneof("payload") in ("activity_start", "activity_end", "audio_stream_end")


def starts_speech(item: Item) -> bool:
    """The caller says that it speaks from here on."""
    return not isinstance(item, AudioBatch) and item.HasField("activity_start")


def ends_speech(item: Item) -> bool:
    """The caller says that it has finished what it said since `starts_speech`."""
    return not isinstance(item, AudioBatch) and item.HasField("activity_end")


def ends_stream(item: Item) -> bool:
    """The caller sends no audio for a while; when it does, it may speak at once."""
    return not isinstance(item, AudioBatch) and item.HasField("audio_stream_end")


def is_picture(item: Item) -> bool:
    """One of a stream of pictures."""
    return not isinstance(item, AudioBatch) and item.HasField("video")


def is_question(item: Item) -> bool:
    """Stored in the log: never given up."""
    return not isinstance(item, AudioBatch) and item.WhichOneof("payload") in ("text", "turn")


def is_logged(item: Item) -> bool:
    """Whoever comes after this worker finds it in the log, unless that is off."""
    return not isinstance(item, AudioBatch) and item.WhichOneof("payload") in ("text", "turn", "context_update")


def media_class(item: Item) -> live_pb2.MediaClass:
    """As callers are told."""
    if isinstance(item, AudioBatch):
        return live_pb2.MEDIA_CLASS_AUDIO
    return live_pb2.MEDIA_CLASS_VIDEO if is_picture(item) else live_pb2.MEDIA_CLASS_VITAL


def stands_alone(item: Item) -> bool:
    """It means something without audio round it."""
    return not isinstance(item, AudioBatch) and item.WhichOneof("payload") not in ("activity_end", "audio_stream_end")
