"""Optimizers and learning rate schedules with PyTorch's names, arguments and arithmetic, as pure functions.

::

    optimizer = optim.AdamW(lr=optim.WarmupCosineLR(3e-4, warmup_steps=100, total_steps=5000), weight_decay=0.1)
    state = optimizer.init(model)

    @volta.jit(donate=("model", "state"))
    def train_step(model, state, x, y):
        loss, gradients = volta.value_and_grad(loss_of)(model, x, y)
        gradients, norm = optim.clip_grad_norm(gradients, 1.0)
        model, state = optimizer.update(model, gradients, state)
        return model, state, loss

An optimizer is a frozen dataclass of hyperparameters with the pure functions ``init`` and ``update``. There is no class
on top that holds parameters and state and has a ``step()``: it would hide which tensors go through the compiled step,
and what is donated, to save one line of the loop.

``lr`` may be a number, a scalar tensor, or a schedule, which is evaluated in the compiled step. Other hyperparameters
are numbers, and a part of the program. PyTorch's ``foreach``, ``fused``, ``capturable`` and ``differentiable``, which
choose an implementation, have no counterpart: the compiler chooses. There is no LBFGS, which evaluates the loss several
times in an update, nor Muon, nor SparseAdam, since gradients are dense.

:class:`ParamGroups` gives groups of parameters their own hyperparameters, :class:`Accumulate` applies an optimizer at
every k-th call, :class:`EMA` averages parameters. They are values like optimizers, and combine. ``clip_grad_norm_`` and
``clip_grad_value_`` of ``torch.nn.utils`` are :func:`clip_grad_norm` and :func:`clip_grad_value` here, since gradients
are values, and not changed in place.

**State.** ``state["step"]`` counts the updates, and ``state[slot][name]`` is what PyTorch's
``optimizer.state_dict()["state"][i][slot]`` is for the i-th of ``model.named_parameters()``, under the same slot
names: ``momentum_buffer``, ``exp_avg``, …. PyTorch counts for each parameter on its own; here a parameter that is left
out of an update for want of a gradient is treated in the next one as if it had been in all. Of ASGD only ``ax`` is
kept. State is in float32 for parameters of half precision.

>>> import torch
>>> from volta_mlir import Tensor, nn, optim
>>> theirs = torch.nn.Linear(3, 2)
>>> torch_optimizer = torch.optim.Adam(theirs.parameters())
>>> theirs(torch.ones(3)).sum().backward()
>>> torch_optimizer.step()
>>> model = nn.Linear(3, 2)
>>> _ = model.load_state_dict(theirs.state_dict())
>>> state = optim.Adam().init(model)
>>> for i, (name, _) in enumerate(theirs.named_parameters()):
...     for slot, value in torch_optimizer.state_dict()["state"][i].items():
...         if slot == "step":
...             state["step"] = Tensor(int(value))
...         else:
...             state[slot][name] = Tensor(value.numpy())
>>> state["step"].item(), state["exp_avg"]["bias"].round(3).tolist()
(1, [0.10000000149011612, 0.10000000149011612])
"""

from volta_mlir.optim.accumulate import Accumulate
from volta_mlir.optim.adam import Adam, Adamax, AdamW, NAdam, RAdam
from volta_mlir.optim.adaptive import Adadelta, Adafactor, Adagrad, RMSprop
from volta_mlir.optim.clip import clip_grad_norm, clip_grad_value, global_norm
from volta_mlir.optim.ema import EMA
from volta_mlir.optim.groups import ParamGroups
from volta_mlir.optim.optimizer import Optimizer, Rule
from volta_mlir.optim.schedules import (
    ChainedScheduler,
    ConstantLR,
    CosineAnnealingLR,
    CosineAnnealingWarmRestarts,
    CyclicLR,
    ExponentialLR,
    LambdaLR,
    LinearLR,
    MultiplicativeLR,
    MultiStepLR,
    OneCycleLR,
    PolynomialLR,
    ReduceLROnPlateau,
    Schedule,
    SequentialLR,
    StepLR,
    WarmupCosineLR,
)
from volta_mlir.optim.sgd import ASGD, SGD
from volta_mlir.optim.sign import Lion, Rprop

__all__ = [
    "ASGD",
    "EMA",
    "SGD",
    "Accumulate",
    "Adadelta",
    "Adafactor",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "ChainedScheduler",
    "ConstantLR",
    "CosineAnnealingLR",
    "CosineAnnealingWarmRestarts",
    "CyclicLR",
    "ExponentialLR",
    "LambdaLR",
    "LinearLR",
    "Lion",
    "MultiStepLR",
    "MultiplicativeLR",
    "NAdam",
    "OneCycleLR",
    "Optimizer",
    "ParamGroups",
    "PolynomialLR",
    "RAdam",
    "RMSprop",
    "ReduceLROnPlateau",
    "Rprop",
    "Rule",
    "Schedule",
    "SequentialLR",
    "StepLR",
    "WarmupCosineLR",
    "clip_grad_norm",
    "clip_grad_value",
    "global_norm",
]
