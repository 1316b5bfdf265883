"""The schedules, value by value against PyTorch's."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.optim import lr_scheduler

import volta_mlir as volta
from volta_mlir import optim

STEPS = 200
LR = 0.1

#: Schedules and their arguments, but for the base learning rate.
CASES: list[tuple[str, dict[str, Any]]] = [
    ("StepLR", {"step_size": 30}),
    ("StepLR", {"step_size": 7, "gamma": 0.9}),
    ("MultiStepLR", {"milestones": [0, 30, 80, 80], "gamma": 0.3}),
    ("ConstantLR", {"factor": 0.25, "total_iters": 40}),
    ("ConstantLR", {}),
    ("LinearLR", {}),
    ("LinearLR", {"start_factor": 0.1, "end_factor": 0.7, "total_iters": 60}),
    ("ExponentialLR", {"gamma": 0.97}),
    ("PolynomialLR", {}),
    ("PolynomialLR", {"total_iters": 150, "power": 2.5}),
    ("CosineAnnealingLR", {"T_max": 30, "eta_min": 0.01}),
    ("CosineAnnealingLR", {"T_max": 1}),
    ("CosineAnnealingLR", {"T_max": 200}),
    ("CosineAnnealingWarmRestarts", {"T_0": 13}),
    ("CosineAnnealingWarmRestarts", {"T_0": 1, "T_mult": 2, "eta_min": 0.01}),
    ("CosineAnnealingWarmRestarts", {"T_0": 5, "T_mult": 3}),
    ("MultiplicativeLR", {"lr_lambda": lambda step: 1 - 1 / (step + 10)}),
    ("LambdaLR", {"lr_lambda": lambda step: 1 / (1 + 0.1 * step)}),
]

#: Schedules that do not take the base learning rate.
WHOLE: list[tuple[str, dict[str, Any]]] = [
    ("OneCycleLR", {"max_lr": 0.3, "total_steps": STEPS}),
    ("OneCycleLR", {"max_lr": 0.3, "epochs": 20, "steps_per_epoch": 10, "anneal_strategy": "linear"}),
    ("OneCycleLR", {"max_lr": 0.3, "total_steps": STEPS, "pct_start": 0.25, "three_phase": True, "div_factor": 5.0}),
    (
        "OneCycleLR",
        {
            "max_lr": 0.3,
            "total_steps": STEPS,
            "three_phase": True,
            "anneal_strategy": "linear",
            "final_div_factor": 7.0,
        },
    ),
    ("CyclicLR", {"base_lr": 0.1, "max_lr": 0.5, "step_size_up": 20}),
    ("CyclicLR", {"base_lr": 0.1, "max_lr": 0.5, "step_size_up": 10, "step_size_down": 25, "mode": "triangular2"}),
    ("CyclicLR", {"base_lr": 0.1, "max_lr": 0.5, "step_size_up": 10, "mode": "exp_range", "gamma": 0.99}),
    ("CyclicLR", {"base_lr": 0.1, "max_lr": 0.5, "step_size_up": 10, "scale_fn": lambda cycle: 1 / cycle}),
    (
        "CyclicLR",
        {
            "base_lr": 0.1,
            "max_lr": 0.5,
            "step_size_up": 10,
            "scale_fn": lambda step: 0.99**step,
            "scale_mode": "iterations",
        },
    ),
]


def pytorchs(make: Callable[[torch.optim.Optimizer], Any], steps: int = STEPS) -> list[float]:
    """The learning rates that PyTorch's optimizer is given."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=LR)
    values = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the parameters are not updated
        scheduler = make(optimizer)
        for _ in range(steps):
            values.append(float(optimizer.param_groups[0]["lr"]))
            scheduler.step()
    return values


