"""The whole of Parley on one machine, as separate processes; `parley up`, the demo and tests use it.

    async with Stack(StackConfig(workers=2, gateways=2)) as stack:
        parley.connect(stack.gateways[0].ready["address"], profile="support")

Nothing is restarted by itself. Every process dies with this one, also when this one is killed with SIGKILL (Linux).
"""

import asyncio
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from parley.cli import _nats
from parley.cli._child import Child
from parley.cli._failures import EX_CONFIG, CliError

PACKAGED_PROFILES = Path(__file__).parent / "profiles"
_NO = frozenset({"0", "off", "f", "false", "n", "no"})
"""What pydantic reads as false."""


@dataclass(frozen=True)
class StackConfig:
    """What to start."""

    workers: int = 1
    gateways: int = 1
    gemini: bool = False
    """Google's endpoint instead of the emulator; needs a key in the environment."""
    gemini_base_url: str = ""
    """Another endpoint instead of the emulator, `https://HOST:PORT`."""
    gemini_ca_file: str = ""
    """PEM file of the CA to trust for `gemini_base_url`."""
    profiles_dir: Path = PACKAGED_PROFILES
    otlp_endpoint: str = ""
    """OTLP/gRPC address that every service sends its traces to; empty: nowhere."""
    state_dir: Path | None = None
    """Logs, JetStream's store and databases; None: a temporary directory, removed after a clean stop."""
    env: Mapping[str, str] = field(default_factory=dict)
    """Variables for every process, over everything else; e.g. PARLEY_WORKER_CAPACITY."""
    ready_timeout: float = 60.0
    """Seconds that each process may take until it is ready."""
    stop_grace: float = 10.0
    """Seconds that all processes together may take to stop before they are killed."""

    @property
    def emulated(self) -> bool:
        """The emulator is started."""
        return not self.gemini and not self.gemini_base_url

    @property
    def development(self) -> bool:
        """Gateways let anybody in, unless `env` says otherwise; in doubt true."""
        return self.env.get("PARLEY_GATEWAY_DEVELOPMENT", "true").strip().lower() not in _NO


