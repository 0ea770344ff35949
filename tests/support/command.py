"""The `parley` command in this process: the start of an interpreter for each question would cost most of a second."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from parley.cli import main

Parley = Callable[..., Awaitable[tuple[int, str, str]]]
"""Arguments, and variables as keywords, to exit status, stdout and stderr."""


def in_process(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Parley:
    """One run after another: they share standard output and the environment."""

    async def parley(*arguments: str, **env: str) -> tuple[int, str, str]:
        capsys.readouterr()
        with monkeypatch.context() as changed:
            changed.setenv("GRPC_VERBOSITY", "NONE")
            for name, value in env.items():
                changed.setenv(name, value)
            async with asyncio.timeout(60):
                status = await asyncio.to_thread(main, list(arguments))
        said = capsys.readouterr()
        return status, said.out, said.err

    return parley
