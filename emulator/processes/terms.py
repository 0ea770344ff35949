"""What the parent tells each of the processes, and where they find things. One JSON document."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from emulator.settings import EmulatorSettings


@dataclass(frozen=True)
class Terms:
    """For process ``number`` of ``count``."""

    number: int
    count: int
    folder: Path
    """Private to the emulator."""
    secret: str
    """Marks what one process passes on to another."""
    began: float
    """When the emulator's clock was 0, on the machine's monotonic clock."""
    port: int
    plain_port: int | None

    @property
    def certificate(self) -> Path:
        """The server's key and certificates (PEM); only there while processes start."""
        return self.folder / "server.pem"

    @property
    def database(self) -> Path:
        """See :mod:`emulator.processes.shared`."""
        return self.folder / "shared.db"

    def control(self, number: int) -> Path:
        """The Unix socket of a process's own control API."""
        return self.folder / f"control-{number}"


def written(terms: Terms, settings: EmulatorSettings) -> bytes:
    """One line."""
    told = settings.model_dump(mode="json")
    told["api_keys"] = [key.get_secret_value() for key in settings.api_keys]
    return json.dumps({"terms": asdict(terms), "settings": told}, default=str).encode() + b"\n"


def read(line: bytes) -> tuple[Terms, EmulatorSettings]:
    """The same back."""
    told: dict[str, Any] = json.loads(line)
    terms = told["terms"]
    return Terms(**{**terms, "folder": Path(terms["folder"])}), EmulatorSettings(**told["settings"])
