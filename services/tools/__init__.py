"""The tools service: knows the functions, checks arguments, runs them. Knows nothing about Gemini.

Authors of tools need four names: the decorator `tool`, the `ToolContext` that a function may ask for, `ToolError` for
failures whose message is meant for the model, and `ToolUnavailableError` for those that time can mend. `examples` shows
how they are used.
"""

from services.tools.context import ToolContext, ToolError, ToolUnavailableError
from services.tools.declare import tool

__all__ = ["ToolContext", "ToolError", "ToolUnavailableError", "tool"]
