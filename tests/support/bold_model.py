"""A worker whose model calls what it should not, as `python -m tests.support.bold_model`.

The emulator calls what it was told of, and no more. So the worker tells it of a tool that its session does not have: to
everything else, the model asks for it of its own accord. `carried`: the worker believes that the session has it, too,
as one that is out of date might, so that the tools service is the last to say no.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from google.genai import types
from google.protobuf import json_format

from parley.v1 import tools_pb2
from services.session_worker import live_config
from services.session_worker.session_context import SessionContext

VARIABLE = "PARLEY_TEST_BOLD_MODEL"
"""The declaration of the tool, as JSON."""
CARRIED = "PARLEY_TEST_BOLD_MODEL_CARRIED"


def main() -> None:
    """The worker."""
    from services.session_worker.cli import command

    tool = json_format.Parse(os.environ[VARIABLE], tools_pb2.Tool())
    live_tools, found = live_config.live_tools, SessionContext.tool

    def and_one_more(config: Any, tools: Sequence[tools_pb2.Tool], *rest: Any) -> list[types.Tool | object]:
        return live_tools(config, [*tools, tool], *rest)

    live_config.live_tools = and_one_more
    if os.environ.get(CARRIED):
        SessionContext.tool = lambda context, name: found(context, name) or tool  # type: ignore[method-assign]
    command()


if __name__ == "__main__":
    main()
