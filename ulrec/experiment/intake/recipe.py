"""From what was seen of a catalogue and its interactions to settings that train on a laptop."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Literal

import polars as pl

from ulrec.data.schema import ITEM_ID, TIMESTAMP, USER_ID, WEIGHT
from ulrec.data.splits import SplitConfig, split
from ulrec.errors import DataError

__all__ = [
    "CLIP_FRAMES",
    "Recipe",
    "choose_fit",
    "choose_min_weight",
    "choose_size",
    "choose_split",
    "ready",
    "render",
]

# Autoencoder and base of the template halve the sides three times: 4 pixels a latent, 2 a token.
STRIDE = 8
SHORT_SIDE, LONG_SIDE = 32, 64

# `make quickstart` on 2 cores at 32 x 32 (README); the networks' work grows with the area.
QUICKSTART_MINUTES, QUICKSTART_PIXELS = 10.6, 32 * 32

# Of a catalogue of clips.
CLIP_FRAMES = 16

# A centre crop may cost nine tenths of the pictures this share of their area.
CROP_LOSS = 0.15

# Ratings end at these values; likes begin at four fifths of the scale.
SCALES = (5.0, 10.0, 100.0)
MOST_RATINGS = 21

# Users with a past before the cut and something after it, below which a global split tests nobody.
WARM_USERS, WARM_SHARE = 50, 0.2

PCA = "{name: pca, dim: 64}"
PCA_ITEMS = 200
FACTORS, FEW_FACTORS, FEW_USERS = 48, 16, 400


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """What a configuration for one's own catalogue has to say; the rest is the quickstart's.

    ``interactions`` None draws *simulated* users.
    """

    name: str
    catalogue: str
    media_root: str
    interactions: str | None
    min_weight: float = 0.0
    height: int = SHORT_SIDE
    width: int = SHORT_SIDE
    frames: int = 1
    fit: Literal["pad", "crop"] = "pad"
    max_bad_share: float = 0.1
    split: Literal["global_time", "leave_last"] = "global_time"
    num_items: int = PCA_ITEMS
    num_users: int = FEW_USERS

    @property
    def minutes(self) -> float:
        """Estimate of the whole run on 2 CPU cores."""
        area = self.height * self.width / QUICKSTART_PIXELS
        return QUICKSTART_MINUTES * area * self.frames


def choose_size(aspect: float) -> tuple[int, int]:
    """Return (height, width) for pictures of an aspect (width / height), short side 32.

    Examples
    --------
    >>> choose_size(1.0), choose_size(2 / 3), choose_size(4 / 3), choose_size(9.0)
    ((32, 32), (48, 32), (32, 40), (32, 64))
    """
    long = SHORT_SIDE * max(aspect, 1 / aspect)
    side = min(max(round(long / STRIDE) * STRIDE, SHORT_SIDE), LONG_SIDE)
    return (SHORT_SIDE, side) if aspect >= 1 else (side, SHORT_SIDE)


def choose_fit(aspects: pl.Series, size: tuple[int, int]) -> Literal["pad", "crop"]:
    """Return "crop" where that costs nearly all pictures little, else "pad"."""
    ratio = aspects / (size[1] / size[0])
    kept = pl.Series([min(r, 1 / r) for r in ratio.to_list()])
    return "crop" if float(kept.quantile(0.1) or 0) >= 1 - CROP_LOSS else "pad"


def choose_min_weight(weights: pl.Series) -> tuple[float, str]:
    """Return from which weight on an interaction is a like, 0 for any, and the reason.

    Examples
    --------
    >>> choose_min_weight(pl.Series([1.0, 3.0, 5.0, 4.0]))[0]
    4.0
    >>> choose_min_weight(pl.Series([float(n) for n in range(1, 100)]))[0]
    0.0
    """
    values = weights.unique().sort()
    low, high = float(values[0]), float(values[-1])
    told = f"{len(values)} values from {low:g} to {high:g}"
    if len(values) == 1:
        return 0.0, f"all are {low:g} and count alike"
    if len(values) > MOST_RATINGS:
        return 0.0, f"{told}, taken as confidence"
    if high not in SCALES:
        if low > 0:
            return 0.0, f"{told}, taken as confidence"
        like = float(values.filter(values > 0).min() or 0)  # type: ignore[arg-type]
        return like, f"{told}: what is above 0 is a like"
    like = high * 0.8
    share = float((weights >= like).mean())  # type: ignore[arg-type]
    return like, f"{told}: ratings, of which {share:.0%} are at least {like:g}"


def choose_split(likes: pl.DataFrame) -> tuple[Literal["global_time", "leave_last"], str]:
    """Return how to split likes with timestamps, and the reason."""
    num_users = likes[USER_ID].n_unique()
    try:
        parts = split(SplitConfig(), likes)
    except DataError:
        return "leave_last", "the times leave no room for a global cut"
    warm = parts.test.join(parts.train, on=USER_ID, how="semi")[USER_ID].n_unique()
    told = f"{warm:,} of {num_users:,} users have likes both in the newest 20 % and before them"
    if warm >= WARM_USERS and warm >= WARM_SHARE * num_users:
        return "global_time", f"{told}: nothing of the future leaks"
    return "leave_last", f"only {told}: each user's last like is held out instead"


def ready(table: pl.DataFrame, min_weight: float) -> pl.DataFrame:
    """Return the likes of a table whose weights may be zero or negative."""
    if WEIGHT not in table.columns:
        return table
    kept = table.filter((pl.col(WEIGHT) > 0) & (pl.col(WEIGHT) >= min_weight))
    return kept.select(name for name in (USER_ID, ITEM_ID, TIMESTAMP) if name in table.columns)


def render(recipe: Recipe) -> str:
    """Return the configuration as commented YAML."""
    split_text = {
        "global_time": "{name: global_time, test_share: 0.2, validation_share: 0.1}",
        "leave_last": "{name: leave_last, k_test: 1}",
    }[recipe.split]
    return TEMPLATE.format(
        name=json.dumps(recipe.name),
        catalogue=json.dumps(recipe.catalogue, ensure_ascii=False),
        media_root=json.dumps(recipe.media_root, ensure_ascii=False),
        interactions=json.dumps(recipe.interactions, ensure_ascii=False),
        min_weight=recipe.min_weight,
        height=recipe.height,
        width=recipe.width,
        media_frames=MEDIA_FRAMES.format(frames=recipe.frames) if recipe.frames > 1 else "",
        model_frames=MODEL_FRAMES.format(frames=recipe.frames) if recipe.frames > 1 else "",
        fit=recipe.fit,
        max_bad_share=math.ceil(recipe.max_bad_share * 100) / 100,
        split=split_text,
        factors=FACTORS if recipe.num_users >= FEW_USERS else FEW_FACTORS,
        query=PCA if recipe.num_items >= PCA_ITEMS else "{name: flat}",
        minutes=max(round(recipe.minutes), 1),
    )


MEDIA_FRAMES = """\
    # Spread over the whole clip; frame_rate takes them at a rate instead. Single pictures among the
    # clips are left out: "repeat" keeps them, as clips that stand still.
    frames: {frames}
    stills: refuse
