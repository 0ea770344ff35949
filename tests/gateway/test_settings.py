from __future__ import annotations

from datetime import timedelta

import pytest
from pydantic import ValidationError

from services.gateway.settings import GatewaySettings


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("DEVELOPMENT", "true"), ("AUDIO_AHEAD", "250ms"), ("NATS_URL", "nats://a:1,nats://b:2")):
        monkeypatch.setenv(f"PARLEY_GATEWAY_{name}", value)
    settings = GatewaySettings()
    assert settings.audio_ahead == timedelta(milliseconds=250)
    assert settings.nats_servers() == ["nats://a:1", "nats://b:2"]


def test_a_gateway_must_know_its_callers() -> None:
    with pytest.raises(ValidationError, match="PARLEY_GATEWAY_API_KEYS_FILE"):
        GatewaySettings()


@pytest.mark.parametrize("name", list(GatewaySettings.model_fields))
def test_every_setting_is_documented(name: str) -> None:
    assert (GatewaySettings.model_fields[name].description or "").endswith((".", "later."))
