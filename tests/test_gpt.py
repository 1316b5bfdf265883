"""The acceptance test: a GPT's training step traces, lowers, compiles, and computes what PyTorch's computes."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
import torch

import volta_mlir as volta
from tests.models import gpt, torch_gpt
from tests.tolerances import norm
from volta_mlir import Tensor, tree
from volta_mlir.compilation import Compiled
from volta_mlir.plan import Plan

pytestmark = pytest.mark.no_cover

RELATIVE = 1e-4

train_step = volta.jit(gpt.train_step, static="heads", donate=gpt.DONATED)


def relative_errors(actual: Any, expected: Any) -> dict[str, float]:
    names = [tree.path_name(a) for a in tree.accessors(actual)]
    return {
        name: norm(a - e) / norm(e)
        for name, a, e in zip(names, tree.leaves(actual), tree.leaves(expected), strict=True)
    }


def assert_close(actual: Any, expected: Any) -> None:
    wrong = {name: error for name, error in relative_errors(actual, expected).items() if not error <= RELATIVE}
    assert not wrong


def check_against_pytorch(config: gpt.Config, steps: int) -> None:
    """Losses and parameters of some steps, and all gradients of the first."""
    params = tree.map(lambda p: torch.tensor(p, requires_grad=True), gpt.init(config))
    optimizer = torch_gpt.optimizer(tree.leaves(params))
    state = gpt.state(config)
    for number, (tokens, targets) in zip(range(steps), gpt.batches(config), strict=False):
        optimizer.zero_grad()
        expected = torch_gpt.loss(params, torch.tensor(tokens), torch.tensor(targets), config.heads)
        expected.backward()
        *state, loss = train_step(*state, Tensor(tokens), Tensor(targets), config.heads)
        assert loss.item() == pytest.approx(expected.item(), rel=RELATIVE)
        if number == 0:  # the first moment began with zeros: it is the gradient, scaled
            gradients = tree.map(lambda m: m.numpy() / (1 - gpt.BETA1), state[1])
            assert_close(gradients, tree.map(lambda p: p.grad.numpy(), params))
        optimizer.step()
        assert_close(tree.map(Tensor.numpy, state[0]), tree.map(lambda p: p.detach().numpy(), params))


def test_a_small_gpt_trains_as_in_pytorch() -> None:
    check_against_pytorch(gpt.SMALL, steps=5)


def test_the_gpt_trains_as_in_pytorch() -> None:
    check_against_pytorch(gpt.Config(), steps=2)


_COUNTED = ("dot_general", "attention", "attention_grad", "transpose", "convert", "reduce_sum")


def test_the_gpt_lowers_to_a_compact_program() -> None:
    config = gpt.Config()
    lowered = train_step.lower(*gpt.arguments(config))
    linalg = lowered.as_text("linalg")
    assert set(re.findall(r"volta\.\w+", linalg)) <= {"volta.name", "volta.donated", "volta.kernel"}
    # Six layers forward and backward, and the update of 76 tensors: what is redundant would show here.
    text = lowered.as_text("volta-alias")
    counts = {op: text.count(f'"volta.{op}"') for op in _COUNTED}
    layers = config.layers
    assert counts["dot_general"] == 3 * (4 * layers + 1)
    assert counts["attention"] == counts["attention_grad"] == layers
    assert counts["transpose"] <= 11 * layers  # of heads and their biases, around attention and its gradient
    assert counts["convert"] <= 2  # of the number of steps
    assert counts["reduce_sum"] <= 20 * layers + 20


def test_every_donation_of_the_gpt_is_in_place() -> None:
    report = train_step.lower(*gpt.arguments(gpt.SMALL)).compile().report
    assert not report.dropped
    assert not report.fallback


def test_updates_wait_for_what_is_computed_again() -> None:
    """Where a GPT computes values again, the last block's bias is read late for that, and IREE updates it early."""
    lowered = train_step.lower(*gpt.arguments(replace(gpt.Config(), layers=1)))
    assert lowered.remat_report().rows
    assert not Compiled(lowered, None, plan_only=True).report.dropped


#: Dispatches and bytes moved of a step without fusion.
UNFUSED = 607, 7_137_580_668


def plan_of_the_gpt(fuse: bool) -> Plan:
    options = {"fuse": fuse, "memory_budget": None}
    step = volta.jit(gpt.train_step, static="heads", donate=gpt.DONATED, options=options)
    return step.lower(*gpt.arguments(gpt.Config())).compile("cpu:x86-64-v3").plan


def test_fusion_saves_two_dispatches_of_five() -> None:
    plan = plan_of_the_gpt(fuse=True)
    assert plan.dispatches <= 0.6 * UNFUSED[0]
    assert plan.bytes_moved <= 0.63 * UNFUSED[1]


@pytest.mark.full
def test_what_fusion_is_compared_with() -> None:
    plan = plan_of_the_gpt(fuse=False)
    assert (plan.dispatches, plan.bytes_moved) == UNFUSED
