"""Settings that every service has, and the types they are written in.

One class a service, read from environment variables. A wrong value stops the service at start with one line for each
wrong setting (the `parley` command prints it and exits with 78).
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_HOST = r"[A-Za-z0-9._-]+"
_PORT = r"([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"
_OTLP = rf"^(https?://(\[[0-9a-fA-F:]+\]|{_HOST}):{_PORT}/?)?$"
_DURATION = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?\s*$")


def parse_duration(value: Any) -> Any:
    """`500ms`, `10s`, `2m`, `1h`, `1d` or bare seconds; anything else is left to pydantic (ISO 8601)."""
    if isinstance(value, str) and (match := _DURATION.match(value)):
        try:
            return timedelta(seconds=float(match.group(1)) * _UNITS[match.group(2) or "s"])
        except OverflowError:
            raise ValueError("too long") from None
    return value


Duration = Annotated[timedelta, BeforeValidator(parse_duration)]
"""A length of time, written as `500ms`, `10s`, `2m`, `1h` or `1d`."""

PositiveDuration = Annotated[Duration, Field(gt=timedelta(0))]


def _can_be_loaded(value: str) -> str:
    if value:
        try:
            ssl.create_default_context(cafile=value)
        except OSError as error:  # ssl.SSLError is one
            reason = error.strerror or str(error)
            raise ValueError(f"no readable PEM file of certificates ({reason})") from None
    return value


CaFile = Annotated[str, AfterValidator(_can_be_loaded)]
"""Path of a PEM file of certificates, or empty."""


class SettingError(Exception):
    """A setting turned out wrong when it was put to use. The `parley` command prints it and exits with 78."""

    exit_status = 78

    def __init__(self, variable: str, value: object, reason: str) -> None:
        super().__init__(f"{variable}: {value}: {reason}")


class NatsSettings(BaseSettings):
    """Where NATS is."""

    model_config = SettingsConfigDict(extra="ignore", frozen=True, validate_default=True)

    nats_url: str = Field(
        "nats://127.0.0.1:4222",
        description="NATS servers, comma-separated, as nats:// or tls:// addresses.",
    )
    nats_user: str = Field("", description="NATS user; empty: none.")
    nats_password: SecretStr = Field(SecretStr(""), description="Password of the NATS user.")
    nats_ca_file: CaFile = Field(
        "",
        description="PEM file of the CA to trust for tls:// servers of NATS; empty: the system's.",
    )

    @field_validator("nats_url")
    @classmethod
    def _nats_url_has_scheme(cls, value: str) -> str:
        for address in value.split(","):
            match = re.match(rf"^(nats|tls)://{_HOST}(:{_PORT})?$", address.strip())
            if match is None:
                raise ValueError("expected nats://HOST:PORT or tls://HOST:PORT, comma-separated, ports 1 to 65535")
        return value

    def nats_servers(self) -> list[str]:
        """`nats_url` as a list."""
        return [address.strip() for address in self.nats_url.split(",")]


class ServiceSettings(NatsSettings):
    """What gateway, session worker and tools have in common."""

    id: str = Field(
        "",
        pattern=r"^[A-Za-z0-9_-]{0,64}$",
        description="Name of this process on NATS and in records; empty: a new one at every start, as it should be.",
    )
    fabric_replicas: int = Field(
        1, ge=1, le=5, description="Copies that JetStream keeps of every stream created at start; 3 in production."
    )
    otlp_endpoint: str = Field(
        "",
        pattern=_OTLP,
        description="OTLP/gRPC address that traces are sent to, e.g. http://127.0.0.1:4317; empty: nowhere.",
    )
    otlp_metrics_endpoint: str = Field(
        "",
        pattern=_OTLP,
        description="OTLP/gRPC address that metrics are sent to every 30 s, e.g. http://127.0.0.1:4317 (a collector: "
        "Jaeger takes none); empty: nowhere. Prometheus finds the same at /metrics of `ops_listen`.",
    )
    ops_listen: str = Field(
        "127.0.0.1:0",
        description="HOST:PORT of the HTTP server for probes, /metrics and /debug/vars; port 0: any free one.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level that is logged.")
    shutdown_grace: Duration = Field(
        timedelta(seconds=5),
        ge=timedelta(0),
        description="Time after SIGTERM that what runs may take to finish before it is cut off.",
    )

    @field_validator("ops_listen", "listen", check_fields=False)
    @classmethod
    def _listen_is_host_and_port(cls, value: str) -> str:
        host, _, port = value.rpartition(":")
        if not host or not port.isdigit() or int(port) > 65535:
            raise ValueError("expected HOST:PORT, port 0 for any free one")
        return value

    @contextmanager
    def applying(self, field: str) -> Iterator[None]:
        """What fails within is this setting's fault: SettingError instead of OSError or RuntimeError."""
        try:
            yield
        except (OSError, RuntimeError) as error:
            variable = f"{self.model_config.get('env_prefix', '')}{field}".upper()
            reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
            raise SettingError(variable, getattr(self, field), reason) from error
