"""Faults without sockets: how they are written, when they fire, what they do to what is sent."""

import random
from typing import Any, Literal, get_args, get_origin

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emulator.actions import Action, Close, Disturbance, ForgetHandles, Note, Reset, Send, SendRaw, Wire
from emulator.api.protocol import Event, FunctionResponse, Text, ToolResponse
from emulator.chance import Chance
from emulator.endpoint.link import Link
from emulator.faults import closes, frames, plan, text
from emulator.faults.orders import Orders, TooManyOrdersError
from emulator.faults.plan import FaultPlan
from emulator.session.handles import Snapshot
from tests.emulator.behaviour import behaviour, patched
from tests.emulator.service import Service, kinds
from tests.support.speech import question

AUDIO = {"serverContent": {"modelTurn": {"parts": [{"inlineData": {"data": "AAAA"}}]}}}
GENERATED = {"serverContent": {"generationComplete": True}}
COMPLETE = {"serverContent": {"turnComplete": True}, "usageMetadata": {"totalTokenCount": 1}}
CALL = {"toolCall": {"functionCalls": [{"id": "call_1", "name": "f", "args": {}}]}}
CALLS = {"toolCall": {"functionCalls": [{"id": f"call_{name}", "name": name, "args": {}} for name in "fg"]}}
HANDLE = {"sessionResumptionUpdate": {"newHandle": "h", "resumable": True}}
NO_HANDLE = {"sessionResumptionUpdate": {"resumable": False}}
ANSWER = (AUDIO, AUDIO, GENERATED, COMPLETE)
SAID: dict[str, tuple[dict[str, Any], ...]] = {
    "answer": ANSWER,
    "call": (CALL, COMPLETE),
    "calls": (CALLS, COMPLETE),
    "handle": (HANDLE,),
    "no handle": (NO_HANDLE,),
}


class Script:
    """A mind that answers each text with the messages of that name, one a second, and remembers what it was told."""

    def __init__(self) -> None:
        self.deadline: float | None = None
        self.told: list[Any] = []
        self.settled = True
        self._to_say: list[Action] = []

    def apply(self, event: Event, now: float) -> list[Action]:
        self.told.append(event)
        if isinstance(event, Text):
            said = SAID[event.text]
            self._to_say += [Note("turn_began"), *(Send(message) for message in said)]
            self.deadline = now
        return []

    def heard(self, number: int, text: str | None, now: float) -> list[Action]:
        return []

    def guessed(self, number: int, text: str | None, now: float) -> list[Action]:
        return []

    def start(self, now: float) -> list[Action]:
        return []

    def snapshot(self, *, hearing: bool) -> Snapshot:
        return Snapshot()

    def disturb(self, how: Disturbance, now: float) -> list[Action]:
        self.told.append(how)
        return [Send({"serverContent": {"interrupted": True}})] if how == "interrupt" else []

    def tick(self, now: float) -> list[Action]:
        done = [self._to_say.pop(0)]
        self.deadline = now + 1 if self._to_say else None
        return done


class Record:
    """The events of a link."""

    def __init__(self) -> None:
        self.events: list[tuple[str, float, dict[str, Any]]] = []

    def event(self, kind: str, *, at: float, **facts: Any) -> None:
        self.events.append((kind, at, facts))


