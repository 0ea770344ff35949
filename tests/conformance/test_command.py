"""`parley conformance` as somebody at a terminal meets it."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import pytest

from parley.cli import main
from parley.conformance.client_checks import CLIENT_CHECKS
from parley.conformance.gateway_checks import GATEWAY_CHECKS
from tests.support.eventually import eventually

CALLER = f"{sys.executable} {Path(__file__).parents[2] / 'examples' / 'bare_stub.py'}"
SILENT = f"{sys.executable} -c \"import sys; sys.exit('I cannot')\""


def test_one_line_a_check_and_a_sum(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["--only", "open-invalid", "--only", "conversation"]
    assert main(["conformance", "--client", CALLER, *asked]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "PASS conversation: 2 numbered messages",
        "PASS open-invalid",
        "2 passed, 0 failed",
    ]


def test_the_address_may_be_in_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    command = f"env -u PARLEY_TARGET {CALLER} --target {{target}}"
    assert main(["conformance", "--client", command, "--only", "conversation", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["passed"], document["failed"]) == (1, 0)
    assert document["checks"][0]["name"] == "conversation"


def test_a_client_that_fails_is_shown_with_what_it_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["conformance", "--client", SILENT, "--only", "acks"]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "FAIL acks: the command ended with status 1 before the client's `open`",
        "     | I cannot",
        "0 passed, 1 failed",
    ]


def test_what_the_client_started_does_not_outlive_the_check(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    command = f"sh -c 'sleep 600 & echo $! > {pid}; wait'"
    assert main(["conformance", "--client", command, "--only", "acks", "--patience", "1"]) == 1
    assert "waited 1 s for the client's `open`" in capsys.readouterr().out
    stat = Path(f"/proc/{pid.read_text().strip()}/stat")

    def is_gone() -> bool:
        try:
            return stat.read_text().split()[2] == "Z"
        except (FileNotFoundError, ProcessLookupError):
            return True

    asyncio.run(eventually(is_gone))  # a process that is killed may run for a moment still


def test_every_check_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["conformance", "--list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in listed if row["of"] == "client"] == list(CLIENT_CHECKS)
    assert [row["name"] for row in listed if row["of"] == "gateway"] == list(GATEWAY_CHECKS)
    assert all(row["what"] for row in listed)
    assert main(["conformance", "--list"]) == 0
    assert "resume-window" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        ([], 2, 'give either --client "COMMAND" or --target HOST:PORT'),
        (["--client", "x", "--target", "y"], 2, "give either"),
        (["--client", CALLER, "--only", "no-such"], 2, "there is no check 'no-such'"),
        (["--target", "a:1", "--only", "acks"], 2, "there is no check 'acks'"),
        (["--client", " "], 2, "the command is empty"),
        (["--client", "'"], 2, "No closing quotation"),
        (["--client", "/no/such/program"], 1, "No such file or directory"),
    ],
)
def test_what_cannot_be_run_is_told_in_a_line(
    capsys: pytest.CaptureFixture[str], arguments: list[str], status: int, told: str
) -> None:
    assert main(["conformance", *arguments]) == status
    err = capsys.readouterr().err
    assert told in err
    assert err.count("\n") == 1
