"""The workloads in PyTorch, eager and through torch.compile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from tests.models import gpt, torch_gpt, torch_resnet
from volta_mlir import tree
from volta_mlir.tools.benchmarks.workloads import MLP, Arrays, ResNet, Training, Workload


def conv2d(x: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    """A convolution that keeps the size: x is NHWC, the kernel HWIO."""
    # The permuted tensors are what PyTorch calls channels_last.
    return F.conv2d(x.permute(0, 3, 1, 2), kernel.permute(3, 2, 0, 1), padding=1).permute(0, 2, 3, 1)


KERNELS: dict[str, Callable[..., torch.Tensor]] = {
    "matmul": torch.matmul,
    "conv2d": conv2d,
    "attention": lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True),
    "sum_rows": lambda x: x.sum(1),
    "sum_columns": lambda x: x.sum(0),
    "softmax": lambda x: x.softmax(-1),
    "layer_norm": lambda x, weight, bias: F.layer_norm(x, x.shape[-1:], weight, bias),
}


class Program:
    """A workload, ready to be called; see :mod:`volta_mlir.tools.benchmarks.worker`."""

    compiled = False

    def __init__(self, workload: Workload, quick: bool) -> None:
        self.workload, self.quick = workload, quick
        self.fill()

    def fill(self) -> None:
        """Makes the inputs and the state."""
        workload, quick = self.workload, self.quick
        self.outs: tuple[torch.Tensor, ...] = ()
        self.leaves: dict[str, torch.Tensor] = {}
        if isinstance(workload, Training):
            config = workload.quick if quick else workload.config
            builders: dict[type, Callable[[Any], Any]] = {MLP: self._mlp, ResNet: self._resnet}
            self.call = builders.get(type(config), self._gpt)(config)
        else:
            dtype = getattr(torch, workload.dtype)
            operands = [torch.tensor(x).to(dtype) for x in workload.operands(quick)]
            self.call = self._kernel(self._maybe_compiled(KERNELS[workload.function]), operands, workload.backward)

    def release(self) -> None:
        """Gives up the inputs, the state and the results."""
        del self.call, self.outs, self.leaves

    def _maybe_compiled(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return torch.compile(function) if self.compiled else function

    def _kernel(self, function: Any, operands: list[torch.Tensor], backward: bool) -> Callable[[], None]:
        if backward:
            *primals, cotangent = operands
            for p in primals:
                p.requires_grad_()

            def call() -> None:
                out = function(*primals)
                self.outs = (out.detach(), *torch.autograd.grad(out, primals, cotangent))
        else:

            def call() -> None:
                with torch.no_grad():
                    self.outs = (function(*operands),)

        return call

    def _training(self, loss: Callable[[], torch.Tensor], optimizer: torch.optim.Optimizer) -> Callable[[], None]:
        def call() -> None:
            optimizer.zero_grad()
            value = loss()
            value.backward()
            optimizer.step()
            self.outs = (value.detach(),)

        return call

    def _mlp(self, config: MLP) -> Callable[[], None]:
        layers: list[torch.nn.Module] = []
        for inputs, outputs in zip(config.widths, config.widths[1:], strict=False):
            layers += [torch.nn.Linear(inputs, outputs), torch.nn.ReLU()]
        model = torch.nn.Sequential(*layers[:-1])
        model.load_state_dict({name: torch.tensor(x) for name, x in config.parameters().items()})
        self.leaves = dict(model.named_parameters())
        x, classes = map(torch.tensor, config.examples())
        loss = self._maybe_compiled(lambda: F.cross_entropy(model(x), classes.long()))
        return self._training(loss, torch.optim.Adam(model.parameters(), lr=1e-3, fused=True))

    def _resnet(self, config: ResNet) -> Callable[[], None]:
        model: Any = torch_resnet.ResNet(config.depth, 1000)
        model.load_state_dict({name: torch.tensor(x) for name, x in config.parameters().items()})
        model = model.to(memory_format=torch.channels_last)
        self.leaves = model.state_dict()
        x, classes = map(torch.tensor, config.examples())
        x = x.to(memory_format=torch.channels_last)
        loss = self._maybe_compiled(lambda: F.cross_entropy(model(x), classes.long()))
        return self._training(loss, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, fused=True))

    def _gpt(self, config: gpt.Config) -> Callable[[], None]:
        params = tree.map(lambda p: torch.tensor(p, requires_grad=True), gpt.init(config))
        names = [tree.path_name(a) for a in tree.accessors(params)]
        self.leaves = dict(zip(names, tree.leaves(params), strict=True))
        tokens, targets = map(torch.tensor, next(gpt.batches(config)))
        loss = self._maybe_compiled(lambda: torch_gpt.loss(params, tokens, targets, config.heads))
        return self._training(loss, torch_gpt.optimizer(list(self.leaves.values())))

    def results(self) -> Arrays:
        if self.leaves:
            (value,) = self.outs
            tensors = {f"0.{name}": p.detach() for name, p in self.leaves.items()} | {"1": value}
        else:
            tensors = {f"0.{i}": x for i, x in enumerate(self.outs)} if len(self.outs) > 1 else {"0": self.outs[0]}
        return {name: np.array(x.float().numpy()) for name, x in tensors.items()}

    def details(self) -> dict[str, float]:
        return {}


class CompiledProgram(Program):
    """The same through torch.compile."""

    compiled = True


def versions() -> dict[str, str]:
    """Of the packages that do the work."""
    return {"torch": torch.__version__}


def warm_up() -> None:
    """Starts what every program needs."""
    torch.ones(1) + 1
