"""The reference under docs/ says what the code says."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

from volta_mlir.dialects import OPS
from volta_mlir.passes import PASSES, Pass
from volta_mlir.passes.manager import option
from volta_mlir.tools import docs

DOCS = Path(__file__).parent.parent / "docs"


@pytest.fixture
def test_pass() -> Iterator[None]:
    @dataclass
    class Documented(Pass, name="volta-test-documented"):
        """Do nothing."""

        mode: Literal["a", "b"] = option("a", "one of two")

        def run(self, module: Any) -> None: ...

    yield
    del PASSES["volta-test-documented"]


@pytest.mark.parametrize("page", docs.PAGES)
def test_the_pages_are_up_to_date(page: str) -> None:
    assert (DOCS / page).read_text() == docs.PAGES[page](), "run make docs"


def test_every_op_is_described() -> None:
    text = docs.ops()
    for name in OPS:
        assert f"### `volta.{name}`\n\n" in text


def test_options_are_described(test_pass: None) -> None:
    assert "## `volta-test-documented`\n\nDo nothing.\n" in docs.passes()
    assert r"| `mode=a\|b` | `a` | one of two |" in docs.passes()


def test_pages_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    docs.main()
    assert {path.name for path in (tmp_path / "docs").iterdir()} == set(docs.PAGES)
