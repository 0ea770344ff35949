import pytest
from pydantic import ValidationError

from services.tools.settings import ToolsSettings


@pytest.mark.parametrize("text", ["a.b,c", " a.b , c ,", '["a.b", "c"]', "a.b,c,a.b"])
def test_modules_are_written_with_commas_or_as_json(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("PARLEY_TOOLS_MODULES", text)
    assert ToolsSettings().modules == ["a.b", "c"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("modules", "a-b"),
        ("modules", "[1"),
        ("listen", "4711"),
        ("max_concurrency", "0"),
        ("default_timeout", "0s"),
        ("max_result_bytes", "2000000"),
        ("nats_url", "http://x"),
    ],
)
def test_wrong_setting_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"PARLEY_TOOLS_{name.upper()}", value)
    with pytest.raises(ValidationError) as caught:
        ToolsSettings()
    assert [error["loc"][0] for error in caught.value.errors()] == [name]


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "[::1]:50053", "localhost:0", "127.9.9.9:1"])
def test_without_keys_the_grpc_server_is_for_this_machine(monkeypatch: pytest.MonkeyPatch, listen: str) -> None:
    monkeypatch.setenv("PARLEY_TOOLS_LISTEN", listen)
    assert ToolsSettings().listen == listen


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "[::]:0", "10.1.2.3:50053", "tools.example:50053"])
def test_without_keys_it_is_for_nobody_else(monkeypatch: pytest.MonkeyPatch, listen: str) -> None:
    monkeypatch.setenv("PARLEY_TOOLS_LISTEN", listen)
    with pytest.raises(ValidationError, match="set PARLEY_TOOLS_API_KEYS_FILE"):
        ToolsSettings()
    monkeypatch.setenv("PARLEY_TOOLS_API_KEYS_FILE", "keys.yaml")
    assert ToolsSettings().listen == listen


def test_every_setting_is_documented() -> None:
    for name, field in ToolsSettings.model_fields.items():
        assert field.description, name
