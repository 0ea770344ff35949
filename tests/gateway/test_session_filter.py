"""The filter of ListSessions: what it reads, what it refuses and how, and what it means."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parley.v1 import errors_pb2, live_pb2, sessions_pb2
from services.fabric.errors import ServiceError
from services.gateway.filter_syntax import MAX_DEPTH, MAX_LENGTH, parse
from services.gateway.session_filter import All, AnyOf, Comparison, Expression, Not

ATTACHED = sessions_pb2.SESSION_STATE_ATTACHED
DETACHED = sessions_pb2.SESSION_STATE_DETACHED
ENDED = sessions_pb2.SESSION_STATE_ENDED


def session(**fields: Any) -> sessions_pb2.Session:
    times = {name: fields.pop(name) for name in ("open_time", "end_time") if name in fields}
    made = sessions_pb2.Session(**{"state": ATTACHED, "profile": "support", "gateway": "gw-1"} | fields)
    for name, text in times.items():
        getattr(made, name).FromJsonString(text)
    return made


def shape(expression: Expression) -> str:
    """A readable form with every parenthesis."""
    match expression:
        case Comparison(name=name, operator=operator, value=value):
            return f"{name}{operator}{value}"
        case Not(operand=operand):
            return f"!{shape(operand)}"
        case All(operands=operands):
            return f"({' & '.join(map(shape, operands))})"
        case AnyOf(operands=operands):
            return f"({' | '.join(map(shape, operands))})"


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("", "()"),
        (" \t\n", "()"),
        ("profile = support", "profile=support"),
        ("profile=support", "profile=support"),
        ('profile = "a b"', "profile=a b"),
        ("profile = 'a b'", "profile=a b"),
        (r'profile = "\"\\\'"', "profile=\"\\'"),
        ('profile = ""', "profile="),
        ('profile = "AND"', "profile=AND"),
        ("model != gemini-3.8-live", "model!=gemini-3.8-live"),
        ("labels.team-a.b_1 = x", "labels.team-a.b_1=x"),
        ("labels.-x = 1", "labels.-x=1"),
        ("profile = a AND model = b", "(profile=a & model=b)"),
        ("profile = a model = b", "(profile=a & model=b)"),
        ("profile = a profile = b AND profile = c", "(profile=a & profile=b & profile=c)"),
        ("profile = a OR model = b", "(profile=a | model=b)"),
        # AIP-160: OR binds tighter than AND.
        ("profile = a AND profile = b OR profile = c", "(profile=a & (profile=b | profile=c))"),
        ("profile = a OR profile = b profile = c", "((profile=a | profile=b) & profile=c)"),
        ("(profile = a AND profile = b) OR profile = c", "((profile=a & profile=b) | profile=c)"),
        ("NOT profile = a", "!profile=a"),
        ("-profile = a", "!profile=a"),
        ("worker = a -profile = b", "(worker=a & !profile=b)"),
        ("worker = a-profile", "worker=a-profile"),
        ("NOT (profile = a OR NOT model = b)", "!(profile=a | !model=b)"),
        ("((((profile = a))))", "profile=a"),
        ('open_time >= "2026-01-31T12:00:00Z"', "open_time>=2026-01-31T12:00:00Z"),
        ("state = ATTACHED", "state=ATTACHED"),
        ('state = "ENDED"', "state=ENDED"),
        ("end_reason = OPERATOR", "end_reason=OPERATOR"),
    ],
)
def test_reads(text: str, read: str) -> None:
    assert shape(parse(text)) == read


FIELDS = "state, profile, model, worker, gateway, principal, open_time, end_time, end_reason, labels.KEY"
TERM = f"NOT, `(` or a field ({FIELDS})"
GO_ON = f"AND, OR, {TERM}"
QUOTE = "a closing quote; a backslash in quotes stands before a quote or a backslash only"
TIME = 'a time of RFC 3339 in quotes for `open_time`, e.g. "2026-01-31T12:00:00Z"'


@pytest.mark.parametrize(
    ("text", "position", "read", "accepted"),
    [
        ("x", 1, "`x`", TERM),
        ("x = 1", 1, "`x`", TERM),
        ("State = ENDED", 1, "`State`", TERM),
        ("tenant = acme", 1, "`tenant`", TERM),
        ("labels = a", 1, "`labels`", TERM),
        ("labels. = a", 1, "`labels.`", TERM),
        ("labels.Team = a", 1, "`labels.Team`", TERM),
        (f"labels.{'k' * 64} = a", 1, f"`labels.{'k' * 33}...`", TERM),
        ('"profile" = a', 1, '`"profile"`', TERM),
        ("profile", 8, "the end", "= or != after `profile`"),
        ("profile a", 9, "`a`", "= or != after `profile`"),
        ("profile > a", 9, "`>`", "= or != after `profile`"),
        ("labels.a : b", 10, "`:`", "= or != after `labels.a`"),
        ("open_time = 'x'", 11, "`=`", "<, <=, > or >= after `open_time`"),
        ("profile =", 10, "the end", "a word or text in quotes for `profile`"),
        ("profile = AND", 11, "`AND`", "a word or text in quotes for `profile`"),
        ("profile = = a", 11, "`=`", "a word or text in quotes for `profile`"),
        ("state = attached", 9, "`attached`", "ATTACHED, DETACHED or ENDED for `state`"),
        ("state = 'x'", 9, "`'x'`", "ATTACHED, DETACHED or ENDED for `state`"),
        ("state = UNSPECIFIED", 9, "`UNSPECIFIED`", "ATTACHED, DETACHED or ENDED for `state`"),
        ("end_reason = X", 14, "`X`", "CALLER, OPERATOR, ABANDONED, BACKEND or LIMIT for `end_reason`"),
        ("open_time > 2026", 13, "`2026`", TIME),
        ("open_time > '2026'", 13, "`'2026'`", TIME),
        ("open_time > '2026-01-31T12:00:00'", 13, "`'2026-01-31T12:00:00'`", TIME),
        ("open_time > '2026-02-30T12:00:00Z'", 13, "`'2026-02-30T12:00:00Z'`", TIME),
        ("profile = a and model = b", 13, "`and`", TERM),
        ("profile = a AND", 16, "the end", TERM),
        ("profile = a AND AND model = b", 17, "`AND`", TERM),
        ("profile = a OR", 15, "the end", TERM),
        ("OR profile = a", 1, "`OR`", TERM),
        ("profile = a, model = b", 12, "','", "a word, or text in quotes"),
        ("profile = ä", 11, "'ä'", "a word, or text in quotes"),
        ("profile = a*", 12, "'*'", "a word, or text in quotes"),
        ("NOT", 4, "the end", TERM),
        ("NOT NOT profile = a", 5, "`NOT`", TERM),
        ("--profile = a", 2, "`-`", TERM),
        ("()", 2, "`)`", TERM),
        ("(profile = a", 13, "the end", f"{GO_ON}, or `)`"),
        ("profile = a)", 12, "`)`", f"{GO_ON}, or the end"),
        ("profile = a 'b'", 13, "`'b'`", f"{GO_ON}, or the end"),
        ("profile = a = b", 13, "`=`", f"{GO_ON}, or the end"),
        ('profile = "a', 11, "'\"'", QUOTE),
        (r"profile = 'a\n'", 11, '"\'"', QUOTE),
        ("(" * 17 + "profile = a" + ")" * 17, 17, "`(`", "at most 16 parentheses inside each other"),
    ],
)
def test_what_it_does_not_read_is_refused_by_position_and_with_what_it_would_have_read(
    text: str, position: int, read: str, accepted: str
) -> None:
    with pytest.raises(ServiceError) as refused:
        parse(text)
    assert refused.value.reason == errors_pb2.ERROR_REASON_FIELD_INVALID
    assert refused.value.violations == {"filter": f"at character {position}: read {read}, expected {accepted}"}


def test_length_and_depth_are_bounded() -> None:
    longest = "profile = a".ljust(MAX_LENGTH)
    assert shape(parse(longest)) == "profile=a"
    with pytest.raises(ServiceError, match="at most 2048 characters, not 2049"):
        parse(longest + " ")
    assert shape(parse("(" * MAX_DEPTH + "profile = a" + ")" * MAX_DEPTH)) == "profile=a"


@pytest.mark.parametrize(
    ("text", "fields", "matches"),
    [
        ("", {}, True),
        ("state = ATTACHED", {}, True),
        ("state = ATTACHED", {"state": DETACHED}, False),
        ("state != ATTACHED", {"state": DETACHED}, True),
        ("gateway = gw-1", {}, True),
        ("gateway = ''", {"gateway": ""}, True),
        ("principal = bot", {"principal": "bot"}, True),
        ("profile = ''", {"profile": ""}, True),
        ("labels.team = a", {"labels": {"team": "a"}}, True),
        ("labels.team = a", {"labels": {"team": "b"}}, False),
        # A label that is not there is empty.
        ("labels.team != a", {}, True),
        ("labels.team = ''", {}, True),
        ("labels.team != ''", {"labels": {"team": "a"}}, True),
        ("open_time > '2026-01-31T12:00:00Z'", {"open_time": "2026-01-31T12:00:00Z"}, False),
        ("open_time >= '2026-01-31T12:00:00Z'", {"open_time": "2026-01-31T12:00:00Z"}, True),
        ("open_time < '2026-01-31T12:00:00.000000001Z'", {"open_time": "2026-01-31T12:00:00Z"}, True),
        ("open_time <= '2026-01-31T13:00:00+01:00'", {"open_time": "2026-01-31T12:00:00Z"}, True),
        # A time that is not there is neither before nor after.
        ("end_time > '2026-01-31T12:00:00Z'", {}, False),
        ("end_time <= '2026-01-31T12:00:00Z'", {}, False),
        ("NOT end_time > '2026-01-31T12:00:00Z'", {}, True),
        ("end_reason = LIMIT", {"end_reason": live_pb2.END_REASON_LIMIT}, True),
        ("end_reason != LIMIT", {}, True),
        ("worker = a OR profile = support", {}, True),
        ("worker = a profile = support", {}, False),
        ("NOT (worker = a profile = support)", {}, True),
    ],
)
def test_means(text: str, fields: dict[str, Any], matches: bool) -> None:
    assert parse(text).matches(session(**fields), attached=True) is matches


@pytest.mark.parametrize(
    ("text", "alive", "over"),
    [
        ("state = ATTACHED", None, False),
        ("state = DETACHED", None, False),
        ("state = ENDED", False, True),
        ("state != ENDED", True, False),
        ("NOT state = ATTACHED", None, True),
        ("gateway = gw-1", None, False),
        ("gateway = ''", None, True),
        ("profile = support", True, True),
        ("profile = support state = ATTACHED", None, False),
        ("profile = x state = ATTACHED", False, False),
        ("profile = support OR state = ATTACHED", True, True),
        ("profile = x OR state = ATTACHED", None, False),
    ],
)
def test_before_the_attachment_is_known_only_what_depends_on_it_is_open(
    text: str, alive: bool | None, over: bool | None
) -> None:
    # The state that `own` has of a session that lives is no more than where it began.
    assert parse(text).matches(session(state=ATTACHED, gateway=""), attached=False) is alive
    assert parse(text).matches(session(state=ENDED, gateway=""), attached=False) is over


# Properties

COMPARISONS = [
    "state = ATTACHED", "state != DETACHED", "state = ENDED", "gateway = gw-1", "gateway != ''", "profile = support",
    "worker != w", "labels.a = x", "labels.a != y", "open_time > '2026-01-31T12:00:00Z'",
    "end_time <= '2026-01-31T12:00:00Z'", "end_reason = CALLER",
]  # fmt: skip
filters = st.recursive(
    st.sampled_from(COMPARISONS),
    lambda inner: st.one_of(
        inner.map(lambda text: f"NOT ({text})"),
        st.tuples(inner, st.sampled_from([" AND ", " ", " OR "]), inner).map(lambda parts: f"({''.join(parts)})"),
    ),
    max_leaves=6,
)
sessions = st.builds(
    session,
    state=st.sampled_from([ATTACHED, DETACHED, ENDED]),
    profile=st.sampled_from(["support", "plain"]),
    worker=st.sampled_from(["w", "v"]),
    labels=st.dictionaries(st.just("a"), st.sampled_from(["x", "y"])),
    open_time=st.sampled_from(["2026-01-31T11:00:00Z", "2026-01-31T13:00:00Z"]),
)


@given(filters, sessions)
def test_what_is_certain_before_the_attachment_is_known_stays_so(text: str, living: sessions_pb2.Session) -> None:
    expression = parse(text)
    over = living.state == ENDED
    before = expression.matches(living, attached=False)
    assert over is False or before is not None
    for state, gateway in itertools.product([ENDED] if over else [ATTACHED, DETACHED], [""] if over else ["gw-1", ""]):
        living.state, living.gateway = state, gateway
        after = expression.matches(living, attached=True)
        assert after is not None
        assert before is None or before is after


@given(filters, sessions)
def test_not_turns_every_answer_round(text: str, one: sessions_pb2.Session) -> None:
    assert parse(f"NOT ({text})").matches(one, attached=True) is not parse(text).matches(one, attached=True)


words = st.sampled_from(
    ["AND", "OR", "NOT", "-", "(", ")", "=", "!=", "<", ">=", ":", "state", "profile", "labels.a", "open_time",
     "ATTACHED", "x", '"x"', "'2026-01-31T12:00:00Z'", '"', "\\", "*"]
)  # fmt: skip


@settings(max_examples=300)
@given(st.one_of(st.text(max_size=60), st.lists(words, max_size=12).map(" ".join)))
def test_any_text_is_read_or_refused_with_a_position_inside_it(text: str) -> None:
    try:
        assert isinstance(parse(text).matches(session(), attached=True), bool)
    except ServiceError as refused:
        said = refused.violations["filter"]
        assert 1 <= int(said.removeprefix("at character ").partition(":")[0]) <= len(text) + 1
        assert len(said) < 400


@given(st.text(max_size=30))
def test_any_value_can_be_written_in_quotes(value: str) -> None:
    quoted = value.replace("\\", "\\\\").replace('"', '\\"')
    assert parse(f'profile = "{quoted}"').matches(session(profile=value), attached=True)


@given(st.text(max_size=40))
def test_any_text_is_a_time_or_refused(text: str) -> None:
    quoted = text.replace("\\", "\\\\").replace("'", "\\'")
    with pytest.raises(ServiceError):
        parse(f"open_time > '{quoted}'")
