"""The frame of a service process."""

from __future__ import annotations

import gc

import pytest

from services.fabric import process


def test_the_garbage_collector_rests_while_a_service_is_imported_and_no_longer() -> None:
    with process.importing():
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(ImportError), process.importing():
        raise ImportError
    assert gc.isenabled()
