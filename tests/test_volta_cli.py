"""The command volta, on files that Volta compiled and on what is none."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

import volta_mlir
from volta_mlir import nn
from volta_mlir.cache import Cache
from volta_mlir.tools.volta import main

VOLTA = Path(sys.executable).parent / "volta"


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A file with a scalar, an integer and a float argument, one of them donated."""

    @volta_mlir.jit(donate="state")
    def scale(state, x, factor):
        state = {"count": state["count"] + 1, "none": None}
        return state, x * factor

    path = tmp_path_factory.mktemp("volta") / "scale.vmfb"
    state = {"count": volta_mlir.spec((), "int32"), "none": None}
    scale.lower(state, volta_mlir.spec((2, 3)), volta_mlir.spec(())).compile().save(path)
    return str(path)


@pytest.fixture(scope="module")
def half_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("volta") / "half.vmfb"
    add = volta_mlir.jit(lambda x, n, flag: (x + x, n + n, flag))
    specs = [volta_mlir.spec(2, "bfloat16"), volta_mlir.spec(2, "uint8"), volta_mlir.spec((), "bool")]
    add.lower(*specs).compile().save(path)
    return str(path)


def volta(capsys, *arguments):
    """The exit status, what is printed, and the error."""
    status = main(arguments)
    shown = capsys.readouterr()
    return status, shown.out, shown.err


# -- run -------------------------------------------------------------------------------------------------------------


def test_run_prints_and_writes_results(capsys, file, tmp_path):
    np.save(tmp_path / "x.npy", np.arange(6, dtype=np.float32).reshape(2, 3))
    status, shown, _ = volta(
        capsys, "run", file, "-i", "7", "-i", str(tmp_path / "x.npy"), "-i", "f32=0.5", "-o", str(tmp_path / "out")
    )
    assert status == 0
    assert shown.splitlines()[1] == "8"
    assert "[[0. , 0.5, 1. ]," in shown
    results = {path.stem: np.load(path) for path in (tmp_path / "out").iterdir()}
    assert sorted(array.tolist() for array in results.values() if array.shape == ()) == [8]
    assert any(np.array_equal(array, [[0, 0.5, 1], [1.5, 2, 2.5]]) for array in results.values())


def test_run_takes_arrays_by_name_and_draws_the_others(capsys, file):
    random = [volta(capsys, "run", file, "-i", "factor=2", "--random", "--seed", seed)[1] for seed in "112"]
    assert random[0] == random[1] != random[2]
    assert "-" not in random[0]  # a variance or a second moment is not negative
    _, shown, _ = volta(capsys, "run", file, "-i", "x=2x3xf32=1", "-i", "random", "-i", "3")
    assert "[[3., 3., 3.]," in shown


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        (["2xbf16=1.5,2", "2xui8=3,4", "i1=1"], ("[3, 4]", "[6, 8]", "True")),
        (["2xbf16", "2xui8=3", "0"], ("[0, 0]", "False")),
    ],
)
def test_run_reads_every_kind_of_number(capsys, half_file, inputs, expected):
    status, shown, error = volta(capsys, "run", half_file, *(f"--input={text}" for text in inputs))
    assert status == 0, error
    assert all(text in shown for text in expected)


def test_run_reads_and_writes_bfloat16_files(capsys, half_file, tmp_path):
    np.save(tmp_path / "x.npy", np.array([1.5, 2], ml_dtypes.bfloat16))
    status, shown, _ = volta(
        capsys,
        "run",
        half_file,
        "-i",
        str(tmp_path / "x.npy"),
        "--random",
        "--device=cpu:0",
        "-o",
        str(tmp_path / "out"),
    )
    assert status == 0
    assert "[3, 4]" in shown
    assert len(list((tmp_path / "out").iterdir())) == 3


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        ([], 2, "no --input for state.count (int32[]), x (float32[2,3]), factor (float32[]); --random draws"),
        (["-i", "1", "-i", "random", "-i", "1", "-i", "1"], 2, "more inputs than the 3 arrays"),
        (["-i", "x=random", "-i", "x=random"], 2, "x is given twice"),
        (["-i", "factr=1"], 2, "the function takes no 'factr'; did you mean factor?"),
        (["-i", "y=y.npy"], 2, "the function takes no 'y'; it takes state.count, x, factor"),
        (["-i", "x=1"], 2, "x: '1' is no .npy file, no array such as 2x3xf32=1, and not random"),
        (["-i", "x=3x2xf32"], 1, "x: 3x2xf32 has shape (3, 2), expected float32[2,3]"),
        (["-i", f"x={10**20}x3xf32"], 1, "has shape (100000000000000000000, 3), expected float32[2,3]"),
        (["-i", "x=2x3xf32=1,2"], 1, "x: 2x3xf32=1,2 has 2 numbers, expected 6 or 1"),
        (["-i", "x=2x3xi64=1"], 1, "x: 2x3xi64=1 is int64, expected float32[2,3]"),
        (["-i", "x=2x3xf32=one"], 1, "x: 'one' is no float32[2,3]"),
        (["-i", "state.count=1.5"], 1, "state.count: '1.5' is no int32[]"),
        (["-i", "state.count=1 2"], 1, "state.count: '1 2' is no int32[]"),
        (["-i", "x=nothing.npy"], 1, "nothing.npy: No such file or directory"),
        (["-i", f"x={__file__}.npy"], 1, f"{__file__}.npy: No such file or directory"),
        (["--function", "other"], 2, "there is no function 'other'; the file has scale"),
        (["--device", "abacus"], 1, "unknown device 'abacus'"),
        (["--seed", "x"], 2, "'x' is not a valid integer"),
        (["--seed", "-1"], 2, "-1 is not in the range x>=0"),
        (["--nonsense"], 2, "No such option"),
    ],
)
def test_run_says_in_one_line_what_is_wrong(capsys, file, arguments, status, message):
    random = [] if not arguments or "more" in message else ["--random"]
    result = volta(capsys, "run", file, *arguments, *random)
    assert result[0] == status
    assert message in result[2]
    assert result[2].startswith("volta: error: ")
    assert "(at " not in result[2]
    assert result[2].count("\n") == 1


