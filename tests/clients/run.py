"""``python -m tests.clients.run PYTHON TESTS...``: pytest in another environment, against an emulator of this one.

A client's own dependencies differ from the emulator's, so it gets an environment of its own with PYTHON in it (a path
from the root of the repository).
"""

import asyncio
import json
import os
import sys

from tests.clients.conftest import SETTINGS
from tests.support.emulator import ROOT, start_emulator


async def main(python: str, tests: list[str]) -> int:
    """The exit code of pytest."""
    async with start_emulator(**SETTINGS) as emulator:
        facts = {
            "address": emulator.address.replace("127.0.0.1", "localhost"),
            "control": emulator.control,
            "ca_file": emulator.ca_file,
        }
        environment = {
            **os.environ,
            "EMULATOR": json.dumps(facts),
            "SSL_CERT_FILE": emulator.ca_file,
            "NO_PROXY": "localhost,127.0.0.1",
        }
        pytest = [python, "-m", "pytest", *tests]
        process = await asyncio.create_subprocess_exec(*pytest, cwd=ROOT, env=environment)
        return await process.wait()


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1], sys.argv[2:])))
