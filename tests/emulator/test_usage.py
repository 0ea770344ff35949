"""What a conversation costs and remembers: tokens at the documented rates, the context, and what compression cuts."""

import asyncio
import json
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from google.genai import types
from hypothesis import given
from hypothesis import strategies as st

from emulator.configuration import compression
from emulator.configuration.compression import Compression
from emulator.errors import Refusal
from emulator.mind.context import Context, Entry
from emulator.mind.history import History, Terms
from emulator.mind.usage import NOTHING, Cost, Usage, text_tokens
from emulator.session.handles import Snapshot
from tests.emulator import sdk
from tests.emulator.behaviour import behaviour, patched, without
from tests.emulator.caller import GREETING_SECONDS, Caller
from tests.emulator.conftest import Here
from tests.emulator.service import Service

VIDEO = {"realtimeInput": {"video": {"data": "iVBORw0KGgo=", "mimeType": "image/png"}}}
IMAGE = {"inlineData": {"data": "iVBORw0KGgo=", "mimeType": "image/png"}}
WEATHER = [
    {"functionDeclarations": [{"name": "get_weather", "parameters": {"properties": {"city": {"type": "STRING"}}}}]}
]
SECOND = bytes(32000)
TURN = 20.0
"""Longer than any answer."""


def modalities(usage: dict[str, Any], name: str = "promptTokensDetails") -> dict[str, int]:
    return {detail["modality"]: detail["tokenCount"] for detail in usage[name]}


def usage_of(caller: Caller) -> dict[str, Any]:
    """Of the latest turn that the latest call completed."""
    found: dict[str, Any] = [message for message in caller.messages if "usageMetadata" in message][-1]["usageMetadata"]
    return found


def asked(caller: Caller, text: str = "hello") -> dict[str, Any]:
    """The usage of a turn that answers a typed question."""
    caller.messages.clear()
    caller.ask(text)
    caller.until(caller.now + GREETING_SECONDS)
    return usage_of(caller)


# Rates


@pytest.mark.parametrize(
    ("cost", "tokens"),
    [
        (Cost(audio=1.0), {"AUDIO": 25}),
        (Cost(audio=0.04), {"AUDIO": 1}),
        (Cost(audio=900.0), {"AUDIO": 22_500}),
        (Cost(text=text_tokens("four")), {"TEXT": 1}),
        (Cost(text=text_tokens("fives")), {"TEXT": 2}),
        (Cost(text=text_tokens("")), {}),
        (Cost(video=258, image=2 * 258), {"VIDEO": 258, "IMAGE": 516}),
        (Cost(audio=0.5, text=3) + Cost(audio=0.5, text=4, video=64), {"AUDIO": 25, "VIDEO": 64, "TEXT": 7}),
    ],
)
def test_tokens_by_modality(cost: Cost, tokens: dict[str, int]) -> None:
    assert cost.by_modality() == tokens
    assert cost.tokens == sum(tokens.values())


@behaviour("10.40", off=patched("emulator.mind.usage.AUDIO_TOKENS_PER_SECOND", 32))
def test_a_spoken_turn_is_paid_at_25_tokens_a_second_both_ways_and_the_next_pays_for_it_again() -> None:
    history = History(Snapshot(), Terms())
    history.instruct("be brief")
    history.listened(2.0)
    history.user("hello", spoken=1.6)
    history.take_question()
    history.spoke(4.0)
    history.model("hello")
    first = history.close_turn()
    # Two seconds were heard, though only 1.6 of them are remembered.
    assert modalities(first) == {"AUDIO": 50, "TEXT": 2}
    assert modalities(first, "responseTokensDetails") == {"AUDIO": 100}
    assert (first["promptTokenCount"], first["responseTokenCount"], first["totalTokenCount"]) == (52, 100, 152)
    history.user("and now", images=1)
    history.saw()
    second = history.close_turn()
    assert modalities(second) == {"AUDIO": 40 + 100, "VIDEO": 258, "IMAGE": 258, "TEXT": 2 + 2}
    assert second["responseTokenCount"] == 0 and second["responseTokensDetails"] == []


