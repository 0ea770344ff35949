"""`parley gateway`: run one gateway."""

from __future__ import annotations

from pathlib import Path

import typer


def command() -> None:
    """Run a gateway: the door for callers. Settings come from PARLEY_GATEWAY_* (see `parley settings gateway`)."""
    from services.fabric.auth import load_keys
    from services.fabric.yaml_file import ConfigurationError
    from services.gateway.profiles import load_profiles
    from services.gateway.settings import GatewaySettings

    settings = GatewaySettings()
    reading = "PARLEY_GATEWAY_API_KEYS_FILE"
    try:
        keys = load_keys(Path(settings.api_keys_file)) if settings.api_keys_file else []
        reading = "PARLEY_GATEWAY_PROFILES_DIR"
        profiles = load_profiles(Path(settings.profiles_dir), settings.backend) if settings.profiles_dir else {}
    except ConfigurationError as error:
        typer.echo(f"{reading}: {error}", err=True)
        raise typer.Exit(78) from None

    # Late: what is wrong is told at once, without waiting for everything that a gateway is made of.
    from services.fabric import process

    with process.importing():
        from services.gateway.server import serve

    process.run(lambda: serve(settings, keys, profiles))
