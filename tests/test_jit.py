"""jit: what is compiled when, what goes in and comes out, donation, the disk cache, artifacts."""

from __future__ import annotations

import copy
import functools
import inspect
import logging
import os
import pickle
import subprocess
import sys
import textwrap
import time
import warnings
from collections import OrderedDict, namedtuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import volta_mlir as volta
from volta_mlir import Tensor, nn, optim
from volta_mlir.errors import DeviceError, DonatedError, DTypeError, OptionError, ShapeError, TraceError
from volta_mlir.runtime import DeviceBuffer

Pair = namedtuple("Pair", "first second")


def line() -> int:
    """The line that calls this."""
    return inspect.currentframe().f_back.f_lineno


class Scale(nn.Module):
    def __init__(self, factor: float) -> None:
        self.factor = nn.Parameter([factor])
        self.offset = 1.0
        self.calls = nn.Buffer(0)

    def forward(self, x: Any) -> Any:
        self.calls = self.calls + 1
        return x * self.factor + self.offset


class Counted:
    """A function that counts how often its Python code runs."""

    def __init__(self, function: Any) -> None:
        functools.update_wrapper(self, function)
        self.function, self.traces = function, 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.traces += 1
        return self.function(*args, **kwargs)


# -- what goes in and comes out ----------------------------------------------------------------------------------------


@volta.jit
def double_tree(tree):
    return volta.tree.map(lambda leaf: leaf * 2 if isinstance(leaf, Tensor) else leaf, tree), tree


def test_trees_in_and_out():
    x, model = Tensor([1.0]), Scale(3.0)
    tree = {
        "dict": {"b": x, "a": 2},
        "tuple": (x, [], ()),
        "pair": Pair(np.float32(1.5), None),
        "ordered": OrderedDict(z=x, a="text"),
        "module": model,
        "function": len,
    }
    doubled, same = double_tree(tree)
    assert doubled["dict"]["b"].tolist() == [2.0]
    assert doubled["dict"]["a"].item() == 4
    assert doubled["tuple"][1:] == ([], ())
    assert isinstance(doubled["pair"], Pair)
    assert doubled["pair"].first.item() == 3.0
    assert doubled["pair"].second is None
    assert list(doubled["ordered"]) == ["z", "a"]
    assert doubled["ordered"]["a"] == "text"
    assert doubled["function"] is len
    assert isinstance(doubled["module"], Scale)
    assert doubled["module"].factor.tolist() == [6.0]
    assert (doubled["module"].offset, doubled["module"].calls.item()) == (1.0, 0)
    assert same["module"].factor.tolist() == [3.0]
    assert same["module"] is not model


def test_arguments_of_all_kinds():
    @volta.jit
    def describe(*args):
        return [x if x.dtype.kind in "bi" else x + x.dtype.itemsize for x in args]

    strided = np.arange(12, dtype=np.float32).reshape(3, 4)[::2, ::-1]
    args = [
        Tensor([1.0]),
        np.ones((2, 2), np.float64),
        strided,
        np.float16(3),
        torch.arange(3.0),
        torch.ones(4, 4).t()[1:],
        torch.tensor([1.5], dtype=torch.bfloat16),
        2.0,
        7,
        True,
        np.zeros((0, 3), np.float32),
    ]
    outs = describe(*args)
    names = ["float32", "float64", "float32", "float16", "float32", "float32", "bfloat16", "float32", "int32", "bool"]
    assert [o.dtype.name for o in outs] == [*names, "float32"]
    assert np.array_equal(outs[2], strided + 4)
    assert outs[4].tolist() == [4.0, 5.0, 6.0]
    assert outs[6].item() == 3.5
    assert (outs[8].item(), outs[9].item(), outs[10].shape) == (7, True, (0, 3))
    with pytest.raises(DTypeError, match="complex"):
        describe(np.ones(2, complex))
    with pytest.raises(TraceError, match="is a spec, which has no data"):
        describe(volta.spec(3))


def test_parameters_of_all_kinds():
    @volta.jit
    def function(a, /, b, *rest, c=4.0, d, **options):
        return {"sum": a + b + sum(rest) + c + d + sum(options.values()), "names": (*options, len(rest))}

    x = Tensor(1.0)
    out = function(x, x, x, x, d=x, e=x, f=x)
    assert out["sum"].item() == 11.0
    assert out["names"][:2] == ("e", "f")
    assert out["names"][2].item() == 2
    with pytest.raises(TypeError, match="missing a required"):
        function(x, d=x)
    assert inspect.signature(function) == inspect.signature(function.function)
    assert (function.__name__, function.__doc__) == ("function", None)


