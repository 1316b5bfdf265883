"""The runtime: devices, buffers, donation, signatures, and modules that are loaded and called."""

import gc
import json
import subprocess
import sys
import textwrap
import threading
from collections import namedtuple

import ml_dtypes
import numpy as np
import pytest
import torch

from volta_mlir import runtime
from volta_mlir.errors import ArtifactError, DeviceError, DonatedError, DTypeError, ShapeError
from volta_mlir.iree_compiler import compile_module
from volta_mlir.runtime import DeviceBuffer, FunctionSignature, Signature, Tree, leaf, load
from volta_mlir.runtime import signature as signatures
from volta_mlir.runtime.checksum import seal, unseal

DTYPES = ["bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]
DTYPES += ["float16", "bfloat16", "float32", "float64"]
MLIR = {"bool": "i1", "bfloat16": "bf16"} | {f"float{n}": f"f{n}" for n in (16, 32, 64)}
MLIR |= {f"{sign}int{n}": f"i{n}" for sign in ("", "u") for n in (8, 16, 32, 64)}


def tuple_of(*children):
    return Tree("tuple", None, children)


def vector(path, donated=None):
    return leaf(path, (4,), "float32", donated)


STATE = Tree("dict", children=(vector("state.w"), vector("state.b")), keys=("w", "b"))
PAIR = Tree("namedtuple", children=(vector("0.low"), vector("0.high")), keys=("low", "high"), name="Range")
SIGNATURE = Signature(
    {
        "add": FunctionSignature(tuple_of(vector("x"), vector("y")), vector("out"), ("x", "y")),
        "step": FunctionSignature(tuple_of(vector("w", 0), vector("g")), tuple_of(vector("0")), ("w", "g")),
        "tree": FunctionSignature(
            tuple_of(STATE, Tree("list", children=(vector("xs.0"),)), Tree("none"), PAIR),
            Tree("list", children=(STATE, Tree("none"), PAIR)),
            ("state", "xs", "nothing", "range"),
        ),
        "same": FunctionSignature(
            tuple_of(*(leaf(f"x_{d}", (2, 3), d) for d in DTYPES)),
            tuple_of(*(leaf(f"{i}", (2, 3), d) for i, d in enumerate(DTYPES))),
            tuple(f"x_{d}" for d in DTYPES),
        ),
        "scalars": FunctionSignature(
            tuple_of(*(leaf(d, (), d) for d in ("bool", "int32", "uint8", "float32", "bfloat16"))),
            leaf("out", (), "float32"),
            ("bool", "int32", "uint8", "float32", "bfloat16"),
        ),
        "empty": FunctionSignature(tuple_of(leaf("x", (0, 3), "float32")), leaf("out", (0, 3), "float32"), ("x",)),
    },
    "0.1",
)
V = "tensor<4xf32>"


def reflect(name):
    text = SIGNATURE.reflection(name)[signatures.ATTRIBUTE].replace('"', "\\22")
    return f'attributes {{iree.reflection = {{volta.signature = "{text}"}}}}'


def text(kept):
    mark = "{iree.abi.output = 0 : index}" if kept.get("step") else ""
    same = ", ".join(f"%{d}: tensor<2x3x{MLIR[d]}>" for d in DTYPES)
    types = ", ".join(f"tensor<2x3x{MLIR[d]}>" for d in DTYPES)
    return f"""
    func.func @add(%x: {V}, %y: {V}) -> {V} {reflect("add")} {{
      %0 = arith.addf %x, %y : {V}
      return %0 : {V}
    }}
    func.func @step(%x: {V} {mark}, %y: {V}) -> {V} {reflect("step")} {{
      %0 = arith.addf %x, %y : {V}
      return %0 : {V}
    }}
    func.func @tree(%w: {V}, %b: {V}, %x: {V}, %l: {V}, %h: {V}) -> ({V}, {V}, {V}, {V}) {reflect("tree")} {{
      %0 = arith.addf %w, %x : {V}
      %1 = arith.mulf %l, %h : {V}
      return %0, %b, %1, %h : {V}, {V}, {V}, {V}
    }}
    func.func @same({same}) -> ({types}) {reflect("same")} {{
      return {", ".join("%" + d for d in DTYPES)} : {types}
    }}
    func.func @scalars(%a: tensor<i1>, %b: tensor<i32>, %c: tensor<i8>, %d: tensor<f32>, %e: tensor<bf16>)
        -> tensor<f32> {reflect("scalars")} {{
      return %d : tensor<f32>
    }}
    func.func @empty(%x: tensor<0x3xf32>) -> tensor<0x3xf32> {reflect("empty")} {{
      return %x : tensor<0x3xf32>
    }}
    func.func @unsigned(%x: {V}) -> {V} {{ return %x : {V} }}
    """


@pytest.fixture(scope="session")
def vmfb(tmp_path_factory):
    compiled = compile_module(text, {"step": {0: 0}}, reproducers=tmp_path_factory.mktemp("reproducers"))
    assert compiled.donations == {"step": {0: 0}}
    return compiled.vmfb


@pytest.fixture(scope="module")
def module(vmfb):
    return load(vmfb)


@pytest.fixture
def x():
    return np.arange(4, dtype=np.float32)


# Devices.


def test_the_cpu_is_always_there():
    assert str(runtime.devices()[0]) == "cpu:0"
    cpu = runtime.device()
    assert cpu == runtime.device("cpu:0") == runtime.device(cpu)
    assert cpu.hal is runtime.device("cpu").hal


@pytest.mark.parametrize("name", ["tpu", "cpu:x", "cpu:7", "vulkan:99", "cuda:99"])
def test_missing_devices(name):
    with pytest.raises(DeviceError, match=f"device '{name}'.*available here: cpu:0"):
        runtime.device(name)


def run(program, **environment):
    """Runs a script and returns its standard output; nothing may appear on standard error."""
    import os

    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | environment,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_arrays_of_the_other_byte_order():
    given = np.arange(3, dtype=np.dtype("f4").newbyteorder())
    buffer = DeviceBuffer.from_numpy(given)
    assert buffer.dtype == np.float32
    np.testing.assert_array_equal(buffer.numpy(), [0, 1, 2])


@pytest.mark.parametrize("threads", ["1", "2"])
def test_the_number_of_threads(vmfb, tmp_path, threads):
    (tmp_path / "m.vmfb").write_bytes(vmfb)
    out = run(
        f"""
        import numpy as np, volta_mlir.runtime as rt
        m = rt.load({str(tmp_path / "m.vmfb")!r})
        print(m.add(np.ones(4, "f4"), np.ones(4, "f4")).numpy().tolist(), m.device.hal)
        """,
        VOLTA_NUM_THREADS=threads,
    )
    assert out.strip() == f"[2.0, 2.0, 2.0, 2.0] {'local-sync' if threads == '1' else 'local-task'}"


def test_a_bad_number_of_threads():
    program = """
        import volta_mlir.runtime as rt
        try:
            rt.device().hal
        except rt.device.__globals__["DeviceError"] as error:
            print(error)
        """
    assert "VOLTA_NUM_THREADS is 'many'" in run(program, VOLTA_NUM_THREADS="many")


def test_a_device_that_does_not_start(monkeypatch):
    implementation = sys.modules["volta_mlir.runtime.device"]

    class Runtime:
        def get_driver(self, name):
            raise RuntimeError(f"c/{name}.c:12: UNAVAILABLE; out of order")

    monkeypatch.setattr(implementation, "iree", Runtime)
    with pytest.raises(DeviceError, match="device cpu:3 does not start: out of order"):
        _ = runtime.Device("cpu", 3).hal


# Buffers.


@pytest.mark.parametrize("name", DTYPES)
def test_numpy_round_trip(name):
    array = np.array([[0, 1, 2], [3, 4, 5]]).astype(runtime.numpy_dtype(name))
    buffer = DeviceBuffer.from_numpy(array)
    assert (buffer.shape, buffer.dtype, buffer.nbytes, buffer.ndim) == ((2, 3), array.dtype, array.nbytes, 2)
    np.testing.assert_array_equal(buffer.numpy(), array)


@pytest.mark.parametrize("array", [np.float32(2.5), np.zeros((0, 3), np.float32), np.arange(6.0).reshape(2, 3).T])
def test_unusual_arrays(array):
    buffer = DeviceBuffer.from_numpy(np.asarray(array))
    assert buffer.shape == np.shape(array)
    np.testing.assert_array_equal(buffer.numpy(), array)


def test_unsupported_dtypes():
    with pytest.raises(DTypeError, match="'complex64' is not supported"):
        DeviceBuffer.from_numpy(np.zeros(2, np.complex64))
    with pytest.raises(DTypeError, match="'datetime64"):
        DeviceBuffer.from_numpy(np.zeros(2, "datetime64[s]"))


def test_bfloat16_without_ml_dtypes(monkeypatch):
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(DTypeError, match="pip install ml_dtypes"):
        runtime.numpy_dtype.__wrapped__("bfloat16")


def test_a_view_is_read_only_and_outlives_the_buffer(x):
    buffer = DeviceBuffer.from_numpy(x)
    view = buffer.numpy()
    assert view.ctypes.data == buffer.address() == buffer.numpy().ctypes.data
    with pytest.raises(ValueError, match="read-only"):
        view[0] = 1
    x[0] = 77
    del buffer
    gc.collect()
    assert view.tolist() == [0, 1, 2, 3]


def test_array_protocol(x):
    buffer = DeviceBuffer.from_numpy(x)
    assert np.asarray(buffer).ctypes.data == buffer.address()
    assert np.array(buffer, copy=True).ctypes.data != buffer.address()
    assert np.asarray(buffer, np.float64).dtype == np.float64
    with pytest.raises(ValueError, match="without a copy"):
        np.asarray(buffer, np.float64, copy=False)
    assert repr(buffer) == "DeviceBuffer(float32[4], cpu:0)"


def test_copies(x):
    buffer = DeviceBuffer.from_numpy(x)
    copy = buffer.copy()
    assert copy.address() != buffer.address()
    assert copy.numpy().tolist() == buffer.to("cpu:0").numpy().tolist() == [0, 1, 2, 3]


def test_dlpack_out(x):
    buffer = DeviceBuffer.from_numpy(x)
    assert buffer.__dlpack_device__() == (1, 0)
    assert torch.from_dlpack(buffer).data_ptr() == buffer.address()
    half = DeviceBuffer.from_numpy(x.astype(ml_dtypes.bfloat16))
    shared = torch.utils.dlpack.from_dlpack(half.__dlpack__())
    assert shared.dtype == torch.bfloat16
    assert shared.tolist() == [0, 1, 2, 3]
    assert not half.is_private()


@pytest.mark.parametrize("dtype", [torch.float32, torch.int64, torch.uint8, torch.bfloat16])
def test_dlpack_in(dtype):
    tensor = torch.arange(64).to(dtype)
    buffer = DeviceBuffer.from_dlpack(tensor)
    assert buffer.numpy().astype(np.float32).tolist() == list(range(64))
    assert buffer.dtype.name == str(dtype).removeprefix("torch.")
    aligned = tensor.data_ptr() % 64 == 0
    assert (buffer.address() == tensor.data_ptr()) == aligned
    assert buffer.is_private() != aligned


def test_dlpack_in_that_needs_a_copy():
    tensor = torch.arange(64.0).reshape(8, 8).T
    buffer = DeviceBuffer.from_dlpack(tensor)
    assert buffer.address() != tensor.data_ptr()
    assert buffer.numpy().tolist() == tensor.tolist()


def test_dlpack_in_that_is_refused():
    class OnGpu:
        def __dlpack_device__(self):
            return (2, 0)

    with pytest.raises(DeviceError, match="move it to the CPU first"):
        DeviceBuffer.from_dlpack(OnGpu())
    with pytest.raises(DTypeError, match="complex64"):
        DeviceBuffer.from_dlpack(torch.zeros(4, dtype=torch.complex64))
    with pytest.raises(DTypeError, match="DLPack"):
        DeviceBuffer.from_dlpack(torch.zeros(4, 4, dtype=torch.bfloat16)[:, 1:2])
    with pytest.raises(DTypeError, match="element type is not supported"):
        DeviceBuffer._from_capsule(torch.zeros(4, dtype=torch.complex64).__dlpack__(), runtime.device())


# Calls.


def test_a_call(module, x):
    out = module.add(x, y=x)
    assert isinstance(out, DeviceBuffer)
    assert out.numpy().tolist() == [0, 2, 4, 6]
    assert module.add(out, torch.ones(4)).numpy().tolist() == [1, 3, 5, 7]


def test_trees(module, x):
    Range = namedtuple("Range", ["low", "high"])
    state, nothing, pair = module.tree({"b": x, "w": x}, [x], None, Range(x, x + 1))
    assert list(state) == ["w", "b"]
    assert nothing is None
    assert type(pair).__name__ == "Range"
    assert pair.low.numpy().tolist() == [0, 2, 6, 12]
    assert state["w"].numpy().tolist() == [0, 2, 4, 6]


def test_every_dtype_passes_through(module):
    arrays = [np.array([[0, 1, 2], [3, 4, 250]]).astype(runtime.numpy_dtype(d)) for d in DTYPES]
    for got, array in zip(module.same(*arrays), arrays, strict=True):
        assert got.dtype == array.dtype
        np.testing.assert_array_equal(got.numpy(), array)


def test_python_numbers(module):
    assert module.scalars(True, 3, 200, 2, 1.5).numpy() == 2
    assert module.scalars(np.bool_(True), np.int32(3), 1, 1.5, 2).numpy() == 1.5
    for arguments, message in [
        ((1, 3, 2, 1.0, 1.0), "bool: got 1, expected bool"),
        ((True, 1.5, 2, 1.0, 1.0), "int32: got 1.5"),
        ((True, 1, 300, 1.0, 1.0), "uint8: 300 does not fit"),
        ((True, 1, 3, np.float64(1), 1.0), "float32: got float64"),
        ((True, 1, 3, "x", 1.0), "float32: got"),
        ((True, 1, 3, object(), 1.0), "got object, expected an array float32"),
    ]:
        with pytest.raises(DTypeError, match=message):
            module.scalars(*arguments)


def test_arrays_of_other_kinds(module, x):
    class Array:
        def __array__(self, dtype=None, copy=None):
            return x

    class Wrapped:
        def __volta_buffer__(self):
            return DeviceBuffer.from_numpy(x)

    assert module.add(Array(), Wrapped()).numpy().tolist() == [0, 2, 4, 6]


def test_no_elements(module):
    out = module.empty(np.zeros((0, 3), np.float32))
    assert out.numpy().shape == (0, 3)


def test_results_can_be_wrapped(vmfb, x):
    wrapped = load(vmfb, wrap=lambda b: ("tensor", b.numpy().tolist()))
    assert wrapped.add(x, x) == ("tensor", [0, 2, 4, 6])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (({}, [0], None, (0, 0)), r"state: wrong keys \(missing w, b\); expected w, b"),
        (({"w": 0, "b": 0, "c": 0}, [0], None, (0, 0)), r"state: wrong keys \(unexpected c\)"),
        (([0, 0], [0], None, (0, 0)), "state: got list, expected a dict with keys w, b"),
        (({"w": 0, "b": 0}, {}, None, (0, 0)), "xs: got dict, expected a list of 1"),
        (({"w": 0, "b": 0}, [0, 0], None, (0, 0)), "xs: got 2 elements, expected 1"),
        (({"w": 0, "b": 0}, [0], 0, (0, 0)), "nothing: got int, expected None"),
        (({"w": 0, "b": 0},), r"tree\(\) got 1 arguments: expected 4, state, xs, nothing, range"),
        (({"w": np.zeros(5), "b": 0}, [0], None, (0, 0)), r"state.w: got float64\[5\], expected float32\[4\]"),
    ],
)
def test_wrong_structures(module, arguments, message):
    with pytest.raises(ShapeError, match=message):
        module.tree(*arguments)


