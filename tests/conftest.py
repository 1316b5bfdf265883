"""What all tests share: a compilation cache of the checkout's own, and how Hypothesis searches."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

# Compiled test programs survive between runs, and leave the user's cache alone.
os.environ.setdefault("VOLTA_CACHE_DIR", str(Path(__file__).parent.parent / "build" / "test-cache"))

# The same examples on every run: a test that passed does not fail later on unrelated changes.
hypothesis.settings.register_profile("volta", derandomize=True, deadline=None, database=None, print_blob=False)
hypothesis.settings.load_profile("volta")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write the plans of tests/golden rather than compare")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest, whole models, comes first: at the end one process would run it while the others wait."""
    items.sort(key=lambda item: item.get_closest_marker("no_cover") is None)


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Ctrl-C interrupts Python here and in programs that are started, also where the tests run in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True)
def programs_uncounted(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lines of programs that a test marked ``no_cover`` starts aren't counted either."""
    if request.node.get_closest_marker("no_cover"):
        monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)
