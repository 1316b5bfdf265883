"""The disk cache: sharing between processes, damage, bounds, and directories that cannot be written."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from volta_mlir.cache import Cache
from volta_mlir.errors import CacheError


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path)


def entries(directory):
    return sorted((directory / "entries").iterdir())


def test_put_and_get(cache):
    key = Cache.key("text", b"bytes")
    assert cache.get(key) is None
    cache.put(key, b"data")
    assert cache.get(key) == b"data"
    cache.put(key, b"")
    assert cache.get(key) == b""


def test_keys_depend_on_every_part_and_their_borders():
    assert len({Cache.key("ab", "c"), Cache.key("a", "bc"), Cache.key("abc"), Cache.key("abc", "")}) == 4
    assert Cache.key("a") == Cache.key(b"a")
    assert len(Cache.key()) == 64


@pytest.mark.parametrize("damage", [b"", b"short", b"x" * 100])
def test_a_damaged_entry_is_dropped(cache, tmp_path, damage, caplog):
    cache.put("k", b"data")
    (path,) = entries(tmp_path)
    path.write_bytes(damage)
    assert cache.get("k") is None
    assert not path.exists()
    assert "damaged" in caplog.text


def test_the_entries_used_longest_ago_go_first(tmp_path):
    cache = Cache(tmp_path, max_bytes=3 * 132)
    for i, key in enumerate("abc"):
        cache.put(key, bytes(100))
        (path,) = (p for p in entries(tmp_path) if p.stem == key)
        os.utime(path, (i, i))
    assert cache.get("a") is not None  # used now
    cache.put("d", bytes(100))
    assert [p.stem for p in entries(tmp_path)] == ["a", "c", "d"]


def test_what_does_not_fit_is_not_stored(tmp_path):
    cache = Cache(tmp_path, max_bytes=100)
    cache.put("k", bytes(100))
    assert cache.get("k") is None


def test_a_size_must_be_positive(tmp_path):
    with pytest.raises(CacheError, match="max_bytes is 0"):
        Cache(tmp_path, max_bytes=0)


def test_where_the_cache_is(monkeypatch, tmp_path):
    for name in ("VOLTA_CACHE", "VOLTA_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert Cache().directory == Path.home() / ".cache" / "volta"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert Cache().directory == tmp_path / "volta"
    monkeypatch.setenv("VOLTA_CACHE_DIR", str(tmp_path / "mine"))
    assert Cache().directory == tmp_path / "mine"
    monkeypatch.setenv("VOLTA_CACHE", "0")
    off = Cache()
    off.put("k", b"data")
    assert off.get("k") is None
    assert off.directory is None
    assert Cache(tmp_path).directory == tmp_path


def test_a_user_without_a_home_has_no_cache(monkeypatch):
    for name in ("VOLTA_CACHE", "VOLTA_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # what it does where there is no home
    cache = Cache()
    assert cache.directory is None
    cache.put("key", b"data")
    assert cache.get("key") is None


def test_a_directory_that_cannot_be_made_is_named_once(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    cache = Cache(tmp_path / "file")
    for _ in range(3):
        cache.put("k", b"data")
        Cache(tmp_path / "file").put("k", b"data")
    assert cache.get("k") is None
    assert caplog.text.count("not cached") == 1
    assert str(tmp_path / "file") in caplog.text


def test_a_full_disk_leaves_nothing_behind(cache, tmp_path, monkeypatch, caplog):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    cache.put("k", b"data")
    assert "No space left" in caplog.text
    assert entries(tmp_path) == []


def test_entries_that_another_process_evicts_meanwhile(cache, tmp_path, monkeypatch):
    cache.put("a", b"data")
    cache.max_bytes = 40
    monkeypatch.setattr(os, "unlink", lambda path: (_ for _ in ()).throw(FileNotFoundError(path)))
    cache.put("b", b"data")
    assert cache.get("b") == b"data"


def test_many_processes_share_one_directory(tmp_path):
    program = """
import sys
from volta_mlir.cache import Cache
cache = Cache(sys.argv[1], max_bytes=60_000)
for i in range(60):
    key = f"k{i % 13}"
    data = cache.get(key)
    assert data is None or data == key.encode() * 1000, key
    cache.put(key, key.encode() * 1000)
"""
    workers = [
        subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stderr=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    for worker in workers:
        _, errors = worker.communicate(timeout=60)
        assert (worker.returncode, errors) == (0, "")
    files = entries(tmp_path)
    assert all(f.suffix == ".bin" for f in files)
    assert sum(f.stat().st_size for f in files) <= 60_000


def test_a_read_counts_as_use(cache, tmp_path):
    cache.put("k", b"data")
    (path,) = entries(tmp_path)
    os.utime(path, (1, 1))
    cache.get("k")
    assert time.time() - path.stat().st_mtime < 60
