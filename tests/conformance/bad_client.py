"""The good caller of examples/bare_stub.py with one thing wrong: `bad_client.py FAULT`."""

from __future__ import annotations

import importlib.util
import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from parley.v1 import live_pb2 as pb

ROOT = Path(__file__).parents[2]
_spec = importlib.util.spec_from_file_location("bare_stub", ROOT / "examples" / "bare_stub.py")
assert _spec is not None
assert _spec.loader is not None
bare: Any = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(bare)

FAULTS: dict[str, Callable[[], None]] = {}


def fault(install: Callable[[], None]) -> Callable[[], None]:
    FAULTS[install.__name__] = install
    return install


def requests_changed(change: Callable[[pb.ConverseRequest], pb.ConverseRequest | None]) -> None:
    """Everything that is sent goes through `change`; None: it is not sent."""
    good = bare.Stream.requests

    def requests(self):
        for request in good(self):
            copy = pb.ConverseRequest()
            copy.CopyFrom(request)
            if (changed := change(copy)) is not None:
                yield changed

    bare.Stream.requests = requests


def before_take(look: Callable[[Any, pb.ConverseResponse], None]) -> None:
    """Every response is looked at first."""
    good = bare.Conversation.take

    def take(self, response):
        look(self, response)
        good(self, response)

    bare.Conversation.take = take


def verdicts_changed(change: Callable[[Exception], Exception]) -> None:
    """What a status means goes through `change`."""
    good = bare.verdict
    bare.verdict = lambda error: change(good(error))


# What is sent


@fault
def numbers_from_two():
    def change(request):
        request.seq += bool(request.seq)
        return request

    requests_changed(change)


@fault
def no_request_id():
    def change(request):
        if request.HasField("open"):
            request.open.request_id = ""
        return request

    requests_changed(change)


@fault
def acks_are_numbered():
    def change(request):
        request.seq += request.HasField("ack")
        return request

    requests_changed(change)


@fault
def acks_the_future():
    def change(request):
        if request.HasField("ack"):
            request.ack.seq += 100
        return request

    requests_changed(change)


@fault
def never_acks():
    requests_changed(lambda request: None if request.HasField("ack") else request)


@fault
def sends_all_speech_at_once():
    bare.FRAME = 0.5
    bare.time.sleep = lambda seconds: None


@fault
def opens_twice():
    def change(request):
        if request.HasField("end"):
            return pb.ConverseRequest(open=pb.Open(request_id="again", profile="plain"))
        return request

    requests_changed(change)


@fault
def vanishes_without_a_word():
    requests_changed(lambda request: None if request.HasField("end") else request)
    good = bare.microphone

    def microphone(*arguments):
        good(*arguments)
        bare.os._exit(0)

    bare.microphone = microphone


# What is received


@fault
def a_message_without_payload_is_an_error():
    def look(self, response):
        if response.WhichOneof("payload") is None:
            raise bare.FailedError("a message without payload")

    before_take(look)


@fault
def a_hole_is_an_error():
    def look(self, response):
        if response.seq > self.received + 1:
            raise bare.FailedError("a hole")

    before_take(look)


@fault
def an_event_that_is_not_used_is_an_error():
    used = {"audio", "output_transcript", "generation_complete", "turn_complete", "ended"}

    def look(self, response):
        if response.WhichOneof("payload") not in used:
            raise bare.FailedError("an event that is not used")

    before_take(look)


@fault
def plays_on_when_interrupted():
    class Stubborn(deque):
        pass

    good = bare.Conversation.take

    def take(self, response):
        queued = deque(self.playout)
        good(self, response)
        if response.HasField("interrupted"):
            self.playout = queued

    bare.Conversation.take = take


@fault
def opens_another_session_when_one_has_ended():
    good = bare.hold

    def hold(talk, target, metadata):
        try:
            good(talk, target, metadata)
        finally:
            talk.opened = talk.ended = None
            good(talk, target, metadata)

    bare.hold = hold


# What a status means


@fault
def resumes_a_session_that_has_ended():
    def look(self, response):
        if response.HasField("ended") and response.ended.reason != pb.END_REASON_CALLER:
            response.ClearField("ended")

    before_take(look)


@fault
def a_new_request_id_each_time():
    good = bare.Conversation.opening

    def opening(self):
        request = good(self)
        if request.open.request_id:
            request.open.request_id = f"bare-{bare.uuid.uuid4().hex}"
        return request

    bare.Conversation.opening = opening


@fault
def retries_everything():
    def change(error):
        return error if isinstance(error, bare.LostError) else bare.LostError(str(error), 0.0)

    verdicts_changed(change)


@fault
def retries_nothing():
    verdicts_changed(lambda error: bare.FailedError(str(error)))


@fault
def retries_only_with_retry_info():
    def change(error):
        return bare.FailedError(str(error)) if getattr(error, "delay", None) is None else error

    verdicts_changed(change)


@fault
def does_not_wait():
    def change(error):
        return bare.LostError(str(error), 0.0) if isinstance(error, bare.LostError) else error

    verdicts_changed(change)


# Resume


@fault
def opens_anew_instead_of_resuming():
    def change(request):
        if request.open.HasField("resume"):
            return pb.ConverseRequest(open=pb.Open(request_id="anew", profile="plain"))
        return request

    requests_changed(change)


@fault
def presents_another_token():
    def change(request):
        if request.open.HasField("resume"):
            request.open.resume.resume_token = "guess"
        return request

    requests_changed(change)


@fault
def claims_more_than_it_received():
    def change(request):
        if request.open.HasField("resume"):
            request.open.resume.last_received_seq += 1
        return request

    requests_changed(change)


@fault
def sends_nothing_again():
    good = bare.Stream.opened

    def opened(self, message):
        again = self.conversation.opened is not None
        good(self, message)
        if again:
            self.next_seq = self.conversation.last_seq + 1

    bare.Stream.opened = opened


@fault
def sends_something_else_again():
    def change(request):
        if request.HasField("text"):
            request.text.text += bare.uuid.uuid4().hex
        return request

    requests_changed(change)


@fault
def never_gives_up():
    bare.time.monotonic, real = lambda: real() * 1e-9, bare.time.monotonic
    bare.ACK_EVERY = 0.0


@fault
def takes_draining_for_the_end():
    good = bare.Stream.run

    def run(self, target, metadata):
        try:
            good(self, target, metadata)
        except bare.LostError as lost:
            if "draining" in str(lost) and lost.delay == 0.0:
                raise bare.FailedError("draining") from None
            raise

    bare.Stream.run = run


if __name__ == "__main__":
    FAULTS[sys.argv.pop(1)]()
    sys.exit(bare.main())
