"""Stubs of before: of the oldest release that must work, from the descriptors that the breaking-change check stands on,
and of the commit before this one, as it has them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BASELINE = ROOT / "proto" / "baseline.binpb"
FILES = [f"parley/v1/{name}.proto" for name in ("errors", "fabric", "fleet", "live", "sessions", "tools")]


def of_baseline(folder: Path) -> Path:
    """A `parley` package with that release's `parley.v1` beside today's other modules; the folder for PYTHONPATH."""
    shutil.copytree(ROOT / "parley", folder / "parley", ignore=shutil.ignore_patterns("v1", "__pycache__"))
    (folder / "parley" / "__init__.py").write_text("")  # today's client is not for those stubs
    (folder / "parley" / "v1").mkdir()
    (folder / "parley" / "v1" / "__init__.py").touch()
    out = [f"--python_out={folder}", f"--grpc_python_out={folder}"]
    command = [sys.executable, "-m", "grpc_tools.protoc", f"--descriptor_set_in={BASELINE}", *out, *FILES]
    subprocess.run(command, check=True, cwd=folder)
    return folder


def of_previous_commit(folder: Path) -> Path | None:
    """The same of the commit before this one; None where there is no history, as in a shallow clone."""
    if shutil.which("git") is None:
        return None
    command = ["git", "-C", str(ROOT), "archive", "HEAD~1", "parley"]
    archive = subprocess.run(command, check=False, capture_output=True)
    if archive.returncode:
        return None
    subprocess.run(["tar", "-x", "-C", str(folder)], check=True, input=archive.stdout)
    (folder / "parley" / "__init__.py").write_text("")  # the stubs alone, as callers without our client have them
    return folder


def environment(folder: Path) -> dict[str, str]:
    """For a process that is of that release, as far as the API goes."""
    return {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}", "PYTHONSAFEPATH": "1"}
