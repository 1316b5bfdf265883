"""The workloads in Volta."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import volta_mlir as volta
from tests.models import gpt
from volta_mlir import Tensor, models, nn, optim, tree
from volta_mlir.tools.benchmarks.workloads import MLP, Arrays, ResNet, Training, Workload


def conv2d(x: Tensor, kernel: Tensor) -> Tensor:
    """A convolution that keeps the size: x is NHWC, the kernel HWIO."""
    return volta.conv(x, kernel, padding="same", layout="NHWC")


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Normalises the last axis."""
    return gpt.layer_norm({"weight": weight, "bias": bias}, x)


KERNELS: dict[str, Callable[..., Tensor]] = {
    "matmul": lambda x, y: x @ y,
    "conv2d": conv2d,
    "attention": lambda q, k, v: nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True),
    "sum_rows": lambda x: x.sum(1),
    "sum_columns": lambda x: x.sum(0),
    "softmax": volta.softmax,
    "layer_norm": layer_norm,
}


def with_gradients(function: Callable[..., Tensor]) -> Callable[..., Any]:
    """``function`` that also takes the result's cotangent and returns its operands'."""

    def both(*operands: Tensor) -> Any:
        *primals, cotangent = operands
        out, pullback = volta.vjp(function, *primals)
        return out, *pullback(cotangent)

    return both


class Program:
    """A workload, ready to be called; see :mod:`volta_mlir.tools.benchmarks.worker`."""

    def __init__(self, workload: Workload, quick: bool, budget: int | str | None = "auto") -> None:
        self.state: Sequence[Any] = ()
        self.inputs: Sequence[Tensor] = ()
        self.outs: Any = None
        self.fill: Callable[[], None]
        options = {"memory_budget": budget}
        if isinstance(workload, Training):
            config = workload.quick if quick else workload.config
            builders: dict[type, Callable[[Any], Any]] = {MLP: self._mlp, ResNet: self._resnet}
            function, donated = builders.get(type(config), self._gpt)(config)
            self.jitted = volta.jit(function, donate=donated, options=options)
        else:
            self.fill = self._filling(lambda: ((), [Tensor(x, workload.dtype) for x in workload.operands(quick)]))
            function = KERNELS[workload.function]
            self.jitted = volta.jit(with_gradients(function) if workload.backward else function, options=options)
        self.fill()

    def _filling(self, make: Callable[[], tuple[Sequence[Any], Sequence[Tensor]]]) -> Callable[[], None]:
        def fill() -> None:
            self.state, self.inputs = make()

        return fill

    def release(self) -> None:
        """Gives up the inputs, the state and the results."""
        self.state, self.inputs, self.outs = (), (), None

    def _resnet(self, config: ResNet) -> tuple[Callable[..., Any], tuple[str, ...]]:
        optimizer = optim.SGD(lr=0.1, momentum=0.9)

        def make() -> tuple[Sequence[Any], Sequence[Tensor]]:
            with nn.init.skipped():
                model = models.resnet18() if config.depth == 18 else models.resnet50()
            model.load_state_dict(config.parameters())
            return (model, optimizer.init(model)), list(map(Tensor, config.examples()))

        self.fill = self._filling(make)
        return self._classifier_step(optimizer), ("model", "state")

    def _mlp(self, config: MLP) -> tuple[Callable[..., Any], tuple[str, ...]]:
        optimizer = optim.Adam(lr=1e-3)

        def make() -> tuple[Sequence[Any], Sequence[Tensor]]:
            model = nn.Sequential(*self._layers(config))
            model.load_state_dict(config.parameters())
            return (model, optimizer.init(model)), list(map(Tensor, config.examples()))

        self.fill = self._filling(make)
        return self._classifier_step(optimizer), ("model", "state")

    @staticmethod
    def _classifier_step(optimizer: optim.Optimizer) -> Callable[..., Any]:
        def loss(model: nn.Module, x: Tensor, classes: Tensor) -> Tensor:
            return nn.functional.cross_entropy(model(x), classes)

        def step(model: nn.Module, state: Any, x: Tensor, classes: Tensor) -> Any:
            value, gradients = volta.value_and_grad(loss)(model, x, classes)
            return *optimizer.update(model, gradients, state), value

        return step

    @staticmethod
    def _layers(config: MLP) -> list[nn.Module]:
        layers: list[nn.Module] = []
        for inputs, outputs in zip(config.widths, config.widths[1:], strict=False):
            layers += [nn.Linear(inputs, outputs), nn.ReLU()]
        return layers[:-1]

    def _gpt(self, config: gpt.Config) -> tuple[Callable[..., Any], tuple[str, ...]]:
        def make() -> tuple[Sequence[Any], Sequence[Tensor]]:
            return gpt.state(config), list(map(Tensor, next(gpt.batches(config))))

        def step(params: Any, m: Any, v: Any, step: Tensor, tokens: Tensor, targets: Tensor) -> Any:
            return gpt.train_step(params, m, v, step, tokens, targets, config.heads)

        self.fill = self._filling(make)
        return step, gpt.DONATED

    def call(self) -> None:
        outs = self.jitted(*self.state, *self.inputs)
        if self.state:
            *self.state, self.outs = outs
        else:
            self.outs = outs

    def results(self) -> Arrays:
        kept = [self.outs] if not self.state else [self.state[0], self.outs]
        accessors = tree.accessors(kept)
        return {
            tree.path_name(a): np.array(leaf.astype("float32").numpy())
            for a, leaf in zip(accessors, tree.leaves(kept), strict=True)
        }

    def details(self) -> dict[str, float]:
        """Seconds that tracing and the passes take, bytes of the artifact, and what the compiler promises to take."""
        start = time.perf_counter()
        lowered = self.jitted.lower(*self.state, *self.inputs)
        traced = time.perf_counter()
        lowered.as_text("linalg")
        passed = time.perf_counter()
        compiled = lowered.compile()
        report = compiled.memory_report()
        return {
            "trace": traced - start,
            "passes": passed - traced,
            "artifact": len(compiled.vmfb),
            "peak": report.peak_bytes,
            "transients": report.transients,
            "dispatches": compiled.plan.dispatches,
        }

    def fusion(self) -> list[tuple[int, int]]:
        """Dispatches and bytes moved of a call with all kept, without the passes that fuse and with them."""
        counts = []
        for fuse in (False, True):
            options = {"memory_budget": None, "fuse": fuse}
            step = volta.jit(self.jitted.function, donate=self.jitted.donate, options=options)
            plan = step.lower(*self.state, *self.inputs).memory_report().plan
            counts.append((plan.dispatches, plan.bytes_moved))
        return counts


def versions() -> dict[str, str]:
    """Of the packages that do the work."""
    from importlib.metadata import version

    return {"volta": volta.__version__, "iree": version("iree-base-compiler")}


def warm_up() -> None:
    """Starts what every program needs."""
    volta.jit(lambda x: x + 1)(Tensor(1.0))
