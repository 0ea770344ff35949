"""A journal that is fed as a conversation goes, for the tests of what it keeps."""

from __future__ import annotations

import struct

from parley.v1 import live_pb2
from services.session_worker.input_queue import AudioBatch
from services.session_worker.journal import Journal

RATE = 16_000
SILENCE = bytes(1280)
"""40 ms."""
SOUND = struct.pack("<640h", *(3000 if n % 2 else -3000 for n in range(640)))
SOFT = struct.pack("<640h", *(250 if n % 2 else -250 for n in range(640)))
QUIET_ROOM = struct.pack("<640h", *(n % 200 for n in range(640)))


def text(seq, words="hello"):
    return live_pb2.ConverseRequest(seq=seq, text=live_pb2.TextInput(text=words))


def picture(seq):
    return live_pb2.ConverseRequest(seq=seq, video=live_pb2.VideoInput(image=live_pb2.Blob(data=b"x")))


def mark(seq, name):
    """Any request."""
    request = live_pb2.ConverseRequest(seq=seq)
    getattr(request, name).SetInParent()
    return request


AUDIO, VIDEO, VITAL = live_pb2.MEDIA_CLASS_AUDIO, live_pb2.MEDIA_CLASS_VIDEO, live_pb2.MEDIA_CLASS_VITAL


class Talk:
    """A journal, fed in real time with numbers counted."""

    def __init__(self, *, words=True):
        self.journal = Journal(RATE, words=words)
        self.now = 100.0
        self.seq = 0
        self.messages = 0

    def audio(self, pcm, count=1):
        for _ in range(count):
            self.seq += 1
            self.give(AudioBatch(pcm, self.seq, self.seq))
            self.now += len(pcm) / RATE / 2

    def say(self, make, *arguments):
        self.seq += 1
        self.give(make(self.seq, *arguments))

    def give(self, item):
        self.journal.sent(item, self.now, self.messages)
        self.messages += 1

    def begins(self, round_trip=0.0, **what):
        """The model begins to answer."""
        return self.journal.question(self.now, round_trip, **what)

    def turn(self, answered=None, position=1):
        self.journal.turn_ended(self.now, answered or self.begins(), position)

    def cut_off(self, round_trip=0.0):
        """A turn ends in which the model said nothing."""
        self.turn(self.begins(round_trip, cut_off=True))

    def replay(self, **options):
        return self.journal.replay(self.now, **options)


def seqs(replay):
    return [item.first_seq if isinstance(item, AudioBatch) else item.seq for item in replay.items]


LEAD = 7
"""Frames of 40 ms that are given before the first sound: at most 300 ms, of an open utterance that is heard twice."""
