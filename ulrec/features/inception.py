"""The Inception-v3 of the Frechet Inception distance: TensorFlow's of 2015-12-05, weights by path.

It differs from the ImageNet classifier of the same name that PyTorch users know: average pools
leave padding out of the mean, the last block pools by maximum, and pictures are enlarged as
TensorFlow 1 did. Weights are not shipped: the file that is commonly distributed is
``pt_inception-2015-12-05-6726825d.pth``. Only with that file are distances called FID and KID.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ulrec.errors import ArtefactError, DataError

__all__ = ["WEIGHTS_SHA256", "InceptionV3"]

WEIGHTS_SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
"""Of the published file; the name ``inception-v3`` belongs to it alone."""

SIZE = 299
TOLERANCE = 1e-3
# The published file also holds the classifier, which features do not need, and counters.
UNUSED = {"fc.weight": (1008, 2048), "fc.bias": (1008,)}
COUNTER = ".num_batches_tracked"
NUM_LISTED = 4

Pool = Callable[[torch.Tensor], torch.Tensor]
Branch = Sequence[str | tuple[str, ...]]
average: Pool = partial(F.avg_pool2d, kernel_size=3, stride=1, padding=1, count_include_pad=False)
maximum: Pool = partial(F.max_pool2d, kernel_size=3, stride=1, padding=1)
halve: Pool = partial(F.max_pool2d, kernel_size=3, stride=2)


class InceptionV3:
    """Frozen FID network: the 2,048 numbers of its last average pool (pool3) a picture.

    The weights are read at construction, batch normalisation is folded into the convolutions, and
    the network follows its input's device in float32.

    Parameters
    ----------
    weights
        The weights, a state dict saved by PyTorch with names such as ``Conv2d_1a_3x3.conv.weight``.
        A file other than the published one, by its SHA-256, gives features that are called
        ``inception-v3-<digest>``: their Frechet distance is no FID.

    Raises
    ------
    ArtefactError
        If the file is absent, is no state dict, or is one of another network.
    """

    dim = 2048
    preprocessing = (
        "float media rounded to 8 bits; bilinear resize to 299x299 as TensorFlow 1 (source = "
        "target * scale, no antialiasing) in float32; (x - 128) / 128"
    )

    def __init__(self, weights: str | Path) -> None:
        digest, state = _read(Path(weights))
        self._network = _build(state, Path(weights).name)
        self.weight_hash = digest[:16]
        self.name = "inception-v3" if digest == WEIGHTS_SHA256 else f"inception-v3-{digest[:8]}"

    def __call__(self, media: torch.Tensor) -> torch.Tensor:
        """Return the features of media.

        Parameters
        ----------
        media
            (B, 3, H, W) or (B, 3, 1, H, W), uint8 or float in [-1, 1]. Clips have no FID; their
            frames may be passed as pictures.

        Returns
        -------
        torch.Tensor
            (B, 2048) float32, on the device of the media, without gradient.

        Raises
        ------
        DataError
            If the shape, type or range of the media is another.
        """
        levels = _levels(media)
        if len(levels) == 0:
            return torch.empty(0, self.dim, device=media.device)
        network = self._network.to(media.device)
        with torch.inference_mode(), torch.autocast(media.device.type, enabled=False):
            x = (_resize(levels) - 128) / 128
            features: torch.Tensor = network(x.contiguous(memory_format=torch.channels_last))
        # A copy made outside is an ordinary tensor, which autograd may save.
        return features.clone()


def _build(state: Mapping[str, torch.Tensor], source: str) -> nn.Module:
    """Return the frozen network with these weights; it maps (B, 3, 299, 299) to (B, 2048)."""
    # On the meta device the constructor draws no random numbers.
    with torch.device("meta"):
        network: Any = _Network()
    _check_state(network, state, source)
    known = network.state_dict().keys()
    network.load_state_dict(
        {k: v.float() for k, v in state.items() if k in known}, assign=True, strict=False
    )
    network.eval().requires_grad_(False)
    for module in network.modules():
        if isinstance(module, _Conv):
            module.conv = fuse_conv_bn_eval(module.conv, module.bn)
            module.bn = nn.Identity()
    frozen: nn.Module = network.to(memory_format=torch.channels_last)
    return frozen


class _Conv(nn.Module):
    """Convolution without bias, batch normalisation, ReLU."""

    def __init__(
        self,
        channels: int,
        out: int,
        kernel: int | tuple[int, int] = 1,
        *,
        stride: int = 1,
        padding: str = "same",
    ) -> None:
        super().__init__()
        self.conv: Any = nn.Conv2d(channels, out, kernel, stride, padding, bias=False)
        self.bn: Any = nn.BatchNorm2d(out, eps=1e-3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.bn(self.conv(x)), inplace=True)


def _down(channels: int, out: int) -> _Conv:
    return _Conv(channels, out, 3, stride=2, padding="valid")


class _Mixed(nn.Module):
    """Branches of convolutions side by side, joined by channel; the pooled branch is the last.

    A branch names its convolutions in order; names in a pair see the same input.
    """

    def __init__(
        self, convs: Mapping[str, _Conv], branches: Sequence[Branch], *, pool: Pool
    ) -> None:
        super().__init__()
        for name, conv in convs.items():
            self.add_module(name, conv)
        self.branches, self.pool, self.has_last = branches, pool, "branch_pool" in convs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        outputs = [self._walk(x, branch) for branch in self.branches]
        pooled = self.pool(x)
        outputs.append(self._walk(pooled, ["branch_pool"]) if self.has_last else pooled)
        return torch.cat(outputs, 1)

    def _walk(self, x: torch.Tensor, branch: Branch) -> torch.Tensor:
        for step in branch:
            if isinstance(step, str):
                x = self.get_submodule(step)(x)
            else:
                x = torch.cat([self.get_submodule(name)(x) for name in step], 1)
        return x


def _mixed_a(channels: int, pooled: int) -> _Mixed:
    convs = {
        "branch1x1": _Conv(channels, 64),
        "branch5x5_1": _Conv(channels, 48),
        "branch5x5_2": _Conv(48, 64, 5),
        "branch3x3dbl_1": _Conv(channels, 64),
        "branch3x3dbl_2": _Conv(64, 96, 3),
        "branch3x3dbl_3": _Conv(96, 96, 3),
        "branch_pool": _Conv(channels, pooled),
    }
    branches = [["branch1x1"], _numbered("branch5x5", 2), _numbered("branch3x3dbl", 3)]
    return _Mixed(convs, branches, pool=average)


def _mixed_b(channels: int) -> _Mixed:
    convs = {
        "branch3x3": _down(channels, 384),
        "branch3x3dbl_1": _Conv(channels, 64),
        "branch3x3dbl_2": _Conv(64, 96, 3),
        "branch3x3dbl_3": _down(96, 96),
    }
    return _Mixed(convs, [["branch3x3"], _numbered("branch3x3dbl", 3)], pool=halve)


def _mixed_c(width: int) -> _Mixed:
    convs = {
        "branch1x1": _Conv(768, 192),
        "branch7x7_1": _Conv(768, width),
        "branch7x7_2": _Conv(width, width, (1, 7)),
        "branch7x7_3": _Conv(width, 192, (7, 1)),
        "branch7x7dbl_1": _Conv(768, width),
        "branch7x7dbl_2": _Conv(width, width, (7, 1)),
        "branch7x7dbl_3": _Conv(width, width, (1, 7)),
        "branch7x7dbl_4": _Conv(width, width, (7, 1)),
        "branch7x7dbl_5": _Conv(width, 192, (1, 7)),
        "branch_pool": _Conv(768, 192),
    }
    branches = [["branch1x1"], _numbered("branch7x7", 3), _numbered("branch7x7dbl", 5)]
    return _Mixed(convs, branches, pool=average)


def _mixed_d() -> _Mixed:
    convs = {
        "branch3x3_1": _Conv(768, 192),
        "branch3x3_2": _down(192, 320),
        "branch7x7x3_1": _Conv(768, 192),
        "branch7x7x3_2": _Conv(192, 192, (1, 7)),
        "branch7x7x3_3": _Conv(192, 192, (7, 1)),
        "branch7x7x3_4": _down(192, 192),
    }
    return _Mixed(convs, [_numbered("branch3x3", 2), _numbered("branch7x7x3", 4)], pool=halve)


def _mixed_e(channels: int, *, pool: Pool) -> _Mixed:
    convs = {
        "branch1x1": _Conv(channels, 320),
        "branch3x3_1": _Conv(channels, 384),
        "branch3x3_2a": _Conv(384, 384, (1, 3)),
        "branch3x3_2b": _Conv(384, 384, (3, 1)),
        "branch3x3dbl_1": _Conv(channels, 448),
        "branch3x3dbl_2": _Conv(448, 384, 3),
        "branch3x3dbl_3a": _Conv(384, 384, (1, 3)),
        "branch3x3dbl_3b": _Conv(384, 384, (3, 1)),
        "branch_pool": _Conv(channels, 192),
    }
    branches: list[Branch] = [
        ["branch1x1"],
        ["branch3x3_1", ("branch3x3_2a", "branch3x3_2b")],
        ["branch3x3dbl_1", "branch3x3dbl_2", ("branch3x3dbl_3a", "branch3x3dbl_3b")],
    ]
    return _Mixed(convs, branches, pool=pool)


def _numbered(name: str, count: int) -> list[str]:
    return [f"{name}_{number}" for number in range(1, count + 1)]


class _Network(nn.Module):
    """The layers in order, under the names of the distributed weights."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = _down(3, 32)
        self.Conv2d_2a_3x3 = _Conv(32, 32, 3, padding="valid")
        self.Conv2d_2b_3x3 = _Conv(32, 64, 3)
        self.Conv2d_3b_1x1 = _Conv(64, 80)
        self.Conv2d_4a_3x3 = _Conv(80, 192, 3, padding="valid")
        self.Mixed_5b = _mixed_a(192, 32)
        self.Mixed_5c = _mixed_a(256, 64)
        self.Mixed_5d = _mixed_a(288, 64)
        self.Mixed_6a = _mixed_b(288)
        self.Mixed_6b = _mixed_c(128)
        self.Mixed_6c = _mixed_c(160)
        self.Mixed_6d = _mixed_c(160)
        self.Mixed_6e = _mixed_c(192)
        self.Mixed_7a = _mixed_d()
        self.Mixed_7b = _mixed_e(1280, pool=average)
        self.Mixed_7c = _mixed_e(2048, pool=maximum)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for name, layer in self.named_children():
            x = layer(x)
            if name in ("Conv2d_2b_3x3", "Conv2d_4a_3x3"):
                x = halve(x)
        return x.mean((2, 3))  # (B, 2048)