def pairs() -> list[tuple[str, Any, list[float]]]:
    """A name, a schedule, and PyTorch's values."""
    found = []
    for name, options in CASES:
        theirs = pytorchs(lambda o, name=name, options=options: getattr(lr_scheduler, name)(o, **options))
        found.append((f"{name} {options}", getattr(optim, name)(LR, **options), theirs))
    for name, options in WHOLE:
        theirs = pytorchs(
            lambda o, name=name, options=options: getattr(lr_scheduler, name)(o, **options, cycle_momentum=False)
        )
        found.append((f"{name} {options}", getattr(optim, name)(**options), theirs))

    chains = [
        [("ConstantLR", {"factor": 0.25, "total_iters": 40}), ("ExponentialLR", {"gamma": 0.99})],
        [("LinearLR", {"total_iters": 20}), ("StepLR", {"step_size": 50}), ("PolynomialLR", {"total_iters": 300})],
    ]
    for chain in chains:
        theirs = pytorchs(
            lambda o, chain=chain: lr_scheduler.ChainedScheduler(
                [getattr(lr_scheduler, name)(o, **options) for name, options in chain]
            )
        )
        schedule = optim.ChainedScheduler([getattr(optim, name)(LR, **options) for name, options in chain])
        found.append((f"ChainedScheduler {chain}", schedule, theirs))

    for name, options in CASES[1::2]:  # each after a warm-up, which begins it anew
        theirs = pytorchs(
            lambda o, name=name, options=options: lr_scheduler.SequentialLR(
                o,
                [
                    lr_scheduler.LinearLR(o, start_factor=0.1, total_iters=20),
                    getattr(lr_scheduler, name)(o, **options),
                    lr_scheduler.ExponentialLR(o, gamma=0.9),
                ],
                milestones=[20, 120],
            )
        )
        schedules = [
            optim.LinearLR(LR, start_factor=0.1, total_iters=20),
            getattr(optim, name)(LR, **options),
            optim.ExponentialLR(LR, gamma=0.9),
        ]
        found.append((f"SequentialLR {name} {options}", optim.SequentialLR(schedules, milestones=[20, 120]), theirs))
    return found


PAIRS = pairs()


# Numbered, since the text of a function among the options differs between processes.
NAMES = [f"{i} {name.partition(' ')[0]}" for i, (name, _, _) in enumerate(PAIRS)]


@pytest.mark.parametrize(("schedule", "expected"), [pair[1:] for pair in PAIRS], ids=NAMES)
def test_every_value_is_pytorchs(schedule: Any, expected: list[float]) -> None:
    numbers = [schedule(step) for step in range(0, STEPS, 7)]
    assert {type(number) for number in numbers} == {float}
    np.testing.assert_allclose(numbers, expected[::7], rtol=1e-11, atol=1e-14)
    values = schedule(volta.arange(STEPS))
    assert values.dtype == np.float32 and values.shape == (STEPS,)
    np.testing.assert_allclose(values, expected, rtol=3e-6, atol=1e-7 * max(expected))


def test_every_compiled_value_is_pytorchs() -> None:
    """One program with every kind of schedule, as a function of one step."""
    pairs = [pair for pair in PAIRS if "Sequential" not in pair[0]] + PAIRS[-1:]

    @volta.jit
    def at(steps: Any) -> Any:
        return volta.vmap(lambda step: [schedule(step) for _, schedule, _ in pairs])(steps)

    for (name, _, expected), values in zip(pairs, at(np.arange(STEPS, dtype=np.int32)), strict=True):
        np.testing.assert_allclose(values, expected, rtol=3e-6, atol=1e-7 * max(expected), err_msg=name)


def test_a_schedule_steers_an_optimizer() -> None:
    schedule = optim.SequentialLR(
        [optim.LinearLR(0.5, start_factor=0.5, total_iters=4), optim.CosineAnnealingLR(0.5, T_max=6)], [4]
    )
    optimizer = optim.SGD(lr=schedule)
    w = volta.Tensor(0.0)
    state = optimizer.init(w)
    step = volta.jit(optimizer.update, donate=("params", "state"))
    total = 0.0
    for count in range(12):
        w, state = step(w, volta.Tensor(-1.0), state)
        total += schedule(count)
        np.testing.assert_allclose(w, total, rtol=1e-6)
    assert hash(schedule) == hash(
        optim.SequentialLR(
            (optim.LinearLR(0.5, start_factor=0.5, total_iters=4), optim.CosineAnnealingLR(0.5, T_max=6)), (4,)
        )
    )


def test_warmup_and_cosine() -> None:
    schedule = optim.WarmupCosineLR(0.3, warmup_steps=10, total_steps=150, min_lr=0.02)
    for step in range(STEPS):
        if step < 10:
            expected = 0.3 * (step + 1) / 11
        elif step > 150:
            expected = 0.02
        else:
            expected = 0.02 + 0.5 * (1 + math.cos(math.pi * (step - 10) / 140)) * 0.28
        np.testing.assert_allclose(schedule(step), expected, rtol=1e-12)
    assert optim.WarmupCosineLR(0.3, warmup_steps=0, total_steps=10)(0) == 0.3


