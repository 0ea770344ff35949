"""Values that cannot be are refused at render, with a sentence that says what to do."""

from __future__ import annotations

from typing import Any

import pytest

from tests.helm.chart import RenderError, over, render, values_of

SENTENCES: list[tuple[str, dict[str, Any], str]] = [
    ("production", {"nats": {"url": ""}}, "nats.url is missing: name the NATS servers"),
    ("dev", {"nats": {"url": "nats://a:4222"}}, "nats.url and dev.enabled exclude each other"),
    ("production", {"nats": {"url": "nats://a:4222"}}, "nats.caSecret is for TLS, but nats.url says nats://"),
    ("production", {"gemini": {"apiKeySecret": {"name": ""}}}, "gemini.apiKeySecret.name is missing"),
    ("production", {"gemini": {"caSecret": {"name": "ca"}}}, "gemini.caSecret is for an endpoint of your own"),
    ("production", {"callers": {"apiKeysSecret": {"name": ""}}}, "callers.apiKeysSecret.name is missing"),
    ("production", {"callers": {"development": True}}, "callers.development lets everybody in"),
    ("production", {"worker": {"drainSeconds": 10, "capacity": 500}}, "worker.drainSeconds (10) is too short"),
    (
        "autoscaling",
        {"worker": {"autoscaling": {"minReplicas": 30}}},
        "worker.autoscaling.minReplicas (30) is more than maxReplicas (20)",
    ),
    ("autoscaling", {"worker": {"capacity": 60}}, "sessionsPerWorker (60) must be less than worker.capacity (60)"),
    ("keda", {"worker": {"autoscaling": {"keda": {"serverAddress": ""}}}}, "keda.serverAddress is missing"),
    (
        "production",
        {"gateway": {"settings": {"abandoned_after": "90s"}}},
        "gateway.settings.abandoned_after (90s) must be longer than worker.settings.resume_window (2m)",
    ),
    (
        "production",
        {"worker": {"settings": {"resume_window": "1h"}}},
        "gateway.settings.abandoned_after (3m) must be longer than worker.settings.resume_window (1h)",
    ),
    ("gateway-api", {"gatewayApi": {"parentRefs": []}}, "gatewayApi.parentRefs is empty"),
    (
        "production",
        {"test": {"profile": "sales"}},
        'test.profile is \\"sales\\", which is not among the profiles (support)',
    ),
    ("production", {"profiles": None}, "(there are none)"),
    (
        "production",
        {"tools": {"resources": {"requests": {"memory": "1Gi"}}}},
        "resources: the request of memory (1Gi) is more than its limit (512Mi)",
    ),
    (
        "production",
        {"worker": {"resources": {"limits": {"memory": "128Mi"}}}},
        "resources: the request of memory (456Mi) is more than its limit (128Mi)",
    ),
    ("production", {"gateway": {"resources": {"requests": {"cpu": "3"}}}}, "resources: the request of cpu (3)"),
    (
        "production",
        {"tools": {"resources": {"requests": {"ephemeral-storage": "2Gi"}, "limits": {"ephemeral-storage": "1Gi"}}}},
        "resources: the request of ephemeral-storage (2Gi) is more than its limit (1Gi)",
    ),
    ("production", {"networkPolicy": {"toolCallers": [{"podSelector": {}}]}}, "tools.apiKeysSecret.name"),
    (
        "production",
        {"tools": {"secretEnv": {"PARLEY_TOOLS_ID": {"secret": "a", "key": "b"}}}},
        "tools.secretEnv.PARLEY_TOOLS_ID: variables of Parley itself",
    ),
]


@pytest.mark.parametrize(("files", "more", "sentence"), SENTENCES, ids=[sentence[:40] for _, _, sentence in SENTENCES])
def test_a_sentence_says_what_to_do(files: str, more: dict[str, Any], sentence: str) -> None:
    values = values_of(*(("production", files) if files not in ("dev", "production") else (files,)))
    with pytest.raises(RenderError) as caught:
        render(over(values, more))
    assert sentence.replace("\\", "") in str(caught.value).replace("\\", "")


@pytest.mark.parametrize("release", ["1st", "a.b"])
def test_a_release_whose_services_could_not_be_named(release: str) -> None:
    with pytest.raises(RenderError, match="is no name of a Service: set fullnameOverride"):
        render(values_of("production"), release=release)
    assert render({**values_of("production"), "fullnameOverride": "first"}, release=release)


@pytest.mark.parametrize(
    ("more", "place"),
    [
        ({"gateway": {"setings": {}}}, "setings"),
        ({"gateway": {"settings": {"max_stream": 5}}}, "max_stream"),
        ({"gateway": {"settings": {"max_streams": 0}}}, "max_streams"),
        ({"gateway": {"settings": {"max_streams": "500"}}}, "max_streams"),
        ({"gateway": {"settings": {"open_timeout": "soon"}}}, "open_timeout"),
        ({"gateway": {"settings": {"listen": "0.0.0.0:1"}}}, "listen"),
        ({"worker": {"settings": {"shutdown_grace": "0s"}}}, "shutdown_grace"),
        ({"gateway": {"preStopSeconds": 0}}, "preStopSeconds"),
        ({"worker": {"drainSeconds": 0}}, "drainSeconds"),
        ({"worker": {"replicas": 0}}, "replicas"),
        ({"podSecurityContext": {"runAsUser": 0}}, "runAsUser"),
        ({"podSecurityContext": {"privileged": True}}, "privileged"),
        ({"worker": {"resources": {"limits": {"cpu": "two"}}}}, "cpu"),
        ({"tools": {"resources": {"limits": {"memory": None}}}}, "memory"),
        ({"podDisruptionBudget": {"maxUnavailable": 0}}, "maxUnavailable"),
        ({"image": {"tag": "latest"}}, "tag"),
        ({"tools": {"image": {"tag": "latest"}}}, "tag"),
        ({"dev": {"images": {"nats": "nats"}}}, "nats"),
        ({"dev": {"images": {"nats": "nats:latest"}}}, "nats"),
        ({"networkPolicy": {"callers": []}}, "callers"),
        ({"networkPolicy": {"callers": [{}]}}, "callers"),
        ({"networkPolicy": {"callers": [{"namespaceSelector": {}}]}}, "callers"),
        ({"networkPolicy": {"nats": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}}, "nats"),
        ({"tools": {"egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}]}}, "egress"),
        ({"profiles": {"Support": {"model": "gemini-3.8-live"}}}, "Support"),
        ({"profiles": {"support": {"modell": "gemini-3.8-live"}}}, "modell"),
        ({"nats": {"url": "nats.nats:4222"}}, "url"),
        ({"gateway": {"podLabels": {"app.kubernetes.io/name": "other"}}}, "app.kubernetes.io/name"),
    ],
)
def test_the_schema_names_the_value(more: dict[str, Any], place: str) -> None:
    with pytest.raises(RenderError) as caught:
        render(over(values_of("production"), more))
    assert place in str(caught.value)
