"""A caller of Parley on bare stubs: grpcio and the generated code of proto/parley/v1, nothing else of Parley.

    python examples/bare_stub.py --target HOST:PORT --text "where is my order 4711"
    python examples/bare_stub.py --target HOST:PORT --wav question.wav --out reply.pcm

It holds one conversation by docs/converse.md: it opens (again, with the same request id, while that can succeed),
speaks or types, acks what it plays, empties its playout queue on a barge-in, resumes on another connection when the
stream is lost, ends, and prints each event as a line of JSON. `parley conformance` holds it to the contract.

The stubs are those that anybody generates (docs/converse.md says how); the package `parley` contains them too.
"""

import argparse
import itertools
import json
import os
import random
import sys
import threading
import time
import uuid
import wave
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import grpc

from parley.v1 import errors_pb2, live_pb2, live_pb2_grpc

FRAME = 0.04
"""Seconds of speech in a message."""
RATE = 16_000
MAX_UNACKED = 1500
"""Messages kept for a resume (a minute of speech); then the microphone waits."""
ACK_EVERY = 0.1
"""Seconds between two acks, at least: the service sends at most 400 ms of audio beyond the last one."""
BROKEN_OFF = {"CANCELLED", "INTERNAL"}
"""Beside UNAVAILABLE, what gRPC calls a connection or a gateway that is gone. The service gives a reason with them."""
OPEN_LIMIT = 30.0
"""Seconds in which a session must be open, with every repetition."""


class LostError(Exception):
    """The stream is over, the conversation is not: try again after `delay` seconds."""

    def __init__(self, why: str, delay: float | None) -> None:
        super().__init__(why)
        self.delay = delay


class FailedError(Exception):
    """The conversation is over, and trying again would not help."""


class Conversation:
    """What outlives a stream. Every attribute is guarded by `changed`."""

    def __init__(self, profile: str, out: BinaryIO | None) -> None:
        self.changed = threading.Condition()
        self.profile = profile
        self.out = out
        self.request_id = f"bare-{uuid.uuid4().hex}"  # the same for every repetition of this open
        self.opened: live_pb2.Opened | None = None
        self.unacked: dict[int, live_pb2.ConverseRequest] = {}
        self.last_seq = 0
        """Number of the newest message to the model."""
        self.received = 0
        """Number up to which everything from the model was received or voided."""
        self.playout: deque[tuple[int, bytes, float]] = deque()
        self.answered = False
        self.ended: live_pb2.Ended | None = None
        self.over = False

    # To the model

    def say(self, **payload: Any) -> None:
        """Number a message and keep it until it is acked; the stream of the moment sends it."""
        with self.changed:
            self.changed.wait_for(lambda: len(self.unacked) < MAX_UNACKED or self.over)
            self.last_seq += 1
            self.unacked[self.last_seq] = live_pb2.ConverseRequest(seq=self.last_seq, **payload)
            self.changed.notify_all()

    def opening(self) -> live_pb2.ConverseRequest:
        """The first message of the next stream."""
        with self.changed:
            if self.opened is None:
                return live_pb2.ConverseRequest(open=live_pb2.Open(request_id=self.request_id, profile=self.profile))
            resume = live_pb2.Resume(
                session_id=self.opened.session_id,
                resume_token=self.opened.resume_token,
                last_received_seq=self.received,
            )
            return live_pb2.ConverseRequest(open=live_pb2.Open(resume=resume))

    # From the model

    def take(self, response: live_pb2.ConverseResponse) -> None:
        """One response."""
        kind = response.WhichOneof("payload")
        with self.changed:
            for seq in [seq for seq in self.unacked if seq <= response.acked_seq]:
                del self.unacked[seq]
            if response.seq and response.seq <= self.received:
                return  # sent again; we have it
            self.received = max(self.received, response.seq)
            if kind == "audio":
                pcm = b"".join(response.audio.frames)
                seconds = len(pcm) / 2 / (response.audio.sample_rate_hertz or 24_000)
                self.playout.append((response.seq, pcm, seconds))
            elif kind == "interrupted":
                # Also what was received before and not played yet, not only the range that the service names.
                self.playout = deque(item for item in self.playout if item[0] > response.seq)
                self.answered = False
                report("interrupted", seq=response.seq)
            elif kind == "generation_complete":
                self.answered = True
                report(kind)
            elif kind == "ended":
                self.ended = response.ended
                report(kind, reason=live_pb2.EndReason.Name(response.ended.reason), message=response.ended.message)
            elif kind in ("input_transcript", "output_transcript"):
                report(kind, text=getattr(response, kind).text)
            elif kind == "gap":
                report(kind, first=response.gap.from_seq, last=response.gap.to_seq, reason=response.gap.reason)
            elif kind is not None:
                report(kind)  # a payload of a newer release has no name here: passed over, acked like the rest
            self.changed.notify_all()

    def ackable(self) -> int:
        """Up to here everything was received or voided, and its audio has begun to play."""
        return self.playout[0][0] - 1 if self.playout else self.received

    def play(self) -> None:
        """A loudspeaker: plays what is queued in real time."""
        while True:
            with self.changed:
                self.changed.wait_for(lambda: self.playout or self.over)
                if not self.playout:
                    return
                seq, pcm, seconds = self.playout.popleft()
                report("played", seq=seq)
                if self.out is not None:
                    self.out.write(pcm)
                self.changed.notify_all()
            time.sleep(seconds)  # a sound device would block as long

    def wait(self, condition: Any) -> bool:
        """Wait for a condition; False when the conversation was over before."""
        with self.changed:
            self.changed.wait_for(lambda: condition() or self.over)
            return not self.over