def test_keyword_and_positional_arguments_are_the_same():
    counted = Counted(lambda x, y=2.0, *, z=1.0: x * y + z)
    function = volta.jit(counted)
    x = Tensor(3.0)
    assert function(x, x).item() == function(x, y=x).item() == function(y=x, x=x).item() == 10.0
    assert counted.traces == 1
    assert function(x).item() == 7.0
    assert function(x, z=x).item() == 9.0
    assert counted.traces == 3


def test_python_numbers_are_arguments_and_defaults_are_constants():
    counted = Counted(lambda x, n=3: x * n)
    function = volta.jit(counted)
    assert [function(Tensor(2.0), n).item() for n in (1.0, 2.0, 3.0)] == [2.0, 4.0, 6.0]
    assert counted.traces == 1
    assert "3.0" in volta.jit(lambda x, n=3: x * n).lower(Tensor(2.0)).as_text()


def test_results_that_are_not_computed():
    x = Tensor([1.0, 2.0])

    @volta.jit
    def function(x):
        return x, x, 3, np.ones(2, np.float32), None, "text", Tensor(True)

    same, again, three, ones, none, text, true = function(x)
    assert same is again
    assert same.tolist() == [1.0, 2.0]
    assert (three.item(), ones.tolist(), none, text, true.item()) == (3, [1.0, 1.0], None, "text", True)
    assert volta.jit(lambda: None)() is None
    assert volta.jit(lambda x: ())(x) == ()


#: Arithmetic of a tensor and two numbers, of which the second one is an integer.
NUMBERS = [
    lambda x, a, n: x * a,
    lambda x, a, n: a * 2 - x,
    lambda x, a, n: x + n,
    lambda x, a, n: x * (n / 3 + a) ** 2,
    lambda x, a, n: x // -n,
    lambda x, a, n: x * abs(-a % 1.5),
    lambda x, a, n: volta.where(x > a, x, n),
    lambda x, a, n: volta.grad(lambda x, a: (x * a).astype("float32").sum())(x, a),
    lambda x, a, n: (volta.sin(a) * x, n * 2, a / n, x * True),
]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64", "int8"])
def test_python_numbers_are_weak_as_outside(dtype):
    x = Tensor([1.0, 2.0, 3.0], dtype)
    functions = NUMBERS[:-2] if dtype == "int8" else NUMBERS
    compiled = volta.jit(lambda x, a, n: [f(x, a, n) for f in functions])(x, 0.75, 3)
    for function, actual in zip(functions, compiled, strict=True):
        expected = function(x, 0.75, 3)
        for got, wanted in zip(*(volta.tree.leaves(t) for t in (actual, expected)), strict=True):
            wanted = Tensor(wanted) if isinstance(wanted, int | float) else wanted
            assert got.dtype == wanted.dtype
            np.testing.assert_allclose(np.asarray(got, np.float64), np.asarray(wanted, np.float64), rtol=1e-2)


def test_a_number_is_not_a_tensor():
    function = Counted(lambda x, y: x * y)
    compiled, x = volta.jit(function, options={"explain_retrace": True}), Tensor([1.0], "float16")
    assert [compiled(x, y).dtype.name for y in (2.0, 3.0, Tensor(2.0), 4.0, np.float32(2), True)] == [
        "float16", "float16", "float32", "float16", "float32", "float16",
    ]  # fmt: skip
    assert function.traces == 3


# -- when it is traced -------------------------------------------------------------------------------------------------


def test_it_is_traced_again_only_when_the_signature_changes():
    counted = Counted(lambda tree: tree["x"] + 1)
    function = volta.jit(counted)
    for tree, traces in [
        ({"x": Tensor([1.0])}, 1),
        ({"x": np.array([3.0], np.float32)}, 1),
        ({"x": torch.ones(1)}, 1),
        ({"x": Tensor([1, 2])}, 2),
        ({"x": Tensor([[1.0]])}, 3),
        ({"x": Tensor([1.0], "float16")}, 4),
        ({"x": Tensor([1.0]), "y": None}, 5),
        ({"x": Tensor([1.0]), "y": "a"}, 6),
        ({"x": Tensor([5.0]), "y": "a"}, 6),
        ({"x": Tensor([1.0])}, 6),
    ]:
        function(tree)
        assert counted.traces == traces


