"""Tensors as values, and how calls become ops: captures, leaked tensors, refused Python, locations, threads."""

from __future__ import annotations

import copy
import inspect
import math
import pickle
import re
import threading
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch

import volta_mlir as volta
from volta_mlir import Tensor, nn, optim, trace
from volta_mlir.errors import DTypeError, ShapeError, TraceError
from volta_mlir.mlir import context, func, ir


def line() -> int:
    """The line that calls this."""
    return inspect.currentframe().f_back.f_lineno


def text_of(function: Any, *args: Any, stage: str = "volta", **options: Any) -> str:
    return volta.jit(function).lower(*args).as_text(stage, **options)


# -- tensors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "dtype"),
    [
        (1, "int32"),
        (1.0, "float32"),
        (True, "bool"),
        ([1, 2.0], "float32"),
        ([], "float32"),
        (np.int64(1), "int64"),
        (np.ones(2), "float64"),
        (np.ones(2, ml_dtypes.bfloat16), "bfloat16"),
        (Tensor([1], "uint8"), "uint8"),
    ],
)
def test_a_tensor_takes_its_dtype_from_the_data(data, dtype):
    assert Tensor(data).dtype.name == dtype
    assert Tensor(data, "float16").dtype.name == "float16"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Tensor(3_000_000_000), "3000000000 does not fit int32, which goes from -2147483648 to 2147483647"),
        (lambda: Tensor([1, -1], "uint8"), "-1 does not fit uint8"),
        (lambda: volta.ones(2, "int8") + 300, "300 does not fit int8"),
        (lambda: Tensor("a"), "unsupported dtype"),
        (lambda: Tensor([None]), "unsupported dtype"),
        (lambda: Tensor(1j), "unsupported dtype"),
    ],
)
def test_data_that_does_not_fit(make, message):
    with pytest.raises(DTypeError, match=message):
        make()
    assert Tensor(3_000_000_000, "int64").item() == 3_000_000_000
    assert Tensor(2**40, "float32").item() == 2.0**40


def test_rows_of_different_lengths_are_refused():
    with pytest.raises(ShapeError, match="as many elements in every row"):
        Tensor([[1, 2], [3]])


def test_arrays_of_the_other_byte_order_are_converted():
    tensor = Tensor(np.arange(3, dtype=">f4"))
    assert (tensor + 1).tolist() == [1, 2, 3]
    assert tensor.numpy().dtype.isnative


def test_nothing_changes_a_tensor():
    array = np.ones(2, np.float32)
    tensors = [Tensor(array), volta.array(array), volta.jit(lambda x: x)(array), volta.vmap(lambda x: x)(array)]
    _, pullback = volta.vjp(lambda x: (x * x).sum(), array)
    array[:] = 5
    assert all(t.tolist() == [1.0, 1.0] for t in tensors)
    assert pullback(Tensor(1.0))[0].tolist() == [2.0, 2.0]
    for tensor in tensors:
        with pytest.raises(ValueError, match="read-only"):
            tensor.numpy()[0] = 7
        with pytest.raises(ValueError, match="read-only"):
            np.asarray(tensor)[0] = 7


def test_tensors_are_copied_and_pickled_with_their_data():
    compiled = volta.jit(lambda x: x + 1, donate="x")
    for tensor in (Tensor([1.0, 2.0]), Tensor([1.5], "bfloat16"), compiled(volta.zeros(2))):
        for again in (copy.copy(tensor), copy.deepcopy(tensor), pickle.loads(pickle.dumps(tensor))):
            assert again.dtype == tensor.dtype
            assert again.tolist() == tensor.tolist()
    original = compiled(volta.zeros(2))
    backup = copy.deepcopy(original)
    compiled(original)
    assert backup.tolist() == [1.0, 1.0]


def test_tensors_mix_with_numpy():
    x, array = Tensor([1.0, 2.0]), np.array([3.0, 4.0], np.float32)
    for result in (array + x, x + array, np.float32(3) * x, array @ x, x @ array, array < x, -x, array**x):
        assert isinstance(result, Tensor)
    assert (array - x).tolist() == [2.0, 2.0]
    assert (np.float64(1) + Tensor(1, "float64")).dtype.name == "float64"
    assert np.allclose(np.sin(x), np.sin([1.0, 2.0]))
    assert np.asarray(x, np.float64).dtype == np.float64
    array += x
    assert array.tolist() == [4.0, 6.0]
    assert np.stack([x, x]).shape == (2, 2)
    assert torch.equal(torch.from_dlpack(x), torch.tensor([1.0, 2.0]))
    assert math.sin(Tensor(1.0)) == pytest.approx(math.sin(1.0))


