"""What models of images share: preparing photographs, checking inputs, and weights from files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

import volta_mlir as volta
from volta_mlir import nn
from volta_mlir.errors import DTypeError, OptionError, ShapeError
from volta_mlir.functions.common import as_tensor
from volta_mlir.tensor import Tensor

M = TypeVar("M", bound=nn.Module)

#: Means and standard deviations of ImageNet's red, green and blue, of pixels from 0 to 1.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def preprocess(
    image: Any,
    size: int = 224,
    resize: int | None = None,
    mode: str = "bicubic",
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
) -> Tensor:
    """A photograph as a model wants it: resized, the middle cut out, and normalized.

    Args:
        image: ``[H, W, 3]``, an array of uint8 from 0 to 255 or of floating-point numbers from 0 to 1, or an image of
            Pillow in the mode RGB.
        size: extent of the square that is cut out, in pixels.
        resize: extent of the shorter side before that, in pixels; by default ``size * 8 / 7``, which is 256 for 224.
        mode: ``"bicubic"`` or ``"bilinear"``; where the image gets smaller the weights spread out, as in Pillow.
        mean: is subtracted from red, green and blue, which are from 0 to 1 then; ImageNet's by default.
        std: divides them after that.

    Returns:
        float32 of shape ``[1, 3, size, size]``.

    Raises:
        ShapeError: the image is not ``[H, W, 3]``.
        DTypeError: it is neither of uint8 nor of floating-point numbers.
        ValueError: floating-point numbers are not from 0 to 1, or ``resize`` is smaller than ``size``.

    >>> photograph = np.zeros((300, 400, 3), np.uint8)
    >>> preprocess(photograph).shape
    (1, 3, 224, 224)
    """
    resize = round(size * 8 / 7) if resize is None else resize
    if resize < size:
        raise OptionError(f"preprocess: resize must be at least size, got {resize} and {size}")
    pixels = np.asarray(image)
    if pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ShapeError(f"preprocess: expected an RGB image of shape [H, W, 3], got {list(pixels.shape)}")
    white = 255 if pixels.dtype == np.uint8 else 1
    if white == 1 and not np.issubdtype(pixels.dtype, np.floating):
        raise DTypeError(f"preprocess: expected pixels of uint8, or of floating-point numbers, got {pixels.dtype}")
    if pixels.min() < 0 or pixels.max() > white:
        raise OptionError(f"preprocess: floating-point pixels are from 0 to 1, got {pixels.min()} to {pixels.max()}")
    x = pixels.astype(np.float32).transpose(2, 0, 1)[None]
    height, width = x.shape[2:]
    shorter = min(height, width)
    extents = [height * resize // shorter, width * resize // shorter]
    x = np.asarray(nn.functional.interpolate(x, extents, mode=mode, antialias=True))
    x = (x / white).clip(0, 1)  # a cubic kernel overshoots at edges
    top, left = (extents[0] - size) // 2, (extents[1] - size) // 2
    x = x[:, :, top : top + size, left : left + size]
    offset, scale = (np.asarray(values, np.float32)[:, None, None] for values in (mean, std))
    return volta.Tensor((x - offset) / scale)


def checked_images(model: nn.Module, images: Any, channels: int, size: int | None = None) -> Tensor:
    """A batch of images as a tensor; ShapeError unless it is ``[N, channels, size, size]``, of any size for None."""
    x = as_tensor(images)
    fits = x.ndim == 4 and x.shape[1] == channels and size in (None, x.shape[2]) and size in (None, x.shape[3])
    if not fits:
        extents = "H, W" if size is None else f"{size}, {size}"
        raise ShapeError(f"{type(model).__name__}: expected images of shape [N, {channels}, {extents}], got {x.spec}")
    return x


def with_weights(build: Callable[[int], M], weights: Mapping[str, Any], head: str, num_classes: int | None) -> M:
    """A model with these weights, in evaluation mode.

    Args:
        build: makes the model for a number of classes.
        weights: by the names of the model's ``state_dict``.
        head: the name of the last layer.
        num_classes: by default that of the weights; for another one the last layer stays as ``build`` made it.
    """
    bias = weights.get(f"{head}.bias")
    found = None if bias is None else bias.shape[0]
    model = build(num_classes or found or 1000)
    if num_classes not in (None, found):
        weights = {**weights, **model.get_submodule(head).state_dict(f"{head}.")}
    model.load_state_dict(weights)
    return model.eval()