@behaviour("10.40", off=patched("emulator.mind.context.Context._count", lambda self, entry: None))
def test_every_turn_pays_for_the_whole_context_again() -> None:
    caller = Caller()
    first, second, third = (asked(caller) for _ in range(3))
    grown = text_tokens("hello") + round(25 * GREETING_SECONDS)
    for before, after in pairwise([first, second, third]):
        assert after["promptTokenCount"] - before["promptTokenCount"] == grown
        assert after["totalTokenCount"] == after["promptTokenCount"] + after["responseTokenCount"]


@behaviour(
    "10.40", off=patched("emulator.mind.history.TOKENS_PER_PICTURE", dict.fromkeys(("", "LOW", "MEDIUM", "HIGH"), 0))
)
@pytest.mark.parametrize(("resolution", "tokens"), [("", 258), ("LOW", 64), ("MEDIUM", 256), ("HIGH", 256)], ids=str)
def test_a_frame_costs_258_tokens_and_64_at_low_resolution(resolution: str, tokens: int) -> None:
    generation = {"mediaResolution": f"MEDIA_RESOLUTION_{resolution}"} if resolution else {}
    caller = Caller(generationConfig=generation)
    for _ in range(3):
        caller.send(**VIDEO)
    caller.send(clientContent={"turns": [{"role": "user", "parts": [IMAGE, {"text": "hello"}]}], "turnComplete": True})
    caller.until(GREETING_SECONDS)
    used = modalities(usage_of(caller))
    assert (used["VIDEO"], used["IMAGE"]) == (3 * tokens, tokens)


@behaviour("10.40", off=without(silence="free"))
def test_silence_is_paid_for_in_its_turn_and_not_remembered(switches: dict[str, Any]) -> None:
    caller = Caller(switches=switches)
    for _ in range(3):
        caller.hear(SECOND)
    assert modalities(asked(caller))["AUDIO"] == 75
    assert modalities(asked(caller))["AUDIO"] == 25 * GREETING_SECONDS


@pytest.mark.parametrize("setup", [{"realtimeInputConfig": {"turnCoverage": "TURN_INCLUDES_ALL_INPUT"}}, {}])
def test_silence_that_a_turn_includes_stays_in_the_context(setup: dict[str, Any]) -> None:
    caller = Caller(switches={} if setup else {"silence": "context"}, **setup)
    for _ in range(3):
        caller.hear(SECOND)
    assert modalities(asked(caller))["AUDIO"] == 75
    assert modalities(asked(caller))["AUDIO"] == 75 + 25 * GREETING_SECONDS


@given(st.lists(st.tuples(st.floats(0, 5), st.booleans()), max_size=20))
def test_all_audio_is_kept_once_where_silence_is_kept(pieces: list[tuple[float, bool]]) -> None:
    history = History(Snapshot(), Terms(silence="context"))
    for seconds, speech in pieces:
        history.listened(seconds)
        if speech:
            history.user("x", spoken=seconds)
        else:
            history.close_turn()
    history.close_turn()
    assert history.usage().prompt.audio == pytest.approx(sum(seconds for seconds, _ in pieces))


@behaviour("usage.tools", off=patched("emulator.mind.history.History.result", lambda self, text: None))
def test_outcomes_of_functions_are_told_apart_and_belong_to_the_prompt_afterwards() -> None:
    (declared,) = WEATHER[0]["functionDeclarations"]
    caller = Caller(tools=[{"functionDeclarations": [{**declared, "behavior": "BLOCKING"}]}])
    caller.ask("what is the weather in paris")
    (call,) = caller.calls()
    response = {"weather": "sunny", "temperature": 21}
    caller.respond(response)
    caller.until(TURN)
    used = usage_of(caller)
    made = text_tokens(json.dumps({name: call[name] for name in ("id", "name", "args")}, separators=(",", ":")))
    taken = text_tokens(json.dumps(response, separators=(",", ":")))
    # The call is what the model generated, beside what it says.
    assert modalities(used, "responseTokensDetails")["TEXT"] == made
    assert used["toolUsePromptTokenCount"] == taken
    assert modalities(used, "toolUsePromptTokensDetails") == {"TEXT": taken}
    assert used["promptTokenCount"] == text_tokens("what is the weather in paris")
    assert used["totalTokenCount"] == used["promptTokenCount"] + used["responseTokenCount"] + taken
    after = asked(caller)
    assert "toolUsePromptTokenCount" not in after
    assert after["promptTokenCount"] == used["totalTokenCount"] + text_tokens("hello")


