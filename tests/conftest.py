"""What all tests share: a compilation cache of the checkout's own, and how Hypothesis searches."""

from __future__ import annotations

import os
from pathlib import Path

import hypothesis

# Compiled test programs survive between runs, and leave the user's cache alone.
os.environ.setdefault("VOLTA_CACHE_DIR", str(Path(__file__).parent.parent / "build" / "test-cache"))

# The same examples on every run: a test that passed does not fail later on unrelated changes.
hypothesis.settings.register_profile("volta", derandomize=True, deadline=None, database=None, print_blob=False)
hypothesis.settings.load_profile("volta")
