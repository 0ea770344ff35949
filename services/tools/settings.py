"""Settings of the tools service."""

from __future__ import annotations

import ipaddress
import json
import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator
from pydantic_settings import NoDecode, SettingsConfigDict

from services.fabric.settings import Duration, PositiveDuration, ServiceSettings

_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


def _split(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        return json.loads(value)
    return [name.strip() for name in value.split(",") if name.strip()]


class ToolsSettings(ServiceSettings):
    """What an operator can set."""

    model_config = SettingsConfigDict(env_prefix="PARLEY_TOOLS_")

    listen: str = Field(
        "127.0.0.1:0",
        description="HOST:PORT of the internal gRPC server (ToolService, health, reflection); port 0: any free one.",
    )
    api_keys_file: str = Field(
        "",
        description="YAML file of the keys that open the gRPC server, as PARLEY_GATEWAY_API_KEYS_FILE has them: a key "
        "calls for its own tenant, one with `operator: true` for any. Empty: everybody on this machine may call, for "
        "any tenant, and `listen` must be a loopback address.",
    )
    modules: Annotated[list[str], NoDecode, BeforeValidator(_split)] = Field(
        [f"services.tools.examples.{name}" for name in ("orders", "appointments", "weather", "research")],
        description="Python modules whose functions marked with @tool are served, comma-separated, on PYTHONPATH.",
    )
    sources: Path | None = Field(
        None,
        description="YAML file of more sources: modules, MCP servers, OpenAPI documents (docs/tools.md); empty: none.",
    )
    orders_db: Path = Field(
        Path("~/.local/state/parley/orders.sqlite3"),
        description="SQLite file of the example order tools; created with a few orders when it is missing. The one of "
        "the example appointments is beside it.",
    )
    max_concurrency: int = Field(
        64,
        ge=1,
        le=1024,
        description="Calls that run at once, and threads for those that block; one more is refused as busy.",
    )
    max_concurrency_per_tool: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="Calls of one tool that run at once, unless the tool says otherwise; one more waits. Default: "
        "three quarters of `max_concurrency`.",
    )
    max_concurrency_per_tenant: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="Calls of one tenant that run at once; one more waits. Default: three quarters of "
        "`max_concurrency`.",
    )
    queue_wait: Duration = Field(
        timedelta(seconds=2),
        ge=timedelta(0),
        description="Longest time a call waits where its tool or its tenant has as many as it may, and never more than "
        "half of the time that it has; then it is refused as busy.",
    )
    default_timeout: PositiveDuration = Field(
        timedelta(seconds=10), description="Longest time a tool may run when it declares none."
    )
    max_result_bytes: int = Field(
        256 * 1024,
        ge=1024,
        le=900 * 1024,
        description="Largest result of a tool in bytes of JSON; NATS messages end at 1 MiB.",
    )

    @field_validator("sources", "max_concurrency_per_tool", "max_concurrency_per_tenant", mode="before")
    @classmethod
    def _empty_is_none(cls, value: Any) -> Any:
        return value or None

    @field_validator("modules")
    @classmethod
    def _modules_are_module_names(cls, value: list[str]) -> list[str]:
        for name in value:
            if not _MODULE.fullmatch(name):
                raise ValueError(f"{name!r} is not the name of a Python module")
        return list(dict.fromkeys(value))

    @model_validator(mode="after")
    def _callers_are_known(self) -> Self:
        if not self.api_keys_file and not _is_loopback(self.listen.rpartition(":")[0]):
            raise ValueError(
                "set PARLEY_TOOLS_API_KEYS_FILE, or let PARLEY_TOOLS_LISTEN be a loopback address: without keys "
                "whoever reaches the port calls any tool for any tenant"
            )
        return self


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