def test_tensors_are_python_values():
    x, y = Tensor([1.0, 2.0]), Tensor([1.0, 2.0])
    assert (x == y).tolist() == [True, True]
    assert (x == None) is False  # noqa: E711
    assert (x != "x") is True
    assert len({x, y}) == 2
    assert {x: 1}[x] == 1
    assert x in [x, y]
    assert [v.item() for v in x] == [1.0, 2.0]
    assert (len(x), int(Tensor(2)), float(Tensor(2)), [1, 2, 3][Tensor(1)]) == (2, 2, 2.0, 2)
    assert f"{Tensor(1.25):.1f} {Tensor(3):03d}" == "1.2 003"
    assert f"{x}" == repr(x) == "Tensor([1., 2.], dtype=float32)"
    with pytest.raises(TypeError, match="unsupported format string"):
        format(x, ".1f")
    with pytest.raises(ValueError, match="ambiguous"):
        bool(x)
    with pytest.raises(TypeError, match="rank 0"):
        len(Tensor(1.0))
    with pytest.raises(AttributeError, match="no attribute 'foo'"):
        x.foo  # noqa: B018
    assert "softmax" not in dir(x)
    assert "reshape" in dir(x)


# -- captures ----------------------------------------------------------------------------------------------------------


def test_small_captures_are_constants_and_large_ones_arguments():
    small, large = Tensor(np.arange(256, dtype=np.float32)), Tensor(np.arange(257, dtype=np.float32))
    assert small.nbytes == trace.MAX_CONSTANT_BYTES

    def function(x):
        return x * small[0] + small.sum() * large[1] + large.sum() * x

    lowered = volta.jit(function).lower(volta.spec(()))
    text = lowered.as_text()
    assert text.count("volta.constant") == 1
    assert text.count("tensor<257xf32> {volta.name") == 1
    assert lowered.traced.captures[0] is large
    assert len(lowered.traced.captures) == 1
    assert volta.jit(function)(Tensor(2.0)).item() == pytest.approx(function(Tensor(2.0)).item())


def test_an_array_that_is_captured_often_is_one_argument():
    array, other = np.ones(1000, np.float32), np.ones(1000, np.float32)

    def function(x):
        def inner(y):
            return (y * array).sum() + (array @ y)

        return x * array + array + other, volta.grad(inner)(x), volta.scan(lambda c, _: (c + array, None), x, length=2)

    lowered = volta.jit(function).lower(volta.spec(1000))
    assert [t.shape for t in lowered.traced.captures] == [(1000,)] * 2

    changing = np.zeros(1000, np.float32)

    def changes(x):
        first = x + changing
        changing[:] += 1
        return first, x + changing, x + changing

    first, second, third = volta.jit(changes)(volta.zeros(1000))
    assert (first.sum().item(), second.sum().item(), third.sum().item()) == (0, 1000, 1000)


def test_captured_tensors_pass_through_nested_transforms():
    large = Tensor(np.linspace(0.0, 1.0, 300, dtype=np.float32))

    def function(x, y, zs):
        def inner(z):
            return volta.grad(lambda w: (w * x * y * large).sum())(z) * y

        def outer(v):
            return volta.grad(lambda u: u * u * v * y)(x)

        return volta.vmap(inner)(zs), volta.grad(outer)(y)

    for call in (function, volta.jit(function)):
        first, second = call(Tensor(0.5), Tensor(3.0), volta.ones(2))
        assert np.allclose(first, [0.5 * 9 * 150] * 2)
        assert second.item() == pytest.approx(2 * 0.5 * 3)


# -- leaks -------------------------------------------------------------------------------------------------------------