def test_static_attributes_of_modules_are_part_of_the_signature():
    counted = Counted(lambda model, x: model(x))
    function, model = volta.jit(counted), Scale(2.0)
    assert function(model, Tensor([1.0])).item() == 3.0
    model.factor = nn.Parameter([5.0])
    assert function(model, Tensor([1.0])).item() == 6.0
    assert counted.traces == 1
    model.offset = 0.0
    assert function(model, Tensor([1.0])).item() == 5.0
    assert counted.traces == 2


def test_static_arguments_are_values_of_the_program():
    counted = Counted(lambda x, n, names=(), **options: sum([x] * n) if "half" not in names else x / 2)
    function = volta.jit(counted, static=("n", "names", "options"))
    x = Tensor(2)
    assert function(x, 3).item() == function(x, n=3).item() == 6
    assert counted.traces == 1
    assert function(x, 1, ["half"]).dtype.name == "float32"
    assert function(x, 1, ["half"]).item() == function(x, 1, names=["half"]).item() == 1.0
    assert counted.traces == 2
    function(x, 1, {"half": 1}, flag=True)
    function(x, 1, {"half": 1}, flag=True)
    function(x, 1, {"half": 1}, flag=1)
    assert counted.traces == 4


def test_static_arguments_are_compared_by_type():
    function = volta.jit(lambda x, n: x * n, static="n")
    dtypes = [function(Tensor(2), n).dtype.name for n in (1, 1.0, True)]
    assert dtypes == ["int32", "float32", "int32"]


class Unhashable:
    __hash__ = None

    def __eq__(self, other: object) -> bool:
        return True


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (Unhashable(), "static argument 'mode' is a Unhashable, which can't be compared by value: unhashable type"),
        (Tensor(1.0), "static argument 'mode' is or holds a tensor"),
        ([np.ones(2)], "static argument 'mode' is or holds a tensor"),
        (Scale(1.0), "static argument 'mode' is or holds a tensor"),
    ],
)
def test_static_arguments_that_cannot_be(value, message):
    with pytest.raises(TraceError, match=message):
        volta.jit(lambda x, mode: x, static="mode")(Tensor(1.0), mode=value)
    with pytest.raises(TraceError, match=r"0\.0\.a\.0 is a Unhashable, neither a tensor"):
        volta.jit(lambda x: x)({"a": [Unhashable()]})


def test_names_of_arguments_that_do_not_exist():
    with pytest.raises(TraceError, match="f has no argument 'y'; it has x"):

        @volta.jit(donate="y")
        def f(x):
            return x

    with pytest.raises(OptionError, match="unknown options"):
        volta.jit(lambda x: x, options={"bucket": 1})
    assert volta.jit(lambda **kwargs: kwargs["y"], donate="y")(y=Tensor(1.0)).item() == 1.0


def test_why_it_is_traced_again_is_logged(caplog):
    function = volta.jit(lambda batch, n=1: batch["x"] + 1, static="n", options={"explain_retrace": True})
    with caplog.at_level(logging.WARNING, "volta.trace"):
        for batch, n in [
            ({"x": volta.ones(2)}, 1),
            ({"x": volta.ones(3)}, 1),
            ({"x": volta.ones(3)}, 2),
            ({"x": volta.ones(3), "y": 1}, 2),
        ]:
            function(batch, n)
        both = volta.jit(lambda x, y: x, options={"explain_retrace": True})
        both(Tensor(1.0), Tensor(1.0))
        x = Tensor(1.0)
        both(x, x)
    messages = [record.getMessage() for record in caplog.records if record.name == "volta.trace"]
    assert len(messages) == 4
    assert "argument batch.x changed from float32[2] to float32[3]" in messages[0]
    assert "argument n changed from 1 to 2" in messages[1]
    assert "argument batch changed from a dict of x to a dict of x, y" in messages[2]
    assert "shared between arguments in another way" in messages[3]


def test_many_traces_warn():
    function = volta.jit(lambda n: volta.ones(()), static="n")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for n in range(8):
            function(n)
    with pytest.warns(UserWarning, match="was traced 8 times.*argument n changed from 7 to 8") as caught:
        function(8)
    assert (caught[0].filename, caught[0].lineno) == (__file__, line() - 1)
    function(9)


# -- functions, methods, modules ---------------------------------------------------------------------------------------


class Model:
    def __init__(self, factor: float) -> None:
        self.factor = factor

    @volta.jit
    def scaled(self, x):
        return x * self.factor

    @volta.jit(static="power", donate="x")
    def power(self, x, power):
        return x**power

    @staticmethod
    @volta.jit
    def plain(x):
        return x + 1


class Layer(Scale):
    @volta.jit
    def compiled(self, x):
        """Documented."""
        return self(x)


