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


def test_every_setting_is_documented() -> None:
    for name, field in ToolsSettings.model_fields.items():
        assert field.description, name