def test_a_silent_outcome_is_remembered_and_paid_for_like_any_other() -> None:
    caller = Caller(tools=WEATHER)
    caller.ask("what is the weather in paris")
    response = {"weather": "sunny", "temperature": 21}
    caller.respond(response, scheduling="SILENT")
    written = json.dumps(response, separators=(",", ":"))
    context = caller.mind.snapshot(hearing=False).context
    assert [entry.text for entry in context if entry.role == "tool"] == [written]
    used = asked(caller)
    assert used["toolUsePromptTokenCount"] == text_tokens(written)
    assert asked(caller)["promptTokenCount"] == used["totalTokenCount"] + text_tokens("hello")


def test_instructions_are_paid_for_also_after_an_update_of_the_tools_alone() -> None:
    caller = Caller(systemInstruction={"parts": [{"text": "be brief and kind"}]})
    caller.send(contextUpdate={"tools": {"tools": WEATHER}})
    assert asked(caller)["promptTokenCount"] == text_tokens("be brief and kind") + text_tokens("hello")


def test_what_was_cut_off_before_it_was_told_makes_nothing_negative() -> None:
    history = History(Snapshot(), Terms(compression=Compression(100, 50)))
    history.user("hello")
    history.called("x" * 800)
    history.user("and now")
    history.take_question()
    used = history.close_turn()
    assert used["promptTokenCount"] == 0 and used["responseTokenCount"] == 200
    assert history.close_turn()["promptTokenCount"] == 2


@behaviour("usage.thoughts", off=patched("emulator.mind.history.History.thought", lambda self, text: None))
def test_thoughts_are_paid_for_once_and_not_remembered() -> None:
    history = History(Snapshot(), Terms())
    history.user("weather")
    history.thought("x" * 40)
    used = history.close_turn()
    assert (used["thoughtsTokenCount"], used["promptTokenCount"], used["totalTokenCount"]) == (10, 2, 12)
    assert "thoughtsTokenCount" not in history.close_turn()


def test_an_interrupted_answer_is_paid_for_as_far_as_it_was_sent() -> None:
    caller = Caller()
    caller.ask("hello")
    # Half of it, at four seconds of speech a second.
    caller.until(GREETING_SECONDS / 8 - 0.01)
    sent = caller.mind.usage()["responseTokenCount"]
    caller.ask("hello")
    assert usage_of(caller)["responseTokenCount"] == sent == 25 * GREETING_SECONDS / 2


# Wording


def test_fields_that_mean_nothing_are_absent() -> None:
    assert Usage(Cost(text=1), NOTHING).metadata() == {
        "promptTokenCount": 1,
        "responseTokenCount": 0,
        "totalTokenCount": 1,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 1}],
        "responseTokensDetails": [],
    }


@behaviour("usage.vertex", off=patched("emulator.mind.conversation.terms", lambda config: Terms()))
def test_vertex_calls_a_response_candidates_and_names_the_traffic() -> None:
    caller = Caller(backend="vertex", api_version="v1beta1", switches={"service_tier": "standard"})
    used = asked(caller)
    assert used["candidatesTokenCount"] == 25 * GREETING_SECONDS
    assert modalities(used, "candidatesTokensDetails") == {"AUDIO": 25 * GREETING_SECONDS}
    assert used["trafficType"] == "ON_DEMAND"
    assert not {"responseTokenCount", "responseTokensDetails", "serviceTier", "cachedContentTokenCount"} & set(used)


