"""``python -m tests.jaeger.obtain``: a Jaeger v2 on this machine; its path, or the address of one that runs.

In this order: PARLEY_JAEGER_URL, which is of a query service that runs; `jaeger` on the PATH; one that is built with
Go, once, in the user's cache. That one has no user interface, because Jaeger keeps it out of its Go module; the query
API is all there.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

URL: Final = "PARLEY_JAEGER_URL"
VERSION: Final = "PARLEY_JAEGER_VERSION"
DEFAULT_VERSION: Final = "v1.76.0"
"""Jaeger v2.13.0: the newest tag that Go knows of the module, whose path does not end in `/v2` as later tags want it. A
commit is named by its hash, where the module proxy in use serves it."""
_MODULE: Final = "github.com/jaegertracing/jaeger"
_GO: Final = (1, 25)


class UnavailableError(Exception):
    """There is no Jaeger, and why."""


def obtain(log: object = sys.stderr) -> Path:
    """The path of a Jaeger v2. UnavailableError. The first time it may be built, which takes minutes."""
    on_path = shutil.which("jaeger")
    if on_path is not None and _is_v2(on_path):
        return Path(on_path)
    version = os.environ.get(VERSION, DEFAULT_VERSION)
    built = _cache() / version / "jaeger"
    if not built.exists():
        print(f"building Jaeger {version} in {built.parent}; this takes minutes, once", file=log)  # type: ignore[call-overload]
        _build(version, built)
    return built


def _is_v2(path: str) -> bool:
    """Jaeger v1 had programs of other names, and one of this name takes a configuration as a v2 does."""
    return b"--config" in subprocess.run([path, "--help"], capture_output=True, check=False).stdout


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "parley" / "jaeger"


def _build(version: str, target: Path) -> None:
    go = shutil.which("go")
    if go is None:
        raise UnavailableError(
            "there is no `jaeger` and no `go` on the PATH: "
            f"install Jaeger v2, or Go {_GO[0]}.{_GO[1]} or newer, or set {URL}"
        )
    # A module of its own and not `go install`, which refuses modules that replace one of theirs.
    target.parent.mkdir(parents=True, exist_ok=True)
    (target.parent / "go.mod").write_text(f"module parley.invalid/jaeger\n\ngo {_GO[0]}.{_GO[1]}\n")
    for command in (
        ["get", "-tool", f"{_MODULE}/cmd/jaeger@{version}"],
        ["build", "-trimpath", "-ldflags=-s -w", "-o", "jaeger.new", f"{_MODULE}/cmd/jaeger"],
    ):
        done = subprocess.run([go, *command], cwd=target.parent, capture_output=True, text=True, check=False)
        if done.returncode:
            last = "\n".join(done.stderr.splitlines()[-5:])
            raise UnavailableError(f"`go {' '.join(command)}` failed:\n{last}")
    (target.parent / "jaeger.new").rename(target)


def main() -> int:
    """What there is, on stdout."""
    if url := os.environ.get(URL):
        print(url)
        return 0
    try:
        print(obtain())
    except UnavailableError as error:
        print(f"no Jaeger: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