def test_wrong_arguments(module, x):
    with pytest.raises(ShapeError, match=r"add\(\) got unexpected arguments z; it takes x, y"):
        module.add(x, x, z=x)
    with pytest.raises(
        DTypeError, match=r"y: got int64\[4\], expected float32\[4\]; convert it with .astype\('float32'\)"
    ):
        module.add(x, np.arange(4))
    elsewhere = DeviceBuffer.from_numpy(x)
    elsewhere.device = runtime.Device("cuda", 0)
    with pytest.raises(DeviceError, match=r"x is on cuda:0, the module runs on cpu:0: use \.to"):
        module.add(elsewhere, x)


def test_a_module_describes_itself(module):
    assert repr(module) == "LoadedModule(add, step, tree, same, scalars, empty on cpu:0)"
    assert repr(module.add) == "add(x: float32[4], y: float32[4]) -> (out: float32[4])"
    assert "step" in dir(module)
    with pytest.raises(AttributeError, match="no function 'predict'; it has add, step"):
        _ = module.predict


def test_threads_share_a_module(module, x):
    results = []

    def work():
        results.extend(module.add(x, x).numpy().tolist() for _ in range(50))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [[0, 2, 4, 6]] * 200


def test_a_call_that_fails(module, x):
    function = module.functions["step"]
    good, wrong = DeviceBuffer.from_numpy(x), DeviceBuffer.from_numpy(np.zeros(5, np.float32))
    with pytest.raises(DeviceError, match=r"step\(\) failed on cpu:0"):
        function.invoke_flat([good, wrong])
    assert good.donated


