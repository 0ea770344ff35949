"""The emulator that the clients talk to: the one that :mod:`tests.clients.run` started, else one of the test run's own.

Nothing here may import more than pytest at the top: each client has an environment of its own, without the emulator's.
"""

import json
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from urllib.request import urlopen

import pytest
import pytest_asyncio

# The frameworks are in an environment of their own, where `make test-clients` runs them.
collect_ignore = [] if "EMULATOR" in os.environ else ["frameworks"]

SETTINGS = {
    "api_keys": "key",
    # Answers are played ten times as fast as they sound; what needs real time says so by a switch.
    "generation_speed": "20",
    "playback_speed": "10",
}


@dataclass(frozen=True)
class Emulator:
    """Where it is."""

    address: str
    """``https://localhost:PORT``."""
    control: str
    ca_file: str

    def record(self, conversation: str) -> Any:
        """What it heard and did in a conversation."""
        with urlopen(f"{self.control}/conversations/{conversation}") as response:
            return json.load(response)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def emulator() -> AsyncIterator[Emulator]:
    """Trusted by whatever asks OpenSSL for the default authorities while the test runs."""
    with pytest.MonkeyPatch.context() as patch:
        if given := os.environ.get("EMULATOR"):
            facts = json.loads(given)
            running = Emulator(facts["address"], facts["control"], facts["ca_file"])
            patch.setenv("SSL_CERT_FILE", running.ca_file)
            yield running
            return
        from tests.support.emulator import start_emulator

        async with start_emulator(**SETTINGS) as started:
            address = started.address.replace("127.0.0.1", "localhost")
            patch.setenv("SSL_CERT_FILE", started.ca_file)
            yield Emulator(address, started.control, started.ca_file)
