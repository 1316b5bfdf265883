"""The wheel: what is in it, and that it works where only it and its dependencies are installed."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
# Where the directories of the repository go in the package.
DIRECTORIES = {
    "volta_mlir": "volta_mlir",
    "dialects": "volta_mlir/dialects",
    "passes": "volta_mlir/passes",
    "tools": "volta_mlir/tools",
}


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of the sources because setuptools leaves files behind where it builds."""
    source = tmp_path_factory.mktemp("source")
    for name in DIRECTORIES:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    run(*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", source / "dist", source, cwd=source)
    (built,) = (source / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel and, from the running environment, its dependencies."""
    venv = tmp_path_factory.mktemp("venv")
    run(sys.executable, "-m", "venv", "--without-pip", venv, cwd=venv)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", venv / "bin" / "python"]
    run(*pip, "install", "--no-deps", "--no-index", wheel, cwd=venv)
    # The .pth files in a directory that a .pth file names are not read: Volta's editable installation is not seen.
    site_packages = venv / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    (site_packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    return venv


def test_the_wheel_has_every_module(wheel: Path) -> None:
    expected = {
        f"{package}/{path.relative_to(ROOT / directory)}"
        for directory, package in DIRECTORIES.items()
        for path in (ROOT / directory).rglob("*.py")
    }
    names = zipfile.ZipFile(wheel).namelist()
    assert {name for name in names if name.endswith(".py")} == expected, "is a package missing in pyproject.toml?"
    assert "volta_mlir/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_wheel_has_nothing_else_at_the_top(wheel: Path) -> None:
    top = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {name for name in top if not name.endswith(".dist-info")} == {"volta_mlir"}


def test_every_dependency_is_pinned() -> None:
    pins = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    pins = {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in pins.items()}
    required = list(PROJECT["project"]["dependencies"])
    for extra in PROJECT["project"]["optional-dependencies"].values():
        required += extra
    for requirement in required:
        name, operator, version = re.fullmatch(r"([\w.-]+)(?:\[\w+\])?(?:(==|>=)(\S+))?", requirement).groups()
        name = re.sub(r"[-_.]+", "-", name).lower()
        if name != PROJECT["project"]["name"]:
            assert name in pins, requirement
            assert operator != "==" or pins[name] == version, requirement


def test_the_package_is_used_from_another_directory(environment: Path, tmp_path: Path) -> None:
    code = """
import importlib, importlib.metadata, volta_mlir
for name in ("dialects", "passes", "tools", "runtime"):
    print(importlib.import_module(f"volta_mlir.{name}").__file__)
assert importlib.metadata.version("volta-mlir") == volta_mlir.__version__
"""
    files = run(environment / "bin" / "python", "-W", "error", "-c", code, cwd=tmp_path).splitlines()
    assert len(files) == 4
    assert all(Path(file).is_relative_to(environment) for file in files)


def test_volta_opt_is_used_from_another_directory(environment: Path, tmp_path: Path) -> None:
    (tmp_path / "main.mlir").write_text("""
        func.func @main(%x: tensor<4xf32>) -> tensor<4xf32> {
          %0 = "volta.neg"(%x) : (tensor<4xf32>) -> tensor<4xf32>
          %1 = "volta.neg"(%x) : (tensor<4xf32>) -> tensor<4xf32>
          return %1 : tensor<4xf32>
        }
    """)
    out = run(environment / "bin" / "volta-opt", "main.mlir", "--cse", cwd=tmp_path)
    assert out.count("volta.neg") == 1
