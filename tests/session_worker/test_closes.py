"""Every close and every refusal of the field, and what the worker makes of it.

The numbers are the rows of the dossier's table of field failures. Rows that no close or refusal tells of:

 3  goAway, then silence: `rotation` has a timer; a link that its watchdog gives up is row 22 here
 4  goAway without `timeLeft`: `rotation`
 8  the iterator that ends with a turn: `Link.receive` reads frames, not turns; tests/e2e talk for many turns
 9  a tight loop on a close: test_link (the end is said again at once), test_ladder (nobody asks for ever)
10  a resume that forgets or repeats: `coverage`; test_ladder (never a seed on top of a handle)
11  a second greeting: a step of the ladder says whether the link is a cold start; the session's tests
12  a tool result lost across a rotation: `rotation` waits for calls; the session's tests
14  a call that was never answered: test_callertools, tests/tools
15  a cancellation that is ignored: test_session
23  an empty `serverContent`: test_wire
24  audio behind a tool call: `turns` ends a turn with `turnComplete` only, test_decisions
25  a function response without a name: test_session, test_callertools
28  a message that the SDK cannot read: test_wire
"""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator import texts
from emulator.faults.closes import CLOSES
from services.session_worker.closes import LinkFailure, Remedy, Where, link_error, remedy

ROTATE, RETRY, DROP_HANDLE = Remedy.ROTATE, Remedy.RETRY, Remedy.DROP_HANDLE
BACKEND_FAULT, QUOTA, FATAL = Remedy.BACKEND_FAULT, Remedy.QUOTA, Remedy.FATAL
LINK, SETUP, UPGRADE = Where.LINK, Where.SETUP, Where.UPGRADE

ROWS: list[tuple[int, Where, int, str, Remedy]] = [
    (1, LINK, 1011, "Deadline expired before operation could complete.", ROTATE),
    (2, LINK, 1008, texts.GO_AWAY.text, ROTATE),
    (2, LINK, 1008, texts.GO_AWAY.text[:123], ROTATE),
    (2, SETUP, 1008, texts.GO_AWAY.text[:123], ROTATE),
    (5, SETUP, 1008, "BidiGenerateContent session not found", DROP_HANDLE),
    (5, SETUP, 1008, "Requested entity was not found.", DROP_HANDLE),
    (5, SETUP, 1007, "Invalid session handle", DROP_HANDLE),
    (5, LINK, 1008, "BidiGenerateContent session not found", DROP_HANDLE),
    # In these words the old socket may be open: the ladder knows whether it may.
    (6, SETUP, 1011, "Internal error encountered.", BACKEND_FAULT),
    (6, SETUP, 1011, "", BACKEND_FAULT),
    (7, LINK, 1011, "keepalive ping timeout", ROTATE),
    (13, LINK, 1008, "The operation was aborted.", BACKEND_FAULT),
    (13, LINK, 1008, "Operation is not implemented, or supported, or enabled.", BACKEND_FAULT),
    (16, LINK, 1007, "Request contains an invalid argument.", DROP_HANDLE),
    (16, SETUP, 1007, "Request contains an invalid argument.", DROP_HANDLE),
    (16, SETUP, 1007, "Precondition check failed.", DROP_HANDLE),
    (16, SETUP, 1007, "", DROP_HANDLE),
    (17, SETUP, 1007, "Thinking level is not supported for this model.", FATAL),
    (17, SETUP, 1007, "Thinking level must be specified for this model.", FATAL),
    (17, SETUP, 1007, "BLOCKING function calls are not supported for this model.", FATAL),
    (17, LINK, 1007, "Function response scheduling is not supported for this model.", DROP_HANDLE),
    (18, SETUP, 1008, texts.MODEL_NOT_FOUND.text.format(model="models/x", version="v1beta"), FATAL),
    (18, SETUP, 1008, texts.MODEL_NOT_FOUND.text.format(model="m" * 150, version="v1beta")[:123], FATAL),
    (18, SETUP, 1008, texts.MODEL_NOT_FOUND_VERTEX.text.format(model="m" * 150)[:123], FATAL),
    (18, LINK, 1008, texts.MODEL_NOT_FOUND.text.format(model="models/x", version="v1beta"), FATAL),
    (19, LINK, 1011, "RESOURCE_EXHAUSTED: Resource has been exhausted (e.g. check quota).", QUOTA),
    (19, SETUP, 1011, "You exceeded your current quota, please check your plan and billing details.", QUOTA),
    (19, SETUP, 1011, "generic::resource_exhausted: Maximum concurrent sessions exceeded", QUOTA),
    (19, SETUP, 1008, "RESOURCE_EXHAUSTED", QUOTA),
    (19, UPGRADE, 429, "", QUOTA),
    (20, LINK, 1011, "The service is currently unavailable.", BACKEND_FAULT),
    (20, SETUP, 1011, "The service is currently unavailable.", BACKEND_FAULT),
    (20, LINK, 1011, "Internal error encountered.", BACKEND_FAULT),
    (20, LINK, 1011, "The model is overloaded. Please try again later.", BACKEND_FAULT),
    (20, LINK, 1011, "OVERLOADED", BACKEND_FAULT),
    (21, LINK, 1007, "No turn to complete", DROP_HANDLE),
    (22, LINK, 1006, "", ROTATE),
    (22, LINK, 1006, "nothing was heard for 5 s", ROTATE),
    (26, SETUP, 1007, "Invalid value at 'setup.session_resumption.handle' (TYPE_STRING), null", DROP_HANDLE),
    (27, SETUP, 1008, "The auth token has expired.", FATAL),
    (27, SETUP, 1008, "Method doesn't allow unregistered callers (callers without established identity).", FATAL),
]
ELSEWHERE = {3, 4, 8, 9, 10, 11, 12, 14, 15, 23, 24, 25, 28}
"""Rows that the docstring accounts for."""


