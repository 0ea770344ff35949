"""The Dockerfile as stages, and its build played in plain folders: the same commands, no containers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Final

from dockerfile_parse import DockerfileParser

from tests.helm.chart import ROOT

DOCKERFILE: Final = ROOT / "deploy/docker/Dockerfile"
TARGETS: Final = ("gateway", "worker", "tools", "emulator")


@dataclass
class Stage:
    """One FROM and what follows it."""

    name: str
    base: str
    steps: list[tuple[str, str]] = field(default_factory=list)
    """Instruction and value."""

    def last(self, instruction: str) -> str:
        """The newest of its kind; empty: none."""
        return next((value for kind, value in reversed(self.steps) if kind == instruction), "")


def stages() -> dict[str, Stage]:
    """By name, in order."""
    found: dict[str, Stage] = {}
    for step in DockerfileParser(fileobj=BytesIO(DOCKERFILE.read_bytes())).structure:
        kind, value = step["instruction"], step["value"]
        if kind == "FROM":
            base, _, name = value.partition(" AS ")
            stage = found[name] = Stage(name, base)
        elif kind != "COMMENT":
            stage.steps.append((kind, value))
    return found


def chain(name: str) -> list[Stage]:
    """A stage and those that it begins with, the first one first."""
    every = stages()
    found = [every[name]]
    while found[0].base in every:
        found.insert(0, every[found[0].base])
    return found


def entry(target: str) -> list[str]:
    """What a container of this image runs without arguments."""
    lasts = {kind: value for stage in chain(target) for kind, value in stage.steps}
    return [*json.loads(lasts["ENTRYPOINT"]), *json.loads(lasts["CMD"])]


class Build:
    """The environments of the images, made by the RUN and COPY lines of the Dockerfile below `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._done: set[str] = set()
        subprocess.run([sys.executable, "-m", "venv", folder / "python"], check=True, timeout=120)

    def environment(self, target: str) -> Path:
        """The folder that the image has as /opt/parley."""
        for stage in chain(f"{target}-environment"):
            if stage.name not in self._done:
                self._done.add(stage.name)
                for kind, value in stage.steps:
                    self._step(target, kind, value)
        return self._folder / target

    def _step(self, target: str, kind: str, value: str) -> None:
        source = self._folder / "src"
        if kind == "COPY":
            *froms, to = value.split()
            for name in froms:
                if (ROOT / name).is_dir():
                    skipped = shutil.ignore_patterns("__pycache__")
                    shutil.copytree(ROOT / name, source / to, ignore=skipped)
                else:
                    source.mkdir(exist_ok=True)
                    shutil.copy(ROOT / name, source / to)
        elif kind == "RUN":
            command = value.replace("/opt/parley", str(self._folder / target)).replace(
                "/dist", str(self._folder / "dist")
            )
            # Of pip's cache nothing is wrong here: the images have none, and this machine may.
            path = f"{self._folder / 'python/bin'}:{os.environ['PATH']}"
            env = {"PATH": path, "HOME": os.environ["HOME"], "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
            env |= {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_", "HTTP"))}
            done = subprocess.run(
                ["bash", "-eu", "-o", "pipefail", "-c", command],
                cwd=source,
                env=env,
                capture_output=True,
                text=True,
                check=False,
                timeout=900,
            )
            assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
