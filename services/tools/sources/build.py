"""The sources of a process: those of its settings, then those of its file, in this order of importance."""

from __future__ import annotations

from services.tools.settings import ToolsSettings
from services.tools.sources import file
from services.tools.sources.file import McpHttpSettings, McpStdioSettings, OpenApiSettings, PythonSettings
from services.tools.sources.python import PythonSource
from services.tools.sources.source import Source


def sources_of(settings: ToolsSettings) -> list[Source]:
    """Everything that the settings name. ConfigurationError names file and line."""
    built: list[Source] = [
        PythonSource(PythonSettings(name="modules", kind="python", module=module), settings, f"module {module}")
        for module in settings.modules
    ]
    if settings.sources is None:
        return built
    folder, most = settings.sources.expanduser().resolve().parent, settings.max_result_bytes
    for source in file.load(settings.sources.expanduser()):
        match source:
            case PythonSettings():
                built.append(PythonSource(source, settings, folder=folder))
            case McpStdioSettings() | McpHttpSettings():
                # Late: the SDK takes half a second and some 25 MB, which are for those who use it.
                from services.tools.sources.mcp import McpSource

                built.append(McpSource(source, folder, max_result_bytes=most))
            case OpenApiSettings():
                from services.tools.sources.openapi import OpenApiSource

                built.append(OpenApiSource(source, folder, max_result_bytes=most))
    return built