def test_methods():
    two, three = Model(2.0), Model(3.0)
    assert two.scaled(Tensor(1.0)).item() == 2.0
    assert three.scaled(Tensor(1.0)).item() == 3.0
    assert two.power(Tensor(3.0), power=2).item() == 9.0
    assert Model.plain(Tensor(1.0)).item() == 2.0
    assert "volta.mul" in two.scaled.lower(volta.spec(2)).as_text()
    layer = Layer(4.0)
    assert layer.compiled(Tensor([1.0])).item() == 5.0
    assert layer.calls.item() == 1
    layer.factor = nn.Parameter([1.0])
    assert layer.compiled(Tensor([1.0])).item() == 2.0
    assert layer.calls.item() == 2
    assert layer.compiled.__doc__ == "Documented."
    assert isinstance(Layer.compiled, volta.Jitted)


def test_modules_and_bound_methods_are_arguments_not_constants():
    model = Scale(2.0)
    for compiled in (volta.jit(model), volta.jit(model.forward)):
        model.factor = Tensor([2.0])
        assert compiled(Tensor([1.0])).item() == 3.0
        model.factor = Tensor([5.0])
        assert compiled(Tensor([1.0])).item() == 6.0
        assert not compiled.lower(Tensor([1.0])).traced.captures
    assert model.calls.item() == 4


def test_jit_in_jit_is_one_program():
    inner = Counted(lambda x, n: x * n)
    compiled = volta.jit(inner, static="n", donate="x")

    @volta.jit
    def outer(x):
        return compiled(x, 2) + compiled(x, n=3) + volta.grad(lambda y: compiled(y, 4))(x)

    assert outer(Tensor(1.0)).item() == 9.0
    assert inner.traces == 3
    assert outer.lower(volta.spec(())).as_text("linalg").count("func.func") == 1
    assert volta.grad(compiled)(Tensor(1.0), 5).item() == 5.0


def global_function(x):
    return x + 1


@volta.jit
def decorated(x):
    return x + 1


wrapped = volta.jit(global_function, donate="x")


def test_jitted_functions_are_copied_and_pickled():
    assert pickle.loads(pickle.dumps(decorated)) is decorated
    again = pickle.loads(pickle.dumps(wrapped))
    assert again.donate == ("x",)
    assert again(Tensor(1.0)).item() == 2.0
    assert copy.deepcopy(decorated) is decorated
    assert copy.deepcopy(wrapped)(Tensor(1.0)).item() == 2.0
    decorated(Tensor(1.0))
    assert pickle.loads(pickle.dumps(decorated)) is decorated


def test_partial_functions_and_callables():
    assert volta.jit(functools.partial(lambda x, n: x * n, n=3))(Tensor(2.0)).item() == 6.0

    class Callable:
        def __call__(self, x):
            return x + 1

    assert volta.jit(Callable())(Tensor(1.0)).item() == 2.0


# -- donation ----------------------------------------------------------------------------------------------------------


def address(tensor: Tensor) -> int:
    return tensor.data.address()


@volta.jit
def identity(x):
    return x


def ones_of(shape: tuple[int, ...]) -> Tensor:
    """A tensor on the device, in memory of its own."""
    return Tensor._concrete(DeviceBuffer.from_numpy(np.ones(shape, np.float32)), volta.spec(shape))


@volta.jit(donate=("params", "state"))
def step(params, state, x):
    return {k: p - x.sum() for k, p in params.items()}, state + 1, x.sum()


def test_donated_arguments_are_updated_in_place():
    params, state, x = {"a": ones_of((64,)), "b": ones_of((8, 8))}, ones_of((3,)), ones_of((2,))
    before = [address(t) for t in (params["a"], params["b"], state)]
    new, new_state, loss = step(params, state, x)
    assert [address(t) for t in (new["a"], new["b"], new_state)] == before
    assert (new["a"].tolist(), new_state.tolist(), loss.item()) == ([-1.0] * 64, [2.0] * 3, 2.0)
    assert x.tolist() == [1.0, 1.0]
    for use in (params["a"].numpy, lambda: params["a"] + 1, lambda: step(params, new_state, x)):
        with pytest.raises(DonatedError, match=r"was donated as params\.a of step\(\)") as error:
            use()
    assert error.value.location.startswith(__file__)
    assert new_state.tolist() == [2.0] * 3


def test_numpy_arrays_are_not_touched_by_donation():
    array, exported = np.ones(3, np.float32), ones_of((3,))
    view = exported.numpy()
    out = volta.jit(lambda x: x * 3, donate="x")
    assert out(array).tolist() == [3.0] * 3
    assert out(exported).tolist() == [3.0] * 3
    assert (array.tolist(), view.tolist()) == ([1.0] * 3, [1.0] * 3)
    with pytest.raises(DonatedError):
        exported.numpy()