@behaviour("usage.service_tier", off=patched("emulator.mind.conversation.terms", lambda config: Terms()))
def test_the_service_tier_is_told_where_wanted() -> None:
    assert asked(Caller(switches={"service_tier": "flex"}))["serviceTier"] == "flex"
    assert "serviceTier" not in asked(Caller())


# Cadence


@behaviour("13.9", off=without(usage="separate"))
def test_usage_comes_in_the_frame_that_completes_the_turn(switches: dict[str, Any]) -> None:
    assert ends(switches) == [{"serverContent", "usageMetadata"}]


@behaviour("2.4.23", "10.24", "usage.cadence", off=without(usage="turn"))
@pytest.mark.parametrize(
    ("cadence", "frames"),
    [
        ("separate", [{"serverContent"}, {"usageMetadata"}]),
        ("empty", [{"serverContent"}, {"serverContent", "usageMetadata"}]),
    ],
)
def test_or_by_itself_or_with_an_empty_content(cadence: str, frames: list[set[str]], switches: dict[str, Any]) -> None:
    assert ends({"usage": cadence} | switches) == frames


def ends(switches: dict[str, Any]) -> list[set[str]]:
    """The members of the frames that end a turn."""
    line = Service().dial(switches=switches)
    line.ask("hello")
    frames = [message for message in line.later(TURN) if {"serverContent", "usageMetadata"} & set(message)]
    complete = next(i for i, frame in enumerate(frames) if "turnComplete" in frame.get("serverContent", {}))
    assert all(not frame.get("serverContent") for frame in frames[complete + 1 :])
    return [set(frame) for frame in frames[complete:]]


@behaviour("usage.cadence", off=without(usage="turn"))
def test_or_also_with_the_audio_about_once_a_second(switches: dict[str, Any]) -> None:
    line = Service().dial(switches={"usage": "periodic", "generation_speed": 1, **switches})
    line.ask("hello")
    told = [message["usageMetadata"] for message in line.later(TURN) if "usageMetadata" in message]
    assert [usage["responseTokenCount"] for usage in told] == pytest.approx([25 * at for at in range(1, 7)], abs=2)
    assert told[-1]["responseTokenCount"] == 25 * GREETING_SECONDS


# The context


def entry(role: Any, text: str, tokens: int = 10, **fields: Any) -> Entry:
    return Entry(role, text, Cost(text=tokens), **fields)


def texts(context: Context) -> str:
    return "".join(entry.text for entry in context)


def test_contexts_that_grow_out_of_one_another_keep_their_own_ends() -> None:
    base = Context([entry("user", "a")])
    one = base.grown(entry("model", "b"))
    two = base.grown(entry("model", "c")).grown(entry("user", "d"))
    more = one.grown(entry("user", "e", pictures=1))
    assert [texts(context) for context in (base, one, two, more)] == ["a", "ab", "acd", "abe"]
    assert [context.cost.tokens for context in (base, one, two, more)] == [10, 20, 30, 30]
    assert [context.pictures for context in (one, more)] == [0, 1]
    assert one == Context([entry("user", "a"), entry("model", "b")]) != two


Step = tuple[str, int]
STEPS = st.lists(
    st.tuples(st.sampled_from(["user", "model", "tool", "cut", "seeded"]), st.integers(0, 200)), max_size=30
)


@given(STEPS, st.lists(st.integers(0, 29), max_size=3))
def test_a_context_is_what_a_list_would_be_whoever_else_grew_out_of_it(steps: list[Step], branches: list[int]) -> None:
    context, expected, seeds = Context(), list[Entry](), 0
    for number, (what, amount) in enumerate(steps):
        if number in branches:
            # Somebody else goes on from here.
            context.grown(entry("user", "other", 1)).grown(entry("model", "other", 1))
        match what:
            case "cut":
                context = context.cut(amount)
                free = expected[seeds:]
                users = [index for index, one in enumerate(free) if one.role == "user"]
                fitting = [
                    index
                    for index in users
                    if sum(one.cost.tokens for one in expected[:seeds] + free[index:]) <= amount
                ]
                keep = min(fitting) if fitting else max(users, default=0)
                expected = expected[:seeds] + free[keep:]
            case "seeded":
                context, seeds = context.seeded(), len(expected)
            case _:
                new = entry(what, str(number), amount)
                context, expected = context.grown(new), [*expected, new]
        assert list(context) == expected
        assert len(context) == len(expected)
        assert context.cost.tokens == sum(one.cost.tokens for one in expected)


