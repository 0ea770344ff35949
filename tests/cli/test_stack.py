"""Processes of a local stack: ready lines, logs, signals, and that none outlives its parent."""

import asyncio
import contextlib
import json
import os
import signal
import sys
import textwrap
from pathlib import Path

import pytest

from parley.cli._child import Child, describe_exit
from parley.cli._failures import CliError
from parley.cli.stack import PACKAGED_PROFILES, Stack, StackConfig
from parley.cli.up import parse_env

READY = "import json,os,sys,time;print('note');print(json.dumps({'ready':'x','pid':os.getpid()}),flush=True);"


async def child(tmp_path, code, name="x-1"):
    return await Child.start(name, [sys.executable, "-c", code], os.environ, tmp_path / f"{name}.log")


async def until(condition, limit=10.0):
    async with asyncio.timeout(limit):
        while not condition():
            await asyncio.sleep(0.01)


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def runs_with(word):
    """Command lines of processes that name it."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has just gone
            found.append(path.read_text(errors="replace"))
    return [line for line in found if str(word) in line]


async def test_a_child_is_ready_by_its_line_and_everything_else_is_in_its_log(tmp_path):
    started = await child(
        tmp_path, READY + "print('later',flush=True);print('complaint',file=sys.stderr);time.sleep(60)"
    )
    ready = await started.wait_ready(10)
    assert ready["pid"] == started.pid
    await until(lambda: {"note", "later"} <= set(started.log_tail().splitlines()))
    assert started.running
    assert await started.stop(10) == -signal.SIGTERM
    assert "complaint" in started.log_tail()


async def test_a_child_that_ends_before_it_is_ready_shows_the_end_of_its_log(tmp_path):
    started = await child(tmp_path, "import sys;print('PARLEY_X is wrong',file=sys.stderr);sys.exit(78)")
    with pytest.raises(CliError, match=r"x-1 exited with status 78 before it was ready[\s\S]*PARLEY_X is wrong"):
        await started.wait_ready(10)


async def test_a_child_that_is_never_ready_is_given_up(tmp_path):
    started = await child(tmp_path, "import time;time.sleep(60)")
    with pytest.raises(CliError, match=r"not ready within 0\.1 s"):
        await started.wait_ready(0.1)
    await started.stop(10)


async def test_a_child_that_ignores_sigterm_is_killed_and_a_frozen_one_is_stopped(tmp_path):
    deaf = await child(tmp_path, "import signal;signal.signal(15,signal.SIG_IGN);" + READY + "time.sleep(60)")
    frozen = await child(tmp_path, READY + "time.sleep(60)", "y-1")
    for one in (deaf, frozen):
        await one.wait_ready(10)
    frozen.signal(signal.SIGSTOP)
    assert await deaf.stop(0.1) == -signal.SIGKILL
    assert await frozen.stop(10) == -signal.SIGTERM
    assert [describe_exit(-9), describe_exit(1), describe_exit(-250)] == ["SIGKILL", "status 1", "signal 250"]


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux")
async def test_children_die_with_a_parent_that_is_killed(tmp_path):
    code = f"""
        import asyncio, os, pathlib, sys
        from parley.cli._child import Child
        async def main():
            command = [sys.executable, "-c", {READY + "time.sleep(600)"!r}]
            child = await Child.start("c", command, os.environ, pathlib.Path({str(tmp_path)!r}) / "c.log")
            await child.wait_ready(20)
            print(child.pid, flush=True)
            await asyncio.sleep(600)
        asyncio.run(main())
    """
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", textwrap.dedent(code), stdout=asyncio.subprocess.PIPE
    )
    pid = int(await parent.stdout.readline())
    assert alive(pid)
    parent.kill()
    await parent.wait()
    await until(lambda: not alive(pid))


async def test_nats_server_listens_on_free_loopback_ports_and_an_unexpected_end_is_told(tmp_path):
    ended = []
    stack = Stack(
        StackConfig(workers=0, gateways=0, gemini_base_url="https://example.invalid", state_dir=tmp_path),
        on_exit=lambda child, status: ended.append((child.name, status)),
    )
    stack.state_dir = tmp_path
    first = await stack.start_nats()
    assert first.ready["url"].startswith("nats://127.0.0.1:")
    assert first.ready["monitor"].startswith("http://127.0.0.1:")
    port = int(first.ready["url"].rpartition(":")[2])
    first.signal(signal.SIGKILL)
    await until(lambda: ended == [("nats-1", -signal.SIGKILL)])
    again = await stack.start_nats(port=port)
    assert again.ready["url"] == first.ready["url"]
    await stack.stop()
    await stack.stop()
    assert not again.running
    assert ended == [("nats-1", -signal.SIGKILL)]


async def test_nothing_is_started_while_a_stack_stops(tmp_path):
    stack = Stack(StackConfig(workers=0, gateways=0, gemini_base_url="https://example.invalid", state_dir=tmp_path))
    stack.state_dir = tmp_path
    await stack.start_nats()
    late = asyncio.ensure_future(stack.start_tools())
    async with asyncio.timeout(60):
        await stack.stop()
        with pytest.raises(CliError, match="stack is stopped"):
            await late
        with pytest.raises(CliError, match="stack is stopped"):
            await stack.start_nats()
    assert {path.name for path in tmp_path.glob("*.log")} == {"nats-1.log", "tools-1.log", "nats-2.log"}
    assert not runs_with(tmp_path)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"gemini": True}, "needs a key"),
        ({"gemini_base_url": "https://x", "gemini_ca_file": "/nowhere.pem"}, "no CA file"),
        ({"profiles_dir": PACKAGED_PROFILES / "nowhere"}, "no folder of profiles"),
    ],
)
async def test_a_stack_that_cannot_work_is_not_started(config, message, monkeypatch):
    for key in ("PARLEY_WORKER_GEMINI_API_KEY", "GEMINI_API_KEY"):
        monkeypatch.delenv(key, raising=False)
    with pytest.raises(CliError, match=message) as caught:
        async with Stack(StackConfig(**config)):
            pytest.fail("the block must not run")
    assert caught.value.status == 78


def test_variables_are_pairs():
    assert parse_env(["A=1", "B=x=y", "C="]) == {"A": "1", "B": "x=y", "C": ""}
    for wrong in ("A", "=1"):
        with pytest.raises(CliError, match="KEY=VALUE"):
            parse_env([wrong])


async def test_up_with_a_broken_setting_says_which_and_leaves_nothing(tmp_path):
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "parley.cli", "up", "--json", "--workers", "0", "--gateways", "0"),
        *("--env", "PARLEY_TOOLS_MAX_CONCURRENCY=none", "--state-dir", str(tmp_path)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode == 1
    assert out == b""
    assert b"tools-1 exited with status 78" in err
    assert b"PARLEY_TOOLS_MAX_CONCURRENCY" in err
    assert b"Traceback" not in err


async def test_up_says_that_anybody_gets_in(tmp_path):
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "parley.cli", "up", "--json", "--workers", "0"),
        *("--gemini-base-url", "https://127.0.0.1:1", "--state-dir", str(tmp_path)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        line = await process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        _, err = await process.communicate()
    assert process.returncode == 0
    assert json.loads(line)["development"] is True
    assert err == b"parley: DEVELOPMENT MODE IS ON: anybody who reaches the gateway gets in\n"


def test_development_mode_is_off_only_where_the_gateway_reads_it_so():
    assert StackConfig().development
    for value, development in (("false", False), ("0", False), ("Off", False), ("true", True), ("nonsense", True)):
        assert StackConfig(env={"PARLEY_GATEWAY_DEVELOPMENT": value}).development is development


def test_packaged_profiles_are_there():
    assert {path.name for path in PACKAGED_PROFILES.iterdir()} >= {"support.yaml", "plain.yaml"}