def _read(path: Path) -> tuple[str, Mapping[str, torch.Tensor]]:
    """Return the digest and the tensors of a file of weights."""
    if not path.is_file():
        raise ArtefactError(
            f"there are no Inception weights at {path}; give the path of "
            "pt_inception-2015-12-05-6726825d.pth, which is not downloaded for you"
        )
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise ArtefactError(
            f"{path.name} cannot be read as weights ({type(error).__name__}); expected a state "
            "dict saved by PyTorch, tensors only"
        ) from error
    if not isinstance(state, dict) or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise ArtefactError(f"{path.name} holds no state dict of tensors by name")
    return digest, state


def _check_state(network: nn.Module, state: Mapping[str, torch.Tensor], source: str) -> None:
    expected = {
        name: tuple(tensor.shape)
        for name, tensor in network.state_dict().items()
        if not name.endswith(COUNTER)
    }
    found = {name: tuple(v.shape) for name, v in state.items() if not name.endswith(COUNTER)}
    others = {
        "missing": [name for name in expected if name not in found],
        "unknown": [name for name in found if name not in expected and name not in UNUSED],
        "of another shape": [
            name
            for name, shape in found.items()
            if shape != {**expected, **UNUSED}.get(name, shape)
        ],
    }
    wrong = {problem: names for problem, names in others.items() if names}
    if wrong:
        listed = "; ".join(
            f"{problem}: {', '.join(names[:NUM_LISTED])} ({len(names)})"
            for problem, names in wrong.items()
        )
        raise ArtefactError(
            f"{source} is not the FID Inception-v3 of 2015-12-05 ({listed}); torchvision's "
            "ImageNet weights are another network"
        )