def test_large_steps_are_exact() -> None:
    schedule = optim.CosineAnnealingWarmRestarts(1.0, T_0=3, T_mult=2)
    restart = 3 * (2**20 - 1)
    assert schedule(restart) == 1.0 and schedule(volta.Tensor(restart)).item() == 1.0
    assert schedule(restart - 1) < 1e-10
    assert optim.CosineAnnealingLR(1.0, T_max=100)(volta.Tensor(2_000_000)).item() == 1.0
    assert optim.StepLR(1.0, step_size=3, gamma=0.999)(volta.Tensor(2_999)).item() == pytest.approx(0.999**999)


PLATEAUS: list[dict[str, Any]] = [
    {},
    {"factor": 0.5, "patience": 2, "cooldown": 3},
    {"mode": "max", "factor": 0.5, "patience": 1, "threshold": 0.05, "threshold_mode": "abs"},
    {"mode": "max", "factor": 0.7, "patience": 0, "threshold": 0.1},
    {"factor": 0.5, "patience": 1, "threshold": 0.3, "threshold_mode": "abs", "min_lr": 0.02},
    {"factor": 0.5, "patience": 0, "cooldown": 1, "eps": 0.02},
]


def test_every_learning_rate_on_a_plateau_is_pytorchs() -> None:
    rng = np.random.default_rng(0)
    metrics = (1 + np.exp(-np.arange(STEPS) / 20) + 0.05 * rng.normal(size=STEPS)).astype(np.float32)
    metrics[50] = np.nan
    schedulers = []
    for options in PLATEAUS:
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=LR)
        schedulers.append(lr_scheduler.ReduceLROnPlateau(optimizer, **options))
    plateaus = [optim.ReduceLROnPlateau(LR, **options) for options in PLATEAUS]
    eager = [plateau.init() for plateau in plateaus]
    states = [plateau.init() for plateau in plateaus]

    @volta.jit(donate=("states",))
    def step(metric: Any, states: Any) -> Any:
        return [plateau.update(metric, state) for plateau, state in zip(plateaus, states, strict=True)]

    for i, metric in enumerate(metrics):
        states = step(metric, states)
        if i < 20:
            eager = [plateau.update(float(metric), state) for plateau, state in zip(plateaus, eager, strict=True)]
        for options, scheduler, state, early in zip(PLATEAUS, schedulers, states, eager, strict=True):
            scheduler.step(float(metric))
            for found in (state, early) if i < 20 else (state,):
                np.testing.assert_allclose(found["lr"], scheduler.optimizer.param_groups[0]["lr"], rtol=1e-5)
                np.testing.assert_allclose(found["best"], scheduler.best, rtol=1e-6, err_msg=str(options))
                assert found["num_bad_epochs"].item() == scheduler.num_bad_epochs
                assert found["cooldown_counter"].item() == scheduler.cooldown_counter
    rates = [state["lr"].item() for state in states]
    assert max(rates) < LR / 2, "a case without a reduction tests nothing"


