from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from services.fabric.auth import DEVELOPER, ApiKey, Authenticator, Identity, load_keys
from services.fabric.errors import ServiceError
from services.fabric.yaml_file import ConfigurationError

DIGEST = hashlib.sha256(b"secret").hexdigest()
ACME = Identity("acme", "bot")
KEYS = [
    ApiKey(hashlib.sha256(b"secret").digest(), ACME),
    ApiKey(hashlib.sha256(b"other").digest(), Identity("umbrella", "bot")),
]


@pytest.mark.parametrize(
    "metadata",
    [
        [("authorization", "Bearer secret")],
        [("authorization", "bearer  secret ")],
        [("x-parley-api-key", "secret")],
        [("x-other-bin", b"\0"), ("authorization", "Basic x"), ("x-parley-api-key", "secret")],
    ],
)
def test_a_known_key_is_a_caller(metadata: list[tuple[str, str | bytes]]) -> None:
    assert Authenticator(KEYS, development=False).identify(metadata) == ACME


@pytest.mark.parametrize(
    "metadata",
    [[], [("authorization", "Bearer ")], [("authorization", "secret")], [("x-parley-api-key", DIGEST)]],
)
@pytest.mark.parametrize("keys", [KEYS, []])
def test_everybody_else_is_refused(metadata: list[tuple[str, str | bytes]], keys: list[ApiKey]) -> None:
    with pytest.raises(ServiceError) as raised:
        Authenticator(keys, development=False).identify(metadata)
    assert raised.value.reason_name == "CREDENTIAL_INVALID"


def test_development_lets_in_who_has_no_key_but_not_who_has_a_wrong_one() -> None:
    authenticator = Authenticator(KEYS, development=True)
    assert authenticator.identify([]) == DEVELOPER
    assert authenticator.identify([("x-parley-api-key", "secret")]) == ACME
    with pytest.raises(ServiceError):
        authenticator.identify([("x-parley-api-key", "wrong")])


def test_the_keys_file(tmp_path: Path) -> None:
    path = tmp_path / "keys.yaml"
    path.write_text(f"keys:\n  - tenant: acme\n    principal: bot\n    sha256: {DIGEST}\n")
    assert load_keys(path) == KEYS[:1]
    path.write_text(path.read_text() + "    operator: true\n")
    assert load_keys(path)[0].identity.operator


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("keyz: []\n", 1, "`keys`"),
        ("keys: 7\n", 1, "`keys`"),
        ("keys:\n  - acme\n", 2, "`tenant`, `principal` and `sha256`"),
        ("keys:\n  - tenant: acme\n    principal: bot\n", 2, "`tenant`, `principal` and `sha256`"),
        (f"keys:\n  - tenant: a b\n    principal: bot\n    sha256: {DIGEST}\n", 2, "`tenant` must match"),
        (f"keys:\n  - tenant: a\n    principal: ''\n    sha256: {DIGEST}\n", 3, "`principal` must match"),
        ("keys:\n  - tenant: a\n    principal: b\n    sha256: secret\n", 4, "hex digest"),
        (f"keys:\n  - {{tenant: a, principal: b, sha256: {DIGEST}, operator: 1}}\n", 2, "`operator`"),
        (f"keys:\n  - {{tenant: a, principal: b, sha256: {DIGEST}, admin: true}}\n", 2, "perhaps `operator`"),
        (
            f"keys:\n  - {{tenant: a, principal: b, sha256: {DIGEST}}}\n" * 1
            + f"  - {{tenant: a, principal: c, sha256: {DIGEST}}}\n",
            3,
            "twice",
        ),
    ],
)
def test_a_mistake_in_the_keys_file_is_told_with_its_line(tmp_path: Path, text: str, line: int, reason: str) -> None:
    path = tmp_path / "keys.yaml"
    path.write_text(text)
    with pytest.raises(ConfigurationError) as raised:
        load_keys(path)
    assert str(raised.value).startswith(f"{path}:{line}: ")
    assert reason in str(raised.value)


def test_a_keys_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_keys(tmp_path / "nowhere.yaml")
