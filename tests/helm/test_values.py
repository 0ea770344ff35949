"""Any values that fit the schema render, and keep to every policy; or a sentence says which do not go together."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.helm import kubernetes
from tests.helm.any_values import fitting
from tests.helm.chart import CHART, RenderError, over, render, values_of
from tests.helm.policies import violations
from tests.helm.test_impossible import SENTENCES

SCHEMA: Final[dict[str, Any]] = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
PARTS: Final = [
    part for part in SCHEMA["properties"] if part not in ("global", "nameOverride", "fullnameOverride", "dev")
]


def _of(part: str) -> st.SearchStrategy[Any]:
    return fitting(SCHEMA["properties"][part], SCHEMA["$defs"])


@pytest.mark.parametrize("part", PARTS)
@settings(
    max_examples=8, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, phases=[Phase.generate]
)
@given(data=st.data())
def test_what_fits_the_schema_renders_or_is_explained(part: str, data: st.DataObject) -> None:
    base = data.draw(st.sampled_from(["production", "dev"]))
    values = over(values_of(base), {part: data.draw(_of(part))})
    try:
        manifests = render(values)
    except RenderError as refused:
        explained = any(_essence(sentence) in str(refused).replace("\\", "") for _, _, sentence in SENTENCES)
        assert explained or "but this chart holds no" in str(refused), refused
        return
    if base == "production":
        assert violations(manifests) == []
    kubernetes.validate(manifests, kubernetes.OLDEST)


def _essence(sentence: str) -> str:
    """What does not depend on the values."""
    for mark in ("(", '"', "\\"):
        sentence = sentence.split(mark, maxsplit=1)[0] or sentence
    return sentence.strip()
