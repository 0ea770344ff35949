"""When a session leaves its link: deadlines that no traffic moves, quiet moments, and links that hang."""

from __future__ import annotations

import pytest

from services.session_worker import events
from services.session_worker.rotation import MARGIN, PATIENCE, PROBE, SILENCE, Due, Probe, Rotate, Rotation, due
from services.session_worker.turns import TurnState

GO_AWAY = Rotate("GO_AWAY")
HUNG = Rotate("LINK_SILENT")


def tick(rotation, now, *, quiet=False, due=Due.NOTHING, speaking=False):
    return rotation.tick(now, quiet=quiet, due=due, spoke_since=lambda _: speaking)


def test_pongs_too_are_signs_of_life():
    rotation = Rotation(1.0)
    assert rotation.last_sign == 1.0
    rotation.pinged(2.0)
    rotation.pong(3.0)
    assert rotation.last_sign == 3.0
    rotation.heard(4.0)
    rotation.pinged(5.0)
    assert rotation.last_sign == 4.0


class TestGoAway:
    def test_the_first_quiet_moment_is_taken(self):
        rotation = Rotation(0.0)
        assert tick(rotation, 1.0, quiet=True) is None
        rotation.go_away(50.0, 2.0)
        assert rotation.leaving
        assert tick(rotation, 2.0) is None
        assert tick(rotation, 3.0, quiet=True) == GO_AWAY

    @pytest.mark.parametrize(
        ("left", "forced_after"), [(50.0, 40.0), (20.0, 10.0), (10.0, 5.0), (1.0, 0.5), (0.0, 0.0), (None, 20.0)]
    )
    def test_without_one_it_leaves_in_time(self, left, forced_after):
        rotation = Rotation(0.0)
        rotation.go_away(left, 100.0)
        if forced_after:
            assert tick(rotation, 100.0 + forced_after - 0.01) is None
        assert tick(rotation, 100.0 + forced_after) == GO_AWAY

    def test_neither_silence_nor_traffic_moves_the_deadline(self):
        silent, talkative = Rotation(0.0), Rotation(0.0)
        for rotation in (silent, talkative):
            rotation.go_away(30.0, 0.0)
        for now in range(1, 20):
            talkative.heard(float(now))
            assert tick(talkative, float(now)) is None
            assert tick(silent, float(now)) is None
        assert tick(talkative, 30.0 - MARGIN) == tick(silent, 30.0 - MARGIN) == GO_AWAY

    def test_of_two_the_earlier_deadline_holds(self):
        rotation = Rotation(0.0)
        rotation.go_away(60.0, 0.0)
        rotation.go_away(30.0, 1.0)
        rotation.go_away(100.0, 2.0)
        assert tick(rotation, 20.9) is None
        assert tick(rotation, 21.0) == GO_AWAY

    def test_a_negative_time_left_is_none(self):
        rotation = Rotation(0.0)
        rotation.go_away(-5.0, 0.0)
        assert tick(rotation, 0.0) == GO_AWAY


class TestAge:
    def test_it_is_off_unless_it_is_set(self):
        assert tick(Rotation(0.0), 1e9, quiet=True) is None

    def test_an_old_link_is_left_at_a_quiet_moment_or_soon_after(self):
        rotation = Rotation(0.0, most_age=540.0)
        assert tick(rotation, 539.9, quiet=True) is None
        assert tick(rotation, 540.0) is None
        assert tick(rotation, 541.0, quiet=True) == Rotate("AGE")
        assert tick(Rotation(0.0, most_age=1.0), 1.0, quiet=True) == Rotate("AGE")
        assert tick(rotation, 560.0) == Rotate("AGE")

    def test_what_the_service_says_counts_more(self):
        rotation = Rotation(0.0, most_age=10.0)
        rotation.go_away(12.0, 0.0)
        assert tick(rotation, 6.0) == GO_AWAY


def prompt(now=0.0):
    rotation = Rotation(now)
    rotation.pinged(now)
    rotation.pong(now + 0.03)
    return rotation