"""
MODEL_FRAMES = """\
      frames: {frames}
"""

TEMPLATE = """\
# A catalogue of one's own: `ulrec init FOLDER` writes such a file from what it sees, and
# `ulrec run --config THIS_FILE` makes a run of it, in about {minutes} minutes on 2 CPU cores.
# Paths are as seen from the folder in which ulrec is started.
name: {name}

data:
  # Items: parquet, csv or tsv [item_id, path (below media_root) | image (encoded bytes)] and, where
  # known, name, category, subcategory, and concept (items that look alike share one).
  catalogue: {catalogue}
  media_root: {media_root}
  # Who chose what: parquet, csv or tsv [user_id, item_id, timestamp (whole seconds), (weight)], one
  # row a pair; ids are whole numbers in both tables or text in both ("007" is text).
  # null draws *simulated* users: pictures can be judged then, personalisation cannot.
  interactions: {interactions}
  # Ratings from here on are likes. 0 keeps all interactions, with their weights as confidence.
  min_weight: {min_weight}
  # Share of items the generator never sees: what is drawn is compared with them.
  heldout_share: 0.1
  # Sides are multiples of 8; time grows with height x width. "crop" shows the centre, "pad" all of
  # a picture beside the background colour. More bad pictures than max_bad_share stop the run.
  media:
    height: {height}
    width: {width}
{media_frames}    fit: {fit}
    background: [255, 255, 255]
    max_bad_share: {max_bad_share}
  # global_time holds out the newest interactions of all (no leak of the future); leave_last holds
  # out each user's last (where few users come back).
  split: {split}

# The model of users: its factors steer the generator.
cf: {{model: als, als: {{num_factors: {factors}, regularisation: 5.0, alpha: 3.0}}}}

# Stage 1: pictures to latents and back. height and width as above; more steps, sharper pictures.
latents:
  model:
    autoencoder:
      height: {height}
      width: {width}
{model_frames}      loss_factor: 15.0
      bias_x: 0.0
      schedule_x: {{shift: 2.0}}
      encoder: {{channels: [48, 96], num_blocks: 1, num_last_blocks: 2}}
      decoder: {{channels: [48], num_blocks: 1, middle: {{width: 128, depth: 2}}}}
    prior: {{network: {{width: 96, depth: 2}}}}
  fit: {{num_steps: 900, batch_size: 32, optimiser: {{learning_rate: 4.0e-3}}}}
  # Half of the pictures are mirrored while training: 0.0 where they hold lettering.
  augment: {{flip: 0.5}}

# Stage 2: the generator in latent space, first for nobody in particular, then for users.
base:
  network: {{width: 192, depth: 4, patch: 2}}
  weighting: {{bias: -4.0}}
  unconditional: {{num_steps: 250, batch_size: 64, optimiser: {{learning_rate: 3.0e-3}}}}
  conditional: {{num_steps: 900, batch_size: 64, optimiser: {{learning_rate: 3.0e-3}}}}

index:
  query: {query}

# What is drawn for the report: for whom, and how much it follows them (guidance).
generate:
  num_users: 200
  guidance: 3.0
  sampler: {{num_steps: 16}}
  decoder: {{name: ancestral, num_steps: 16}}
evaluate:
  reconstruction: {{name: ancestral, num_steps: 25}}
"""