# Donation.


def test_a_donated_buffer_is_updated_in_place_and_gone(module, x):
    w = DeviceBuffer.from_numpy(x)
    address = w.address()
    (new,) = module.step(w, x)
    assert new.address() == address
    assert repr(w) == "DeviceBuffer(float32[4], cpu:0, donated)"
    for use in (w.numpy, w.copy, w.__dlpack__, lambda: module.add(w, x), lambda: module.step(w, x)):
        with pytest.raises(DonatedError, match=r"donated as w of step\(\).*use the call's result"):
            use()


def test_views_of_a_donated_buffer_keep_their_contents(module, x):
    for export in (DeviceBuffer.numpy, lambda b: b.numpy()[1:], np.from_dlpack, torch.from_dlpack):
        w = DeviceBuffer.from_numpy(x)
        view = export(w)
        before = view.tolist()
        (new,) = module.step(w, x)
        assert view.tolist() == before
        assert new.numpy().tolist() == [0, 2, 4, 6]


def test_a_view_that_is_gone_costs_nothing(module, x):
    w = DeviceBuffer.from_numpy(x)
    assert w.numpy().sum() == 6
    address = w.address()
    (new,) = module.step(w, x)
    assert new.address() == address


def test_the_same_buffer_twice(module, x):
    w = DeviceBuffer.from_numpy(x)
    (new,) = module.step(w, w)
    assert new.numpy().tolist() == [0, 2, 4, 6]
    assert w.donated


