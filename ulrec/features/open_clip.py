"""Texts and pictures in one space, through open_clip (optional: ``pip install 'ulrec[clip]'``).

``pretrained`` is a tag of open_clip's (downloaded where there is a network), a local file of
weights, or a component folder such as the one that ships with ulrec: ``emoji_clip``, trained on the
names and pictures of the emoji (examples/benchmarks/emoji_clip.py).
"""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from ulrec.checkpoint import MANIFEST, Component, hash_file, load_component, save_component
from ulrec.config import from_mapping, to_mapping
from ulrec.errors import ArtefactError, ConfigError, DataError, MissingExtraError
from ulrec.features.torchvision_schemas import declare_schemas

__all__ = [
    "ClipConfig",
    "ClipModel",
    "ClipText",
    "ClipVision",
    "ReducedTokenizer",
    "build_clip",
    "import_open_clip",
    "save_clip",
    "vocabulary_of",
    "weight_files",
]

KIND = "clip"
PRETRAINED = Path(__file__).parent.parent / "pretrained"
AT_ONCE = 64
PAD, UNKNOWN, FIRST = 0, 1, 2
NUM_LISTED = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipVision:
    """The tower of pictures: a vision transformer, ``vision_cfg`` of open_clip."""

    image_size: int = 32
    patch_size: int = 4
    width: int = 128
    layers: int = 5
    head_width: int = 32
    pool_type: str = "avg"


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipText:
    """The tower of texts: a causal transformer, ``text_cfg`` of open_clip."""

    context_length: int = 16
    width: int = 96
    heads: int = 4
    layers: int = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipConfig:
    """What a CLIP model of one's own is; its vocabulary lies with the weights.

    Attributes
    ----------
    embed_dim
        E of the space that both towers share.
    vision, text
        The towers.
    mean, std
        Of the channels of pictures in [0, 1], taken off before the network.
    """

    embed_dim: int = 128
    vision: ClipVision = ClipVision()
    text: ClipText = ClipText()
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)


class ClipModel:
    """A frozen CLIP model: texts and pictures to unit vectors (N, E) of one space.

    Make one with :meth:`load`. Results do not depend on what else is in a call.

    Parameters
    ----------
    network
        Of open_clip: ``encode_text``, ``encode_image``, ``logit_scale``.
    tokenize
        Texts to tokens (N, L).
    preprocessing
        Size (H, W) of pictures, and mean and standard deviation of their channels.
    name
        Says which model with which weights.
    weight_hash
        Identifies the weights.
    """

    def __init__(
        self,
        network: nn.Module,
        tokenize: Callable[[list[str]], Tensor],
        *,
        preprocessing: Preprocessing,
        name: str,
        weight_hash: str,
    ) -> None:
        self._network: Any = network.eval().requires_grad_(False)
        self._tokenize = tokenize
        self._preprocess = preprocessing
        self.name = name
        self.weight_hash = weight_hash
        self.dim = len(self.encode_text([""])[0])

    @classmethod
    def load(cls, pretrained: str, *, model: str | None = None) -> ClipModel:
        """Load a model.

        Parameters
        ----------
        pretrained
            With ``model``: a tag of open_clip's such as "laion2b_s34b_b79k", or a file of weights
            (.safetensors, or a state dict of tensors only). Without: the name of a component that
            ships with ulrec ("emoji_clip"), or a component folder.
        model
            The name of an open_clip architecture such as "ViT-B-32".

        Raises
        ------
        MissingExtraError
            If open_clip is not installed.
        ConfigError
            If there is no such model, tag, file or folder.
        ArtefactError
            If the weights are damaged, are another model's, or cannot be downloaded.
        """
        with torch.random.fork_rng(
            devices=[]
        ):  # networks start at random; the run's seed is not ours
            return _load_component(pretrained) if model is None else _load_named(model, pretrained)

    @property
    def logit_scale(self) -> float:
        """What the model multiplies cosines by, before a softmax, to tell matches."""
        return float(self._network.logit_scale.exp())

    def encode_text(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return unit vectors (N, E) of texts; what is too long for the model is cut.

        Raises
        ------
        DataError
            If a text alone is given for a list of texts.
        """
        if isinstance(texts, str):
            raise DataError(f"texts have to be a list of texts, got {texts!r}; put it in a list")
        return self._in_parts(lambda part: self._network.encode_text(self._tokenize(part)), texts)

    def encode_image(self, media: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return unit vectors (N, E) of pictures.

        Parameters
        ----------
        media
            Uint8 (N, 3, H, W) of any size; they are resized to the model's.

        Raises
        ------
        DataError
            If shape or type are others.
        """
        if media.ndim != 4 or media.shape[1] != 3 or media.dtype != np.uint8:
            raise DataError(
                f"pictures have to be uint8 (N, 3, H, W), got {media.dtype} {media.shape}; of a "
                "clip take its frames"
            )
        return self._in_parts(
            lambda part: self._network.encode_image(self._preprocess(part)), media
        )

    def _in_parts(self, encode: Callable[[Any], Tensor], what: Any) -> NDArray[np.float32]:
        with torch.inference_mode():
            parts = [
                F.normalize(encode(what[start : start + AT_ONCE]).float(), dim=-1).numpy()
                for start in range(0, len(what), AT_ONCE)
            ]
        return np.concatenate(parts) if parts else np.empty((0, self.dim), np.float32)


@dataclass(frozen=True, kw_only=True, slots=True)
class Preprocessing:
    """Uint8 pictures (N, 3, H, W) to a network's input: resized (bicubic), standardised."""

    size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, media: NDArray[np.uint8]) -> Tensor:
        """Return float32 (N, 3, *size)."""
        x = torch.from_numpy(np.array(media)).float()
        if tuple(x.shape[2:]) != self.size:
            x = F.interpolate(x, size=self.size, mode="bicubic", antialias=True).clamp(0, 255)
        mean, std = (torch.tensor(values)[:, None, None] for values in (self.mean, self.std))
        return (x / 255 - mean) / std


