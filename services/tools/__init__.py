"""The tools service: knows the functions, checks arguments, runs them. Knows nothing about Gemini.

Authors of tools need six names: the decorator `tool`, the `ToolContext` that a function may ask for, `ToolError` for
failures whose message is meant for the model, `ToolUnavailableError` for those that time can mend,
`OutcomeUnknownError` for those that may have had their effect all the same, and `tasks_outlive_call` for what calls
share. `examples` shows how they are used.
"""

from services.tools.context import OutcomeUnknownError, ToolContext, ToolError, ToolUnavailableError
from services.tools.declare import tool
from services.tools.loops import tasks_outlive_call

__all__ = [
    "OutcomeUnknownError",
    "ToolContext",
    "ToolError",
    "ToolUnavailableError",
    "tasks_outlive_call",
    "tool",
]