def _levels(media: torch.Tensor) -> torch.Tensor:
    """Return pictures (B, 3, H, W) as float32 levels 0 .. 255, whole numbers."""
    if media.ndim == 5 and media.shape[2] == 1:
        media = media[:, :, 0]  # (B, 3, H, W)
    if media.ndim != 4 or media.shape[1] != 3 or 0 in media.shape[2:]:
        raise DataError(
            f"media have to be pictures (B, 3, H, W) or (B, 3, 1, H, W), got "
            f"{tuple(media.shape)}; pass the frames of clips as pictures, repeat a grey channel"
        )
    if media.dtype == torch.uint8 or media.numel() == 0:
        return media.float()
    if not media.is_floating_point():
        raise DataError(f"media have to be uint8 or float in [-1, 1], got {media.dtype}; cast them")
    low, high = (float(value) for value in media.aminmax())
    if not (low >= -1 - TOLERANCE and high <= 1 + TOLERANCE):
        raise DataError(
            f"float media have to lie in [-1, 1], got {low:.4g} to {high:.4g}; clamp samples, "
            "map [0, 1] by 2x - 1, pass [0, 255] as uint8"
        )
    return ((media.float() + 1) * 127.5).round().clamp(0, 255)


def _resize(levels: torch.Tensor) -> torch.Tensor:
    """Return (B, 3, 299, 299): between the pixels floor(i s) and the next, s = source / target."""
    for axis in (2, 3):
        source = levels.shape[axis]
        place = torch.arange(SIZE, dtype=torch.float64) * (source / SIZE)
        low = place.long()
        share = (place - low).float().view(-1, *[1] * (3 - axis)).to(levels.device)
        low = low.to(levels.device)
        high = (low + 1).clamp(max=source - 1)
        below, above = levels.index_select(axis, low), levels.index_select(axis, high)
        levels = torch.lerp(below, above, share)
    return levels