class Bench:
    """A link with faults under a clock of its own; what it does is noted with the time."""

    def __init__(self, faults: str = "", *, link: int = 1, seed: int = 1, orders: Orders | None = None) -> None:
        self.orders = orders or Orders(Chance(seed).stream)
        self.now = 0.0
        self.done: list[tuple[float, Any]] = []
        self.record = Record()
        self.mind = Script()
        for _ in range(link):
            self.plan = self.orders.dialled("c", "support", text.parse(faults))
        self._take(self.plan.happened("connect", 0.0))
        self.link: Link | None = None
        self._number = link

    def setup(self) -> "Bench":
        disturbed = self.plan.around(self.mind, conversation="c", link=self._number, record=self.record)  # type: ignore[arg-type]
        self.link = Link(disturbed, [self.plan])
        self._take(self.link.start(self.now))
        return self

    def say(self, word: str) -> "Bench":
        return self.tell(Text(word))

    def tell(self, event: Event) -> "Bench":
        assert self.link is not None
        self._take(self.link.apply(event, self.now))
        return self

    def run(self, until: float) -> "Bench":
        """Let the time pass."""
        decider: Any = self.link or self.plan
        while (deadline := decider.deadline) is not None and deadline <= until:
            self.now = max(self.now, deadline)
            self._take(decider.tick(self.now))
        self.now = until
        return self

    def _take(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Send(message):
                    self.done.append((self.now, message))
                case Note():
                    pass
                case _:
                    self.done.append((self.now, action))

    @property
    def what(self) -> list[Any]:
        return [what for _, what in self.done]

    @property
    def times(self) -> list[float]:
        return [at for at, _ in self.done]

    @property
    def fired(self) -> list[str]:
        return [facts["fault"]["do"] for kind, _, facts in self.record.events if kind == "fault"]


DONE = {"setupComplete": {}}


class TestWriting:
    def test_text_and_json_and_lists_say_the_same(self) -> None:
        expected = [
            {"do": "reset", "on": "turn_complete", "after": "PT2S"},
            {"do": "close", "link": "1", "reason": "a; b"},
        ]
        written = 'reset on=turn_complete after=2s; close link=1 reason="a; b"'
        as_json = '[{"do":"reset","on":"turn_complete","after":"2s"}, {"do":"close","link":1,"reason":"a; b"}]'
        mixed = ["reset on=turn_complete after=2000ms", {"do": "close", "link": 1, "reason": "a; b"}]
        for faults in (text.parse(written), text.parse(as_json), text.parse_all(mixed)):
            assert [fault.told() for fault in faults] == expected
        assert text.parse_all([one.told() for one in text.parse(written)]) == text.parse(written)

    def test_yaml_may_take_on_for_true(self) -> None:
        assert text.read({"do": "reset", True: "handle"}).on == "handle"

    def test_names_of_parameters_may_have_hyphens(self) -> None:
        assert text.read("refuse-upgrade status=429 retry-after=3s").told()["retry_after"] == "PT3S"

    @pytest.mark.parametrize("empty", ["", " ", ";", "[]"])
    def test_nothing_is_no_fault(self, empty: str) -> None:
        assert text.parse(empty) == []

    @pytest.mark.parametrize(
        ("given", "reason"),
        [
            ("explode", "unknown fault 'explode'; there are: refuse_upgrade, slow_upgrade, setup, go_away, "),
            ("reset loudly=1", "reset has no 'loudly'; it takes: after, chance, do, how, link, nth, on, times"),
            ("reset on=breakfast", "reset: on: Input should be 'connect', 'setup', "),
            ("reset after=soon", "reset: after: "),
            ("reset after=-1s", "reset: after: "),
            ("reset after=25h", "reset: after: "),
            ("reset chance=0", "reset: chance: "),
            ("reset chance=nan", "reset: chance: "),
            ("reset nth=0", "reset: nth: "),
            ("reset link=0", "reset: link: say 1 or 2-3 or 2-"),
            ("close preset=rudely", "close: preset: no such close; there are: normal, "),
            ("close code=1006", "close: code: a close frame carries 1000-1003, 1007-1014 or 3000-4999"),
            ("refuse_upgrade status=200", "refuse_upgrade: status: "),
            ("refuse_upgrade on=setup", "refuse_upgrade: on: Input should be 'upgrade'"),
            ("mute on=connect", "mute: on: Input should be 'setup', "),
            ("reset now", "'now' is not of the form name=value"),
            ('close reason="', "faults: no closing quotation"),
            ("{", "faults: not JSON: "),
            ("[1]", "a fault is a mapping with `do`, or text; not int"),
            ("[[]]", "a fault is a mapping with `do`, or text; not list"),
            ("{}", "unknown fault 'None'; there are: "),
            ('{"do": 1}', "unknown fault '1'; there are: "),
            ('["reset; reset"]', "'reset; reset': one fault is wanted here"),
            (";".join(["reset"] * 101), "101 faults; at most 100 are taken at once"),
        ],
    )
    def test_what_is_wrong_is_said(self, given: str, reason: str) -> None:
        with pytest.raises(text.FaultError) as caught:
            text.parse(given)
        assert str(caught.value).startswith(reason)

    def test_every_parameter_is_documented(self) -> None:
        for model in text.MODELS.values():
            assert model.__doc__
            assert all(field.description for name, field in text.parameters(model).items() if name != "do")

    def test_every_odd_frame_is_described_and_made(self) -> None:
        assert set(get_args(frames.Odd)) == set(frames.DESCRIPTIONS)
        made = {what: frames.odd(what, raw="raw", size=2_000_000) for what in frames.DESCRIPTIONS}
        assert len(made["oversized"]) == 2_000_000
        assert [what for what, frame in made.items() if isinstance(frame, str)] == ["text"]
        assert made["raw"] == b"raw"

    def test_every_close_is_one_that_a_close_frame_can_carry(self) -> None:
        for preset in closes.CLOSES:
            assert text.read({"do": "close", "preset": preset, "code": closes.CLOSES[preset].code})


class TestWhen:
    @behaviour("fault.on", off=patched("emulator.faults.plan.FaultPlan.happened", lambda *_: []))
    @pytest.mark.parametrize(
        ("moment", "at"),
        [
            ("setup", 0.0),
            ("turn_began", 0.0),
            ("first_audio", 1.0),
            ("generation_complete", 3.0),
            ("turn_complete", 4.0),
        ],
    )
    def test_a_fault_fires_at_its_moment(self, moment: str, at: float) -> None:
        bench = Bench(f"reset on={moment}").setup().say("answer").run(10)
        assert [(when, what) for when, what in bench.done if what == Reset()] == [(at, Reset())]
        assert [(at_, facts) for kind, at_, facts in bench.record.events if kind == "fault"] == [
            (at, {"fault": {"do": "reset"} | ({} if moment == "setup" else {"on": moment})})
        ]

    @behaviour("fault.on", off=patched("emulator.faults.plan.FaultPlan.apply", lambda *_: []))
    def test_a_response_is_a_moment_too(self) -> None:
        bench = Bench("reset on=tool_response").setup().tell(ToolResponse(()))
        assert bench.what == [DONE, Reset()]

    def test_handles_and_calls_are_moments_too(self) -> None:
        assert Reset() in Bench("reset on=tool_call").setup().say("call").run(5).what
        assert Reset() in Bench("reset on=handle").setup().say("handle").run(5).what

    def test_that_there_is_no_handle_is_not_the_moment_of_one(self) -> None:
        bench = Bench("reset on=handle").setup().say("no handle").run(5)
        assert bench.what == [DONE, NO_HANDLE]
        assert bench.say("handle").run(10).what == [DONE, NO_HANDLE, HANDLE, Reset()]

    def test_the_upgraded_connection_is_a_moment_before_the_setup(self) -> None:
        bench = Bench("reset on=connect after=1s").run(2)
        assert bench.done == [(1.0, Reset())]

    @behaviour("fault.after", off=patched("emulator.faults.timetable.Timetable.at", lambda *_: None))
    def test_after_is_counted_from_the_moment(self) -> None:
        bench = Bench("reset on=turn_complete after=2500ms").setup().say("answer").run(10)
        assert bench.done[-1] == (6.5, Reset())

    @behaviour("fault.nth", off=patched("emulator.faults.base.LinkFault.at", lambda self, occurrence: True))
    def test_nth_and_times_choose_the_occurrences(self) -> None:
        bench = Bench("frame what=object on=turn_complete nth=2 times=2").setup()
        for _ in range(5):
            bench.say("answer").run(bench.now + 10)
        odd = [at for at, what in bench.done if isinstance(what, SendRaw)]
        assert odd == [14.0, 24.0]

    @behaviour("fault.link", off=patched("emulator.faults.base.Fault.concerns", lambda self, link: True))
    @pytest.mark.parametrize(
        ("links", "hit"), [("1", {1}), ("2", {2}), ("2-3", {2, 3}), ("3-", {3, 4}), ("4-2", set())]
    )
    def test_link_chooses_the_connections(self, links: str, hit: set[int]) -> None:
        struck = {number for number in range(1, 5) if Reset() in Bench(f"reset link={links}", link=number).setup().what}
        assert struck == hit

    @behaviour("fault.chance", off=patched("emulator.faults.plan.FaultPlan._likely", lambda *_: True))
    def test_chance_leaves_it_to_the_seed(self) -> None:
        def struck(seed: int) -> list[bool]:
            orders = Orders(Chance(seed).stream)
            return [Reset() in Bench("reset chance=0.5", link=1, orders=orders).setup().what for _ in range(40)]

        assert 5 < sum(struck(7)) < 35
        assert struck(7) == struck(7)
        assert struck(7) != struck(8)

    @behaviour("10.45", off=patched("emulator.chance.Chance.stream", lambda *_: random.Random()))
    def test_other_faults_do_not_change_what_chance_decides(self) -> None:
        def struck(faults: str) -> list[float]:
            bench = Bench(faults, seed=3).setup()
            for _ in range(30):
                bench.say("answer").run(bench.now + 10)
            return [at for at, what in bench.done if isinstance(what, SendRaw)]

        alone = struck("frame on=turn_complete times=100 chance=0.5")
        assert alone == struck("frame on=turn_complete times=100 chance=0.5; pongs on=first_audio times=99 chance=0.3")
        assert 3 < len(alone) < 27

    def test_faults_bring_about_no_faults(self) -> None:
        bench = Bench("go_away; reset on=go_away").setup().run(5)
        assert bench.what == [DONE, {"goAway": {}}]


class TestEffects:
    """Each fault; with the effects off, nothing of this happens."""

    OFF = patched("emulator.faults.effects.Effects.of", lambda *_: [])

    @behaviour("2.4.3", "2.4.4", "fault.go_away", off=OFF)
    @pytest.mark.parametrize(
        ("fault", "expected"),
        [
            ("go_away", [(0.0, {"goAway": {}})]),
            ("go_away time_left=9500ms", [(0.0, {"goAway": {"timeLeft": "9.5s"}})]),
            ("go_away then=close wait=3s", [(0.0, {"goAway": {}}), (3.0, "close 1008")]),
            ("go_away time_left=5s then=close preset=deadline",
             [(0.0, {"goAway": {"timeLeft": "5s"}}), (5.0, "close 1011")]),
            ("go_away time_left=5s then=reset", [(0.0, {"goAway": {"timeLeft": "5s"}}), (5.0, "reset")]),
        ],
    )  # fmt: skip
    def test_go_away_and_what_follows(self, fault: str, expected: list[Any]) -> None:
        bench = Bench(fault).setup().run(20)
        short = {Reset: "reset"}
        done = [
            (at, f"close {what.refusal.code}" if isinstance(what, Close) else short.get(type(what), what))
            for at, what in bench.done[1:]
        ]
        assert done == expected

    @behaviour("2.4.3", off=patched("emulator.faults.outflow.Outflow.queue", lambda self, actions, now: actions))
    def test_silence_after_go_away(self) -> None:
        bench = Bench("go_away time_left=5s then=silence on=first_audio").setup().say("answer").run(30)
        assert bench.what == [DONE, AUDIO, {"goAway": {"timeLeft": "5s"}}]

    @behaviour("fault.silence", off=OFF)
    def test_silence_loses_what_is_sent_meanwhile(self) -> None:
        bench = Bench("silence on=first_audio for=2s").setup().say("answer").run(30)
        assert bench.what == [DONE, AUDIO, COMPLETE]
        assert bench.say("handle").run(50).what[-1] == HANDLE

    @behaviour("fault.close", "13.22", off=OFF)
    @pytest.mark.parametrize("preset", closes.CLOSES)
    def test_every_close_by_name(self, preset: str) -> None:
        bench = Bench(f"close preset={preset}").setup()
        (close,) = [what for what in bench.what if isinstance(what, Close)]
        assert (close.refusal.code, close.refusal.text) == (closes.CLOSES[preset].code, closes.CLOSES[preset].text)

    def test_a_close_in_other_words(self) -> None:
        bench = Bench('close code=4000 reason="see you"').setup()
        assert [(what.refusal.code, what.refusal.text) for what in bench.what[1:]] == [(4000, "see you")]

    @behaviour("fault.wire", off=OFF)
    @pytest.mark.parametrize(
        ("fault", "begin", "end"),
        [
            ("half_open", Wire(reading=False, writing=False), Wire(reading=True, writing=True)),
            ("stop_reading", Wire(reading=False), Wire(reading=True, writing=True)),
            ("pongs", Wire(pong_delay=float("inf")), Wire(pong_delay=0.0)),
            ("pongs delay=8s", Wire(pong_delay=8.0), Wire(pong_delay=0.0)),
            ("drip rate=10", Wire(bytes_per_second=10), Wire(bytes_per_second=float("inf"))),
        ],
    )
    def test_what_lasts_begins_and_ends(self, fault: str, begin: Wire, end: Wire) -> None:
        assert Bench(f"{fault} for=3s").setup().run(20).done[1:] == [(0.0, begin), (3.0, end)]
        assert Bench(fault).setup().run(1e6).done[1:] == [(0.0, begin)]

    @pytest.mark.parametrize("other", ["half_open", "stop_reading"])
    def test_the_end_of_one_does_not_end_another_that_does_the_same(self, other: str) -> None:
        bench = Bench(f"half_open for=3s; {other} for=5s; half_open for=1s").setup().run(20)
        ends = [(at, what) for at, what in bench.done if at]
        assert [(at, what.reading) for at, what in ends] == [(1.0, False), (3.0, False), (5.0, True)]
        assert [what.writing for _, what in ends] == [False, other == "stop_reading", True]

    def test_what_is_brought_about_again_lasts_longer(self) -> None:
        bench = Bench("pongs on=first_audio times=2 for=12s").setup().say("answer").run(10)
        bench.say("answer").run(50)
        assert [at for at, what in bench.done if what == Wire(pong_delay=0.0)] == [10 + 1 + 12]

    @behaviour("fault.delay", off=OFF)
    def test_delayed_frames_keep_their_order_and_distance(self) -> None:
        bench = Bench("delay by=10s for=2500ms").setup().say("answer").run(30)
        # Those after the delay are not held up themselves, but wait behind those before.
        assert bench.times == [0.0, 11.0, 12.0, 12.0, 12.0]
        assert bench.what == [DONE, *ANSWER]

    @behaviour("10.43", "2.4.28", "fault.frame", off=OFF)
    @pytest.mark.parametrize("what", frames.DESCRIPTIONS)
    def test_every_odd_frame(self, what: frames.Odd) -> None:
        bench = Bench(f'frame what={what} raw="{{" size=2000000').setup()
        assert bench.what == [DONE, SendRaw(frames.odd(what, raw="{", size=2_000_000))]

    @behaviour("10.43", "fault.burst", off=OFF)
    def test_a_burst_comes_at_once(self) -> None:
        bench = Bench("burst").setup()
        assert len(bench.what) == 41
        assert set(bench.times) == {0.0}

    @behaviour("10.43", "fault.duplicate", off=OFF)
    def test_the_next_frames_of_a_kind_are_sent_twice(self) -> None:
        bench = Bench("duplicate frames=2 kind=audio").setup().say("answer").run(9)
        assert bench.what == [DONE, AUDIO, AUDIO, AUDIO, AUDIO, GENERATED, COMPLETE]

    @behaviour("fault.drop", off=OFF)
    @pytest.mark.parametrize(
        ("fault", "left"),
        [
            ("drop frames=3", [COMPLETE]),
            ("drop kind=turn_complete", [AUDIO, AUDIO, GENERATED]),
            ("drop kind=usage", [AUDIO, AUDIO, GENERATED]),
            ("drop kind=audio frames=9", [GENERATED, COMPLETE]),
        ],
    )
    def test_the_next_frames_of_a_kind_are_lost(self, fault: str, left: list[Any]) -> None:
        assert Bench(fault).setup().say("answer").run(9).what == [DONE, *left]

    @behaviour("fault.reorder", off=OFF)
    def test_frames_come_in_reverse_order(self) -> None:
        bench = Bench("reorder frames=3 within=9s").setup().say("answer").run(9)
        assert bench.done[1:] == [(3.0, GENERATED), (3.0, AUDIO), (3.0, AUDIO), (4.0, COMPLETE)]
        few = Bench("reorder frames=9 within=2500ms").setup().say("answer").run(9)
        assert few.times[1:] == [3.5, 3.5, 3.5, 4.0]
        assert few.what[1:] == [GENERATED, AUDIO, AUDIO, COMPLETE]

    @behaviour("fault.duplicate_call", off=OFF)
    def test_a_call_comes_twice(self) -> None:
        assert Bench("duplicate_call").setup().say("call").run(9).what == [DONE, CALL, CALL, COMPLETE]
        again = Bench("duplicate_call id=new").setup().say("call").run(9).what[2]["toolCall"]["functionCalls"][0]
        assert again["name"] == "f"
        assert again["id"] != "call_1"
        assert (
            again == Bench("duplicate_call id=new").setup().say("call").run(9).what[2]["toolCall"]["functionCalls"][0]
        )

    def test_of_parallel_calls_each_comes_again_with_an_id_of_its_own(self) -> None:
        _, first, again, _ = Bench("duplicate_call id=new").setup().say("calls").run(9).what
        assert first == CALLS
        before, after = first["toolCall"]["functionCalls"], again["toolCall"]["functionCalls"]
        assert [{**call, "id": ""} for call in after] == [{**call, "id": ""} for call in before]
        assert len({call["id"] for call in [*before, *after]}) == 4

    @behaviour("2.4.15", "fault.cancel_calls", "fault.interrupt", "fault.empty_turns", off=OFF)
    @pytest.mark.parametrize(
        ("fault", "told"),
        [
            ("cancel_calls", "cancel_calls"),
            ("interrupt on=tool_call", "interrupt"),
            ("empty_turns on=tool_call turns=1", "empty_turn"),
        ],
    )
    def test_the_mind_is_told_of_what_it_does(self, fault: str, told: str) -> None:
        bench = Bench(f"{fault} after=1500ms").setup().say("call").run(9)
        assert bench.mind.told[1:] == [told]
        if told == "interrupt":
            # What comes of it passes through all parts.
            assert bench.done[-1] == (2.5, {"serverContent": {"interrupted": True}})

    @behaviour("2.4.14", "fault.ignore_responses", off=OFF)
    def test_responses_are_not_heard(self) -> None:
        response = ToolResponse((FunctionResponse("call_1", "f", {}, "", False),))
        bench = Bench("ignore_responses responses=2").setup()
        for _ in range(3):
            bench.tell(response)
        assert bench.mind.told == [response]

    @behaviour("13.21", "fault.not_resumable", off=OFF)
    def test_a_window_without_handles(self) -> None:
        bench = Bench("not_resumable for=5s").setup().say("handle").run(6).say("handle").run(9)
        assert bench.what == [DONE, {"sessionResumptionUpdate": {"resumable": False}}, HANDLE]

    @behaviour("2.4.5", "fault.lose_handles", off=OFF)
    def test_handles_are_lost(self) -> None:
        assert Bench("lose_handles on=connect").what == [ForgetHandles()]
        assert Bench("lose_handles which=newest").setup().what == [DONE, ForgetHandles(newest_only=True)]

    @behaviour("fault.mute", off=OFF)
    def test_a_mute_model_answers_when_it_is_over_or_never(self) -> None:
        assert Bench("mute").setup().say("answer").run(1e6).what == [DONE]
        bench = Bench("mute for=10s").setup().say("answer").run(30)
        assert bench.done[1:] == [(11.0, AUDIO), (12.0, AUDIO), (13.0, GENERATED), (14.0, COMPLETE)]

    @behaviour("fault.mute", off=patched("emulator.faults.disturbed._STILL_HEARD", {"setup"}))
    def test_a_mute_model_still_tells_what_the_caller_said(self) -> None:
        line = Service().dial(faults="mute")
        line.hear(question("hello"))
        line.hear(bytes(32000))
        assert kinds(line.understood("hello")) == ["inputTranscription"]
        assert line.later(60) == []

    @behaviour("fault.stall", off=OFF)
    def test_a_model_stops_in_the_middle(self) -> None:
        assert Bench("stall").setup().say("answer").run(1e6).what == [DONE, AUDIO]
        bench = Bench("stall for=10s").setup().say("answer").run(30)
        assert bench.done[1:] == [(1.0, AUDIO), (11.0, AUDIO), (12.0, GENERATED), (13.0, COMPLETE)]


class TestSetup:
    OFF = patched("emulator.faults.plan.FaultPlan._faulty_setup", lambda self: None)

    @behaviour("10.10", "fault.setup", off=OFF)
    @pytest.mark.parametrize(
        ("fault", "expected"),
        [
            ("setup", [(5.0, DONE), (5.0, AUDIO), (5.0, AUDIO), (5.0, GENERATED), (5.0, COMPLETE)]),
            ("setup by=2500ms", [(2.5, DONE), (2.5, AUDIO), (2.5, AUDIO), (3.0, GENERATED), (4.0, COMPLETE)]),
            ("setup answer=omitted", [(1.0, AUDIO), (2.0, AUDIO), (3.0, GENERATED), (4.0, COMPLETE)]),
            ("setup answer=closed", [(0.0, "close")]),
            ("setup answer=closed by=2s", [(2.0, "close")]),
        ],
    )
    def test_a_setup_is_answered_late_or_wrongly_or_not_at_all(self, fault: str, expected: list[Any]) -> None:
        done = Bench(fault).setup().say("answer").run(30).done
        assert [(at, "close" if isinstance(what, Close) else what) for at, what in done][: len(expected)] == expected

    @behaviour("10.10", off=OFF)
    def test_an_error_frame_in_its_place(self) -> None:
        done = Bench("setup answer=error").setup().say("answer").run(30).done
        assert [(at, list(message)) for at, message in done] == [(0.0, ["error"])]


class TestOrders:
    @behaviour("fault.live", off=patched("emulator.faults.orders.Orders._give", lambda *_: None))
    def test_an_order_reaches_an_open_link_at_once(self) -> None:
        bench = Bench().setup()
        woken: list[bool] = []
        bench.plan.wake = lambda: woken.append(True)
        bench.orders.place(text.read("reset"), conversation="c", count=1)
        assert woken
        assert bench.run(1).what == [DONE, Reset()]
        assert [one["fault"] for one in bench.orders.fired("c")] == [{"do": "reset"}]

    def test_an_order_for_a_conversation_waits_for_its_next_connection(self) -> None:
        orders = Orders(Chance(1).stream)
        orders.place(text.read("reset on=turn_complete"), conversation="c", count=1)
        first = Bench(orders=orders).setup()
        orders.gone(first.plan)
        assert orders.pending("c")
        second = Bench(orders=orders).setup().say("answer").run(9)
        assert second.what[-1] == Reset()
        orders.gone(second.plan)
        assert not orders.pending()
        assert Reset() not in Bench(orders=orders).setup().say("answer").run(9).what

    def test_so_many_connections_are_hit_and_no_more(self) -> None:
        orders = Orders(Chance(1).stream)
        benches = [Bench(orders=orders) for _ in range(5)]
        orders.place(text.read("reset on=turn_complete times=2"), count=2)
        for bench in benches:
            bench.setup()
            for _ in range(3):
                bench.say("answer").run(bench.now + 10)
        assert [bench.what.count(Reset()) for bench in benches] == [2, 2, 0, 0, 0]

    @pytest.mark.parametrize(("reach", "hit"), [("open", [1, 0]), ("future", [0, 1]), ("all", [1, 1])])
    def test_connections_that_are_open_or_to_come(self, reach: Any, hit: list[int]) -> None:
        orders = Orders(Chance(1).stream)
        old = Bench(orders=orders).setup()
        orders.place(text.read("reset"), reach=reach)
        new = Bench(orders=orders).setup()
        assert [bench.run(1).what.count(Reset()) for bench in (old, new)] == hit

    def test_another_conversation_or_scenario_is_spared(self) -> None:
        bench = Bench().setup()
        bench.orders.place(text.read("reset"), conversation="other")
        bench.orders.place(text.read("reset"), scenario="other")
        assert bench.run(1).what == [DONE]

    @behaviour("fault.cancel", off=patched("emulator.faults.plan.FaultPlan.disarm", lambda *_: None))
    def test_cancelling_ends_what_lasts(self) -> None:
        bench = Bench().setup()
        order = bench.orders.place(text.read("pongs"))
        waiting = bench.orders.place(text.read("reset on=turn_complete"))
        bench.run(1)
        assert bench.orders.cancel(order.id)
        assert bench.orders.cancel(waiting.id)
        assert not bench.orders.cancel(order.id)
        bench.say("answer").run(9)
        assert bench.what == [DONE, Wire(pong_delay=float("inf")), Wire(pong_delay=0.0), *ANSWER]

    def test_a_conversation_that_turns_out_to_be_another_gets_its_orders(self) -> None:
        orders = Orders(Chance(1).stream)
        orders.place(text.read("reset"), conversation="resumed", count=1)
        plan = orders.dialled("anonymous", "support", [])
        mind = plan.around(Script(), conversation="resumed", link=2, record=Record())  # type: ignore[arg-type]
        assert Reset() in Link(mind, [plan]).start(0.0) + plan.tick(0.0)

    def test_orders_are_bounded(self) -> None:
        orders = Orders(Chance(1).stream)
        for _ in range(1000):
            orders.place(text.read("reset"))
        with pytest.raises(TooManyOrdersError, match="DELETE /faults"):
            orders.place(text.read("reset"))
        assert orders.cancel_all() == 1000


def test_too_much_held_back_ends_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("emulator.faults.outflow.MAX_HELD", 2)
    bench = Bench("delay by=1h").setup().say("answer").run(9)
    assert [what.refusal.code for what in bench.what if isinstance(what, Close)] == [1011] * 2


@pytest.mark.parametrize("moment", plan._FRAMES)
def test_moments_that_are_frames_are_kinds(moment: str) -> None:
    messages = {
        "setup": DONE,
        "tool_call": CALL,
        "interrupted": {"serverContent": {"interrupted": True}},
        "generation_complete": GENERATED,
        "turn_complete": COMPLETE,
        "go_away": {"goAway": {}},
    }
    assert moment in frames.kinds(messages[moment])
    assert isinstance(FaultPlan, type)


def _values(field: Any) -> st.SearchStrategy[Any]:
    """Values that a parameter may or may not take."""
    choices = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
    return st.one_of(
        st.sampled_from(choices or ("1", "2-", "500ms", "3s", "deadline")),
        st.integers(-1, 9),
        st.floats(0, 1),
        st.none(),
    )


@st.composite
def _faults(draw: st.DrawFn) -> list[Any]:
    found = []
    for name in draw(st.lists(st.sampled_from(list(text.MODELS)), max_size=5)):
        fields = {key: field for key, field in text.parameters(text.MODELS[name]).items() if key != "do"}
        chosen = draw(st.lists(st.sampled_from(list(fields)), max_size=4, unique=True))
        try:
            found.append(text.read({"do": name, **{key: draw(_values(fields[key])) for key in chosen}}))
        except text.FaultError as error:
            assert str(error)
    return found


@settings(max_examples=150, deadline=None)
@given(_faults(), st.lists(st.sampled_from(["answer", "call", "handle"]), max_size=4))
def test_no_combination_of_faults_breaks_the_plan(faults: list[Any], words: list[str]) -> None:
    bench = Bench()
    for fault in faults:
        bench.orders.place(fault, conversation="c", count=1)
    bench.run(1).setup()
    for word in words:
        bench.say(word).run(bench.now + 3)
    bench.run(bench.now + 100_000)
    # Nothing is left to be done, and what has fired can be told and written again.
    assert bench.plan.deadline is None
    for told in bench.orders.fired("c"):
        assert text.read(told["fault"]).told() == told["fault"]
    assert len(bench.what) <= 25_000
