"""Turns a behaviour off by another value in its model's row: so the row is what decides."""

from dataclasses import replace
from typing import Any

from emulator.models import MODELS, Backend
from tests.emulator.behaviour import Off, patched


def row(model: str, backend: Backend = "developer", **values: Any) -> Off:
    """``model``'s row with other values."""
    rows = MODELS[backend]
    changed = {**MODELS, backend: {**rows, model: replace(rows[model], **values)}}
    return patched("emulator.models.MODELS", changed)
