"""What the stage-1 prior draws by itself: poor samples, which are why there is a second stage."""

from __future__ import annotations

import json

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from ulrec.checkpoint import new_artefact
from ulrec.data.media import MediaStore, to_uint8
from ulrec.evaluation.fidelity import frechet_distance, frechet_name, kid, kid_name
from ulrec.evaluation.sheets import tile
from ulrec.experiment.features import picture_batches
from ulrec.experiment.prepare import advance, train_rows
from ulrec.experiment.runner import Run
from ulrec.features.efflite0 import EffLite0
from ulrec.features.extract import extract_features
from ulrec.models.rarity import load_prior
from ulrec.pipeline import decoder_seeds, load_autoencoder

__all__ = ["prior_samples"]

AT_ONCE = 64
COLUMNS = 8


@torch.no_grad()
def prior_samples(run: Run) -> str:
    """Draw pictures from the stage-1 prior and judge them; writes ``prior_samples``.

    They stand beside as many real held-out pictures, against the train pictures.
    """
    config = run.config.prior_samples
    autoencoder, fingerprint = load_autoencoder(run.path("autoencoder"))
    prior = load_prior(run.path("prior"))
    parts = []
    with tqdm(total=config.num, desc="prior-samples", unit="picture", disable=None) as bar:
        for seeds in np.array_split(np.arange(config.num), -(-config.num // AT_ONCE)):
            shape = autoencoder.config.latent_shape
            z_0 = prior.sample(shape, seeds=seeds.tolist(), sampler=config.sampler).x_0
            x = autoencoder.decode(z_0, seeds=decoder_seeds(seeds), sampler=config.decoder)
            parts.append(to_uint8(x.numpy()))
            advance(bar, len(seeds))
    drawn = np.concatenate(parts)
    media = MediaStore.open(run.path("media"))
    train = train_rows(run, media.items)
    heldout = np.setdiff1d(np.arange(len(media)), train)[: config.num]
    rows = _judged(
        {"stage-1 prior": drawn, "real held-out": np.asarray(media.media[heldout])},
        np.asarray(media.media[train]),
        seed=run.config.seed,
    )
    made_from = {"autoencoder": fingerprint, "prior": run.fingerprint("prior")}
    folder = run.path("prior_samples")
    with new_artefact(folder, kind="prior_samples", made_from=made_from) as temporary:
        np.save(temporary / "media.npy", drawn)
        (temporary / "metrics.json").write_text(json.dumps(rows, indent=1))
        shown = tile(drawn[: COLUMNS**2], columns=COLUMNS, scale=2)
        Image.fromarray(shown).save(temporary / "samples.png")
    text = "; ".join(f"{row['set']}: {_figures(row)}" for row in rows)
    return f"{config.num} pictures; {text}"


def _judged(
    sets: dict[str, NDArray[np.uint8]], train: NDArray[np.uint8], *, seed: int
) -> list[dict[str, str | int | float]]:
    """Return rows {set, n, KID, FD} in efflite0 features, FD at equal numbers."""
    network = EffLite0()
    real = extract_features(network, picture_batches(train))
    fewest = min(len(media) for media in sets.values())
    rows: list[dict[str, str | int | float]] = []
    for name, media in sets.items():
        found = extract_features(network, picture_batches(media))
        size = min(len(found), len(real))
        distance = kid(found, real, subset_size=size, num_subsets=1, seed=seed).full
        rows.append(
            {
                "set": name,
                "n": len(found),
                kid_name(network.name): distance,
                frechet_name(network.name): frechet_distance(found[:fewest], real).distance,
            }
        )
    return rows


def _figures(row: dict[str, str | int | float]) -> str:
    return ", ".join(f"{k} {v:.3g}" for k, v in row.items() if k not in ("set", "n"))