@behaviour(
    "snapshot.shared", off=patched("emulator.mind.context.Context.grown", lambda self, one: Context([*self, one]))
)
def test_a_snapshot_a_turn_copies_nothing_however_long_the_conversation() -> None:
    history = History(Snapshot(), Terms())
    snapshots = []
    for _ in range(200):
        history.user("a")
        history.take_question()
        history.model("b")
        snapshots.append(history.snapshot())
    assert len({id(snapshot.context._log) for snapshot in snapshots}) == 1
    assert [len(snapshot.context) for snapshot in snapshots] == [2 * turn for turn in range(1, 201)]


# Compression


@behaviour("10.39", off=patched("emulator.mind.context.Context.cut", lambda self, tokens: self))
def test_a_context_over_its_trigger_is_cut_to_its_target_and_costs_less_in_the_next_turn() -> None:
    caller = Caller(contextWindowCompression={"triggerTokens": 1000, "slidingWindow": {"targetTokens": 400}})
    each = text_tokens("hello") + round(25 * GREETING_SECONDS)
    prompts = [asked(caller)["promptTokenCount"] for _ in range(9)]
    # The seventh turn leaves 1064: the oldest go until no more than 400 are left, which are two exchanges.
    assert prompts == [2 + each * turn for turn in (0, 1, 2, 3, 4, 5, 6, 2, 3)]
    assert len(caller.mind.snapshot(hearing=False).history) == 2 * 4


@behaviour("10.39", off=patched("emulator.mind.context.Context.seeded", lambda self: self))
def test_instructions_and_seeded_history_are_never_cut() -> None:
    caller = Caller(
        contextWindowCompression={"triggerTokens": 500, "slidingWindow": {"targetTokens": 1}},
        systemInstruction={"parts": [{"text": "x" * 400}]},
        historyConfig={"initialHistoryInClientContent": True},
    )
    seeds = [{"role": role, "parts": [{"text": text}]} for role, text in (("user", "seed"), ("model", "answer"))]
    caller.send(clientContent={"turns": seeds, "turnComplete": True})
    prompts = [asked(caller)["promptTokenCount"] for _ in range(5)]
    history = caller.mind.snapshot(hearing=False).history
    assert history[:2] == (("user", "seed"), ("model", "answer"))
    # The oldest went, and the last exchange stayed.
    assert len(history) == 4 and history[2:] == (("user", "hello"), ("model", "hello how can i help you"))
    assert max(prompts) < 600 and min(prompts) >= 100 + 1 + 2


def test_what_is_left_begins_with_the_users_turn_and_its_last_turn_stays() -> None:
    context = Context(
        [entry(role, text) for role, text in zip(("user", "model", "tool", "user", "model"), "abcde", strict=True)]
    )
    assert texts(context.cut(45)) == "de"
    assert texts(context.cut(20)) == "de"
    assert texts(context.cut(0)) == "de"
    assert texts(context.cut(50)) == "abcde"
    assert texts(Context([entry("model", "a")]).cut(0)) == "a"


@behaviour("10.39", off=patched("emulator.mind.context.Context.cut", lambda self, tokens: self))
def test_pictures_that_were_cut_are_not_seen_any_more() -> None:
    caller = Caller(contextWindowCompression={"triggerTokens": 1000, "slidingWindow": {"targetTokens": 600}})
    for _ in range(4):
        caller.send(**VIDEO)
    caller.send(realtimeInput={"text": "what do you see"})
    caller.until(20)
    assert caller.said()[-1]["text"] == "i see two pictures"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (None, None),
        ({}, Compression(104_857, 52_428)),
        ({"slidingWindow": {}}, Compression(104_857, 52_428)),
        ({"triggerTokens": 25_000}, Compression(25_000, 12_500)),
        ({"triggerTokens": 25_000, "slidingWindow": {"targetTokens": 8_000}}, Compression(25_000, 8_000)),
        ({"slidingWindow": {"targetTokens": 8_000}}, Compression(104_857, 8_000)),
    ],
)
def test_compression_as_a_setup_has_it(body: dict[str, Any] | None, expected: Compression | None) -> None:
    assert compression.read(body, window=131_072) == expected


