"""The golden renders: `make golden-helm` writes what the chart renders today."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tests.helm.chart import DOCUMENTED, comparable, render, values_of

FOLDER: Final = Path(__file__).parent / "golden"


def today(name: str) -> str:
    """What the chart renders with these values files; over `production` only what differs from that."""
    manifests = render(values_of(*DOCUMENTED[name]))
    if len(DOCUMENTED[name]) > 1:
        before = render(values_of("production"))
        manifests = [manifest for manifest in manifests if manifest not in before]
    return comparable(manifests)


if __name__ == "__main__":
    for one in DOCUMENTED:
        (FOLDER / f"{one}.yaml").write_text(today(one), encoding="utf-8")