def test_a_plateau_steers_an_optimizer() -> None:
    plateau = optim.ReduceLROnPlateau(lr=1.0, factor=0.5, patience=0)

    @volta.jit(donate=("w", "schedule"))
    def step(w: Any, schedule: Any, loss: Any) -> Any:
        optimizer = optim.SGD(lr=schedule["lr"])
        w, _ = optimizer.update(w, volta.Tensor(-1.0), optimizer.init(w))
        return w, plateau.update(loss, schedule)

    w, schedule = volta.Tensor(0.0), plateau.init()
    for _ in range(3):
        w, schedule = step(w, schedule, volta.Tensor(1.0))
    assert (w.item(), schedule["lr"].item()) == (2.5, 0.25)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("StepLR", {"lr": 1.0, "step_size": 0}, "Expected positive integer step_size, but got 0"),
        ("ConstantLR", {"lr": 1.0, "factor": 1.5}, "multiplicative factor expected to be between 0 and 1, got 1.5"),
        ("ConstantLR", {"lr": 1.0, "total_iters": 0}, "positive integer total_iters, but got 0"),
        ("LinearLR", {"lr": 1.0, "start_factor": 0}, "Starting multiplicative factor .* got 0"),
        ("LinearLR", {"lr": 1.0, "end_factor": -1}, "end_factor: multiplicative factor .* got -1"),
        ("LinearLR", {"lr": 1.0, "total_iters": -1}, "positive integer total_iters, but got -1"),
        ("PolynomialLR", {"lr": 1.0, "total_iters": 2.5}, "positive integer total_iters, but got 2.5"),
        ("CosineAnnealingLR", {"lr": 1.0, "T_max": 0}, "positive integer T_max, but got 0"),
        ("CosineAnnealingWarmRestarts", {"lr": 1.0, "T_0": 0}, "positive integer T_0, but got 0"),
        ("CosineAnnealingWarmRestarts", {"lr": 1.0, "T_0": 1, "T_mult": 0.5}, "positive integer T_mult, but got 0.5"),
        ("WarmupCosineLR", {"lr": 1.0, "warmup_steps": 5, "total_steps": 5}, "warmup_steps=5, total_steps=5"),
        ("OneCycleLR", {"max_lr": 1.0}, "You must define either total_steps OR"),
        ("OneCycleLR", {"max_lr": 1.0, "total_steps": 0}, "positive integer total_steps, but got 0"),
        ("OneCycleLR", {"max_lr": 1.0, "epochs": 0, "steps_per_epoch": 1}, "positive integer epochs, but got 0"),
        ("OneCycleLR", {"max_lr": 1.0, "total_steps": 9, "pct_start": 1.5}, "between 0 and 1 pct_start, but got 1.5"),
        ("OneCycleLR", {"max_lr": 1.0, "total_steps": 9, "anneal_strategy": "x"}, "'cos' or 'linear', instead got x"),
        ("OneCycleLR", {"max_lr": 1.0, "total_steps": 9, "cycle_momentum": True}, "cycle_momentum is not supported"),
        ("CyclicLR", {"base_lr": 0.1, "max_lr": 1.0, "step_size_up": 0}, "positive integer step_size_up, but got 0"),
        ("CyclicLR", {"base_lr": 0.1, "max_lr": 1.0, "step_size_down": 0}, "positive integer step_size_down"),
        ("CyclicLR", {"base_lr": 0.1, "max_lr": 1.0, "mode": "square"}, "mode is invalid and scale_fn is None: square"),
        ("CyclicLR", {"base_lr": 0.1, "max_lr": 1.0, "scale_mode": "x"}, "scale_mode must be one of .* instead got x"),
        ("CyclicLR", {"base_lr": 0.1, "max_lr": 1.0, "cycle_momentum": True}, "cycle_momentum is not supported"),
        ("SequentialLR", {"schedulers": [], "milestones": []}, "at least one scheduler"),
        ("SequentialLR", {"schedulers": [math.sin], "milestones": [1]}, "number of schedulers 1 .* equal to 1"),
        ("ChainedScheduler", {"schedulers": []}, "at least one scheduler"),
        (
            "ChainedScheduler",
            {"schedulers": [optim.ExponentialLR(1.0, 0.5), optim.ExponentialLR(2.0, 0.5)]},
            r"the same base lr, but got \[1.0, 2.0\]",
        ),
        ("ReduceLROnPlateau", {"lr": 1.0, "factor": 1.0}, "Factor should be < 1.0, got 1.0"),
        ("ReduceLROnPlateau", {"lr": 1.0, "mode": "best"}, "mode best is unknown!"),
        ("ReduceLROnPlateau", {"lr": 1.0, "threshold_mode": "best"}, "threshold mode best is unknown!"),
    ],
)
def test_bad_arguments(name: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        getattr(optim, name)(**arguments)


def test_what_schedules_refuse() -> None:
    with pytest.raises(TypeError, match="which CosineAnnealingLR does not have"):
        optim.ChainedScheduler([optim.CosineAnnealingLR(1.0, T_max=10)])
    one_cycle = optim.OneCycleLR(1.0, total_steps=10)
    with pytest.raises(ValueError, match=r"Tried to step 11 times\. The specified number of total steps is 10"):
        one_cycle(11)
    assert one_cycle(volta.Tensor(11)).item() == one_cycle(volta.Tensor(10)).item()
    with pytest.raises(TypeError):
        optim.StepLR(1.0, step_size=3)(2.5)
