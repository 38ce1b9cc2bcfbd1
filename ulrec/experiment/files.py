"""What a run has generated, as files that anything can show."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from ulrec.data.encode import FPS, FileKind, save_media
from ulrec.data.schema import ARM
from ulrec.experiment.runner import Run

__all__ = ["write_generated"]

FILE = "file"


def write_generated(
    run: Run, folder: str | Path, *, kind: FileKind | None = None, fps: float = FPS
) -> str:
    """Write the media of ``generated`` as files, and ``samples.csv`` [file, arm, user_id, seed].

    Parameters
    ----------
    run
        Whose ``generate`` stage has run.
    folder
        Is made where it is missing; files of the same names are written over.
    kind
        See :func:`ulrec.data.encode.encode_media`; None is "png" for pictures, "webp" for clips.
    fps
        Frames a second.

    Returns
    -------
    str
        A line about it.

    Raises
    ------
    ArtefactError
        If nothing has been generated.
    DataError
        If clips are to be PNGs.
    """
    run.fingerprint("generated")
    samples = pl.read_parquet(run.path("generated") / "samples.parquet")
    media = np.load(run.path("generated") / "media.npy", mmap_mode="r")
    kind = kind or ("png" if media.shape[2] == 1 else "webp")
    names = [f"{row:05d}-{arm}" for row, arm in enumerate(samples[ARM].to_list())]
    written = save_media(media, folder, names=names, kind=kind, fps=fps)
    listed = samples.insert_column(0, pl.Series(FILE, [path.name for path in written]))
    listed.write_csv(Path(folder) / "samples.csv")
    return f"{len(written)} {kind} files: {folder}"