def test_the_callers_numpy_array_is_never_written(module, x):
    module.step(x, x)
    assert x.tolist() == [0, 1, 2, 3]


def test_the_memory_of_another_library_is_never_written(module):
    tensor = torch.zeros(1024)[:4] if torch.zeros(1024).data_ptr() % 64 == 0 else torch.zeros(4)
    w = DeviceBuffer.from_dlpack(tensor)
    module.step(w, np.ones(4, np.float32))
    assert tensor.tolist() == [0, 0, 0, 0]


def test_an_argument_that_was_returned_is_not_overwritten(module, x):
    """IREE returns the very same memory for a result that is an argument."""
    b = DeviceBuffer.from_numpy(x)
    state, _, _ = module.tree({"w": x, "b": b}, [x], None, (x, x))
    assert state["b"].address() == b.address()
    (new,) = module.step(state["b"], x)
    assert b.numpy().tolist() == [0, 1, 2, 3]
    assert new.numpy().tolist() == [0, 2, 4, 6]


# Signatures and artifacts.


def test_signatures_survive_json():
    texts = {name: signatures.to_json(SIGNATURE, name) for name in SIGNATURE.functions}
    assert signatures.from_json(texts) == SIGNATURE
    assert all(text.isascii() for text in texts.values())


def test_a_long_signature(tmp_path):
    names = [f"model.layers.{i}.größe" for i in range(3000)]
    spec = FunctionSignature(tuple_of(*(leaf(n, (), "float32") for n in names)), Tree("none"), tuple(names))
    text = signatures.to_json(Signature({"f": spec}, "0"), "f")
    assert len(text) > 100_000
    source = 'func.func @f(%x: tensor<f32>) -> tensor<f32> attributes {iree.reflection = {volta.signature = "'
    source += text.replace("\\", "\\\\").replace('"', "\\22") + '"}} { return %x : tensor<f32> }'
    vmfb = compile_module(lambda kept: source, reproducers=tmp_path).vmfb
    assert [s.path for s in load(vmfb).signature.functions["f"].args.leaves()] == names


