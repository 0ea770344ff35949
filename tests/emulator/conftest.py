"""Runs each test of a behaviour a second time with the behaviour off, and gives an emulator in this very process."""

import asyncio
import contextlib
import ssl
import traceback
from collections.abc import AsyncIterator, Callable, Generator
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
import uvloop

from emulator.server import Emulator
from emulator.settings import EmulatorSettings
from tests.emulator.behaviour import MARK, Off
from tests.emulator.patience import Patience


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    marker = metafunc.definition.get_closest_marker(MARK)
    if marker is None:
        return
    off: Off = marker.args[1]
    if off.switches and "switches" not in metafunc.fixturenames:
        raise pytest.UsageError(f"{metafunc.definition.nodeid} is turned off by switches but does not take them")
    metafunc.parametrize("sabotage", [None, off], indirect=True, ids=["works", "sabotaged"])


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The loop that the emulator's own process has."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(autouse=True)
def sabotage(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Off:
    """What is off in this run."""
    off: Off = getattr(request, "param", None) or Off()
    for patch in off.patches:
        monkeypatch.setattr(patch.target, patch.replacement)
    monkeypatch.setattr(Patience, "in_vain", off != Off())
    return off


@pytest.fixture
def switches(sabotage: Off) -> dict[str, Any]:
    """The switches that turn the behaviour off; empty where it works."""
    return dict(sabotage.switches)


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    callspec = getattr(pyfuncitem, "callspec", None)
    off = callspec.params.get("sabotage") if callspec is not None else None
    try:
        result = yield
    except (Exception, pytest.fail.Exception) as error:
        if off is None:
            raise
        if isinstance(error, AttributeError | NameError | TypeError) and _raised_in_the_emulator(error):
            pytest.fail(f"the behaviour is not off but broken: {error!r}")
        return True
    if off is not None:
        pytest.fail("the behaviour was off and the test did not notice")
    return result


def _raised_in_the_emulator(error: BaseException) -> bool:
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return str(frame.f_globals.get("__name__", "")).startswith("emulator.")


@dataclass(frozen=True)
class Here:
    """An emulator that runs in this process, on the loop of the test's module."""

    emulator: Emulator
    address: str
    """``https://localhost:PORT``."""
    control: str
    ca_file: str
    ssl_context: ssl.SSLContext

    async def get(self, path: str) -> Any:
        """JSON of the control API."""
        async with aiohttp.ClientSession() as http, http.get(self.control + path) as response:
            response.raise_for_status()
            return await response.json()


@contextlib.asynccontextmanager
async def running(settings: EmulatorSettings) -> AsyncIterator[Here]:
    """An emulator of one's own."""
    async with Emulator(settings) as emulator:
        facts = emulator.ready()
        yield Here(
            emulator,
            facts["address"].replace("127.0.0.1", "localhost"),
            facts["control"],
            facts["ca_file"],
            ssl.create_default_context(cafile=facts["ca_file"]),
        )


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def here() -> AsyncIterator[Here]:
    """Fast in speaking, so that nothing waits for playback. Tests need ``pytest.mark.asyncio(loop_scope="module")``."""
    async with running(EmulatorSettings(generation_speed=50, playback_speed=50)) as here:
        yield here
