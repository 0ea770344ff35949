"""Transparent resumption (Vertex): the index of what a handle covers."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from emulator.api.protocol import Audio, AudioStreamEnd, ClientContent, Content, Event, Text, Video
from tests.emulator.behaviour import behaviour, patched, without
from tests.emulator.caller import typed
from tests.emulator.resuming import QUIET, TURN, opaque
from tests.emulator.service import RATE, Line, Service
from tests.support.speech import question


def transparent(service: Service, handle: str | None = None, **switches: Any) -> Line:
    resumption: dict[str, Any] = {"transparent": True}
    if handle is not None:
        resumption["handle"] = handle
    return service.dial(backend="vertex", sessionResumption=resumption, switches=switches)


def indices(line: Line) -> list[str | None]:
    return [update.get("lastConsumedClientMessageIndex") for update in line.updates]


@behaviour("10.38", off=patched("emulator.endpoint.admission.Resumption", opaque))
def test_updates_tell_the_index_of_the_last_message_they_cover_as_a_string() -> None:
    line = transparent(Service())
    line.show()
    line.show()
    line.ask("stop")
    assert indices(line) == ["2"]
    line.ask("hello")
    line.show()
    line.later(TURN)
    # The picture came while the model spoke: it is covered too.
    assert indices(line) == ["2", "4"]
    assert "lastConsumedClientMessageIndex" not in Service().dial(backend="vertex").ask("stop")[-1]


@behaviour("10.38", off=without(transparent_origin=0, transparent_counts_setup=False))
@pytest.mark.parametrize(
    ("origin", "counts_setup", "index"), [(1, False, "1"), (0, True, "1"), (1, True, "2")], ids=str
)
def test_the_index_can_begin_elsewhere(origin: int, counts_setup: bool, index: str, switches: dict[str, Any]) -> None:
    begin = {"transparent_origin": origin, "transparent_counts_setup": counts_setup, **switches}
    line = transparent(Service(), **begin)
    line.ask("stop")
    assert indices(line) == [index]


def test_a_handle_that_comes_late_has_the_index_of_when_it_was_due() -> None:
    service = Service()
    line = transparent(service, handle_lag="3s")
    line.show()
    line.ask("stop")
    line.send(clientContent=typed("hello", turnComplete=False))
    assert line.handles == []
    line.later(3)
    assert indices(line) == ["1"]
    line.close()
    assert transparent(service, line.handles[0]).knows.history == (("user", "stop"),)


def test_without_a_message_there_is_no_index() -> None:
    line = transparent(Service(), handle_interval="1s")
    line.later(1)
    assert indices(line) == [None] and line.handles
    counted = transparent(Service(), handle_interval="1s", transparent_counts_setup=True)
    counted.later(1)
    assert indices(counted) == ["0"]


def test_each_connection_counts_for_itself() -> None:
    service = Service()
    line = transparent(service)
    for _ in range(3):
        line.ask("stop")
    line.close()
    resumed = transparent(service, line.handles[-1])
    resumed.ask("stop")
    assert indices(resumed) == ["0"]


@behaviour("10.38", off=patched("emulator.hearing.vad.Detector.recall", lambda self, hearing: None))
def test_a_handle_in_the_middle_of_speech_covers_what_was_heard_of_it() -> None:
    service = Service()
    line = transparent(service)
    pcm = question("weather_paris")
    line.ask("hello")
    pieces = [pcm[at : at + 4000] for at in range(0, len(pcm), 4000)] + [QUIET]
    for piece in pieces:
        line.hear(piece)
    # It interrupted the answer, and was complete then up to the message that did so.
    first = int(indices(line)[0] or "")
    line.close()
    resumed = transparent(service, line.handles[0])
    for piece in pieces[first:]:
        resumed.hear(piece)
    assert [listen.pcm for listen in resumed.listening] == [listen.pcm for listen in line.listening]


SOUNDS = {"loud": b"\x00\x40" * 320, "soft": bytes(640)}
"""Frames of 20 ms."""
WORDS = ("hello", "stop", "what do you see")

Act = Event | float | tuple[str, int]
"""What a caller does: it sends something, waits, or sends so many frames of a sound."""


@dataclass
class Play:
    """A client that keeps what it sent until it is covered, as the documentation wants it; and its model's ears."""

    service: Service = field(default_factory=Service)
    sent: list[tuple[float, Event]] = field(default_factory=list)
    """When, and what, on the present connection."""
    line: Line = None  # type: ignore[assignment]
    handle: str | None = None

    def __post_init__(self) -> None:
        self.line = transparent(self.service)

    def do(self, act: Act) -> None:
        if isinstance(act, float):
            self.line.later(act)
        else:
            event = Audio(SOUNDS[act[0]] * act[1], RATE) if isinstance(act, tuple) else act
            self.sent.append((self.service.now, event))
            self.line.take(event)
        while self.line.listening:
            # What is understood depends on what was heard alone.
            self.line.understood(WORDS[len(self.line.listening[0].pcm) // 640 % 3])

    def cut(self) -> set[str]:
        """The connection is lost; another one takes it up from the newest handle and is given the rest, in its pace.

        What was of interest in it.
        """
        covered = 0
        if self.line.updates:
            self.handle = self.line.handles[-1]
            covered = int(indices(self.line)[-1] or "-1") + 1
        lost = self.sent[covered:]
        self.line.close()
        ended = self.service.now
        # As if the time between had not been.
        origin = lost[0][0] if lost else ended
        self.sent, self.line = [], transparent(self.service, self.handle)
        started = self.service.now
        spoke = self.line.admitted.link._mind.snapshot(hearing=True).hearing.speech is not None
        for at, event in lost:
            self.do(max(0.0, started + at - origin - self.service.now))
            self.do(event)
        self.do(max(0.0, started + ended - origin - self.service.now))
        met = {type(event).__name__ for _, event in lost} | ({"resumed"} if self.handle else set())
        return met | ({"in speech"} if spoke else set())


AUDIO = st.tuples(st.sampled_from(["loud", "soft"]), st.integers(1, 40))
TURNS = st.builds(lambda word, end: ClientContent((Content("user", word),), end), st.sampled_from(WORDS), st.booleans())
ACTS = st.one_of(
    AUDIO,
    st.tuples(st.just("loud"), st.integers(5, 20)),
    TURNS,
    st.sampled_from([*map(Text, WORDS), Video(b"\x89PNG\r\n\x1a\n", "image/png"), AudioStreamEnd()]),
    st.floats(0.01, 8.0),
)


@behaviour("10.38", off=patched("emulator.session.resumption.Resumption.apply", lambda self, event, now: []))
def test_replaying_what_an_index_does_not_cover_loses_and_doubles_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    # What the detector has learnt of background noise is not part of a snapshot: here it goes by loudness alone.
    monkeypatch.setattr("emulator.hearing.vad.webrtcvad", _AnySound)

    met: Counter[str] = Counter()

    @settings(max_examples=60, deadline=None, derandomize=True, phases=[Phase.generate])
    @given(st.lists(st.tuples(ACTS, st.booleans()), min_size=3, max_size=25))
    def holds(acts: list[tuple[Act, bool]]) -> None:
        whole, torn = Play(), Play()
        for act, cut in acts:
            whole.do(act)
            torn.do(act)
            if cut:
                met.update(torn.cut())
        for play in (whole, torn):
            play.do(30.0)
        assert torn.line.knows.context == whole.line.knows.context
        assert torn.line.knows.unanswered == whole.line.knows.unanswered
        assert torn.line.knows.pictures == whole.line.knows.pictures

    holds()
    # It was worth it: all of this was between handle and cut, and some handles were taken in the middle of speech.
    assert min(met[kind] for kind in ("resumed", "in speech", "Audio", "Text", "Video", "ClientContent")) >= 10, met


class _AnySound:
    """In place of the detector's library."""

    class Vad:
        def __init__(self, mode: int) -> None:
            pass

        def is_speech(self, frame: bytes, rate: int) -> bool:
            return True
