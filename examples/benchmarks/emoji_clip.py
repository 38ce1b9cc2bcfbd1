"""Train the small CLIP model of the emoji and judge it on held-out ones: the figures of its card.

    python examples/benchmarks/emoji_clip.py --config configs/emoji_clip.yaml \
        --out ulrec/pretrained/emoji_clip

An interrupted training goes on where it stopped when the same command is given again (--work keeps
its state). Held-out emoji (by concept) are not trained on. Half an hour of one thread. Prints
Markdown; --judge trains nothing and judges what lies at --out.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ulrec.config import load_config
from ulrec.data.captions import Described, captions, describe_items, draw_caption
from ulrec.data.colour_names import COLOURS
from ulrec.data.media import MediaConfig, decode
from ulrec.data.schema import CATEGORY, HELDOUT, NAME, SPLIT, SUBCATEGORY
from ulrec.evaluation.statistics import wilson_interval
from ulrec.features.open_clip import (
    ClipConfig,
    ClipModel,
    Preprocessing,
    ReducedTokenizer,
    build_clip,
    import_open_clip,
    save_clip,
    vocabulary_of,
)
from ulrec.training.datamodule import Source
from ulrec.training.fit import FitConfig, fit
from ulrec.training.tasks import Task

SIDED = {"left", "right", "west", "east", "leftwards", "rightwards", "clock"}
"""Words of names whose pictures are not mirrored."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """How the model is trained.

    Attributes
    ----------
    catalogue
        Pictures [name, category, subcategory, split, image, mask].
    seed
        Of everything.
    model, fit
        What is trained, and how.
    kinds
        Words for the things in each subcategory.
    unflipped
        Categories whose pictures are never mirrored.
    shift, scale
        Pictures are moved by up to so many pixels, and scaled by up to such a share.
    """

    catalogue: str = "datasets/fluent_emoji/stills.parquet"
    seed: int = 0
    model: ClipConfig = ClipConfig()
    fit: FitConfig = FitConfig()
    kinds: dict[str, tuple[str, ...]] = field(default_factory=dict)
    unflipped: tuple[str, ...] = ()
    shift: float = 2.0
    scale: float = 0.15


@dataclass(frozen=True, kw_only=True)
class Emoji:
    """The catalogue: its table, pictures (I, 3, H, W), and each item in words."""

    table: pl.DataFrame
    pictures: np.ndarray
    described: list[Described]

    @property
    def heldout(self) -> np.ndarray:
        """Which items are held out, (I,)."""
        return (self.table[SPLIT] == HELDOUT).to_numpy()


def read_emoji(recipe: Recipe) -> Emoji:
    """Return the catalogue at the model's size."""
    table = pl.read_parquet(recipe.catalogue)
    size = MediaConfig(height=recipe.model.vision.image_size, width=recipe.model.vision.image_size)
    decoded = [
        decode(image, size, mask=mask) for image, mask in table.select("image", "mask").iter_rows()
    ]
    pictures = np.stack([one.media[:, 0] for one in decoded])
    whole = np.full((size.height, size.width), 255, np.uint8)
    masks = np.stack([whole if one.mask is None else one.mask[0] for one in decoded])
    described = describe_items(
        table[NAME].to_list(),
        table[SUBCATEGORY].to_list(),
        pictures=pictures,
        masks=np.where(masks > 127, masks, 0),
        kinds=recipe.kinds,
    )
    return Emoji(table=table, pictures=pictures, described=described)


class ClipTask(Task):
    """Contrastive training on batches (pictures, tokens)."""

    def __init__(self, model: nn.Module, **settings: Any) -> None:
        super().__init__(**settings)
        self.model: Any = model  # of open_clip, which has no types
        self.contrast = import_open_clip().ClipLoss().forward  # bound: no model to be averaged

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        """Return the loss of telling which caption belongs to which picture."""
        x, tokens = batch
        image = self.model.encode_image(x, normalize=True)
        text = self.model.encode_text(tokens, normalize=True)
        loss: Tensor = self.contrast(image, text, self.model.logit_scale.exp().clamp(max=100))
        self.log("loss", loss, prog_bar=True)
        return loss