def resealed(old: bytes, new: bytes):
    """A change of the program that the checksum does not show."""
    return lambda data: seal(unseal(data).replace(old, new))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: b"", "cannot be loaded: it does not end in Volta's checksum"),
        (lambda data: b"not a module" * 100, "cannot be loaded: it does not end in Volta's checksum"),
        (unseal, "Volta did not make it; a module that iree-compile made runs with iree-run-module"),
        (lambda data: data[:-1], "cannot be loaded: it does not end in Volta's checksum: either a part is missing"),
        (lambda data: data[:2000] + b"?" + data[2001:], "cannot be loaded: it is damaged"),
        (lambda data: seal(unseal(data)[:2000]), "cannot be loaded: FlatBuffer length prefix out of bounds"),
        (resealed(b'"format":1', b'"format":9'), "format 9: this version reads up to 1; upgrade"),
        (resealed(b'"args"', b'"argz"'), "signature of function .* cannot be read"),
        (resealed(b"volta.signature", b"other.signature"), "carries no Volta signature"),
    ],
)
def test_bad_artifacts(vmfb, tmp_path, damage, message):
    path = tmp_path / "bad.vmfb"
    path.write_bytes(damage(vmfb))
    with pytest.raises(ArtifactError, match=message) as error:
        load(path)
    assert str(error.value).startswith(str(path))