class ReducedTokenizer:
    """CLIP's byte pairs, of which only those of a vocabulary have a number of their own.

    The table of all 49,408 would be most of a small model. The numbers: 0 pads, 1 is any token
    outside the vocabulary, then the vocabulary in the order of CLIP's numbers, whose last two are
    start and end of a text; the network finds the end as the largest.

    Parameters
    ----------
    vocabulary
        CLIP's numbers of the tokens it keeps, ascending, (V,).
    context_length
        L; longer texts are cut.
    """

    def __init__(self, vocabulary: NDArray[np.int32], context_length: int) -> None:
        self._all = import_open_clip().SimpleTokenizer(context_length=context_length)
        self._number = {int(token): FIRST + n for n, token in enumerate(vocabulary)}
        self.context_length = context_length

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Return tokens, int64 (N, L)."""
        tokens = torch.full((len(texts), self.context_length), PAD)
        start, end = (self._number[t] for t in (self._all.sot_token_id, self._all.eot_token_id))
        for row, text in enumerate(texts):
            known = [self._number.get(token, UNKNOWN) for token in self._all.encode(text)]
            line = [start, *known[: self.context_length - 2], end]
            tokens[row, : len(line)] = torch.tensor(line)
        return tokens


def vocabulary_of(texts: Iterable[str]) -> NDArray[np.int32]:
    """Return the vocabulary for :class:`ReducedTokenizer` that knows all tokens of these texts."""
    tokenizer = import_open_clip().SimpleTokenizer()
    tokens = {token for text in texts for token in tokenizer.encode(text)}
    tokens |= {tokenizer.sot_token_id, tokenizer.eot_token_id}
    return np.array(sorted(tokens), np.int32)


def build_clip(config: ClipConfig, vocabulary: NDArray[np.int32]) -> nn.Module:
    """Return an untrained open_clip model for tokens of :class:`ReducedTokenizer`."""
    text = {**asdict(config.text), "vocab_size": FIRST + len(vocabulary), "pool_type": "argmax"}
    network: nn.Module = import_open_clip().CLIP(config.embed_dim, asdict(config.vision), text)
    return network


def save_clip(
    network: nn.Module,
    folder: str | Path,
    *,
    config: ClipConfig,
    vocabulary: NDArray[np.int32],
    info: dict[str, Any] | None = None,
) -> str:
    """Write a model as a component folder, in half precision, and return its fingerprint."""
    tensors = {name: t.detach().half().cpu().numpy() for name, t in network.state_dict().items()}
    return save_component(
        folder,
        kind=KIND,
        config=to_mapping(config),
        tensors={**tensors, "vocabulary": vocabulary},
        info=info,
    )


def import_open_clip() -> Any:
    """Return the package open_clip, which then imports beside any torch.

    Raises
    ------
    MissingExtraError
        If it is not installed.
    """
    declare_schemas()
    try:
        return importlib.import_module("open_clip")
    except ImportError as error:
        raise MissingExtraError(
            f"text needs open_clip, which cannot be imported ({error}): pip install 'ulrec[clip]'"
        ) from error


def weight_files(pretrained: str) -> list[Path]:
    """Return the file that identifies weights; none where it is a tag."""
    places = (PRETRAINED / pretrained / MANIFEST, Path(pretrained) / MANIFEST, Path(pretrained))
    return [place for place in places if place.is_file()][:1]


def _load_component(pretrained: str) -> ClipModel:
    import_open_clip()
    folder = _component_folder(pretrained)
    component = load_component(folder, kind=KIND)
    config = from_mapping(ClipConfig, component.config)
    vocabulary = component.tensors.pop("vocabulary")
    network = build_clip(config, vocabulary)
    _take_weights(network, component, folder)
    size = config.vision.image_size
    return ClipModel(
        network,
        ReducedTokenizer(vocabulary, config.text.context_length),
        preprocessing=Preprocessing(size=(size, size), mean=config.mean, std=config.std),
        name=folder.name,
        weight_hash=component.manifest.fingerprint,
    )


def _component_folder(pretrained: str) -> Path:
    for folder in (PRETRAINED / pretrained, Path(pretrained)):
        if (folder / MANIFEST).is_file():
            return folder
    shipped = sorted(p.parent.name for p in PRETRAINED.glob(f"*/{MANIFEST}"))
    raise ConfigError(
        f"no CLIP model '{pretrained}': shipped are {', '.join(shipped) or 'none'}; give one of "
        "them, a component folder, or model= beside a tag or a file of open_clip's"
    )


def _take_weights(network: nn.Module, component: Component, folder: Path) -> None:
    state = {name: torch.from_numpy(t).float() for name, t in component.tensors.items()}
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise ArtefactError(
            f"the weights in {folder} do not fit its configuration ({error}); make it again"
        ) from error


def _load_named(model: str, pretrained: str) -> ClipModel:
    """Load an architecture of open_clip's with a tag or a file."""
    open_clip = import_open_clip()
    file = Path(pretrained)
    _require_known(open_clip, model, pretrained)
    try:
        network = open_clip.create_model(model, pretrained=pretrained, weights_only=True)
    except Exception as error:  # the hub, torch and safetensors each raise their own
        remedy = (
            "check that the file holds this model's weights"
            if file.is_file()
            else "without a network (or where HF_HUB_OFFLINE is set) give a local file of weights, "
            "or use 'emoji_clip', which ships with ulrec"
        )
        raise ArtefactError(
            f"the weights '{pretrained}' of {model} cannot be loaded ({type(error).__name__}: "
            f"{error}); {remedy}"
        ) from error
    found = open_clip.get_model_preprocess_cfg(network)
    size = found["size"]
    height, width = (size, size) if isinstance(size, int) else size
    return ClipModel(
        network,
        open_clip.get_tokenizer(model),
        preprocessing=Preprocessing(
            size=(height, width), mean=tuple(found["mean"]), std=tuple(found["std"])
        ),
        name=f"{model}/{file.name if file.is_file() else pretrained}",
        weight_hash=_weight_hash(network, file),
    )


def _weight_hash(network: nn.Module, file: Path) -> str:
    if file.is_file():
        return hash_file(file)[:16]
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(name.encode() + tensor.float().numpy().tobytes())
    return digest.hexdigest()[:16]


def _require_known(open_clip: Any, model: str, pretrained: str) -> None:
    models = open_clip.list_models()
    if model not in models:
        raise ConfigError(
            f"open_clip has no model '{model}'; it has {len(models)}, such as "
            f"{', '.join(models[:NUM_LISTED])}"
        )
    tags = open_clip.list_pretrained_tags_by_model(model)
    if not Path(pretrained).is_file() and pretrained not in tags:
        raise ConfigError(
            f"'{pretrained}' is neither a file nor weights that {model} is known for: "
            f"{', '.join(tags) or 'there are none'}"
        )