def test_files_that_are_no_artifacts(capsys, tmp_path):
    (tmp_path / "text.vmfb").write_text("text")
    (tmp_path / "text.npy").write_text("text")
    for command in ("run", "inspect"):
        for name, message in (("text.vmfb", "cannot be loaded"), ("no.vmfb", "cannot be read: No such file")):
            status, _, error = volta(capsys, command, str(tmp_path / name))
            assert status == 1
            assert message in error
            assert error.count("\n") == 1


def test_a_file_that_is_no_npy(capsys, file, tmp_path):
    (tmp_path / "text.npy").write_text("text")
    status, _, error = volta(capsys, "run", file, "--random", "-i", f"x={tmp_path / 'text.npy'}")
    assert (status, error.count("\n")) == (1, 1)
    assert "text.npy is not a .npy file" in error


def test_output_that_cannot_be_written(capsys, file, tmp_path):
    (tmp_path / "out").write_text("")
    status, _, error = volta(capsys, "run", file, "--random", "-o", str(tmp_path / "out"))
    assert (status, error) == (1, f"volta: error: {tmp_path / 'out'}: File exists\n")


# -- inspect ---------------------------------------------------------------------------------------------------------


def test_inspect_shows_the_signature(capsys, file):
    status, shown, _ = volta(capsys, "inspect", file)
    first, *lines = shown.splitlines()
    assert status == 0
    assert first.startswith(f"{file}: ")
    assert first.endswith(f" kB, compiled by Volta {volta_mlir.__version__}")
    texts = [line.lstrip("│ ├└─") for line in lines]
    assert texts[:4] == ["scale", "arguments", "state", f"count: int32[] donated to {texts[3].split()[-1]}"]
    assert texts[4:8] == ["none: None", "x: float32[2,3]", "factor: float32[]", "results"]


def test_inspect_shows_tied_arrays(capsys, tmp_path):
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    model[1].weight = model[0].weight
    volta_mlir.jit(lambda model, x: model(x)).lower(model, volta_mlir.spec((1, 2))).compile().save(tmp_path / "f.vmfb")
    _, shown, _ = volta(capsys, "inspect", str(tmp_path / "f.vmfb"))
    assert "weight: float32[2,2]\n" in shown
    assert "weight: the same as model.0.weight\n" in shown


def test_it_needs_neither_compiler_nor_mlir(file):
    program = f"""
import sys
sys.argv = ["volta"]
from volta_mlir.tools.volta import main
assert main(["run", {file!r}, "--random"]) == main(["inspect", {file!r}]) == main(["devices"]) == 0
for name in ("torch_mlir", "iree.compiler", "volta_mlir.dialects", "volta_mlir.passes"):
    assert name not in sys.modules, name
"""
    process = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (process.returncode, process.stderr) == (0, "")


# -- the others ------------------------------------------------------------------------------------------------------


def test_devices(capsys):
    status, shown, _ = volta(capsys, "devices")
    assert status == 0
    assert shown.splitlines()[0] == "cpu:0"


def test_cache(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("VOLTA_CACHE_DIR", str(tmp_path))
    assert volta(capsys, "cache")[1] == f"{tmp_path}: 0 entries, 0 bytes\n"
    Cache().put(Cache.key("a"), b"x" * 968)
    assert volta(capsys, "cache")[1] == f"{tmp_path}: 1 entry, 1.0 kB\n"
    assert volta(capsys, "cache", "--clear") == (0, f"{tmp_path}: removed 1 entry, 1.0 kB\n", "")
    assert volta(capsys, "cache")[1] == f"{tmp_path}: 0 entries, 0 bytes\n"
    monkeypatch.delenv("VOLTA_CACHE_DIR")
    monkeypatch.setenv("VOLTA_CACHE", "0")
    assert volta(capsys, "cache")[1] == "the cache is off (VOLTA_CACHE=0, or there is no home directory)\n"


def test_help_and_version(capsys):
    assert volta(capsys, "--version")[1] == f"volta {volta_mlir.__version__}\n"
    for command in ("run", "inspect", "devices", "cache"):
        assert command in volta(capsys, "--help")[1]
        status, shown, _ = volta(capsys, command, "--help")
        assert status == 0
        assert shown.startswith(f"Usage: volta {command}")
    assert volta(capsys)[0] == 2
    assert volta(capsys, "jump")[2].startswith("volta: error: No such command 'jump'.")


def test_as_a_program(file):
    process = subprocess.run([VOLTA, "inspect", file], capture_output=True, text=True, check=False)
    assert (process.returncode, process.stderr) == (0, "")
    assert "scale" in process.stdout
    process = subprocess.run([VOLTA, "inspect"], capture_output=True, text=True, check=False)
    assert (process.returncode, process.stderr) == (2, "volta: error: Missing argument 'FILE'.\n")


def test_output_that_nobody_reads(file):
    for _ in range(3):
        command = f"'{VOLTA}' inspect '{file}' | true; exit ${{PIPESTATUS[0]}}"
        process = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
        assert process.returncode in (0, 1)
        assert process.stderr == ""