def test_a_missing_file(tmp_path):
    with pytest.raises(ArtifactError, match=r"nope.vmfb cannot be read: No such file"):
        load(tmp_path / "nope.vmfb")


def test_a_module_for_another_device(tmp_path):
    source = text({}).split("func.func @step")[0]
    vmfb = compile_module(lambda kept: source, target="vulkan", reproducers=tmp_path).vmfb
    with pytest.raises(DeviceError, match=r"does not run on cpu:0: .*compiled for another kind of device"):
        load(vmfb)


def test_format_is_first_in_the_file(vmfb):
    reflection = json.loads(signatures.to_json(SIGNATURE, "add"))
    assert reflection["format"] == signatures.FORMAT
    assert reflection["version"] == "0.1"


# Processes.


def test_nothing_is_printed_at_exit(vmfb, tmp_path):
    (tmp_path / "m.vmfb").write_bytes(vmfb)
    out = run(
        f"""
        import numpy as np
        from volta_mlir.runtime import load
        module = load({str(tmp_path / "m.vmfb")!r})
        x = np.ones(4, "f4")
        function, result = module.add, module.add(x, x)
        view = result.numpy()
        module.self = module
        print(view.tolist())
        """
    )
    assert out == "[2.0, 2.0, 2.0, 2.0]\n"


def test_devices_do_not_survive_a_fork(vmfb, tmp_path):
    (tmp_path / "m.vmfb").write_bytes(vmfb)
    run(
        f"""
        import os
        import warnings
        import numpy as np
        from volta_mlir.errors import DeviceError
        from volta_mlir.runtime import DeviceBuffer, device, load

        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12's, of forks of processes with threads

        def in_child(function):
            pid = os.fork()
            if pid:
                return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            os._exit(function())

        def fails(function):
            try:
                function()
            except DeviceError as error:
                return "do not survive a fork" not in str(error)
            return 2

        def use():
            return int(load({str(tmp_path / "m.vmfb")!r}).add(x, x).numpy()[0] != 2)

        x = np.ones(4, "f4")
        assert in_child(use) == 0, "the parent had no device yet"
        assert use() == 0
        add = load({str(tmp_path / "m.vmfb")!r}).functions["add"]
        buffers = [DeviceBuffer.from_numpy(x) for _ in range(2)]
        assert in_child(lambda: fails(lambda: add.invoke_flat(buffers))) == 0
        assert in_child(lambda: fails(lambda: device("cpu").hal)) == 0
        """
    )


def test_the_runtime_needs_neither_compiler_nor_bindings(vmfb, tmp_path):
    (tmp_path / "m.vmfb").write_bytes(vmfb)
    run(
        f"""
        import sys
        for name in ("iree.compiler", "torch_mlir", "torch", "jax", "safetensors", "gguf"):
            sys.modules[name] = None
        import numpy as np
        from volta_mlir import load
        assert "iree.runtime" not in sys.modules
        x = np.ones(4, "f4")
        assert load({str(tmp_path / "m.vmfb")!r}).add(x, x).numpy()[0] == 2
        """
    )