def test_leaked_tensors_are_refused_with_the_line():
    leaked = []

    @volta.jit
    def leak(x):
        leaked.append(x * 2)
        return x

    leak(Tensor(1.0))
    tensor = leaked[0]
    with pytest.raises(TraceError, match="is used outside the trace that it belongs to") as error:
        tensor + 1
    assert error.value.location == f"{__file__}:{line() - 1}"
    with pytest.raises(TraceError, match="it leaked out through a global, a closure or an attribute") as error:
        volta.jit(lambda x: x + tensor)(Tensor(1.0))
    assert error.value.location == f"{__file__}:{line() - 1}"
    with pytest.raises(TraceError, match="leaked out"):
        volta.grad(lambda x: x * tensor)(Tensor(1.0))
    with pytest.raises(TraceError, match="is copied or pickled"):
        pickle.dumps(tensor)
    for use in (tensor.numpy, tensor.item, tensor.tolist):
        with pytest.raises(TraceError, match="is traced and has no value"):
            use()
    assert "traced" in repr(tensor)


def test_tensors_of_an_inner_function_are_refused_outside_it():
    leaked = []

    @volta.jit
    def function(x):
        volta.grad(lambda y: leaked.append(y) or y * y)(x)
        return leaked[0] + x

    with pytest.raises(TraceError, match="leaked out"):
        function(Tensor(1.0))


def test_a_pullback_stays_in_its_trace():
    pullbacks = []

    @volta.jit
    def function(x):
        out, pullback = volta.vjp(lambda x: x * x, x)
        pullbacks.append(pullback)
        return out

    function(Tensor(1.0))
    with pytest.raises(TraceError, match="pullback made inside a traced function"):
        pullbacks[0](Tensor(1.0))


# -- refused Python ----------------------------------------------------------------------------------------------------


def with_if(x):
    if x > 0:
        return x
    return -x


def with_while(x):
    while x < 10:
        x = x * 2
    return x


def with_and(x):
    return x > 0 and x < 1


def with_not(x):
    return not x


def with_range(x):
    return sum(range(x.astype("int32")))


def with_index(x):
    return [1, 2, 3][x.astype("int32")]


def with_int(x):
    return int(x)


def with_float(x):
    return float(x)


def with_math(x):
    return math.sin(x)


def with_numpy(x):
    return np.sin(x)


def with_asarray(x):
    return np.asarray(x)


def with_item(x):
    return x.item()


def with_tolist(x):
    return x.tolist()


def with_format(x):
    return f"{x:.3f}"


def with_assert(x):
    assert x > 0
    return x


@pytest.mark.parametrize(
    ("function", "instead"),
    [
        (with_if, "volta.where"),
        (with_while, "volta.where"),
        (with_and, "volta.where"),
        (with_not, "volta.where"),
        (with_assert, "volta.where"),
        (with_range, "static="),
        (with_index, "volta.dynamic_slice"),
        (with_int, "static="),
        (with_float, "keep it a tensor"),
        (with_math, "keep it a tensor"),
        (with_numpy, "read it outside"),
        (with_asarray, "read it outside"),
        (with_tolist, "read it outside"),
        (with_item, "outside"),
        (with_format, "outside"),
    ],
    ids=lambda v: getattr(v, "__name__", None),
)
def test_python_that_needs_a_value_is_refused(function, instead):
    source, first = inspect.getsourcelines(function)
    for call in (volta.jit(function), volta.grad(function), lambda x: volta.vmap(function)(x.reshape(1))):
        with pytest.raises(TraceError) as error:
            call(volta.ones(()))
        assert instead in error.value.message
        assert error.value.location in [f"{__file__}:{first + i}" for i in range(len(source))]
        assert str(error.value).endswith(f"(at {error.value.location})")


# -- locations ---------------------------------------------------------------------------------------------------------


def helper(x):
    return volta.sin(x) * 2


def test_ops_carry_the_users_line_and_its_callers():
    def function(x):
        return helper(x) + x

    text = text_of(function, volta.spec(2), debug_info=True)
    locations = dict(re.findall(r"^(#loc\d*) = loc\((.*)\)$", text, re.MULTILINE))
    sine = re.search(r'"volta.sin".* loc\((#loc\d*)\)', text)[1]
    inner, outer = re.fullmatch(r"callsite\((#loc\d*) at (#loc\d*)\)", locations[sine]).groups()
    helper_line, function_line = (inspect.getsourcelines(f)[1] + 1 for f in (helper, function))
    assert locations[inner].startswith(f'"{__file__}":{helper_line}:')
    assert locations[outer].startswith(f'"{__file__}":{function_line}:')
    addition = re.search(r'"volta.add".* loc\((#loc\d*)\)', text)[1]
    assert locations[addition].startswith(f'"{__file__}":{function_line}:')
    assert "loc(" not in text_of(function, volta.spec(2))
    assert f'"{__file__}":{helper_line}' in text_of(function, volta.spec(2), stage="linalg", debug_info=True)