def training_source(recipe: Recipe, emoji: Emoji, tokenize: ReducedTokenizer) -> tuple[Source, int]:
    """Return a source of (pictures, tokens): moved, scaled, mirrored where that is allowed."""
    rows = np.flatnonzero(~emoji.heldout)
    sided = [
        category in recipe.unflipped or bool(SIDED & set(name.lower().replace("-", " ").split()))
        for category, name in emoji.table.select(CATEGORY, NAME).iter_rows()
    ]
    may_flip = ~np.array(sided)
    size = recipe.model.vision.image_size
    prepare = Preprocessing(size=(size, size), mean=recipe.model.mean, std=recipe.model.std)

    def fetch(batch: np.ndarray, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        items = rows[batch]
        flips = np.where(may_flip[items] & (rng.random(len(items)) < 0.5), -1.0, 1.0)
        scale = 1 + recipe.scale * rng.uniform(-1, 1, (len(items), 1))
        theta = np.zeros((len(items), 2, 3))
        theta[:, [0, 1], [0, 1]] = scale * np.stack([flips, np.ones_like(flips)], axis=1)
        theta[:, :, 2] = rng.uniform(-1, 1, (len(items), 2)) * recipe.shift / (size / 2)
        x = prepare(emoji.pictures[items])
        grid = F.affine_grid(torch.from_numpy(theta).float(), list(x.shape), align_corners=False)
        x = F.grid_sample(x, grid, padding_mode="border", align_corners=False)
        return x, tokenize([draw_caption(emoji.described[item], rng) for item in items])

    return fetch, len(rows)


def train(recipe: Recipe, emoji: Emoji, out: Path, work: Path) -> None:
    """Train, or go on training, and write the component folder."""
    items = [emoji.described[row] for row in np.flatnonzero(~emoji.heldout)]
    said = {text for item in items for group in captions(item) for text in group}
    vocabulary = vocabulary_of(said)
    tokenize = ReducedTokenizer(vocabulary, recipe.model.text.context_length)
    torch.manual_seed(recipe.seed)
    network = build_clip(recipe.model, vocabulary)
    task = ClipTask(
        network, optimiser=recipe.fit.optimiser, num_steps=recipe.fit.num_steps, seed=recipe.seed
    )
    source, num_samples = training_source(recipe, emoji, tokenize)
    models = fit(
        task, source, num_samples=num_samples, config=recipe.fit, folder=work, title="emoji_clip"
    )
    info = {"seed": recipe.seed, "steps": recipe.fit.num_steps, "captions": len(said)}
    save_clip(models["model"], out, config=recipe.model, vocabulary=vocabulary, info=info)


def judge(recipe: Recipe, emoji: Emoji, model: ClipModel) -> list[str]:
    """Return lines "what | value | chance" about held-out emoji."""
    rows = np.flatnonzero(emoji.heldout)
    items = [emoji.described[row] for row in rows]
    images = model.encode_image(emoji.pictures[rows])
    names = images @ model.encode_text([item.name for item in items]).T
    lines = []
    for what, scores in (("picture to name", names), ("name to picture", names.T)):
        place = (scores > np.diag(scores)[:, None]).sum(axis=1)
        for k in (1, 5):
            lines.append(_share(f"{what}, R@{k} of {len(rows)}", place < k, k / len(rows)))
    lines.append(_category(recipe, emoji, model, images))
    lines.append(_colour(model, images, items))
    return [*lines, _colour_and_kind(model, images, items)]


def _share(what: str, hits: np.ndarray, chance: float) -> str:
    found = wilson_interval(int(hits.sum()), len(hits))
    return f"{what} | {found.mean:.3f} [{found.low:.3f}, {found.high:.3f}] | {chance:.3f}"


def _category(recipe: Recipe, emoji: Emoji, model: ClipModel, images: np.ndarray) -> str:
    """Return how often the nearest category, by the mean of its words, is the picture's own."""
    table = emoji.table
    own = table.filter(pl.col(SPLIT) == HELDOUT)[CATEGORY].to_numpy()
    names = sorted(set(own))
    centres = []
    for name in names:
        groups = table.filter(pl.col(CATEGORY) == name)[SUBCATEGORY].to_list()
        centres.append(model.encode_text([k for g in groups for k in recipe.kinds[g]]).mean(axis=0))
    nearest = np.array(names)[(images @ _unit(centres).T).argmax(axis=1)]
    most = max((own == name).mean() for name in names)
    return _share(
        f"category of {len(names)}, n = {len(own)} (chance: the largest)", nearest == own, most
    )


def _colour(model: ClipModel, images: np.ndarray, items: Sequence[Described]) -> str:
    """Return how often the nearest of "something <colour>" is said of the picture."""
    coloured = [row for row, item in enumerate(items) if item.colours]
    texts = model.encode_text([f"something {colour}" for colour in COLOURS])
    nearest = (images[coloured] @ texts.T).argmax(axis=1)
    said = np.array([[colour in items[row].colours for colour in COLOURS] for row in coloured])
    hits = said[np.arange(len(coloured)), nearest]
    what = f"colour of {len(COLOURS)}, n = {len(coloured)} (chance: the most frequent)"
    return _share(what, hits, said.mean(axis=0).max())


def _colour_and_kind(model: ClipModel, images: np.ndarray, items: Sequence[Described]) -> str:
    """Return how often the first of held-out pictures found by "<colour> <kind>" is both."""
    pairs = sorted({(c, k) for item in items for c in item.colours for k in item.kinds})
    fits = np.array([[c in item.colours and k in item.kinds for item in items] for c, k in pairs])
    first = (model.encode_text([f"{c} {k}" for c, k in pairs]) @ images.T).argmax(axis=1)
    what = f'first picture found by "colour kind", n = {len(pairs)} queries'
    return _share(what, fits[np.arange(len(pairs)), first], fits.mean())


def _unit(vectors: Sequence[np.ndarray]) -> np.ndarray:
    stacked = np.stack(vectors)
    units: np.ndarray = stacked / np.linalg.norm(stacked, axis=1, keepdims=True)
    return units


def main() -> None:
    """Train and judge."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, default=Path("configs/emoji_clip.yaml"))
    parser.add_argument("--out", type=Path, default=Path("ulrec/pretrained/emoji_clip"))
    parser.add_argument("--work", type=Path, default=Path("runs/emoji_clip"))
    parser.add_argument("--judge", action="store_true")
    parser.add_argument("overrides", nargs="*", metavar="key.sub=value")
    options = parser.parse_args()
    recipe = load_config(Recipe, options.config, options.overrides)
    emoji = read_emoji(recipe)
    if not options.judge:
        train(recipe, emoji, options.out, options.work)
    model = ClipModel.load(str(options.out))
    print("| what | value | chance |\n|---|---|---|")
    for line in judge(recipe, emoji, model):
        print(f"| {line} |")


if __name__ == "__main__":
    main()
