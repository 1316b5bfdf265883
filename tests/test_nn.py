"""Modules as trees and as state, the layers, and the functions, compared with PyTorch's."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import optree
import pytest
import torch

import volta_mlir as volta
from volta_mlir import nn, tree
from volta_mlir.errors import DTypeError, ShapeError, TraceError
from volta_mlir.modules import trainable_mask
from volta_mlir.nn import functional

# -- attributes ------------------------------------------------------------------------------------------------------


class Norm(nn.Module):
    """A layer with a parameter, a buffer and static attributes."""

    def __init__(self, size: int = 3, momentum: float = 0.5) -> None:
        self.weight = nn.Parameter(np.ones(size, np.float32))
        self.mean = nn.Buffer(np.zeros(size, np.float32))
        self.momentum = momentum

    def forward(self, x: Any) -> Any:
        if self.training:
            self.mean = self.mean * self.momentum + x.mean(0) * (1 - self.momentum)
        return (x - self.mean) * self.weight


class Blocks(nn.Module):
    """A model with its layers in containers."""

    def __init__(self) -> None:
        self.layers = [nn.Linear(3, 3), {"inner": nn.Linear(3, 2)}]
        self.scales = (nn.Parameter([1.0]), nn.Parameter([2.0]))
        self.sizes = [3, 3, 2]


class Tied(nn.Module):
    def __init__(self) -> None:
        self.embedding = nn.Linear(3, 4, bias=False)
        self.head = nn.Linear(3, 4, bias=False)
        self.head.weight = self.embedding.weight


def names(module: nn.Module) -> list[str]:
    return [tree.path_name(accessor) for accessor in tree.accessors(module)]


def test_an_attribute_holds_the_plain_tensor():
    norm = Norm()
    assert isinstance(norm.weight, volta.Tensor)
    assert isinstance(norm.mean, volta.Tensor)
    assert (norm.is_trainable("weight"), norm.is_trainable("mean"), norm.is_trainable("momentum")) == (
        True,
        False,
        False,
    )
    assert (norm.is_buffer("weight"), norm.is_buffer("mean"), norm.is_buffer("nothing")) == (False, True, False)


def test_a_parameter_takes_any_tensor_later():
    norm = Norm()
    norm.weight = volta.zeros((2, 2))
    assert norm.weight.shape == (2, 2)
    norm.weight = np.ones(4, np.float32)
    assert isinstance(norm.weight, volta.Tensor)
    assert norm.is_trainable("weight")
    with pytest.raises(TypeError, match=r"Norm\.weight is a parameter; it can't become a str"):
        norm.weight = "ones"


def test_a_parameter_may_be_none():
    linear = nn.Linear(2, 2)
    linear.bias = None
    assert tree.leaves(linear) == [linear.weight, None]
    assert list(linear.state_dict()) == ["weight"] == [name for name, _ in linear.named_parameters()]
    assert "bias=False" in repr(linear)
    linear.bias = volta.ones((2,))
    assert linear.is_trainable("bias")
    del linear.weight
    assert names(linear) == ["bias"]
    with pytest.raises(TypeError, match=r"Norm\.mean is a buffer; it can't become a NoneType"):
        Norm().mean = None


def test_a_buffer_keeps_its_shape_and_dtype():
    norm = Norm()
    norm.mean = np.ones(3, np.float32)
    assert norm.mean.tolist() == [1, 1, 1]
    with pytest.raises(ShapeError, match=r"buffer Norm\.mean has shape \(3,\), got \(2,\)"):
        norm.mean = np.ones(2, np.float32)
    with pytest.raises(DTypeError, match=r"buffer Norm\.mean has dtype float32, got int32"):
        norm.mean = volta.Tensor([1, 2, 3])
    counter = nn.Module()
    counter.count = nn.Buffer(np.int8(0))
    counter.count = 7
    assert counter.count.dtype == np.int8


def test_a_tensor_without_a_marker_is_refused():
    with pytest.raises(TypeError, match=r"Module\.weight = .*nn\.Parameter"):
        nn.Module().weight = volta.ones((2,))
    with pytest.raises(TypeError, match=r"wrap each tensor of a list in nn\.Parameter"):
        nn.Module().weights = [volta.ones((2,))]


def test_markers_check_what_they_mark():
    with pytest.raises(DTypeError, match="floating-point dtype, got int32"):
        nn.Parameter([1, 2])
    module = nn.Module()
    module.table = nn.Parameter([1, 2], trainable=False)
    assert trainable_mask(module) == [False]
    with pytest.raises(TypeError, match="attribute of its own"):
        module.buffers_ = [nn.Buffer([1.0])]
    with pytest.raises(TypeError, match="attributes of their own"):
        module.mixed = [nn.Parameter([1.0]), nn.Parameter([1.0], trainable=False)]


def test_containers_are_children():
    model = Blocks()
    assert names(model) == [
        "layers.0.weight", "layers.0.bias", "layers.1.inner.weight", "layers.1.inner.bias", "scales.0", "scales.1",
    ]  # fmt: skip
    assert list(model.state_dict()) == names(model)
    assert trainable_mask(model) == [True] * 6
    model.layers.append(nn.Linear(2, 2, bias=False))
    assert names(model)[4] == "layers.2.weight"
    assert len(list(model.modules())) == 4


def test_a_list_may_be_filled_later():
    model = nn.Module()
    model.layers, model.weights = [], []
    assert names(model) == []
    model.layers.append(nn.Linear(2, 2))
    model.weights.append(nn.Parameter([1.0]))
    assert names(model) == ["layers.0.weight", "layers.0.bias", "weights.0"]
    model.weights.append(nn.Parameter([2.0]))
    assert names(model)[2:] == ["weights.0", "weights.1"]
    assert [weight.tolist() for weight in model.weights] == [[1.0], [2.0]]
    model.layers.append(volta.ones((2,)))
    with pytest.raises(TypeError, match="wrap each tensor"):
        names(model)


def test_properties_work_as_in_other_classes():
    class Scaled(nn.Module):
        def __init__(self):
            self.log_scale = nn.Parameter([0.0])

        @property
        def scale(self):
            return self.log_scale.exp()

        @scale.setter
        def scale(self, value):
            self.log_scale = volta.log(value)

    module = Scaled()
    module.scale = np.exp(volta.Tensor([2.0]).numpy())
    assert module.log_scale.tolist() == [2.0]
    assert names(module) == ["log_scale"]


def test_call_runs_forward():
    assert nn.Flatten()(np.zeros((2, 3, 4))).shape == (2, 12)
    with pytest.raises(NotImplementedError, match=r"Module defines no forward\(\)"):
        nn.Module()(1)


# -- trees -----------------------------------------------------------------------------------------------------------


def test_flatten_and_unflatten():
    norm = Norm()
    leaves, treedef = tree.flatten(norm)
    assert [leaf is own for leaf, own in zip(leaves, (norm.weight, norm.mean), strict=True)] == [True, True]
    again = tree.unflatten(treedef, leaves)
    assert type(again) is Norm
    assert again.momentum == 0.5
    assert tree.flatten(again)[1] == treedef
    assert names(norm) == ["weight", "mean"]
    assert tree.accessors(norm)[0](norm) is norm.weight


def test_unflatten_takes_any_leaves():
    treedef = tree.flatten(nn.Sequential(Norm(), Blocks()))[1]
    for leaf in (None, object(), volta.spec((2,)), "text"):
        odd = tree.unflatten(treedef, [leaf] * treedef.num_leaves)
        assert tree.leaves(odd) == [leaf] * treedef.num_leaves
        assert tree.flatten(odd)[1] == treedef
    assert optree.tree_all(tree.map(lambda leaf: True, odd), namespace=tree.NAMESPACE)


def test_treedefs_compare_static_attributes():
    def treedef(change=lambda norm: None):
        norm = Norm()
        change(norm)
        return tree.flatten(norm)[1]

    assert treedef() == treedef()
    assert hash(treedef()) == hash(treedef())
    for change in (
        lambda norm: setattr(norm, "momentum", 0.25),
        lambda norm: setattr(norm, "other", [1]),
        lambda norm: norm.eval(),
        lambda norm: norm.freeze(),
    ):
        assert treedef(change) != treedef()
    values = [0, False, 0.0, -0.0, None, "0", (0,), [0], {0}, {0: 0}, frozenset({0}), np.zeros(1), np.zeros(1, "f4")]
    defs = [treedef(lambda norm, v=v: setattr(norm, "momentum", v)) for v in values]
    assert len(set(defs)) == len(values)
    assert defs == [treedef(lambda norm, v=v: setattr(norm, "momentum", copy.deepcopy(v))) for v in values]


def test_static_containers_are_values():
    model = Blocks()
    before = tree.flatten(model)[1]
    twin = tree.unflatten(before, tree.leaves(model))
    twin.sizes.append(7)
    assert model.sizes == [3, 3, 2]
    assert tree.flatten(model)[1] == before != tree.flatten(twin)[1]
    assert tree.unflatten(before, tree.leaves(model)).sizes == [3, 3, 2]
    model.nested = ([1], {"a": {2}})
    twin = tree.map(lambda x: x, model)
    assert twin.nested == model.nested
    assert twin.nested[0] is not model.nested[0]


def test_static_arrays_cannot_change_unnoticed():
    table = np.arange(3)
    module = nn.Module()
    module.table = table
    table[0] = 9
    assert module.table.tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="read-only"):
        module.table[0] = 9


def test_static_attributes_are_hashable():
    class Config:
        __hash__ = None

    module = nn.Module()
    module.config = Config()
    with pytest.raises(TypeError, match=r"Module\.config holds a Config, .*frozen"):
        tree.flatten(module)


def test_trainable_mask():
    norm = Norm()
    assert trainable_mask(norm) == [True, False]
    assert trainable_mask(norm.freeze()) == [False, False]
    assert trainable_mask(norm.unfreeze()) == [True, False]
    linear = nn.Linear(2, 2)
    linear.index = nn.Parameter([1], trainable=False)
    assert trainable_mask(nn.Sequential(linear.requires_grad_(False), Norm())) == [False, False, False, True, False]
    assert trainable_mask(linear.requires_grad_()) == [True, True, False]
    blocks = Blocks().freeze()
    assert trainable_mask(blocks) == [False] * 6


def test_copies_are_independent():
    for duplicate in (copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))):
        model = nn.Sequential(Norm(), nn.Linear(3, 2))
        other = duplicate(model)
        assert tree.flatten(other)[1] == tree.flatten(model)[1]
        other.extra = nn.Parameter([1.0])
        assert (len(names(model)), len(names(other))) == (4, 5)
        assert other[1].weight.tolist() == model[1].weight.tolist()


# -- modes and names -------------------------------------------------------------------------------------------------


def test_train_and_eval_reach_every_module():
    model = nn.Sequential(Blocks(), nn.ReLU())
    assert all(not module.training for module in model.eval().modules())
    assert all(module.training for module in model.train().modules())
    assert [name for name, _ in model.named_modules()] == ["", "0", "0.layers.0", "0.layers.1.inner", "1"]


def test_named_leaves():
    model = nn.Sequential(Norm(), nn.Linear(3, 1))
    assert [name for name, _ in model.named_parameters()] == ["0.weight", "1.weight", "1.bias"]
    assert [name for name, _ in model.named_buffers()] == ["0.mean"]
    assert next(model.parameters()) is model[0].weight
    assert next(model.buffers()) is model[0].mean
    tied = Tied()
    assert [name for name, _ in tied.named_parameters()] == ["embedding.weight"]
    assert list(tied.state_dict()) == ["embedding.weight", "head.weight"]


def test_a_module_in_two_places_is_one():
    layer = nn.Linear(2, 2)
    model = nn.Sequential(layer, nn.ReLU(), layer)
    assert len(list(model.modules())) == 3
    assert len(list(model.parameters())) == 2


def both_models():
    ours = nn.Sequential(
        nn.Flatten(), nn.Linear(6, 4), nn.Tanh(), nn.Sequential(nn.Linear(4, 5, bias=False), nn.ReLU()), nn.Linear(5, 3)
    )
    theirs = torch.nn.Sequential(
        torch.nn.Flatten(),
        torch.nn.Linear(6, 4),
        torch.nn.Tanh(),
        torch.nn.Sequential(torch.nn.Linear(4, 5, bias=False), torch.nn.ReLU()),
        torch.nn.Linear(5, 3),
    )
    return ours, theirs


def test_repr_is_pytorchs():
    ours, theirs = both_models()
    assert repr(ours) == repr(theirs)
    assert repr(Blocks()).splitlines()[1] == "  (layers.0): Linear(in_features=3, out_features=3, bias=True)"


def test_children_and_lookup():
    model = nn.Sequential(Norm(), Blocks(), nn.ReLU())
    model.append(model[2])
    assert [name for name, _ in model.named_children()] == ["0", "1", "2"]
    assert list(model.children()) == [model[0], model[1], model[2]]
    assert model.get_submodule("") is model
    assert model.get_submodule("1.layers.1.inner") is model[1].layers[1]["inner"]
    assert model.get_submodule("3") is model[2]
    assert model.get_parameter("1.scales.1") is model[1].scales[1]
    assert Tied().get_parameter("head.weight").shape == (4, 3)
    assert model.get_buffer("0.mean") is model[0].mean
    for get, target, message in (
        (model.get_submodule, "1.layers.7", "Blocks has no module 'layers.7'"),
        (model.get_parameter, "0.mean", "Sequential has no parameter '0.mean'"),
        (model.get_buffer, "0.weight", "Sequential has no buffer '0.weight'"),
    ):
        with pytest.raises(AttributeError, match=message):
            get(target)
    assert [name for name, _ in model[0].named_parameters(prefix="x")] == ["x.weight"]
    assert [name for name, _ in model.named_parameters(recurse=False)] == []
    assert [name for name, _ in Blocks().named_parameters(recurse=False)] == ["scales.0", "scales.1"]
    assert list(model[0].buffers(recurse=False)) == [model[0].mean]


def test_apply_reaches_children_first():
    seen = []
    model = nn.Sequential(nn.Sequential(nn.Linear(1, 1)), nn.ReLU())
    assert model.apply(seen.append) is model
    assert seen == [model[0][0], model[0], model[1], model]


def test_registration():
    module = nn.Module()
    module.register_parameter("weight", nn.Parameter([1.0]))
    module.register_parameter("bias", None)
    module.register_buffer("steps", 0)
    module.register_buffer("scratch", np.zeros(2, np.float32), persistent=False)
    module.register_buffer("nothing", None)
    module.add_module("act", nn.ReLU())
    module.register_module("act", nn.Tanh())
    assert list(module.state_dict()) == ["weight", "steps"]
    assert (module.bias, module.nothing, repr(module.act)) == (None, None, "Tanh()")
    assert [module.is_buffer(name) for name in ("steps", "scratch")] == [True, True]
    assert [name for name, _ in module.named_buffers()] == ["steps", "scratch"]
    for error, call in (
        (TypeError, lambda: module.register_parameter("other", volta.ones(2))),
        (TypeError, lambda: module.add_module("other", 1)),
        (KeyError, lambda: module.register_buffer("a.b", 0)),
        (KeyError, lambda: module.add_module("", nn.ReLU())),
        (KeyError, lambda: module.register_buffer("forward", 0)),
    ):
        with pytest.raises(error):
            call()


def test_a_buffer_that_is_not_persistent_is_state_all_the_same():
    module = nn.Module()
    module.count = nn.Buffer(0, persistent=False)
    module.total = nn.Buffer([0.0])
    assert names(module) == ["count", "total"]
    assert module.load_state_dict({"total": [2.0]}) == ([], [])

    @volta.jit
    def step(module):
        module.count = module.count + 1

    step(module)
    assert module.count.item() == 1
    with pytest.raises(ShapeError, match="unexpected: count"):
        module.load_state_dict({"total": [2.0], "count": 1})
    with pytest.raises(TypeError, match="can't become a str"):
        module.count = "none"


def test_conversion_to_a_dtype():
    model = Tied()
    model.norm, model.index = Norm(), nn.Buffer(0)
    assert model.to("bfloat16") is model
    assert [leaf.dtype.name for leaf in tree.leaves(model)] == ["bfloat16"] * 4 + ["int32"]
    assert model.head.weight is model.embedding.weight
    dtypes = [call().norm.mean.dtype.name for call in (model.half, model.float, model.double, model.bfloat16)]
    assert dtypes == ["float16", "float32", "float64", "bfloat16"]
    model.head.weight = volta.spec((4, 3))
    assert model.half().head.weight == volta.spec((4, 3), "float16")
    for wrong in ("cuda", "int32", 1.5):
        with pytest.raises(DTypeError, match=r"takes a floating-point dtype, got .*volta\.jit\(f, device="):
            model.to(wrong)


def test_state_in_a_trace():
    saved = []

    @volta.jit
    def build():
        layer = nn.Linear(2, 2)
        layer.weight = layer.weight + 1
        saved.append(layer)
        return layer

    layer = build()
    assert not layer.weight.is_traced
    for use in (pickle.dumps, copy.deepcopy, lambda leaked: nn.Linear(2, 2).load_state_dict(leaked.state_dict())):
        with pytest.raises(TraceError, match="is traced and has no value"):
            use(saved[0])


# -- state -----------------------------------------------------------------------------------------------------------


def test_state_dict_is_pytorchs():
    ours, theirs = both_models()
    expected = {name: tuple(tensor.shape) for name, tensor in theirs.state_dict().items()}
    assert {name: tensor.shape for name, tensor in ours.state_dict().items()} == expected
    ours.load_state_dict(theirs.state_dict())
    x = np.random.default_rng(0).normal(size=(7, 2, 3)).astype(np.float32)
    np.testing.assert_allclose(ours(x), theirs(torch.tensor(x)).detach().numpy(), rtol=1e-5, atol=1e-6)
    theirs.load_state_dict({name: torch.tensor(tensor.numpy()) for name, tensor in ours.state_dict().items()})


def test_loading_copies_and_converts():
    layer = torch.nn.Linear(2, 2, bias=False).to(torch.bfloat16)
    ours = nn.Linear(2, 2, bias=False)
    ours.load_state_dict({"weight": layer.weight})
    assert ours.weight.dtype == np.float32
    np.testing.assert_array_equal(ours.weight, layer.weight.detach().float())
    array = np.ones((2, 2), np.float32)
    ours.load_state_dict({"weight": array})
    array[:] = 0
    assert ours.weight.tolist() == [[1, 1], [1, 1]]


def test_loading_works_in_place_and_in_containers():
    model, other = Blocks(), Blocks()
    layer, scales = model.layers[1]["inner"], model.scales
    state = {name: tensor.numpy() + 1 for name, tensor in other.state_dict().items()}
    model.load_state_dict(state)
    assert model.layers[1]["inner"] is layer
    np.testing.assert_array_equal(layer.weight, state["layers.1.inner.weight"])
    assert model.scales[1].tolist() == [3.0]
    assert scales[1].tolist() == [2.0]
    assert trainable_mask(model) == [True] * 6


def test_loading_lists_everything_that_does_not_fit():
    linear = nn.Linear(2, 3)
    before = linear.weight
    with pytest.raises(ShapeError) as error:
        linear.load_state_dict({"weight": np.zeros((3, 3)), "scale": np.zeros(1)})
    assert str(error.value).splitlines()[:4] == [
        "the state does not fit Linear:",
        "  weight: expected shape (3, 2), got (3, 3)",
        "  missing: bias",
        "  unexpected: scale" + str(error.value).splitlines()[3].removeprefix("  unexpected: scale"),
    ]
    assert linear.weight is before
    differences = linear.load_state_dict({"weight": np.ones((3, 2)), "scale": np.zeros(1)}, strict=False)
    assert differences == (["bias"], ["scale"])
    assert differences.missing_keys == ["bias"]
    assert list(linear.state_dict(prefix="a.")) == ["a.weight", "a.bias"]
    assert linear.weight.tolist() == [[1, 1]] * 3


def test_tied_parameters_are_loaded_once():
    model = Tied()
    array = np.ones((4, 3), np.float32)
    for state in ({"head.weight": array}, {"head.weight": array, "embedding.weight": array}):
        model.load_state_dict(state)
        assert model.head.weight is model.embedding.weight
        assert model.head.weight.numpy().sum() == 12
    with pytest.raises(ShapeError, match=r"head\.weight: is tied to embedding\.weight, but the values differ"):
        model.load_state_dict({"head.weight": array, "embedding.weight": 2 * array})


# -- in compiled functions -------------------------------------------------------------------------------------------


def test_buffers_written_in_a_compiled_function_come_back():
    norm, x = Norm(), np.full((4, 3), 2.0, np.float32)

    @volta.jit
    def apply(norm, x):
        return norm(x).sum()

    assert apply(norm, x).item() == 12
    assert norm.mean.tolist() == [1.0, 1.0, 1.0]
    assert apply(norm, x).item() == 6
    assert norm.mean.tolist() == [1.5, 1.5, 1.5]
    norm.eval()
    assert apply(norm, x).item() == 6
    assert norm.mean.tolist() == [1.5, 1.5, 1.5]


def test_buffers_of_a_captured_module_come_back():
    norm = Norm()
    apply = volta.jit(lambda x: norm(x))
    for expected in (1.0, 1.5):
        apply(np.full((4, 3), 2.0, np.float32))
        assert norm.mean.tolist() == [expected] * 3


def test_a_buffer_in_two_places_cannot_be_written_in_a_trace():
    norm = Norm()
    apply = volta.jit(lambda model, x: model(x))
    model, x = nn.Sequential(norm, norm), np.ones((4, 3), np.float32)
    with pytest.raises(TraceError, match=r"buffer 0\.mean is assigned .* belongs to two places"):
        apply(model, x)
    assert apply(model.eval(), x).shape == (4, 3)


@pytest.mark.parametrize("compiled", [False, True])
def test_gradients_are_of_trainable_parameters(compiled):
    def loss(model, x):
        return (model(x) ** 2).sum()

    gradient = volta.grad(loss)
    if compiled:
        gradient = volta.jit(gradient)
    model, x = nn.Sequential(Norm(), nn.Linear(3, 2).freeze()), np.ones((2, 3), np.float32)
    grads = gradient(model, x)
    assert isinstance(grads, nn.Sequential)
    assert grads[0].weight.shape == (3,)
    assert (grads[0].mean, grads[1].weight, grads[1].bias) == (None, None, None)
    assert model[0].mean.tolist() == [0.5, 0.5, 0.5]


def test_tied_parameters_get_one_gradient():
    def loss(model, x):
        return (model.embedding(x) * model.head(2 * x)).sum()

    grads = volta.grad(loss)(Tied(), np.ones((1, 3), np.float32))
    assert grads.head.weight is grads.embedding.weight


def test_tied_parameters_are_one_argument_of_an_artifact(tmp_path):
    model, x = Tied(), np.ones((1, 3), np.float32)
    step = volta.jit(lambda model, x: (tree.map(lambda w: 2 * w, model), model.head(x)))
    step.lower(model, x).compile().save(tmp_path / "step.vmfb")
    function = next(iter(volta.load(tmp_path / "step.vmfb").functions.values()))
    assert [spec.path for spec in function.signature.args.leaves()] == ["model.embedding.weight", "x"]
    weight = model.head.weight.numpy()
    result, y = function({"embedding": {"weight": weight}, "head": {"weight": weight}}, x)
    np.testing.assert_allclose(y, model.head(x), rtol=1e-6)
    np.testing.assert_array_equal(result["head"]["weight"], 2 * weight)
    with pytest.raises(ShapeError, match=r"head\.weight: got another array, .* passed as model\.embedding\.weight"):
        function({"embedding": {"weight": weight}, "head": {"weight": weight.copy()}}, x)


def test_specs_stand_for_parameters(tmp_path):
    layer = nn.Linear(3, 2)
    layer.weight, layer.bias = volta.spec((5, 3)), nn.Parameter(volta.spec(5))
    lowered = volta.jit(lambda layer, x: layer(x)).lower(layer, volta.spec((4, 3)))
    assert "-> tensor<4x5xf32>" in lowered.as_text()


def test_modules_with_static_changes_are_traced_again():
    traces = []

    @volta.jit
    def apply(model, x):
        traces.append(model.momentum)
        return x * model.momentum

    model = Norm()
    x = np.ones(2, np.float32)
    for momentum in (0.5, 0.25, 0.5, 0.25):
        model.momentum = momentum
        assert apply(model, x).tolist() == [momentum] * 2
    assert traces == [0.5, 0.25]


# -- layers and functions --------------------------------------------------------------------------------------------


def test_initialisation():
    nn.manual_seed(3)
    first = nn.Linear(100, 50)
    bound = 1 / np.sqrt(100)
    for tensor in (first.weight, first.bias):
        values = tensor.numpy()
        assert values.dtype == np.float32
        assert 0.8 * bound < abs(values).max() <= bound
        assert abs(values.mean()) < 0.2 * bound
    nn.manual_seed(3)
    np.testing.assert_array_equal(nn.Linear(100, 50).weight, first.weight)
    assert nn.Linear(2, 2, dtype="float16").bias.dtype == np.float16
    assert nn.Linear(0, 2).weight.shape == (2, 0)


def test_linear_refuses_other_shapes():
    with pytest.raises(ShapeError, match=r"linear: expected an input of shape \(\.\.\., 3\), got float32\[2,4\]"):
        nn.Linear(3, 2)(np.zeros((2, 4), np.float32))


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def compare_with_torch(ours, theirs, *arrays, rtol=1e-5):
    """Compares values and, by every float array, the gradients of the sum of squares."""
    tensors = [torch.tensor(a, requires_grad=a.dtype.kind == "f") for a in arrays]
    expected = theirs(*tensors)
    np.testing.assert_allclose(ours(*arrays), expected.detach().numpy(), rtol=rtol, atol=1e-6)
    (expected**2).sum().backward()
    floats = tuple(i for i, a in enumerate(arrays) if a.dtype.kind == "f")
    gradients = volta.grad(lambda *args: (ours(*args) ** 2).sum(), argnums=floats)(*arrays)
    for i, gradient in zip(floats, gradients, strict=True):
        np.testing.assert_allclose(gradient, tensors[i].grad.numpy(), rtol=rtol, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("relu", {}), ("tanh", {}), ("softmax", {"dim": 0}), ("softmax", {"dim": -1}), ("log_softmax", {"dim": 1})],
)
def test_functions_of_one_tensor(rng, name, arguments):
    x = rng.normal(size=(4, 5)).astype(np.float32)
    x[0, :2] = 0, 50
    theirs = torch.tanh if name == "tanh" else getattr(torch.nn.functional, name)
    compare_with_torch(lambda x: getattr(functional, name)(x, **arguments), lambda x: theirs(x, **arguments), x)


def test_relu_of_nan_is_nan():
    assert np.isnan(functional.relu([np.nan]).numpy()).all()


def test_flatten():
    x = np.zeros((2, 3, 4, 5))
    for arguments in ((), (1,), (0, 1), (2, 2), (-2, -1)):
        assert nn.Flatten(*arguments)(x).shape == torch.nn.Flatten(*arguments)(torch.tensor(x)).shape
    with pytest.raises(ShapeError, match=r"axis 2 of .* comes after axis 1"):
        nn.Flatten(2, 1)(x)
