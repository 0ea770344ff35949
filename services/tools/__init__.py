"""The tools service: knows the functions, checks arguments, runs them. Knows nothing about Gemini.

Authors of tools need three names: the decorator `tool`, the `ToolContext` that a function may ask for, and `ToolError`
for failures whose message is meant for the model. `examples` shows how they are used.
"""

from services.tools.context import ToolContext, ToolError
from services.tools.declare import tool

__all__ = ["ToolContext", "ToolError", "tool"]
