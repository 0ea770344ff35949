import pytest

from emulator.errors import Refusal
from emulator.handshake import Endpoint, authorise, credential, endpoint, valid_conversation_id

BIDI = "ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (f"/{BIDI}", Endpoint("developer", "v1beta")),
        (f"//{BIDI}", Endpoint("developer", "v1beta")),
        (f"/some/prefix//{BIDI}", Endpoint("developer", "v1beta")),
        (f"/{BIDI.replace('v1beta', 'v1')}", Endpoint("developer", "v1")),
        (f"/{BIDI.replace('v1beta', 'v1alpha')}Constrained", Endpoint("developer", "v1alpha", constrained=True)),
        (
            "/ws/google.cloud.aiplatform.v1beta1.LlmBidiService/BidiGenerateContent",
            Endpoint("vertex", "v1beta1"),
        ),
        (f"/{BIDI.replace('v1beta', 'v2')}", None),
        (f"/x{BIDI}", None),
        ("/", None),
    ],
)
def test_paths(path: str, expected: Endpoint | None) -> None:
    assert endpoint(path) == expected


@pytest.mark.parametrize(
    ("headers", "query", "expected"),
    [
        ({"x-goog-api-key": "k"}, {}, "k"),
        ({}, {"key": "k"}, "k"),
        ({}, {"access_token": "t"}, "t"),
        ({"authorization": "Bearer t"}, {}, "t"),
        ({"authorization": "Token auth_tokens/t", "x-goog-api-key": "auth_tokens/t"}, {}, "auth_tokens/t"),
        ({"authorization": "Basic t"}, {}, None),
        ({"x-goog-api-key": " "}, {}, None),
        ({}, {}, None),
    ],
)
def test_credentials(headers: dict[str, str], query: dict[str, str], expected: str | None) -> None:
    assert credential(headers, query) == expected


@pytest.mark.parametrize(
    ("given", "accepted", "code"),
    [("k", set(), None), ("k", {"k"}, None), ("x", {"k"}, 1007), (None, set(), 1008), (None, {"k"}, 1008)],
)
def test_authorisation(given: str | None, accepted: set[str], code: int | None) -> None:
    refusal: Refusal | None = authorise(given, frozenset(accepted))
    assert (refusal.code if refusal else None) == code


def test_conversation_ids() -> None:
    assert valid_conversation_id("ses_01ABC.d:e-f")
    assert not any(valid_conversation_id(bad) for bad in ("", "a/b", "x" * 129, "a b"))