@pytest.mark.parametrize(
    ("where", "code", "text", "expected"), [pytest.param(*row[1:], id=f"row-{row[0]}-{row[1].name}") for row in ROWS]
)
def test_field_failures_have_their_remedy(where: Where, code: int, text: str, expected: Remedy) -> None:
    assert remedy(LinkFailure(where, code, text)) is expected
    assert remedy(LinkFailure(where, code, text.upper())) is expected


def test_no_field_failure_is_forgotten() -> None:
    assert {row[0] for row in ROWS} | ELSEWHERE == set(range(1, 29))
    assert not {row[0] for row in ROWS} & ELSEWHERE
    assert __doc__ is not None
    told = {int(line.split()[0]) for line in __doc__.splitlines() if line[:2].strip().isdigit()}
    assert told == ELSEWHERE


@pytest.mark.parametrize(
    ("where", "code", "expected"),
    [
        # The words of no close: what its code alone says.
        *((where, code, ROTATE) for where in (LINK, SETUP) for code in (1000, 1001, 1005, 1006, 1012, 1013, 1014)),
        *((LINK, code, BACKEND_FAULT) for code in (1002, 1003, 1008, 1009, 1011, 3000, 4000, 4999)),
        *((SETUP, code, BACKEND_FAULT) for code in (1011, 3000, 4999)),
        *((SETUP, code, FATAL) for code in (1002, 1003, 1008, 1009, 1010)),
        # HTTP
        *((UPGRADE, code, FATAL) for code in (400, 401, 403, 404, 426)),
        *((UPGRADE, code, RETRY) for code in (200, 302, 408, 500, 502, 503, 504)),
        # Neither
        (Where.CONNECT, 0, RETRY),
        (Where.TIMEOUT, 0, ROTATE),
        (Where.ANSWER, 0, BACKEND_FAULT),
        (Where.SDK, 0, DROP_HANDLE),
    ],
)
def test_without_words_the_place_and_the_code_decide(where: Where, code: int, expected: Remedy) -> None:
    assert remedy(LinkFailure(where, code)) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("after receiving a GoAway", ROTATE),
        ("the client failed to close the connection", ROTATE),
        ("its session duration has expired", ROTATE),
        ("Resource has been exhausted", QUOTA),
        ("Quota exceeded", QUOTA),
        ("rate limit exceeded", QUOTA),
        ("Method doesn't allow unregistered callers", FATAL),
        ("UNAUTHENTICATED: no credentials", FATAL),
        ("PERMISSION_DENIED: the caller does not have permission", FATAL),
        ("Publisher model `x` was not found", FATAL),
        ("The service is currently unavailable.", BACKEND_FAULT),
        ("Internal error encountered.", BACKEND_FAULT),
        ("The model is overloaded.", BACKEND_FAULT),
    ],
)
@pytest.mark.parametrize(("where", "code"), [(LINK, 1007), (LINK, 1000), (SETUP, 1008), (SETUP, 1006), (LINK, 4000)])
def test_words_come_before_codes(where: Where, code: int, text: str, expected: Remedy) -> None:
    assert remedy(LinkFailure(where, code, text)) is expected


