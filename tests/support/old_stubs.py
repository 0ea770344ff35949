"""The stubs of the release before: generated from the descriptors that the breaking-change check stands on."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BASELINE = ROOT / "proto" / "baseline.binpb"
FILES = [f"parley/v1/{name}.proto" for name in ("errors", "fabric", "fleet", "live", "sessions", "tools")]


def make(folder: Path) -> Path:
    """A `parley` package with that release's `parley.v1` beside today's other modules; the folder for PYTHONPATH."""
    shutil.copytree(ROOT / "parley", folder / "parley", ignore=shutil.ignore_patterns("v1", "__pycache__"))
    (folder / "parley" / "__init__.py").write_text("")  # today's client is not for those stubs
    (folder / "parley" / "v1").mkdir()
    (folder / "parley" / "v1" / "__init__.py").touch()
    out = [f"--python_out={folder}", f"--grpc_python_out={folder}"]
    command = [sys.executable, "-m", "grpc_tools.protoc", f"--descriptor_set_in={BASELINE}", *out, *FILES]
    subprocess.run(command, check=True, cwd=folder)
    return folder


def environment(folder: Path) -> dict[str, str]:
    """For a process that is of the release before, as far as the API goes."""
    return {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}", "PYTHONSAFEPATH": "1"}