@volta.jit(donate="x")
def add_to(x, y):
    return x + y


@volta.jit(donate=("x", "y"))
def add_both(x, y):
    return x + y, x - y


def test_the_same_array_twice():
    x = ones_of((4,))
    assert add_to(x, x).tolist() == [2.0] * 4
    with pytest.raises(DonatedError, match=r"as x of add_to\(\)"):
        x.numpy()
    x = ones_of((4,))
    assert [t.tolist() for t in add_both(x, x)] == [[2.0] * 4, [0.0] * 4]
    with pytest.raises(DonatedError):
        x.numpy()
    x = ones_of((4,))
    assert volta.jit(lambda y, x: x + y, donate="x")(x, x).tolist() == [2.0] * 4
    with pytest.raises(DonatedError):
        x.numpy()


def test_two_tensors_of_the_same_memory():
    x = ones_of((4,))
    same = identity(x)
    assert add_to(x, ones_of((4,))).tolist() == [2.0] * 4
    assert same.tolist() == [1.0] * 4


def test_a_donation_that_nothing_can_take_warns(tmp_path):
    function = volta.jit(lambda x, y: (y + 1, x.sum()), donate=("x", "y"))
    for _ in range(2):  # compiled, then from the disk cache
        function._entries.clear()
        with pytest.warns(UserWarning, match="no result can take the buffers of the donated x: none has") as caught:
            function(volta.ones(3), volta.ones(2))
        assert (caught[0].filename, caught[0].lineno) == (__file__, line() - 1)


def test_variadic_arguments_are_donated():
    assert volta.jit(lambda *xs: [x + 1 for x in xs], donate="xs").lower(*volta.ones((2, 1))).donated == [True, True]
    assert volta.jit(lambda **xs: xs, donate="xs").lower(a=Tensor(1.0)).donated == [True]
    assert volta.jit(lambda **xs: xs, donate="a").lower(a=Tensor(1.0), b=Tensor(1.0)).donated == [True, False]


def auto(function, *args, **kwargs):
    """The arguments that donate="auto" donates."""
    return volta.jit(function, donate="auto").lower(*args, **kwargs).donated_arguments


class Net(nn.Module):
    def __init__(self):
        self.layer = nn.Linear(2, 2)
        self.norm = nn.BatchNorm1d(2)


def test_what_comes_back_is_donated():
    model, x, y = Net(), volta.spec((4, 2)), volta.spec(4, "int32")
    optimizer = optim.Adam()
    state = optimizer.init(model)

    def train_step(model, state, x, y):
        def loss_of(model):
            return nn.functional.cross_entropy(model.norm(model.layer(x)), y)

        loss, gradients = volta.value_and_grad(loss_of)(model)
        model, state = optimizer.update(model, gradients, state)
        return model, state, loss

    jitted = volta.jit(train_step, donate="auto")
    lowered = jitted.lower(model, state, x, y)
    assert lowered.donated_arguments == ("model", "state")
    donated = {n for n, is_donated in zip(lowered.argument_names, lowered.donated, strict=True) if is_donated}
    assert set(lowered.argument_names) - donated == {"x", "y"}, "running statistics are donated too"
    assert str(lowered.memory_report()).splitlines()[2] == "  donated: model, state"
    x, y = np.ones((4, 2), np.float32), np.zeros(4, np.int32)
    expected = volta.jit(train_step)(model, state, x, y)
    weight = model.layer.weight
    new, _, loss = jitted(model, state, x, y)
    assert new.layer.weight.tolist() == expected[0].layer.weight.tolist()
    assert loss.tolist() == expected[2].tolist()
    for use in (weight.numpy, lambda: jitted(new, state, x, y)):
        chosen = r" of train_step\(\), as donate=\"auto\" chose, and its memory now holds a result"
        with pytest.raises(DonatedError, match=r"was donated as (model\.layer\.weight|state\.\S+)" + chosen):
            use()


def test_results_that_donate_auto_finds():
    a, b = {"w": Tensor([1.0])}, {"w": Tensor([1.0, 2.0])}
    x = volta.spec(3)
    assert auto(lambda a, x: a, a, x) == ("a",), "the result is the argument's tree"
    assert auto(lambda a, b, x: (0.0, [x], a, b), a, b, x) == ("a", "b"), "at other positions"
    assert auto(lambda a, b, x: {"b": b, "loss": x, "a": a}, a, b, x) == ("a", "b"), "in a dict"
    assert auto(lambda c, x: (c, x.sum()), (a, b), x) == ("c",)
    assert auto(lambda c, x: c, (a, b), x) == ("c",)
    assert auto(lambda x, *, a: (x.sum(), a), x, a=a) == ("a",)
    assert auto(lambda a, key, x: (a, key + 1, x.sum()), a, volta.random.key(0), x) == ("a", "key")


