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


@pytest.mark.parametrize(
    "question",
    [
        OWN_QUESTION,
        # Its tool is NON_BLOCKING on gemini-3.8-live: TurnComplete comes with the call, before any of the answer.
        "what is the weather in paris",
    ],
)
async def test_the_client_of_the_readme_hears_the_whole_answer(question: str, tmp_path: Path) -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL)
    assert code.count(OWN_QUESTION) == 1
    script = tmp_path / "client.py"
    script.write_text(code.replace(OWN_QUESTION, question))
    async with Stack(StackConfig()) as stack:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, str(script), stack.gateways[0].ready["address"]),
            cwd=tmp_path,
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
    assert process.returncode == 0, err.decode()
    assert len(pcm) > 100_000, err.decode()
    assert len(pcm) % 2 == 0
