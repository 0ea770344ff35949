"""Renders of the chart: by Helm's SDK, and by the real helm where there is one."""

from __future__ import annotations

import copy
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

import helm_python
import yaml

ROOT: Final = Path(__file__).resolve().parents[2]
CHART: Final = ROOT / "deploy/helm/parley"
VALUES: Final = ROOT / "deploy/helm/values"
RELEASE: Final = "prod"
NAMESPACE: Final = "speech"
OPTIONS: Final = ("--kube-version", "1.34.0")
"""Of the helm command: one that `go install` built takes an ancient Kubernetes for granted."""

DOCUMENTED: Final[dict[str, tuple[str, ...]]] = {
    "dev": ("dev",),
    "production": ("production",),
    "nats-cluster": ("production", "nats-cluster"),
    "jaeger": ("production", "jaeger"),
    "autoscaling": ("production", "autoscaling"),
    "keda": ("production", "keda"),
    "gateway-api": ("production", "gateway-api"),
    "monitoring": ("production", "monitoring"),
    "openshift": ("production", "openshift"),
}
"""Each values file as its first lines say that it is used."""

Values = dict[str, Any]
Manifest = dict[str, Any]


class RenderError(Exception):
    """Helm refused; the text says why."""


def values_of(*files: str) -> Values:
    """Values files of deploy/helm/values, each over those before it."""
    merged: Values = {}
    for file in files:
        merged = over(merged, yaml.safe_load((VALUES / f"{file}.yaml").read_text(encoding="utf-8")))
    return merged


def over(values: Mapping[str, Any], more: Mapping[str, Any]) -> Values:
    """`more` over `values`, as Helm merges them: maps are, lists are replaced."""
    merged = copy.deepcopy(dict(values))
    for key, value in more.items():
        before = merged.get(key)
        merged[key] = over(before, value) if isinstance(before, dict) and isinstance(value, Mapping) else value
    return merged


@cache
def _chart() -> Any:
    return helm_python.Chart.load(str(CHART))


def render(values: Values, *, release: str = RELEASE, namespace: str = NAMESPACE) -> list[Manifest]:
    """Every manifest, in order of files and places. RenderError: schema, or a combination that cannot be."""
    try:
        files = _chart().render(values, name=release, namespace=namespace)
    except Exception as error:
        raise RenderError(str(error)) from error
    texts = [files[name] for name in sorted(files) if name.endswith(".yaml")]
    return [document for text in texts for document in yaml.safe_load_all(text) if document]


def helm() -> str | None:
    """The real helm: on the PATH, or where `make helm` puts it."""
    own = ROOT / ".venv/helm-cli/helm"
    return str(own) if own.is_file() else shutil.which("helm")


def render_by_command(values: Values) -> list[Manifest]:
    """The same by `helm template`."""
    command = helm()
    assert command is not None
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        yaml.safe_dump(values, file)
        file.flush()
        done = subprocess.run(
            [command, "template", RELEASE, str(CHART), *OPTIONS, "--namespace", NAMESPACE, "--values", file.name],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    if done.returncode:
        raise RenderError(done.stderr)
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def of_kind(manifests: Iterable[Manifest], *kinds: str) -> list[Manifest]:
    """Those of these kinds."""
    return [manifest for manifest in manifests if manifest["kind"] in kinds]


def named(manifests: Iterable[Manifest], kind: str, name: str) -> Manifest:
    """The one of this kind and name; the release's prefix may be left out."""
    found = [m for m in of_kind(manifests, kind) if m["metadata"]["name"] in (name, f"{RELEASE}-parley-{name}")]
    assert len(found) == 1, f"{len(found)} {kind} {name}"
    return found[0]


def pods(manifests: Iterable[Manifest]) -> list[tuple[str, Manifest]]:
    """Every pod's specification, by `Kind/name` of what makes it."""
    found = []
    for manifest in manifests:
        name = f"{manifest['kind']}/{manifest['metadata']['name']}"
        if manifest["kind"] == "Pod":
            found.append((name, manifest["spec"]))
        elif "template" in manifest.get("spec", {}):
            found.append((name, manifest["spec"]["template"]["spec"]))
    return found


def component(manifest: Manifest) -> str:
    """Of the release: gateway, worker, ..."""
    return str(manifest["metadata"]["labels"]["app.kubernetes.io/component"])


def comparable(manifests: Iterable[Manifest]) -> str:
    """As text, without what is new in every render: the development emulator's certificate."""
    text = "---\n".join(yaml.safe_dump(m, sort_keys=True, width=200) for m in sorted(manifests, key=_place))
    return re.sub(
        r"^(  (?:ca\.crt|tls\.pem): ).*\n(?:    .*\n)*", r"\1(made at each render)\n", text, flags=re.MULTILINE
    )


def _place(manifest: Manifest) -> tuple[str, str]:
    return manifest["kind"], manifest["metadata"]["name"]