def test_what_donate_auto_leaves_alone():
    a, other, x = {"w": Tensor([1.0])}, {"w": Tensor([2.0])}, volta.spec(3)
    assert auto(lambda x: x + 1, x) == (), "a result that is no tuple"
    assert auto(lambda a, x: (x + 1, a["w"]), a, x) == (), "a tensor at another position, a part of a tree"
    assert auto(lambda a, x: (a["w"], x.sum()), a, x) == ()
    assert auto(lambda a, target: (a, target["w"].sum()), a, other) == (), "which of the two comes back is unclear"
    assert auto(lambda a, b: (a, b), a, other) == ("a", "b")
    assert auto(lambda a, b: (a, b[0].sum()), a, [a["w"]]) == (), "its tensor is another argument's too"
    assert auto(lambda a, x: ({"w": a["w"].astype("int32")}, x.sum()), a, x) == (), "another dtype"
    assert auto(lambda a, b: (b, {"v": a["w"]}), a, [other]) == ("b",), "another name"
    tied, free = [a["w"], a["w"]], [Tensor([1.0]), Tensor([1.0])]
    assert auto(lambda t, x: (t, x.sum()), tied, x) == ("t",)
    assert auto(lambda t, x: ([t[0], t[1] + 1], x.sum()), tied, x) == (), "it comes back untied"
    assert auto(lambda t, x: ([t[0], t[0]], x.sum()), free, x) == ()
    with pytest.warns(UserWarning, match='donate="auto" finds no argument that clearly comes back'):
        volta.jit(lambda a, target: (a, target["w"].sum()), donate="auto")(a, other)
    assert copy.copy(volta.jit(lambda x: x, donate="auto")).donate == "auto"
    with pytest.raises(TraceError, match="has no argument 'auto'"):
        volta.jit(lambda x: x, donate=("auto",))
    assert volta.jit(lambda auto: (auto + 1,), donate=("auto",)).lower(x).donated_arguments == ("auto",)


# -- ahead of time -----------------------------------------------------------------------------------------------------


@volta.jit
def affine(model, x):
    return volta.grad(lambda m, x: (x @ m["w"] + m["b"]).sum())(model, x), model["w"].T


SPECS = {"w": volta.spec((3, 2)), "b": volta.spec(2)}, volta.spec((4, 3))


def test_the_text_at_every_stage():
    lowered = affine.lower(*SPECS)
    assert 'volta.name = "model.w"' in lowered.as_text()
    assert "volta.vjp" in lowered.as_text("volta")
    assert "volta.vjp" not in lowered.as_text("volta-inline")
    assert lowered.as_text("volta-simplify").count("volta.transpose") <= lowered.as_text("volta-inline").count(
        "volta.transpose"
    )
    for stage in ("volta-autodiff", "volta-vmap", "volta-unroll", "cse", "volta-alias"):
        assert "func.func @affine" in lowered.as_text(stage)
    for stage in ("linalg", "convert-volta-to-linalg"):
        assert '"volta.' not in lowered.as_text(stage)
    assert lowered.as_text() == lowered.as_text()
    with pytest.raises(ValueError, match=r"there is no stage 'iree'; there are volta, volta-autodiff, .*linalg"):
        lowered.as_text("iree")


def test_compiled_functions_check_their_arguments():
    compiled = affine.lower(*SPECS).compile()
    model, x = {"w": volta.ones((3, 2)), "b": volta.ones(2)}, volta.ones((4, 3))
    grads, _ = compiled(model, x)
    assert grads["b"].tolist() == [4.0, 4.0]
    with pytest.raises(
        TraceError, match=r"compiled for other arguments: argument x changed from float32\[4,3\] to float32\[5,3\]"
    ):
        compiled(model, volta.ones((5, 3)))
    with pytest.raises(
        TraceError, match="compiled for other arguments: argument model changed from a dict of b, w to a dict of w"
    ):
        compiled({"w": model["w"]}, x)
    assert affine(model, x)[0]["b"].tolist() == [4.0, 4.0]


def test_a_device_that_is_not_here():
    with pytest.raises(DeviceError):
        volta.jit(lambda x: x, device="cuda:7")(Tensor(1.0))
    compiled = volta.jit(lambda x: x + 1).lower(volta.spec(2)).compile("vulkan")
    assert len(compiled.vmfb) > 1000


