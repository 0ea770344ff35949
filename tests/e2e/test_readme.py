"""What the README shows works as it stands there."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path

import pytest

from parley.cli.stack import Stack, StackConfig

README = Path(__file__).parents[2] / "README.md"
OWN_QUESTION = "where is my order 4711"


QUESTIONS = (
    OWN_QUESTION,
    # Its tool is NON_BLOCKING on gemini-3.8-live: TurnComplete comes with the call, before any of the answer.
    "what is the weather in paris",
)


async def ask(stack: Stack, question: str, folder: Path) -> tuple[int, bytes, str]:
    """The README's client asks: its status, what it heard, what it complained of."""
    (code,) = re.findall(r"^```python\n(.*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL)
    assert code.count(OWN_QUESTION) == 1
    script = folder / "client.py"
    script.write_text(code.replace(OWN_QUESTION, question))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(script), stack.gateways[0].ready["address"]),
        cwd=folder,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(60):
            pcm, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode or 0, pcm, err.decode()


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, bytes, str]]:
    """All at once: they take as long as they sound."""

    async def all_of_them() -> list[tuple[int, bytes, str]]:
        async with Stack(StackConfig()) as stack:
            return await asyncio.gather(*(ask(stack, question, tmp_path_factory.mktemp("u")) for question in QUESTIONS))

    return dict(zip(QUESTIONS, asyncio.run(all_of_them()), strict=True))


@pytest.mark.parametrize("question", QUESTIONS)
def test_the_client_of_the_readme_hears_the_whole_answer(
    answers: dict[str, tuple[int, bytes, str]], question: str
) -> None:
    status, pcm, err = answers[question]
    assert status == 0, err
    assert len(pcm) > 100_000, err
    assert len(pcm) % 2 == 0