class Stack:
    """Running processes. `start` and `stop` are what `async with` calls; `stop` may be repeated."""

    def __init__(self, config: StackConfig | None = None, on_exit: Callable[[Child, int], None] | None = None) -> None:
        """`on_exit` is told when a process ends that nobody stopped, with its exit status."""
        self.config = config or StackConfig()
        self.state_dir = Path()
        """Where logs and stores are; known after `start`."""
        self.nats: Child
        self.emulator: Child | None = None
        self.tools: list[Child] = []
        self.workers: list[Child] = []
        self.gateways: list[Child] = []
        self.failed = False
        """Something went wrong, so a temporary state directory is kept for whoever looks into it."""
        self._on_exit = on_exit or (lambda child, status: None)
        self._stopping = False
        self._children: list[Child] = []
        self._watches: set[asyncio.Task[None]] = set()
        self._counts: dict[str, int] = {}

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException as error:
            self.failed = is_failure(error)
            await self.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.failed = self.failed or is_failure(error)
        await self.stop()

    async def start(self) -> None:
        """Starts everything and returns when all are ready. CliError: a process did not get ready."""
        self._check()
        if self.config.state_dir is None:
            self.state_dir = Path(tempfile.mkdtemp(prefix="parley-"))
        else:
            self.state_dir = self.config.state_dir.absolute()
            self.state_dir.mkdir(parents=True, exist_ok=True)
        await self.start_nats()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.start_tools())
                for _ in range(self.config.gateways):
                    group.create_task(self.start_gateway())
                if self.config.emulated:
                    await self.start_emulator()
                for _ in range(self.config.workers):
                    group.create_task(self.start_worker())
        except BaseExceptionGroup as failures:
            # One cause is enough for a reader; the others are mostly its consequences.
            raise failures.exceptions[0] from None

    async def start_nats(self, *, port: int = -1) -> Child:
        """Starts nats-server; a fixed port is for starting a stopped one again."""
        config = _nats.write_config(self.state_dir, port=port)
        nats = await self._spawn("nats", [_nats.find_server(), "-c", str(config)], {})
        await _nats.wait_listening(nats, self.state_dir, self.config.ready_timeout)
        self.nats = nats  # only now: what is started meanwhile is told the address of the one before, which stays
        return nats

    async def start_emulator(self) -> Child:
        """Starts the Gemini Live emulator."""
        env = {"PARLEY_EMULATOR_CA_FILE": str(self.state_dir / "emulator-ca.pem")}
        self.emulator = await self._spawn_service("emulator", env)
        return self.emulator

    async def start_tools(self, **env: str) -> Child:
        """Starts one more tools service; keywords are its environment."""
        own = {"PARLEY_TOOLS_ORDERS_DB": str(self.state_dir / "orders.sqlite"), **self._common("TOOLS"), **env}
        child = await self._spawn_service("tools", own)
        self.tools.append(child)
        return child

    async def start_worker(self, **env: str) -> Child:
        """Starts one more session worker; keywords are its environment."""
        own = {**self._common("WORKER"), **self._backend(), **env}
        child = await self._spawn_service("worker", own)
        self.workers.append(child)
        return child

    async def start_gateway(self, **env: str) -> Child:
        """Starts one more gateway; keywords are its environment."""
        own = {
            **self._common("GATEWAY"),
            "PARLEY_GATEWAY_PROFILES_DIR": str(self.config.profiles_dir.absolute()),
            "PARLEY_GATEWAY_DEVELOPMENT": "true",
            "PARLEY_GATEWAY_LISTEN": "127.0.0.1:0",
            **env,
        }
        child = await self._spawn_service("gateway", own)
        self.gateways.append(child)
        return child

    async def stop(self) -> None:
        """Stops everything, the door first, and waits until it is gone. Nothing can be started afterwards."""
        self._stopping = True
        deadline = asyncio.get_running_loop().time() + self.config.stop_grace
        for kinds in (("gateway",), ("worker", "tools"), ("emulator", "nats")):
            left = max(0.1, deadline - asyncio.get_running_loop().time())
            group = [child for child in self._children if child.name.split("-")[0] in kinds]
            for child in group:
                if child.name.startswith("worker"):
                    # With the signal that `stop` sends it is the second one: there is nobody to leave sessions to.
                    child.stopping = True
                    child.signal(signal.SIGINT)
            await asyncio.gather(*(child.stop(left) for child in group))
        for watch in tuple(self._watches):
            await watch
        if self.config.state_dir is None and self.state_dir != Path() and not self.failed:
            shutil.rmtree(self.state_dir, ignore_errors=True)

    def kill(self) -> None:
        """SIGKILL for everything, without waiting."""
        for child in self._children:
            child.stopping = True
            child.signal(signal.SIGKILL)

    def summary(self) -> dict[str, Any]:
        """Addresses and process ids, as `parley up --json` prints them."""
        return {
            "nats": _address(self.nats),
            "emulator": _address(self.emulator) if self.emulator else None,
            "tools": [_address(child) for child in self.tools],
            "workers": [_address(child) for child in self.workers],
            "gateways": [_address(child) for child in self.gateways],
            "state_dir": str(self.state_dir),
            "profiles_dir": str(self.config.profiles_dir.absolute()),
            "development": self.config.development,
        }

    def _check(self) -> None:
        environment = {**os.environ, **self.config.env}
        keys = ("PARLEY_WORKER_GEMINI_API_KEY", "GEMINI_API_KEY")
        if self.config.gemini and not any(environment.get(key) for key in keys):
            raise CliError(f"Google's endpoint needs a key: set {' or '.join(keys)}", EX_CONFIG)
        if self.config.gemini_ca_file and not Path(self.config.gemini_ca_file).is_file():
            raise CliError(f"there is no CA file {self.config.gemini_ca_file}", EX_CONFIG)
        if not self.config.profiles_dir.is_dir():
            raise CliError(f"there is no folder of profiles {self.config.profiles_dir}", EX_CONFIG)

    def _common(self, service: str) -> dict[str, str]:
        common = {f"PARLEY_{service}_NATS_URL": self.nats.ready["url"]}
        if self.config.otlp_endpoint:
            common[f"PARLEY_{service}_OTLP_ENDPOINT"] = self.config.otlp_endpoint
        return common

    def _backend(self) -> dict[str, str]:
        """Where workers dial."""
        prefix = "PARLEY_WORKER_"
        environment = {**os.environ, **self.config.env}
        key = environment.get(f"{prefix}GEMINI_API_KEY") or environment.get("GEMINI_API_KEY", "")
        if self.emulator is not None:
            return {
                f"{prefix}GEMINI_BASE_URL": self.emulator.ready["address"],
                f"{prefix}GEMINI_CA_FILE": self.emulator.ready["ca_file"],
                # A real key has no business at an emulator.
                f"{prefix}GEMINI_API_KEY": "emulator",
                f"{prefix}LINK_HEADERS": json.dumps({"x-emulator-conversation": "{session}"}),
            }
        own = {f"{prefix}GEMINI_API_KEY": key or "none"}
        if self.config.gemini_base_url:
            own[f"{prefix}GEMINI_BASE_URL"] = self.config.gemini_base_url
        if self.config.gemini_ca_file:
            own[f"{prefix}GEMINI_CA_FILE"] = str(Path(self.config.gemini_ca_file).absolute())
        return own

    async def _spawn_service(self, kind: str, env: Mapping[str, str]) -> Child:
        # -P: a file `nats.py` in the user's working directory must not take the place of the library.
        child = await self._spawn(kind, [sys.executable, "-P", "-m", "parley.cli", kind], env)
        await child.wait_ready(self.config.ready_timeout)
        return child

    async def _spawn(self, kind: str, command: list[str], env: Mapping[str, str]) -> Child:
        self._counts[kind] = self._counts.get(kind, 0) + 1
        name = f"{kind}-{self._counts[kind]}"
        everything = {**os.environ, **env, **self.config.env}
        child = await Child.start(name, command, everything, self.state_dir / f"{name}.log")
        self._children.append(child)
        if self._stopping:
            # Whoever still starts something in another task would leave it running, and `stop` waiting for it.
            await child.stop(0)
            raise CliError(f"{name} cannot be started: the stack is stopped")
        watch = asyncio.get_running_loop().create_task(self._watch(child), name=f"watch {name}")
        self._watches.add(watch)
        watch.add_done_callback(self._watches.discard)
        return child

    async def _watch(self, child: Child) -> None:
        status = await child.process.wait()
        # One that dies before it is ready is reported by whoever waits for it.
        if not child.stopping and child.ready:
            self.failed = True
            self._on_exit(child, status)


def is_failure(error: BaseException | None) -> bool:
    """Whether an error is worth keeping logs for; somebody who stops what runs is none."""
    return error is not None and not isinstance(error, asyncio.CancelledError | KeyboardInterrupt)


def _address(child: Child) -> dict[str, Any]:
    return {key: value for key, value in child.ready.items() if key != "ready"} | {"pid": child.pid}