def test_what_closes_over_arrays_is_not_saved(tmp_path):
    large = volta.ones(1000)
    compiled = volta.jit(lambda x: x * large).lower(volta.spec(())).compile()
    with pytest.raises(TraceError, match=r"closes over 1 arrays \(float32\[1000\]\) that the file would lack"):
        compiled.save(tmp_path / "f.vmfb")


def test_the_kind_of_a_container_is_part_of_the_artifact(tmp_path):
    def function(pair):
        return [pair[0] + pair[1]]

    for number, pair in enumerate([(1.0, 2.0), [1.0, 2.0], Pair(1.0, 2.0)]):
        path = tmp_path / f"{number}.vmfb"
        volta.jit(function).lower(pair).compile().save(path)
        loaded = volta.load(path).function
        assert loaded(pair)[0].item() == 3.0
        assert loaded.signature.args.children[0].kind == ("tuple", "list", "namedtuple")[number]


# -- processes ---------------------------------------------------------------------------------------------------------


def run(script: str, directory: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"VOLTA_CACHE_DIR": str(directory), **environment},
    )


PROGRAM = """
    import numpy as np
    import volta_mlir as volta
    from volta_mlir import iree_compiler, passes
    from volta_mlir.passes import manager

    def forbidden(*args, **kwargs):
        raise AssertionError("not expected to run")

    @volta.jit(donate="w")
    def step(w, x):
        return w - volta.grad(lambda w: volta.tanh(x @ w).sum())(w)
"""


def test_a_second_process_takes_the_artifact_from_the_cache(tmp_path):
    first = run(
        PROGRAM
        + f"""
    print(step(volta.ones((2, 3)), volta.ones((1, 2))).numpy().sum())
    compiled = step.lower(volta.spec((2, 3)), volta.spec((1, 2))).compile()
    assert compiled.report.cached
    compiled.save({str(tmp_path / "step.vmfb")!r})
    """,
        tmp_path,
    )
    assert (first.stderr, first.returncode) == ("", 0)
    second = run(
        PROGRAM
        + """
    passes.run_pipeline = manager.run_pipeline = iree_compiler.compile_module = iree_compiler.warm_up = forbidden
    w = volta.ones((2, 3))
    print(step(w, volta.ones((1, 2))).numpy().sum())
    try:
        w.numpy()
    except volta.DonatedError as error:
        print(error.message.split(" and ")[0])
    """,
        tmp_path,
    )
    assert second.stderr == ""
    assert second.stdout == first.stdout + "this array was donated as w of step()\n"

    loaded = run(
        f"""
    import sys
    import numpy as np
    import volta_mlir as volta

    module = volta.load({str(tmp_path / "step.vmfb")!r})
    print(module.step(np.ones((2, 3), np.float32), x=np.ones((1, 2), np.float32)).numpy().sum())
    assert not [name for name in sys.modules if name.startswith(("torch_mlir", "iree.compiler"))]
    """,
        tmp_path,
    )
    assert (loaded.stderr, loaded.stdout) == ("", first.stdout)


def test_without_a_cache_nothing_is_kept(tmp_path):
    result = run(
        PROGRAM
        + """
    step(volta.ones((2, 3)), volta.ones((1, 2)))
    assert not step.lower(volta.spec((2, 3)), volta.spec((1, 2))).compile().report.cached
    """,
        tmp_path,
        VOLTA_CACHE="0",
    )
    assert (result.stderr, result.returncode) == ("", 0)
    assert not list(tmp_path.rglob("*.bin"))


def test_a_damaged_cache_entry_is_compiled_again(tmp_path, monkeypatch):
    monkeypatch.setenv("VOLTA_CACHE_DIR", str(tmp_path))
    lowered = volta.jit(lambda x: x + 1).lower(volta.spec(1))
    lowered.compile()
    (entry,) = tmp_path.rglob("*.bin")
    entry.write_bytes(b"nonsense")
    assert not lowered.compile().report.cached
    assert lowered.compile().report.cached
    monkeypatch.setattr("volta_mlir.cache.Cache.get", lambda self, key: b"{}\nnonsense")
    assert not lowered.compile().report.cached


