"""What a run has generated, as files; and sheets of clips."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from ulrec.checkpoint import new_artefact
from ulrec.cli import main
from ulrec.data.clips import decode_clip
from ulrec.data.pictures import MediaConfig
from ulrec.errors import ArtefactError, DataError
from ulrec.experiment.config import RunConfig
from ulrec.experiment.files import write_generated
from ulrec.experiment.runner import Run


def generated(tmp_path, frames):
    """A run of which only what it has generated is there: two users, two arms."""
    run = Run(config=RunConfig(name="clips", folder=str(tmp_path)))
    media = np.random.default_rng(0).integers(0, 256, (4, 3, frames, 8, 8), dtype=np.uint8)
    table = {"arm": ["user", "user", "null", "null"], "user_id": [7, 9, 7, 9], "seed": [1, 2, 1, 2]}
    with new_artefact(run.path("generated"), kind="generated") as folder:
        pl.DataFrame(table).write_parquet(folder / "samples.parquet")
        np.save(folder / "media.npy", media)
    return run, media


@pytest.mark.parametrize(("frames", "kind"), [(1, "png"), (4, "webp"), (4, "gif")])
def test_every_sample_is_a_file_and_a_row(tmp_path, frames, kind):
    run, media = generated(tmp_path, frames)
    chosen = None if kind in ("png", "webp") else kind
    told = write_generated(run, tmp_path / "out", kind=chosen)
    assert told == f"4 {kind} files: {tmp_path / 'out'}"
    listed = pl.read_csv(tmp_path / "out" / "samples.csv")
    assert listed.columns == ["file", "arm", "user_id", "seed"]
    assert listed["file"].to_list()[::2] == [f"00000-user.{kind}", f"00002-null.{kind}"]
    assert listed["user_id"].to_list() == [7, 9, 7, 9]
    if frames > 1:
        data = (tmp_path / "out" / listed["file"][3]).read_bytes()
        found = decode_clip(data, MediaConfig(frames=frames, height=8, width=8)).media
        assert np.corrcoef(found.ravel(), media[3].ravel())[0, 1] > 0.5


def test_clips_are_no_pngs_and_nothing_is_no_run(tmp_path):
    run, _ = generated(tmp_path, 4)
    with pytest.raises(DataError, match="a PNG holds one frame, got 4"):
        write_generated(run, tmp_path / "out", kind="png")
    with pytest.raises(ArtefactError, match="generated is missing"):
        write_generated(Run(config=RunConfig(name="other", folder=str(tmp_path))), tmp_path / "out")


def test_a_format_needs_a_folder(capsys):
    assert main(["generate", "--format", "webp"]) == 1
    assert "say where they go with --out FOLDER" in capsys.readouterr().err
