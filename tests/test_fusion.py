"""What volta-fuse promises: fewer dispatches and bytes, the same numbers, a report that says what and where."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest

import volta_mlir as volta
from tests.harness import call, compile_functions
from tests.models import gpt
from tests.tolerances import norm
from volta_mlir import Tensor, nn, optim, tree
from volta_mlir.compilation import Compiled
from volta_mlir.errors import CompileError, OptionError
from volta_mlir.interpreter import interpret
from volta_mlir.mlir import context, ir
from volta_mlir.models.resnet import BasicBlock

#: The same instructions everywhere, on which packed sizes depend.
TARGET = "cpu:x86-64-v3"

#: How much the tensors of a program may differ with fusion from those without, by their norms.
RELATIVE = 1e-5


# -- a zoo of small programs ---------------------------------------------------------------------------------------


def random(*shape: int, seed: int = 0) -> Tensor:
    return Tensor(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


def gradients_of(function: Callable[..., Tensor]) -> Callable[..., Any]:
    """The value and the gradients of ``function``, weighted so that no gradient is trivial."""

    def with_gradients(x: Tensor, *others: Tensor) -> Any:
        def weighted(*args: Tensor) -> Tensor:
            out = function(*args)
            return (out * volta.cos(volta.iota(out.shape, out.ndim - 1).astype("float32"))).sum()

        return volta.value_and_grad(weighted, argnums=tuple(range(1 + len(others))))(x, *others)

    return with_gradients


def gpt_step() -> tuple[Callable[..., Any], tuple[Any, ...]]:
    *arguments, heads = gpt.arguments(gpt.SMALL)
    return (lambda *args: gpt.train_step(*args, heads)), tuple(arguments)


def train_step(model: nn.Module, x: Tensor, labels: int) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """A step of Adam on a classifier."""
    optimizer = optim.Adam(lr=0.01)

    def step(model: nn.Module, state: Any, x: Tensor, y: Tensor) -> Any:
        def loss_of(model: nn.Module) -> Tensor:
            return nn.functional.cross_entropy(model(x), y)

        loss, gradients = volta.value_and_grad(loss_of)(model)
        return *optimizer.update(model, gradients, state), loss

    y = Tensor((np.arange(x.shape[0]) % labels).astype(np.int32))
    return step, (model, optimizer.init(model), x, y)


def mlp_step() -> tuple[Callable[..., Any], tuple[Any, ...]]:
    layers = (nn.Linear(32, 64), nn.GELU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 5))
    return train_step(nn.Sequential(*layers), random(48, 32), 5)


def conv_step() -> tuple[Callable[..., Any], tuple[Any, ...]]:
    layers = (
        nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1), nn.GELU(), nn.Flatten(), nn.Linear(16 * 8 * 8, 5),
    )  # fmt: skip
    return train_step(nn.Sequential(*layers), random(4, 3, 16, 16), 5)


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return nn.functional.layer_norm(x, (x.shape[-1],), weight, bias)


def cross_entropy(x: Tensor) -> Tensor:
    return nn.functional.cross_entropy(x, volta.iota((x.shape[0],), 0) % x.shape[1], reduction="none")


def mlp_forward() -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """Biases and activation functions are computed in the dispatches of products."""
    layers = (nn.Linear(32, 64), nn.GELU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 5))
    return (lambda model, x: model(x)), (nn.Sequential(*layers), random(48, 32))


def residual_forward() -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """So are normalisation, a residual and what follows, in those of convolutions."""
    model = BasicBlock(8, 16, 2)
    model.bn1.running_mean, model.bn2.running_var = random(16), volta.abs(random(16, seed=1)) + 0.5
    return (lambda model, x: model(x)), (model.eval(), random(2, 8, 16, 16))


@dataclass(frozen=True)
class Program:
    """What is compiled with and without fusion."""

    make: Callable[[], tuple[Callable[..., Any], tuple[Any, ...]]]

    @cache  # noqa: B019 - there are few of them, for the length of the tests
    def compiled(self, fuse: bool) -> Compiled:
        function, arguments = self.make()
        return volta.jit(function, options={"fuse": fuse}).lower(*arguments).compile(TARGET)


ZOO = {
    "gpt": Program(gpt_step),
    "mlp": Program(mlp_step),
    "conv": Program(conv_step),
    "mlp_forward": Program(mlp_forward),
    "residual_forward": Program(residual_forward),
    "layer_norm": Program(lambda: (gradients_of(layer_norm), (random(64, 96), random(96, seed=1), random(96, seed=2)))),
    "softmax": Program(lambda: (gradients_of(lambda x: nn.functional.softmax(x, -1)), (random(64, 96),))),
    "cross_entropy": Program(lambda: (gradients_of(cross_entropy), (random(64, 96),))),
}

#: Dispatches, bytes of intermediate results, and bytes moved, without fusion and with it.
FIGURES = {
    "gpt": ((251, 1121216, 9835356), (156, 932544, 7705428)),
    "mlp": ((53, 187776, 1031212), (42, 100032, 846752)),
    "mlp_forward": ((10, 43520, 147708), (10, 43520, 147708)),
    "residual_forward": ((11, 66112, 276480), (12, 56896, 292864)),
    "conv": ((58, 332864, 2158644), (52, 230784, 1866080)),
    "layer_norm": ((11, 75008, 448516), (5, 49920, 225028)),
    "softmax": ((7, 74240, 320772), (2, 24576, 98308)),
    "cross_entropy": ((6, 49920, 199172), (2, 256, 49924)),
}


#: Those that take long to compile are not compiled twice by default.
LARGE = ("gpt", "conv")


@pytest.mark.no_cover
@pytest.mark.parametrize("fuse", [True, pytest.param(False, marks=pytest.mark.full)])
@pytest.mark.parametrize("name", ZOO)
def test_counted_figures(name: str, fuse: bool) -> None:
    """What is launched and allocated for each program of the zoo; a change here is a change of decisions."""
    compiled = ZOO[name].compiled(fuse)
    dispatches, transients, bytes_moved = FIGURES[name][fuse]
    plan = compiled.plan
    assert (plan.dispatches, plan.transients, plan.bytes_moved) == (dispatches, transients, bytes_moved)
    assert not compiled.report.fallback


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.full] if n in LARGE else []) for n in ZOO])
def test_fusion_changes_no_number(name: str) -> None:
    _, arguments = ZOO[name].make()
    # Each call writes to the running statistics of its own copy.
    expected, actual = (tree.leaves(ZOO[name].compiled(fuse)(*deepcopy(arguments))) for fuse in (False, True))
    for e, a in zip(expected, actual, strict=True):
        assert norm(a.numpy() - e.numpy()) <= RELATIVE * norm(e.numpy())


def test_updates_of_vectors_are_computed_together() -> None:
    """Those of a clipped gradient wait for the norm of all, so that none is computed where its gradient is."""
    optimizer = optim.AdamW(lr=0.01)
    model = nn.Sequential(*(layer for _ in range(3) for layer in (nn.Linear(32, 32), nn.LayerNorm(32), nn.SiLU())))
    arguments = model, optimizer.init(model), random(48, 32)

    def step(model: nn.Module, state: Any, x: Tensor) -> Any:
        gradients = volta.grad(lambda model: (model(x) ** 2).mean())(model)
        clipped, _ = optim.clip_grad_norm(gradients, 0.1)
        return optimizer.update(model, clipped, state)

    lowered = volta.jit(step).lower(*arguments)
    groups = [group for group in lowered.fusion_report().groups if "sqrt" in group.ops]
    vectors = [len(group.results) for group in groups if group.results[0].shape == (32,)]
    # A parameter and two moments for each of nine vectors; of the tensors of four updates, a dispatch takes no more.
    assert sorted(vectors) == [3, 12, 12]
    plain = volta.jit(step, options={"fuse": False})
    for actual, expected in zip(
        tree.leaves(lowered.compile()(*arguments)), tree.leaves(plain(*arguments)), strict=True
    ):
        assert norm(actual.numpy() - expected.numpy()) <= 1e-5 * norm(expected.numpy())


def test_a_kernel_reads_no_more_tensors_than_devices_take() -> None:
    def function(*xs: Tensor) -> Tensor:
        a, b, c = (sum(xs[i + 1 : i + 12], xs[i]) for i in (0, 12, 24))
        return volta.where(a > 0, b, c)

    xs = [random(128, 64, seed=i) for i in range(36)]
    compiled = volta.jit(function).lower(*xs).compile()
    np.testing.assert_allclose(compiled(*xs).numpy(), function(*xs).numpy(), rtol=1e-4, atol=1e-5)


def test_the_report_names_groups_bytes_and_lines() -> None:
    def function(x: Tensor, y: Tensor) -> Tensor:
        scaled = volta.tanh(x * y)
        return (scaled * x).sum(axis=1)  # here

    lowered = volta.jit(function).lower(volta.spec((64, 32)), volta.spec((64, 32)))
    report = lowered.fusion_report()
    (group,) = report.groups
    assert group.ops == ("mul", "tanh", "mul", "reduce_sum")
    size = 64 * 32 * 4
    assert report.bytes_saved == group.bytes_saved == 7 * size  # three results, written and read, and x, read twice
    assert [str(spec) for spec in group.results] == ["float32[64]"]
    line = function.__code__.co_firstlineno + 2
    assert group.location == f"{__file__}:{line}"
    first, total = str(report).splitlines()
    assert first.endswith(f"@function.fused -> float32[64]: mul tanh mul reduce_sum ({__file__}:{line})")
    assert total == "       0.057 MB  saved by 1 groups"


def test_fusion_can_be_turned_off() -> None:
    def function(x: Tensor) -> Tensor:
        return volta.tanh(x * 2.0)

    spec = volta.spec((8,))
    fused, without = (volta.jit(function, options={"fuse": fuse}).lower(spec) for fuse in (True, False))
    assert "volta.fused" in fused.as_text("volta-fuse")
    assert "volta.fused" not in without.as_text("volta-fuse")
    assert without.fusion_report().groups == ()
    assert "flow.dispatch.region" in fused.as_text("linalg")
    assert "flow.dispatch.region" not in without.as_text("linalg")


@pytest.mark.parametrize("budget", ["auto", "1GiB", "min"])
def test_what_does_not_compile_fused_compiles_without(budget: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A group of which IREE can make no dispatch; the error of a program that never compiles stays."""

    def broken(self: Any, results: Any, body: Any) -> list[Any]:
        (value,) = body()
        return [ir.Operation.create("util.nope", results=[value.type], operands=[value]).result]

    monkeypatch.setattr("volta_mlir.dialects.lowering.Lowering.dispatch", broken)
    function = volta.jit(lambda x: volta.tanh(x * 3.0) + 0.125, options={"memory_budget": budget})
    compiled, cached = (function.lower(volta.spec((8,))).compile() for _ in range(2))
    for one in (compiled, cached):
        assert one.report.fallback
        assert one.report.unfused
        assert one.fusion_report().groups == ()
        assert one.memory_report().transients == 0
    np.testing.assert_allclose(compiled(volta.ones(8)).numpy(), np.tanh(3.0) + 0.125, rtol=1e-6)
    with pytest.raises(CompileError):
        volta.jit(lambda x: volta.tanh(x * 3.0), options={"flags": ["--no-such-flag"]}).lower(
            volta.spec((8,))
        ).compile()