@pytest.mark.parametrize("reason", [*texts.REASONS, *CLOSES.values()], ids=lambda reason: reason.text[:30] or "empty")
@pytest.mark.parametrize("where", [LINK, SETUP])
def test_a_text_that_was_cut_means_the_same(where: Where, reason: texts.Reason) -> None:
    whole = LinkFailure(where, reason.code, reason.text)
    cut = LinkFailure(where, reason.code, reason.text.encode()[:123].decode(errors="ignore"))
    assert remedy(cut) is remedy(whole)


@pytest.mark.parametrize(
    ("expected", "names"),
    [
        (ROTATE, "normal going_away deadline go_away keepalive"),
        (DROP_HANDLE, "session_not_found entity_not_found invalid_handle"),
        (QUOTA, "resource_exhausted quota concurrency"),
        (BACKEND_FAULT, "unavailable internal overloaded aborted not_enabled protocol too_big"),
        (FATAL, "model_not_found wrong_key no_key token_expired"),
        (
            DROP_HANDLE,
            "invalid_argument precondition no_turn thinking_not_supported thinking_missing blocking_not_supported "
            "scheduling_not_supported",
        ),
    ],
)
def test_closes_that_the_emulator_can_make_of_an_open_link(expected: Remedy, names: str) -> None:
    found = {name: remedy(LinkFailure(LINK, CLOSES[name].code, CLOSES[name].text)) for name in names.split()}
    assert found == dict.fromkeys(found, expected)


@given(st.sampled_from(Where), st.integers(0, 5000), st.text(max_size=123))
def test_every_failure_has_a_remedy_and_an_error(where: Where, code: int, text: str) -> None:
    failure = LinkFailure(where, code, text)
    error = link_error(failure)
    assert error.failure is failure
    assert error.reason_name.startswith("BACKEND_")
    assert (error.delay() is None) == (remedy(failure) in (FATAL, DROP_HANDLE))


@pytest.mark.parametrize(
    ("failure", "reason", "message", "delay"),
    [
        (LinkFailure(LINK, 1006), "BACKEND_UNAVAILABLE", "the model's link closed: 1006", 2),
        (
            LinkFailure(SETUP, 1007, "API key not valid."),
            "BACKEND_REFUSED",
            "the model's endpoint closed the set-up: 1007 API key not valid.",
            None,
        ),
        (LinkFailure(UPGRADE, 429), "BACKEND_QUOTA", "the model's endpoint answered the upgrade with HTTP 429", 30),
        (
            LinkFailure(UPGRADE, 503, retry_after=9.0),
            "BACKEND_UNAVAILABLE",
            "the model's endpoint answered the upgrade with HTTP 503",
            9,
        ),
        (
            LinkFailure(Where.CONNECT, text="gaierror: {unknown}"),
            "BACKEND_UNAVAILABLE",
            "the model's endpoint cannot be reached (gaierror: {unknown})",
            2,
        ),
        (
            LinkFailure(Where.TIMEOUT, text="12 s"),
            "BACKEND_UNAVAILABLE",
            "the model's endpoint did not answer within 12 s",
            2,
        ),
        (
            LinkFailure(Where.SDK, text="ValueError: no"),
            "BACKEND_REFUSED",
            "the set-up was refused (ValueError: no)",
            None,
        ),
        (
            LinkFailure(SETUP, 1008, "session not found"),
            "BACKEND_REFUSED",
            "the model's endpoint closed the set-up: 1008 session not found",
            None,
        ),
    ],
)
def test_a_caller_is_told_in_a_sentence(failure: LinkFailure, reason: str, message: str, delay: int | None) -> None:
    error = link_error(failure)
    assert (error.reason_name, error.message) == (reason, message)
    assert error.delay() == (None if delay is None else timedelta(seconds=delay))
    assert link_error(failure, "; given up").message == f"{message}; given up"