class TestSilence:
    def test_nothing_is_expected_of_an_idle_link(self):
        rotation = prompt()
        assert all(tick(rotation, now / 10) is None for now in range(10_000))

    @pytest.mark.parametrize("state", [{"due": Due.ANSWER}, {"due": Due.TURN}, {"speaking": True}])
    def test_a_link_that_answers_neither_model_nor_ping_hangs(self, state):
        rotation = prompt()
        decisions = {}
        for step in range(2000):
            now = 10 + step / 20
            if (decision := tick(rotation, now, **state)) is not None:
                decisions.setdefault(type(decision), now)
                if isinstance(decision, Probe):
                    rotation.pinged(now)
                else:
                    break
        assert decision == HUNG
        # An answer is owed from its question on; the others are known from the link's last sign on.
        begin = 10.0 if state.get("due") is Due.ANSWER else 0.03
        assert decisions[Probe] - begin >= PROBE - 0.1
        assert decisions[Rotate] - max(10.0, begin) <= SILENCE + 0.1

    @pytest.mark.parametrize("due", [Due.ANSWER, Due.TURN])
    def test_a_pong_is_a_sign_of_life(self, due):
        rotation = prompt()
        for step in range(int(PATIENCE * 20) - 20):
            now = step / 20
            decision = tick(rotation, now, due=due)
            if decision is not None:
                assert decision == Probe()
                rotation.pinged(now)
                rotation.pong(now + 0.03)

    def test_but_an_answer_is_not_waited_for_for_ever(self):
        rotation = prompt()
        assert tick(rotation, 1.0, due=Due.ANSWER) is None
        assert tick(rotation, 1.0 + PATIENCE, due=Due.ANSWER) == HUNG

    @pytest.mark.parametrize("state", [{"due": Due.TURN}, {"speaking": True}])
    def test_whether_it_answers_what_was_said_is_its_own_affair(self, state):
        """It may be noise, or none of its business, and to leave its link costs what is too old to be given again."""
        assert until_left(prompt(), lambda _: state) is None

    @pytest.mark.parametrize("pong", [None, 2.5, 8.0, 30.0])
    @pytest.mark.parametrize("state", [{"due": Due.ANSWER}, {"due": Due.TURN}, {"speaking": True}])
    def test_where_pongs_are_late_they_prove_nothing(self, pong, state):
        rotation = Rotation(0.0)
        rotation.pinged(0.0)
        if pong is not None:
            rotation.pong(pong)
        begin = pong or 0.0
        for step in range(int(PATIENCE * 20) - 20):
            now = begin + step / 20
            decision = tick(rotation, now, **state)
            assert decision in (None, Probe())
            if decision == Probe():
                rotation.pinged(now)

    def test_a_model_that_stops_in_the_middle_hangs_whatever_the_socket_says(self):
        rotation = Rotation(0.0)
        rotation.heard(10.0)
        assert tick(rotation, 10.0 + SILENCE - 0.1, due=Due.MORE) is None
        rotation.pong(10.0 + SILENCE - 0.1)
        assert tick(rotation, 10.0 + SILENCE, due=Due.MORE) == HUNG

    def test_it_is_noticed_while_a_go_away_waits_for_its_turn(self):
        rotation = prompt()
        rotation.go_away(2.0, 0.0)
        decisions = []
        for step in range(100):
            decisions.append(tick(rotation, step / 20, due=Due.ANSWER))
            if decisions[-1] == Probe():
                rotation.pinged(step / 20)
        assert GO_AWAY in decisions
        assert decisions[-1] == HUNG

    def test_one_that_spoke_after_the_ping_is_not_silent(self):
        rotation = prompt()
        assert tick(rotation, 10.0, due=Due.TURN) == Probe()
        rotation.pinged(10.0)
        rotation.heard(13.0)
        assert tick(rotation, 13.0 + SILENCE - 0.1, due=Due.TURN) is None
        assert tick(rotation, 13.0 + SILENCE, due=Due.TURN) == HUNG

    def test_what_it_says_counts_as_a_sign(self):
        rotation = prompt()
        for step in range(2000):
            now = step / 20
            rotation.heard(now)
            assert tick(rotation, now, due=Due.MORE, speaking=True) is None

    def test_audio_is_looked_at_only_when_it_matters(self):
        rotation = prompt()
        looked = []
        for step in range(40):
            rotation.tick(step / 20, quiet=False, due=Due.NOTHING, spoke_since=lambda _: looked.append(1) or False)
        assert not looked


class TestDue:
    """What is owed as a turn goes on; a link that hangs then is noticed by it."""

    def test_a_spoken_question(self):
        turns = TurnState()
        assert due(turns, 0.0) is Due.NOTHING
        turns.on_event(events.InputTranscript(text="hello", finished=False, language=""), 1.0)
        assert due(turns, 1.0) is Due.TURN
        turns.on_event(events.Audio(pcm=bytes(48_000), rate=24_000), 2.0)
        assert due(turns, 2.0) is Due.MORE
        turns.on_event(events.GenerationComplete(), 2.1)
        assert due(turns, 2.9) is Due.NOTHING
        assert due(turns, 4.1) is Due.ANSWER
        turns.on_event(events.TurnComplete(reason="", waiting_for_input=False, idle=True), 4.2)
        assert due(turns, 4.2) is Due.NOTHING

    def test_an_answer_without_sound(self):
        turns = TurnState()
        turns.asked(0.0)
        assert due(turns, 0.0) is Due.ANSWER
        turns.on_event(events.Text(text="Hel", thought=False), 1.0)
        assert due(turns, 1.0) is Due.TURN

    def test_a_function_that_runs(self):
        turns = TurnState()
        turns.on_event(events.FunctionCall(id="1", name="f", args={}), 1.0)
        assert due(turns, 1.0) is Due.NOTHING
        turns.call_settled("1", 2.0)
        assert due(turns, 2.0) is Due.ANSWER

    def test_a_function_that_is_called_in_the_middle_of_what_is_said(self):
        """Whatever it takes, the link is not left as it goes on."""
        turns, rotation = TurnState(), prompt()
        turns.on_event(events.Audio(pcm=bytes(48_000), rate=24_000), 1.0)
        turns.on_event(events.FunctionCall(id="1", name="f", args={}), 1.1)
        rotation.heard(1.1)
        assert due(turns, 60.0) is Due.NOTHING
        turns.call_settled("1", 60.0)
        assert tick(rotation, 60.0, due=due(turns, 60.0)) is None
        turns.on_event(events.Audio(pcm=bytes(48_000), rate=24_000), 61.0)
        assert due(turns, 61.0) is Due.MORE


def until_left(rotation, state, seconds=300):
    """When the link is left; None: not in that time. Its pongs come at once."""
    for step in range(seconds * 20):
        now = step / 20
        match tick(rotation, now, **state(now)):
            case Probe():
                rotation.pinged(now)
                rotation.pong(now + 0.03)
            case Rotate():
                return now
    return None
