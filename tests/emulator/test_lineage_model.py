"""The lineage beside what counting by hand gives, and beside what the mind itself remembers."""

from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from emulator.record import LinkFacts, Position
from emulator.session.handles import Snapshot
from tests.emulator.behaviour import behaviour, patched
from tests.emulator.caller import Caller, typed
from tests.emulator.lineage_examples import late
from tests.support.speech import question
from tests.support.stories import Story

FRAMES = st.integers(0, 60)
STEPS = st.one_of(
    st.tuples(st.just("hear"), FRAMES, st.integers(1, 12)),
    st.tuples(st.just("handle")),
    st.tuples(st.just("resume"), st.integers(0, 9)),
    st.tuples(st.just("start anew")),
)


@settings(max_examples=150, deadline=None)
@given(steps=st.lists(STEPS, max_size=25))
def test_frame_by_frame_it_is_what_counting_by_hand_gives(steps: list[tuple[Any, ...]]) -> None:
    story = Story()
    link = story.open()
    heard: list[list[int]] = [[]]
    """What each link heard."""
    before: list[list[int]] = [[]]
    """What its lineage had heard when it began."""
    handles: list[tuple[Position, list[int]]] = []
    for step in steps:
        match step:
            case "hear", first, count:
                link.hear(first, first + count - 1)
                heard[-1] += range(first, first + count)
            case ("handle",):
                handles.append((link.handle(), before[-1] + heard[-1]))
            case "resume", number if handles:
                position, known = handles[number % len(handles)]
                link = story.open(position)
                before.append(list(known))
                heard.append([])
            case ("start anew",):
                link = story.open()
                before.append([])
                heard.append([])
    known = before[-1] + heard[-1]
    view = story.view
    assert listed(view["marks"]) == sorted(set(known))
    assert listed(view["forgotten"]["silence"]) == sorted({n for one in heard for n in one} - set(known))
    assert view["forgotten"]["speech"] == []
    repeats = Counter({number: times - 1 for number, times in Counter(known).items() if times > 1})
    assert Counter(listed(view["duplicates"]["audio"])) == repeats
    inside = set(range(min(known), max(known))) if known else set()
    assert listed(view["holes"]) == sorted(inside - set(known))
    assert listed(view["out_of_order"]) == sorted(late(known))


def listed(ranges: list[dict[str, Any]]) -> list[int]:
    return sorted(number for one in ranges for number in range(one["first"], one["last"] + 1))


MIND_STEPS = st.one_of(
    st.tuples(st.just("speak"), st.sampled_from(["hello", "stop", "pizza"])),
    st.tuples(st.just("begin"), st.sampled_from(["hello", "pizza"])),
    st.tuples(st.just("understood")),
    st.tuples(st.just("type"), st.sampled_from(["hello", "stop"])),
    st.tuples(st.just("turn"), st.sampled_from(["user", "model"]), st.booleans()),
    st.tuples(st.just("wait"), st.sampled_from([0.6, 60.0])),
    st.tuples(st.just("resume"), st.integers(0, 9)),
    st.tuples(st.just("resume where it was")),
    st.tuples(st.just("start anew")),
)


@settings(max_examples=60, deadline=None)
@given(steps=st.lists(MIND_STEPS, max_size=20), trigger=st.sampled_from([None, 40, 100]), seeded=st.booleans())
def test_the_context_is_what_the_mind_remembers(
    steps: list[tuple[Any, ...]], trigger: int | None, seeded: bool
) -> None:
    story = Story()
    snapshots: list[Snapshot] = []
    window = {"triggerTokens": trigger, "slidingWindow": {"targetTokens": (trigger or 0) // 2}}
    setup: dict[str, Any] = {"contextWindowCompression": window} if trigger else {}
    setup["historyConfig"] = {"initialHistoryInClientContent": seeded}

    def connect(snapshot: Snapshot | None = None) -> Caller:
        restored = snapshot.position if snapshot else None
        facts = LinkFacts(story.record.next_link_index(), "m", "/", "v1beta", {}, 0.0, restored)
        record = story.record.add_link(facts)
        caller = Caller(snapshot=snapshot, record=record, sessionResumption={}, **setup)
        caller._take(caller.mind.start(0.0))
        return caller

    def remembered() -> list[tuple[str, str]]:
        return [one for one in caller.mind.snapshot(hearing=False).history if one[0] != "tool"]

    caller = connect()
    for step in steps:
        match step:
            case "speak", name:
                caller.speak(name)
            case "begin", name:
                caller.hear(question(name)[:16000])
            case ("understood",) if caller.listening:
                listen = caller.listening.pop(0)
                caller._take(caller.mind.heard(listen.number, "hello", caller.now))
            case "type", text:
                caller.send(realtimeInput={"text": text})
            case "turn", role, complete:
                caller.send(clientContent={**typed("hello", turnComplete=complete), "turns": [turn(role)]})
            case "wait", seconds:
                caller.until(caller.now + seconds)
            case "resume", number if snapshots:
                caller = connect(snapshots[number % len(snapshots)])
            case ("resume where it was",):
                caller = connect(caller.mind.snapshot(hearing=True))
            case ("start anew",):
                caller = connect()
        snapshots += caller.snapshots
        caller.snapshots.clear()
        context = [spoken(entry) for entry in story.view["context"]]
        under_way = caller.mind.snapshot(hearing=False).position
        assert under_way is not None
        if under_way.said:
            context.append(("model", under_way.said))
        assert context == remembered()


@behaviour("record.cut", off=patched("emulator.record.link.LinkRecord.context_cut", lambda *_, **__: None))
def test_what_compression_cuts_off_is_no_longer_in_the_context() -> None:
    story = Story()
    record = story.open().record
    caller = Caller(
        record=record,
        historyConfig={"initialHistoryInClientContent": True},
        contextWindowCompression={"triggerTokens": 60, "slidingWindow": {"targetTokens": 30}},
    )
    caller.send(clientContent={"turns": [turn("user")], "turnComplete": True})
    for _ in range(3):
        caller.send(realtimeInput={"text": "hello"})
        caller.until(caller.now + 60)
    view = story.view
    held = [spoken(entry) for entry in view["context"]]
    assert held == list(caller.mind.snapshot(hearing=False).history)
    # Seeds are never cut.
    assert held[0] == ("user", "user says so")
    assert [spoken(entry) for entry in view["cut"]][:2] == [("user", "hello"), ("model", "hello how can i help you")]
    assert len(held) + len(view["cut"]) == 7
    assert any(event["kind"] == "context_cut" for event in story.record.events)
    assert record.view()["texts"] == ["hello"] * 3


def turn(role: str) -> dict[str, Any]:
    return {"role": role, "parts": [{"text": f"{role} says so"}]}


def spoken(entry: dict[str, Any]) -> tuple[str, str]:
    if entry["kind"] == "said":
        return "model", entry["text"]
    return entry.get("role", "user"), entry["text"]