class Stream:
    """One `Converse` call."""

    def __init__(self, conversation: Conversation) -> None:
        self.conversation = conversation
        self.next_seq = 0
        """Number of the next message to send; 0: not `opened` yet."""
        self.closed = False

    def requests(self) -> Iterator[live_pb2.ConverseRequest]:
        """What is sent, in order: `open`, then what is numbered, and acks in between."""
        talk = self.conversation
        yield talk.opening()
        acked, acked_at = 0, 0.0
        while True:
            with talk.changed:
                talk.changed.wait_for(
                    lambda: self.closed or (self.next_seq and self.next_seq in talk.unacked), ACK_EVERY
                )
                if self.closed:
                    return
                ackable = talk.ackable() if self.next_seq else 0
                request = talk.unacked.get(self.next_seq)
            if ackable > acked and time.monotonic() - acked_at >= ACK_EVERY:
                acked, acked_at = ackable, time.monotonic()
                yield live_pb2.ConverseRequest(ack=live_pb2.Ack(seq=acked))
            if request is not None:
                self.next_seq += 1
                yield request
                if request.WhichOneof("payload") == "end":
                    return

    def run(self, target: str, metadata: list[tuple[str, str]]) -> None:
        """Hold the stream until it ends. LostError: resume, or open again. FailedError: neither."""
        talk = self.conversation
        # A connection of its own: another stream on an old one would reach the same, draining gateway.
        with grpc.insecure_channel(target, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
            call = live_pb2_grpc.LiveServiceStub(channel).Converse(self.requests(), metadata=tuple(metadata))
            try:
                for response in call:
                    kind = response.WhichOneof("payload")
                    if kind == "opened":
                        self.opened(response.opened)
                    elif kind == "gateway_draining":
                        report(kind)
                        call.cancel()
                        raise LostError("the gateway is draining", 0.0)
                    else:
                        talk.take(response)
            except grpc.RpcError as error:
                if talk.ended is None:
                    raise verdict(error) from None
            finally:
                with talk.changed:
                    self.closed = True
                    talk.changed.notify_all()

    def opened(self, opened: live_pb2.Opened) -> None:
        """The session is there: send what the service does not have."""
        talk = self.conversation
        report("opened", session=opened.session_id, existing=opened.existing, next_uplink_seq=opened.next_uplink_seq)
        with talk.changed:
            talk.opened = opened
            self.next_seq = opened.next_uplink_seq
            talk.changed.notify_all()


def verdict(error: Any) -> Exception:
    """What a status means: docs/converse.md, "Status codes"."""
    reason, delay = "", None
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            for detail in errors_pb2.StatusDetails.FromString(value).details:
                if detail.type_url.endswith("google.rpc.ErrorInfo"):
                    reason = errors_pb2.ErrorInfoDetail.FromString(detail.value).reason
                elif detail.type_url.endswith("google.rpc.RetryInfo"):
                    retry = errors_pb2.RetryInfoDetail.FromString(detail.value).retry_delay
                    delay = retry.seconds + retry.nanos / 1e9
    why = f"{error.code().name} ({reason or 'no reason'}): {error.details()}"
    name = error.code().name
    if delay is not None or name == "UNAVAILABLE" or (name in BROKEN_OFF and not reason):
        return LostError(why, delay)
    return FailedError(why)


def hold(talk: Conversation, target: str, metadata: list[tuple[str, str]]) -> None:
    """Stream after stream until the conversation is over. FailedError: it could not be brought to its end."""
    limit, backoff = time.monotonic() + OPEN_LIMIT, 0.1
    while True:
        stream = Stream(talk)
        try:
            stream.run(target, metadata)
        except LostError as lost:
            now = time.monotonic()
            if stream.next_seq and talk.opened is not None:
                # It was open: from now on the session waits for us, but not longer than it said.
                window = talk.opened.resume_window
                limit, backoff = now + window.seconds + window.nanos / 1e9, 0.1
            delay = backoff * random.uniform(0.5, 1) if lost.delay is None else lost.delay
            backoff = min(2.0, backoff * 2)
            if now + delay > limit:
                raise FailedError(f"given up: {lost}") from None
            report("lost", why=str(lost), delay=round(delay, 3))
            time.sleep(delay)
        else:
            if talk.ended is None:
                raise FailedError("the service ended the stream, not the session")
            if talk.ended.reason != live_pb2.END_REASON_CALLER:
                raise FailedError(f"the session ended: {talk.ended.message}")
            return


def microphone(talk: Conversation, texts: list[str], wav: str, barge_in_after: float) -> None:
    """What this caller has to say: the speech, then each text when the answer before it was heard."""
    if wav:
        with wave.open(wav, "rb") as file:
            if (file.getframerate(), file.getnchannels(), file.getsampwidth()) != (RATE, 1, 2):
                raise SystemExit(f"{wav}: 16 kHz, mono, 16 bit is what a session takes by default")
            started = time.monotonic()
            for number in itertools.count():
                if not (frame := file.readframes(round(RATE * FRAME))):
                    break
                time.sleep(max(0.0, started + number * FRAME - time.monotonic()))
                talk.say(audio=live_pb2.AudioInput(frames=[frame]))
        talk.say(audio_stream_end=live_pb2.AudioStreamEnd())
        if not heard(talk):
            return
    for number, text in enumerate(texts):
        with talk.changed:
            talk.answered = False
        talk.say(text=live_pb2.TextInput(text=text))
        if barge_in_after and number == 0 and len(texts) > 1:
            if not talk.wait(lambda: talk.playout):
                return
            time.sleep(barge_in_after)
        elif not heard(talk):
            return
    talk.say(end=live_pb2.End(reason="done"))


def heard(talk: Conversation) -> bool:
    """Wait until the whole answer has played. Not for `turn_complete`: that one may come with a tool call."""
    return talk.wait(lambda: talk.answered and not talk.playout)


def report(event: str, **facts: Any) -> None:
    """One event, one line; in one write, because several threads report."""
    sys.stdout.write(json.dumps({"event": event, **facts}) + "\n")
    sys.stdout.flush()


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description="A conversation on bare stubs.")
    parser.add_argument("--target", default=os.environ.get("PARLEY_TARGET", "127.0.0.1:50051"), help="HOST:PORT")
    parser.add_argument("--profile", default="support")
    parser.add_argument("--api-key", default=os.environ.get("PARLEY_API_KEY", ""))
    parser.add_argument("--wav", default="", help="a question, 16 kHz mono 16 bit")
    parser.add_argument("--text", action="append", default=[], help="a typed question; may be repeated")
    parser.add_argument(
        "--barge-in-after", type=float, default=0, help="type the second text so many seconds into the answer"
    )
    parser.add_argument("--out", default="", help="file for what was played, raw PCM")
    arguments = parser.parse_args()
    metadata = [("authorization", f"Bearer {arguments.api_key}")] if arguments.api_key else []
    if traceparent := os.environ.get("TRACEPARENT"):
        metadata.append(("traceparent", traceparent))
    out = Path(arguments.out).open("wb") if arguments.out else None  # noqa: SIM115 - closed below
    talk = Conversation(arguments.profile, out)
    texts = arguments.text or ([] if arguments.wav else ["hello"])
    loudspeaker = threading.Thread(target=talk.play)
    loudspeaker.start()
    # A daemon: it may sleep between two frames when the conversation ends.
    questions = (talk, texts, arguments.wav, arguments.barge_in_after)
    threading.Thread(target=microphone, args=questions, daemon=True).start()
    try:
        hold(talk, arguments.target, metadata)
    except FailedError as failed:
        print(f"bare_stub: {failed}", file=sys.stderr)
        return 1
    else:
        return 0
    finally:
        with talk.changed:
            talk.over = True
            talk.playout.clear()
            talk.changed.notify_all()
        loudspeaker.join()
        if out is not None:
            out.close()


if __name__ == "__main__":
    sys.exit(main())
