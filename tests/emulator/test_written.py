import json
from typing import Any

import pytest

from emulator.api.protocol import FunctionResponse
from emulator.tools import calls
from tests.emulator.behaviour import behaviour, patched

WEATHER = {"condition": "snowy", "temperature_celsius": -7}


def response(value: Any) -> FunctionResponse:
    return FunctionResponse(id="1", name="f", response=value, scheduling="", will_continue=False)


@behaviour("clients.results", off=patched("emulator.tools.calls.unwritten", lambda value: None))
@pytest.mark.parametrize(
    "wrapped",
    [
        {"output": WEATHER},
        {"result": WEATHER},
        # Pydantic AI, LiveKit and Strands, as they were seen to send it.
        {"output": json.dumps(WEATHER)},
        {"output": str(WEATHER)},
        {"text": json.dumps(WEATHER)},
    ],
)
def test_a_result_is_understood_however_a_framework_wraps_it(wrapped: dict[str, Any]) -> None:
    assert calls.outcome(response(wrapped)) == (WEATHER, False)


@pytest.mark.parametrize(
    "prose",
    [
        "snowy",
        "{snowy}",
        "{'a', 'b'}",
        "{1: 2}",
        "{" * 1000,
        "{'a': open('x')}",
        "[1]",
        '{"a": ' + "1" * 20_000 + "}",
        "",
    ],
)
def test_prose_stays_prose(prose: str) -> None:
    assert calls.outcome(response({"output": prose})) == ({"output": prose}, False)


def test_an_error_is_one_inside_too() -> None:
    assert calls.outcome(response({"output": '{"error": "no such city"}'})) == ({"error": "no such city"}, True)
