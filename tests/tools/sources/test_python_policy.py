"""The policy of Python functions: retries where they are safe, the breaker, secrets, permissions, limits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from services.fabric import logs
from services.tools.context import ToolContext, ToolError
from services.tools.execute import Refusal
from services.tools.sources.secrets import Secrets
from tests.tools.sources import rough_tools
from tests.tools.sources.conftest import FAILED, SUCCEEDED, UNKNOWN, running

SECRET = 'k"ey-of-the-company'
PEM = "-----BEGIN\nsecret line\n-----END"
SOURCE: dict[str, Any] = {"name": "rough", "kind": "python", "module": rough_tools.__name__}


@pytest.fixture(autouse=True)
def fresh() -> None:
    rough_tools.COUNT.clear()
    rough_tools.RELEASE.clear()


@pytest.mark.parametrize(("name", "more"), [("flaky", {"items": ["a"]}), ("flaky_thread", {})])
async def test_what_is_idempotent_is_run_again_when_it_says_that_time_mends_it(
    tmp_path: Path, name: str, more: dict[str, Any]
) -> None:
    async with running(tmp_path, [{**SOURCE, "retries": 3}]) as sources:
        output = await sources.output(name, {"times": 3, **more})
        assert output["attempts"] == 4
        assert output.get("items", []) == ["a", "changed"][: len(output.get("items", []))]  # not what is left of before
        rough_tools.COUNT.clear()
        result = await sources.call(name, {"times": 9, **more})
        assert (result.outcome, result.error) == (FAILED, "the calendar is away")
        assert rough_tools.COUNT[name] == 4


@pytest.mark.parametrize("name", ["charge", "charge_thread"])
async def test_what_is_not_idempotent_is_never_run_again(tmp_path: Path, name: str) -> None:
    async with running(tmp_path, [SOURCE]) as sources:
        result = await sources.call(name)
        assert result.outcome == UNKNOWN
        assert result.error == "the bank is away; whether it had its effect is unknown"
        result = await sources.call(name, {"may_have_run": False})
        assert (result.outcome, result.error) == (FAILED, "the bank is away")
        assert rough_tools.COUNT[name] == 2


@pytest.mark.parametrize("kind", ["tool", "other"])
async def test_other_failures_are_not_run_again(tmp_path: Path, kind: str) -> None:
    async with running(tmp_path, [SOURCE]) as sources:
        assert (await sources.call("fails_otherwise", {"kind": kind})).outcome == FAILED
        assert rough_tools.COUNT["fails_otherwise"] == 1


async def test_operators_word_makes_a_function_idempotent_or_not(tmp_path: Path) -> None:
    source = {**SOURCE, "retries": 1, "tools": {"charge": {"idempotent": True}, "flaky_thread": {"idempotent": False}}}
    async with running(tmp_path, [source]) as sources:
        assert (await sources.call("charge")).outcome == FAILED
        assert rough_tools.COUNT["charge"] == 2
        assert (await sources.call("flaky_thread", {"times": 1})).outcome == FAILED
        assert rough_tools.COUNT["flaky_thread"] == 1


async def test_breaker_spares_what_a_module_stands_on(tmp_path: Path) -> None:
    async with running(tmp_path, [{**SOURCE, "retries": 0}]) as sources:
        for _ in range(5):
            assert (await sources.call("charge")).outcome == UNKNOWN
        result = await sources.call("charge_thread")
        assert result.outcome == FAILED
        assert result.error.startswith("not run: rough_tools keeps failing; try again in ")
        assert rough_tools.COUNT.get("charge_thread") is None


async def test_failures_that_say_nothing_of_the_source_do_not_open_the_breaker(tmp_path: Path) -> None:
    async with running(tmp_path, [SOURCE]) as sources:
        with capture_logs():
            for kind in ("other", "tool", "other") * 3:
                await sources.call("fails_otherwise", {"kind": kind})
        assert await sources.output("neighbour") == {"result": "here"}


# Secrets


@pytest.fixture
def secretive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setenv("ROUGH_KEY", SECRET)
    (tmp_path / "pem").write_text(PEM)
    return {**SOURCE, "secrets": {"API_KEY": {"env": "ROUGH_KEY"}, "PEM": {"file": "pem"}}}


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("result", '{"key":"<[secret]>","[secret]":["[secret]"]}'),
        ("json", '{"result":"{\\"key\\": \\"[secret]\\"}"}'),
        ("error", "[secret] was refused"),
        ("exception", "ValueError: [secret] is wrong"),
        ("unavailable", "[secret] is not known there"),
        (
            "unknown",
            "LookupError: the source of this tool is given no secret 'NO_SUCH': see `secrets` of docs/tools.md",
        ),
        ("length", json.dumps({"result": len(SECRET)}, separators=(",", ":"))),
    ],
)
async def test_function_gets_its_secret_and_nobody_else(
    tmp_path: Path, secretive: dict[str, Any], how: str, told: str
) -> None:
    async with running(tmp_path, [secretive]) as sources:
        result = await sources.call("tells_secret", {"how": how})
        assert told in (result.output_json, result.error)


async def test_secret_is_in_no_declaration_nor_in_what_a_context_shows(
    tmp_path: Path, secretive: dict[str, Any]
) -> None:
    async with running(tmp_path, [secretive]) as sources:
        shown = await sources.output("tells_secret", {"how": "repr"})
        assert "secret" not in shown["result"].lower().replace("tells_secret", "")
        assert await sources.output("tells_secret_async") == {"result": "[secret]"}
        declared = "".join(str(tool.parameters) + tool.description + repr(tool) for tool in sources.registry.all())
        assert SECRET not in declared


async def test_source_without_its_secret_is_a_problem_and_the_rest_is_served(tmp_path: Path) -> None:
    missing = {**SOURCE, "secrets": {"API_KEY": {"env": "SURELY_NOT_SET"}}}
    other = {"name": "weather", "kind": "python", "module": "services.tools.examples.weather"}
    async with running(tmp_path, [missing, other]) as sources:
        assert sources.names == ["get_weather"]
        assert sources.registry.problems == ["source rough: the environment variable SURELY_NOT_SET is not set"]


# Permissions and limits as the operator has them


async def test_tenants_of_a_source_and_of_a_tool(tmp_path: Path) -> None:
    source = {**SOURCE, "tenants": ["acme"], "tools": {"bystander": {"tenants": ["umbrella"]}}}
    async with running(tmp_path, [source]) as sources:
        for name, tenant in (("neighbour", "acme"), ("bystander", "umbrella")):
            assert (await sources.call(name, tenant=tenant)).outcome == SUCCEEDED
        for name, tenant in (("neighbour", "umbrella"), ("neighbour", ""), ("bystander", "acme")):
            assert (await sources.call(name, tenant=tenant)).refusal is Refusal.NOT_PERMITTED
        declared = {tool.name: list(tool.tenants) for tool in sources.registry.all()}
        assert (declared["neighbour"], declared["bystander"]) == (["acme"], ["umbrella"])


async def test_hints_for_a_tool_that_is_not_there_are_remarked(tmp_path: Path) -> None:
    source = {**SOURCE, "tools": {"bystandr": {"tenants": ["acme"]}}}  # which would leave it open to everybody
    async with running(tmp_path, [source]) as sources:
        expected = f"module {rough_tools.__name__}: `tools` has hints for 'bystandr', but there is no such tool"
        assert expected in sources.registry.remarks


async def test_limit_of_a_tool_from_the_file(tmp_path: Path) -> None:
    source = {**SOURCE, "tools": {"bystander": {"max_concurrency": 3}}}
    async with running(tmp_path, [source]) as sources:
        tool = sources.registry.get("bystander")
        assert tool is not None
        assert tool.max_concurrency == 3


async def test_who_undoes_a_call_has_the_loop_and_the_secrets_of_its_module(
    tmp_path: Path, secretive: dict[str, Any]
) -> None:
    async with running(tmp_path, [secretive]) as sources:
        context = ToolContext("books", "e", "k", "s", "acme", "", {})
        for name in ("books", "books_badly"):
            tool = sources.registry.get(name)
            assert tool is not None
            assert tool.compensate is not None
            if name == "books":
                await tool.compensate({"room": 4}, {"result": 4}, context)
                assert rough_tools.UNDONE == [("loop of rough", {"room": 4}, {"result": 4}, SECRET)]
            else:
                with pytest.raises(ToolError, match=r"^ValueError: \[secret\] is wrong$"):
                    tool.compensate({"room": 4}, None, context)


async def test_logs_hold_no_secret(tmp_path: Path, secretive: dict[str, Any]) -> None:
    """Whatever the form in which a line has it. A whole process is looked at in test_service."""
    async with running(tmp_path, [secretive]):
        process = logs._hider(Secrets.hide_all)
    event = process(None, "info", {"event": SECRET, "of": [{"k": SECRET}], SECRET[:2]: 7, "n": 1.5, "o": {SECRET: 1}})
    assert SECRET not in repr(event)
    assert json.dumps(SECRET)[1:-1] not in json.dumps(event)
    assert (event["n"], event["of"]) == (1.5, [{"k": "[secret]"}])


async def test_what_a_coroutine_function_returns_is_read_where_it_ran(tmp_path: Path) -> None:
    """Not on the service's own loop, where it would hold everybody up."""
    async with running(tmp_path, [SOURCE]) as sources:
        assert await sources.output("returns_what_reads") == {"read by": "loop of rough"}
