"""The plans of the zoo are those under ``tests/golden``: what decides otherwise shows in a review."""

from __future__ import annotations

import difflib
from pathlib import Path

import pytest

from tests import golden

pytestmark = pytest.mark.no_cover


@pytest.mark.parametrize("name", golden.ZOO)
def test_plan(name: str, request: pytest.FixtureRequest) -> None:
    path = Path(golden.__file__).with_name(f"{name}.txt")
    actual = golden.plan_of(golden.ZOO[name])
    if request.config.getoption("--update-golden"):
        path.write_text(actual)
        return
    expected = path.read_text()
    diff = difflib.unified_diff(expected.splitlines(), actual.splitlines(), path.name, "now", lineterm="")
    if lines := "\n".join(diff):
        pytest.fail(f"the plan of {name} changed; `make golden` writes what it is now\n{lines}", pytrace=False)