def test_layers_are_call_sites_of_the_users_line():
    model = volta.nn.Linear(2, 3)

    def function(model, x):
        return model(x)

    text = text_of(function, model, volta.spec((1, 2)), debug_info=True)
    assert f'"{__file__}":{inspect.getsourcelines(function)[1] + 1}:0' in text
    assert re.search(r'/nn/layers/dense\.py":\d+:0', text)
    assert "functions/" not in text


@pytest.mark.parametrize(
    ("function", "error"),
    [
        (lambda x: x @ volta.ones((4, 4)), ShapeError),
        (lambda x: x + volta.ones(4), ShapeError),
        (lambda x: x.reshape(7), ShapeError),
        (lambda x: x.sum(3), ShapeError),
        (lambda x: x.astype("float128"), DTypeError),
        (lambda x: x[5], (ShapeError, IndexError)),
    ],
)
def test_errors_of_operations_name_the_users_line(function, error):
    here = f"{__file__}:{inspect.getsourcelines(function)[1]}"
    for call in (function, volta.jit(function), volta.grad(function), volta.jit(volta.grad(function))):
        with pytest.raises(error) as caught:
            call(volta.ones(3))
        assert caught.value.location == here


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: nn.functional.dropout([1.0], 1.5), "dropout probability has to be between 0 and 1, but got 1.5"),
        (lambda: nn.Conv2d(3, 4, 3, groups=2), "in_channels must be divisible by groups, got 3 and 2"),
        (lambda: nn.init.kaiming_normal((2, 2), mode="fan"), "mode is 'fan'"),
        (lambda: optim.Adam(lr=-1), "Invalid learning rate: -1"),
        (lambda: optim.StepLR(0.1, step_size=0), "Expected positive integer step_size, but got 0"),
        (
            lambda: volta.jit(lambda x: nn.functional.gelu(x, approximate="x"))([1.0]),
            "approximate must be 'none' or 'tanh'",
        ),
    ],
)
def test_bad_options_name_the_users_line(call, message):
    with pytest.raises(volta.OptionError, match=message) as error:
        call()
    assert isinstance(error.value, ValueError)
    assert error.value.location == f"{__file__}:{call.__code__.co_firstlineno}"


# -- the state of tracing ----------------------------------------------------------------------------------------------


def test_an_error_leaves_nothing_behind():
    def broken(x):
        volta.grad(lambda y: y * missing)(x)  # noqa: F821

    for call in (volta.jit(broken), volta.grad(broken), broken):
        with pytest.raises(NameError):
            call(Tensor(1.0))
        assert trace.current() is None
    assert volta.grad(lambda x: x * x)(Tensor(3.0)).item() == 6


def test_an_error_that_is_caught_leaves_the_program_as_it_was():
    def function(x):
        try:
            volta.grad(lambda y: (y * 2).reshape(7))(x)
        except ShapeError:
            return x + 1

    assert text_of(function, volta.spec(())).count("func.func") == 1
    assert volta.jit(function)(Tensor(1.0)).item() == 2


def test_a_rule_cannot_trace():
    with context(), ir.Location.unknown():
        module = ir.Module.create()
        block = func.FuncOp("f", ([], []), ip=ir.InsertionPoint(module.body)).add_entry_block()
        with (
            trace.emitting(ir.InsertionPoint(block), ir.Location.unknown()),
            pytest.raises(TraceError, match="can't be traced inside an op's rule"),
        ):
            volta.grad(lambda x: x)(Tensor(1.0))
    assert trace.current() is None


def repeated(x, number):
    for _ in range(20):
        x = volta.sin(x) * number
    return x.sum()


def test_threads_trace_at_the_same_time():
    results: dict[int, list[float]] = {}
    barrier = threading.Barrier(4)

    def work(number: int) -> None:
        barrier.wait()
        second = volta.grad(volta.grad(lambda x: repeated(x, number)))
        results[number] = [second(Tensor(0.1)).item() for _ in range(3)]

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    together = dict(results)
    barrier = threading.Barrier(1)
    for number in range(4):
        work(number)
    assert results == together
