"""A folder that mostly moves: what `ulrec init` sees and proposes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml

from ulrec.data.encode import encode_media, save_media
from ulrec.data.media import prepare_media
from ulrec.data.pictures import MediaConfig
from ulrec.experiment.propose import propose


def moving(count, *, frames=4, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, 3, frames, 32, 48), dtype=np.uint8)


def put(folder, *, clips=(), videos=(), stills=()):
    folder.mkdir()
    save_media(moving(len(clips)), folder, names=clips, kind="webp")
    if videos:
        pytest.importorskip("av")
        save_media(moving(len(videos), seed=1), folder, names=videos, kind="mp4")
    save_media(moving(len(stills), frames=1, seed=2), folder, names=stills, kind="png")
    return folder


def test_a_folder_of_clips_becomes_a_run_of_clips(tmp_path):
    folder = put(tmp_path / "f", clips=["c1", "c2"], videos=["v1", "v2", "v3"], stills=["s1"])
    proposal = propose(folder, out=tmp_path / "own.yaml")
    told = str(proposal)
    assert "5 of 6 files move (3 are videos): a run of clips" in told
    assert "1 pictures are single among clips and will be left out: s1.png" in told
    assert "clips of 16 frames, 32 x 48" in told
    proposal.write()
    written = yaml.safe_load((tmp_path / "own.yaml").read_text())
    assert written["data"]["media"]["frames"] == 16
    assert written["latents"]["model"]["autoencoder"]["frames"] == 16
    catalogue = pl.read_parquet(tmp_path / "own.catalogue.parquet")
    assert sorted(catalogue["path"]) == [
        "c1.webp",
        "c2.webp",
        "s1.png",
        *(f"v{n}.mp4" for n in (1, 2, 3)),
    ]
    config = MediaConfig(**{**written["data"]["media"], "background": (255, 255, 255)})
    store = prepare_media(
        catalogue.select("item_id", "path").to_arrow(),
        config=config,
        folder=tmp_path / "m",
        media_root=folder,
    )
    assert store.media.shape == (5, 3, 16, 32, 48)
    assert [entry.item_id for entry in store.quarantine] == ["s1"]


def test_a_few_videos_among_pictures_are_other_files(tmp_path):
    folder = put(tmp_path / "f", clips=["c1"], videos=["v1"], stills=["s1", "s2", "s3"])
    proposal = propose(folder, out=tmp_path / "own.yaml")
    told = str(proposal)
    assert "1 .mp4" in told
    assert "1 pictures are animated; their first frame counts: c1.webp" in told
    assert proposal.recipe.frames == 1
    assert sorted(proposal.catalogue["path"]) == ["c1.webp", "s1.png", "s2.png", "s3.png"]


def test_a_table_of_encoded_clips(tmp_path):
    clips = [encode_media(clip, kind="webp") for clip in moving(3)]
    table = pl.DataFrame({"item_id": ["a", "b", "c"], "clip": clips})
    proposal = propose(table, out=tmp_path / "own.yaml")
    assert proposal.recipe.frames == 16
    assert proposal.catalogue["clip"].to_list() == clips


def test_the_emoji_in_motion():
    folder = Path(__file__).parents[3] / "datasets" / "fluent_emoji"
    proposal = propose(pl.read_parquet(folder / "clips.parquet").head(20), out="own.yaml")
    assert proposal.recipe.frames == 16
    assert proposal.recipe.num_items == 20