def test_control_flow_is_fused_inside() -> None:
    def step(carry: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        carry = volta.tanh(carry * 0.5 + x)
        return carry, carry * x

    def function(start: Tensor, xs: Tensor) -> Any:
        return volta.scan(step, start, xs)

    start, xs = random(8), random(600, 8, seed=1)
    lowered = volta.jit(function).lower(start, xs)
    assert any("tanh" in group.ops for group in lowered.fusion_report().groups)
    (carry, stacked), (expected_carry, expected) = lowered.compile()(start, xs), function(start, xs)
    np.testing.assert_allclose(carry.numpy(), expected_carry.numpy(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(stacked.numpy(), expected.numpy(), rtol=1e-4, atol=1e-6)


def test_unknown_options_are_refused() -> None:
    with pytest.raises(OptionError, match="there are flags, fuse, memory_budget and explain_retrace"):
        volta.jit(lambda x: x, options={"fusion": False})
    with pytest.raises(OptionError, match="flags is a list of texts"):
        volta.jit(lambda x: x, options={"flags": "--iree-opt-level=O2"})


@pytest.mark.parametrize(
    ("element", "ops"),
    [
        # The last two of three results are equal, but not to the first: it is what IREE reads for the last.
        ("f32", ["add(%x, %x)", "sub(%x, %x)", "add(%n, %x)"]),
        ("ui16", ["neg(%x)", "abs(%x)", "abs(%a)"]),
        ("i32", ["neg(%x)", "maximum(%x, %x)", "minimum(%x, %x)"]),
        ("i32", ["neg(%x)", "sub(%x, %x)", "xor(%n, %n)"]),
        ("i32", ["maximum(%n, %n)", "sub(%x, %x)", "div(%x, %x)"]),
    ],
)
def test_results_that_come_to_the_same(element: str, ops: list[str]) -> None:
    kind = f"tensor<5x{element}>"
    before = [f'%{name[0]} = "volta.{name}"(%x) : ({kind}) -> {kind}' for name in ("neg", "abs")]
    lines = [
        f'%{number} = "volta.{name}"({operands} : ({", ".join([kind] * (operands.count(",") + 1))}) -> {kind}'
        for number, (name, operands) in enumerate(op.split("(") for op in ops)
    ]
    text = "\n".join(
        [
            f"func.func @program(%x: {kind}) -> ({', '.join([kind] * 3)}) {{",
            *before,
            *lines,
            f"return %0, %1, %2 : {', '.join([kind] * 3)} }}",
        ]
    )
    x = np.array([0, 1, 2, 3, 7], {"f32": np.float32, "ui16": np.uint16, "i32": np.int32}[element])
    check_compiled(text, x)


def test_reductions_that_come_to_their_initial_values() -> None:
    matrix, vector = "tensor<40x8xi32>", "tensor<40xi32>"
    text = f"""
      func.func @program(%x: {matrix}) -> ({vector}, {vector}) {{
        %zeros = "volta.sub"(%x, %x) : ({matrix}, {matrix}) -> {matrix}
        %one = "volta.full"() {{shape = array<i64: 40, 8>, value = dense<1> : tensor<i32>}} : () -> {matrix}
        %ones = "volta.add"(%zeros, %one) : ({matrix}, {matrix}) -> {matrix}
        %0 = "volta.reduce_sum"(%zeros) {{axes = array<i64: 1>}} : ({matrix}) -> {vector}
        %1 = "volta.reduce_prod"(%ones) {{axes = array<i64: 1>}} : ({matrix}) -> {vector}
        return %0, %1 : {vector}, {vector}
      }}
    """
    check_compiled(text, np.ones((40, 8), np.int32))


def check_compiled(text: str, x: np.ndarray) -> None:
    with context():
        module = ir.Module.parse(text)
    expected = interpret(module, "program", [x])
    actual = call(compile_functions({"program": module})["program"], [x])
    for e, a in zip(expected, actual, strict=True):
        np.testing.assert_array_equal(a, e)
