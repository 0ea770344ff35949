from datetime import timedelta

import pytest
from pydantic import ValidationError
from pydantic_settings import SettingsConfigDict

from services.fabric.settings import PositiveDuration, ServiceSettings


class Settings(ServiceSettings):
    model_config = SettingsConfigDict(env_prefix="PARLEY_TEST_")
    listen: str = "127.0.0.1:0"
    wait: PositiveDuration = timedelta(seconds=1)


def from_env(monkeypatch: pytest.MonkeyPatch, **values: str) -> Settings:
    for name, value in values.items():
        monkeypatch.setenv(f"PARLEY_TEST_{name.upper()}", value)
    return Settings()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("500ms", 0.5),
        ("10s", 10),
        ("1.5s", 1.5),
        ("2m", 120),
        ("1h", 3600),
        ("1d", 86400),
        ("7", 7),
        (" 3 s ", 3),
        ("PT90S", 90),
    ],
)
def test_duration_is_written_with_its_unit(monkeypatch: pytest.MonkeyPatch, text: str, seconds: float) -> None:
    assert from_env(monkeypatch, wait=text).wait == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "text", ["", "soon", "10 parsecs", "-1s", "0s", "1e3s", "nan", "inf", "9" * 20 + "d", "9" * 400]
)
def test_wrong_duration_names_the_setting(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    with pytest.raises(ValidationError) as caught:
        from_env(monkeypatch, wait=text)
    assert [error["loc"] for error in caught.value.errors()] == [("wait",)]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("nats_url", "127.0.0.1:4222"),
        ("nats_url", "nats://a:1,http://b:2"),
        ("listen", "8080"),
        ("listen", ":8080"),
        ("listen", "127.0.0.1:99999"),
        ("listen", "127.0.0.1:-1"),
        ("ops_listen", "x"),
        ("nats_ca_file", "/nowhere.pem"),
        ("nats_ca_file", __file__),
        ("id", "a b"),
        ("id", "a.b"),
        ("fabric_replicas", "0"),
        ("log_level", "loud"),
        ("shutdown_grace", "-1s"),
    ],
)
def test_wrong_value_names_the_setting(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    with pytest.raises(ValidationError) as caught:
        from_env(monkeypatch, **{name: value})
    assert [error["loc"] for error in caught.value.errors()] == [(name,)]


def test_several_nats_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = from_env(monkeypatch, nats_url="nats://a:4222, tls://b:4222")
    assert settings.nats_servers() == ["nats://a:4222", "tls://b:4222"]


def test_password_is_not_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "hunter2" not in repr(from_env(monkeypatch, nats_password="hunter2"))
