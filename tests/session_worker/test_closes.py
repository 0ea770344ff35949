"""Every close and every refusal of the field, and what the worker makes of it.

The numbers are the rows of the dossier's table of field failures.
"""

from __future__ import annotations

import ast
from datetime import timedelta
from pathlib import Path

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
ELSEWHERE: dict[int, list[str]] = {
    # goAway, then silence; a link that the watchdog gives up is row 22
    3: [
        "session_worker/test_rotation.py::test_neither_silence_nor_traffic_moves_the_deadline",
        "faults/test_links.py::a_link_that_ends_while_the_model_speaks",
    ],
    # goAway without `timeLeft`
    4: ["session_worker/test_rotation.py::test_without_one_it_leaves_in_time"],
    # the SDK's iterator ends with a turn: two turns on one link
    8: ["e2e/test_resume.py::test_a_gateway_that_goes_away_costs_nobody_a_word"],
    # a tight loop on a close
    9: [
        "session_worker/test_link.py::test_a_link_that_is_gone_says_so_each_time_and_no_more",
        "session_worker/test_ladder.py::test_every_sequence_of_failures_ends",
    ],
    # a resume that forgets, or repeats
    10: [
        "session_worker/test_restoration.py::test_what_was_answered_since_the_handle_is_told_and_listed",
        "session_worker/test_restoration.py::test_what_the_handle_restores_is_not_told_again",
    ],
    # a second greeting
    11: ["session_worker/test_session.py::test_a_link_that_is_resumed_is_not_given_the_opening_again"],
    # a tool result that is lost across a rotation
    12: [
        "session_worker/test_calls_across_links.py::test_an_outcome_that_comes_while_there_is_no_link_is_told_once",
        "faults/test_links.py::a_go_away_while_a_tool_runs",
    ],
    # a call that was never answered
    14: ["session_worker/test_session.py::test_a_call_that_the_caller_leaves_open_is_answered_in_the_end"],
    # a cancellation that is ignored
    15: ["session_worker/test_session.py::test_a_call_that_the_model_cancels_is_stopped_and_not_answered"],
    # an empty `serverContent`
    23: ["session_worker/test_wire.py::test_empty_frames_say_nothing"],
    # audio behind a tool call
    24: ["session_worker/test_session.py::test_audio_behind_a_call_reaches_the_caller"],
    # a function response without a name
    25: [
        "session_worker/test_session.py::test_a_call_carries_the_callers_trace_and_its_answer_goes_to_the_model",
        "session_worker/test_callertools.py::test_a_result_is_the_models_with_id_and_name",
    ],
    # a message that the SDK cannot read
    28: ["session_worker/test_wire.py::test_what_the_sdk_cannot_read_is_passed_on"],
}
"""Rows that no close or refusal tells of, and the tests that do: file below tests, and function."""
_TESTS = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("where", "code", "text", "expected"), [pytest.param(*row[1:], id=f"row-{row[0]}-{row[1].name}") for row in ROWS]
)
def test_field_failures_have_their_remedy(where: Where, code: int, text: str, expected: Remedy) -> None:
    assert remedy(LinkFailure(where, code, text)) is expected
    assert remedy(LinkFailure(where, code, text.upper())) is expected


def test_no_field_failure_is_forgotten() -> None:
    assert {row[0] for row in ROWS} | set(ELSEWHERE) == set(range(1, 29))
    assert not {row[0] for row in ROWS} & set(ELSEWHERE)


@pytest.mark.parametrize("test", sorted({test for tests in ELSEWHERE.values() for test in tests}))
def test_what_is_said_to_cover_a_row_is_there(test: str) -> None:
    file, _, name = test.partition("::")
    tree = ast.walk(ast.parse((_TESTS / file).read_text()))
    assert name in {node.name for node in tree if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


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