@pytest.mark.parametrize(
    ("body", "vertex"),
    [
        ({"triggerTokens": 0}, False),
        ({"triggerTokens": -5}, False),
        ({"triggerTokens": 131_073}, False),
        ({"triggerTokens": 1000, "slidingWindow": {"targetTokens": 1000}}, False),
        ({"slidingWindow": {"targetTokens": -1}}, False),
        ({"triggerTokens": 4_999}, True),
        ({"triggerTokens": 128_001}, True),
    ],
)
def test_compression_that_cannot_be_is_refused(body: dict[str, Any], vertex: bool) -> None:
    with pytest.raises(Refusal, match="1007 Request contains an invalid argument"):
        compression.read(body, window=131_072, vertex=vertex)


def test_the_trigger_of_a_setup_reaches_the_history() -> None:
    assert Caller(contextWindowCompression={"triggerTokens": 9000}).config.compression == Compression(9000, 4500)
    assert Caller().config.compression is None


# A context that is full


@behaviour("2.4.16", "context.full", off=without(full_context="cut"))
def test_a_conversation_that_outgrows_the_window_is_refused(switches: dict[str, Any]) -> None:
    caller = Caller(switches=switches)
    with pytest.raises(Refusal, match="1007 Request contains an invalid argument"):
        for _ in range(40):
            caller.send(clientContent={"turns": [{"role": "user", "parts": [{"text": "x" * 16_000}]}]})


@behaviour("context.full", off=without(full_context="refused"))
def test_or_forgets_its_beginning(switches: dict[str, Any]) -> None:
    caller = Caller(switches={"full_context": "cut", **switches})
    for number in range(40):
        text = f"{number:02}" + "x" * 15_998
        caller.send(clientContent={"turns": [{"role": "user", "parts": [{"text": text}]}]})
    history = caller.mind.snapshot(hearing=False)
    assert history.context.cost.tokens <= 131_072
    assert next(text[:2] for _, text in history.history) == "08" and len(history.history) == 32


def test_one_message_that_no_cutting_makes_fit_is_refused_even_with_compression() -> None:
    for terms in (Terms(window=1000, full="cut"), Terms(window=1000, compression=Compression(800, 400))):
        history = History(Snapshot(), terms)
        history.user("a")
        with pytest.raises(Refusal, match="1007"):
            history.user("x" * 4004)


def test_nothing_can_be_remembered_without_bound() -> None:
    history = History(Snapshot(), Terms(window=1000, full="cut"))
    for _ in range(5000):
        history.user("")
        history.model("")
        history.result("")
        history.take_question()
    assert len(history.snapshot().context) <= 1000 + 2
    assert len(replace(history.snapshot()).unanswered) == 0


# With the SDK


@behaviour("usage.vertex", off=patched("emulator.mind.conversation.terms", lambda config: Terms()))
@pytest.mark.asyncio(loop_scope="module")
async def test_the_sdk_reads_what_vertex_words(here: Here) -> None:
    config = types.LiveConnectConfig(response_modalities=[types.Modality.AUDIO])
    client = sdk.client(here, vertex=True)
    async with client.aio.live.connect(model="gemini-3.8-live", config=config) as live:
        await sdk.ask(live)
        async with asyncio.timeout(10):
            usage = [message.usage_metadata async for message in live.receive() if message.usage_metadata][-1]
    assert usage.traffic_type is types.TrafficType.ON_DEMAND
    assert usage.response_token_count and usage.prompt_token_count == text_tokens("hello")
    assert usage.total_token_count == usage.response_token_count + usage.prompt_token_count
