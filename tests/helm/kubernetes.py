"""Kubernetes' own schemas, strictly: a field that does not exist is refused."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Final

import kubernetes_validate

from tests.helm.chart import Manifest

ValidationError = kubernetes_validate.ValidationError
OLDEST: Final = "1.32"
"""Of the versions that the chart allows, the oldest whose schemas are at hand."""
FOREIGN: Final = ("GRPCRoute", "ScaledObject", "PodMonitor", "PrometheusRule")
"""Custom resources; Kubernetes itself has no schemas of them."""
_taken: set[tuple[str, str]] = set()


def validate(manifests: Iterable[Manifest], version: str) -> None:
    """ValidationError names the first field that this version does not take. Nothing is looked at twice."""
    for manifest in manifests:
        looked_at = version, json.dumps(manifest, sort_keys=True)
        if manifest["kind"] not in FOREIGN and looked_at not in _taken:
            kubernetes_validate.validate(manifest, version, strict=True)
            _taken.add(looked_at)