@pytest.mark.parametrize(
    ("script", "status", "last_line"),
    [
        (
            """
            keep = []
            step = volta.jit(lambda x: keep.append(x) or x + 1)
            y = step(np.ones(2, np.float32))
            lowered = step.lower(y)
            compiled = lowered.compile()
            gradient, (out, pullback) = volta.grad(lambda x: x.sum())(y), volta.vjp(lambda x: x, y)
            try:
                volta.jit(lambda x: x if x else 1)(1.0)
            except volta.TraceError as error:
                caught = error
            """,
            0,
            "",
        ),
        ("volta.jit(lambda x: x.reshape(7))(volta.ones(3))", 1, "volta_mlir.errors.ShapeError: "),
        ("y = volta.jit(lambda x: x)(1.0); volta.jit(lambda x: exit(3))(y)", 3, ""),
    ],
    ids=["globals", "error", "exit"],
)
def test_processes_end_without_a_word(tmp_path, script, status, last_line):
    result = run("import numpy as np\nimport volta_mlir as volta\n" + textwrap.dedent(script), tmp_path)
    assert result.returncode == status
    assert "nanobind" not in result.stderr
    assert (result.stderr.splitlines() or [""])[-1].startswith(last_line)
    assert bool(result.stderr) == bool(last_line)


def test_importing_is_cheap(tmp_path):
    result = run(
        """
        import sys, time
        start = time.process_time()
        import volta_mlir as volta
        print(time.process_time() - start)
        assert not {"numpy", "torch_mlir", "iree", "optree"} & sys.modules.keys()
        """,
        tmp_path,
    )
    assert result.stderr == ""
    assert float(result.stdout) < 0.1


def test_overhead_of_a_call(capsys):
    function, x = volta.jit(lambda x, y: x + y), ones_of((4,))
    function(x, x)
    start = time.perf_counter()
    for _ in range(1000):
        function(x, x)
    with capsys.disabled():
        print(f"\na call of a tiny compiled function: {(time.perf_counter() - start) * 1000:.0f} µs")


class Classifier(nn.Module):
    def __init__(self) -> None:
        self.layers = [nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)]

    def forward(self, x, scale):
        for layer in self.layers:
            x = layer(x)
        return {"scores": x * scale, "scale": scale}


def test_an_artifact_takes_modules_and_static_arguments(tmp_path):
    model, x = Classifier(), np.ones((1, 3), np.float32)

    @volta.jit(static="scale")
    def predict(model, x, scale):
        return model(x, scale)

    predict.lower(model, x, 2.0).compile().save(tmp_path / "predict.vmfb")
    loaded = volta.load(tmp_path / "predict.vmfb")
    expected = model(x, 2.0)["scores"]
    for results in (loaded.predict(model, x), loaded.predict(model, x, 2.0), loaded.predict(model, x=x, scale=2.0)):
        np.testing.assert_allclose(results["scores"], expected, rtol=1e-5)
        assert results["scale"] == 2.0
    as_dict = {"layers": [{"weight": layer.weight, "bias": layer.bias} for layer in model.layers[::2]]}
    with pytest.raises(ShapeError, match=r"model.layers: got 2 elements, expected 3"):
        loaded.predict(as_dict, x)
    as_dict["layers"].insert(1, {})
    np.testing.assert_allclose(loaded.predict(as_dict, x)["scores"], expected, rtol=1e-5)
    with pytest.raises(ShapeError, match=r"scale: got 3.0, but the function was compiled for 2.0"):
        loaded.predict(model, x, 3.0)
    with pytest.raises(ShapeError, match=r"model: wrong keys \(missing layers; unexpected weight, bias\)"):
        loaded.predict(nn.Linear(3, 2), x)


def test_iterators_are_refused() -> None:
    """What gives its elements once would be empty, or hold tensors of the trace, at the next call."""
    with pytest.raises(TraceError, match=r"is a generator, .* make a list or a tuple of them"):
        volta.jit(lambda x: (y for y in (x, x)))(volta.ones(2))
    with pytest.raises(TraceError, match=r"is a list_iterator, .* make a list or a tuple of them"):
        volta.jit(lambda xs: sum(xs))(iter([1.0, 2.0]))


DAEMONS = """
import threading, time
import numpy as np
import volta_mlir as volta

@volta.jit
def f(x):
    for _ in range(4):
        x = volta.tanh(x @ x)
    return x

x = volta.Tensor(np.ones((256, 256), np.float32))
f(x)

def work():
    y = x
    while True:
        y = f(y)

for _ in range(2):
    threading.Thread(target=work, daemon=True).start()
time.sleep(0.1)
"""


def test_the_process_ends_quietly_while_daemon_threads_make_calls() -> None:
    for _ in range(3):
        result = subprocess.run([sys.executable, "-c", DAEMONS], capture_output=True, text=True, timeout=300)
        assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
