"""What a visitor takes along: what was drawn as files, and the same in Python."""

from __future__ import annotations

import importlib.util
import io
import zipfile
from collections.abc import Sequence

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from ulrec.app.drawing import Made, pipeline_of
from ulrec.app.loading import Shown
from ulrec.app.people import Person
from ulrec.app.state import Wish
from ulrec.data.encode import FileKind, encode_media

__all__ = ["take_away", "zipped"]

KEPT = 32
PICTURE: FileKind = "png"
CLIPS: dict[str, FileKind] = {"WebP": "webp", "GIF": "gif", "MP4": "mp4"}


def take_away(shown: Shown, person: Person, wish: Wish, made: Sequence[Made]) -> None:
    """Offer what was drawn as files, and where that draws it again, a few lines of Python."""
    media = [one.media for one in made]
    with st.container(horizontal=True, vertical_alignment="bottom"):
        kind = PICTURE if shown.noun == "picture" else _kind_of_clips()
        st.download_button(
            f"Download the {shown.noun}s",
            data=zipped(media, kind),
            file_name=f"{shown.noun}s.zip",
            mime="application/zip",
            icon=":material/download:",
            on_click="ignore",
        )
    if wish.surprising or wish.varied or wish.text:
        return
    with st.expander("The same in Python", icon=":material/code:"):
        st.code(_recipe(shown, person, wish, len(made)), language="python")


@st.cache_data(max_entries=KEPT, show_spinner=False)
def zipped(media: Sequence[NDArray[np.uint8]], kind: FileKind) -> bytes:
    """Return media, each (C, F, H, W), as files of a kind in a zip; PNG and WebP lose nothing."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for place, one in enumerate(media, 1):
            archive.writestr(f"{place:02d}.{kind}", encode_media(one, kind=kind, lossless=True))
    return buffer.getvalue()


def _kind_of_clips() -> FileKind:
    """Show the choice of a kind of file; MP4 is one where PyAV is installed."""
    has_av = importlib.util.find_spec("av") is not None
    names = [name for name in CLIPS if name != "MP4" or has_av]
    chosen = st.segmented_control(
        "As", names, default=names[0], required=True, key="kind", bind="query-params"
    )
    return CLIPS[chosen]


def _recipe(shown: Shown, person: Person, wish: Wish, number: int) -> str:
    pipeline = pipeline_of(shown, wish)
    steps = f"pipeline.sampler = {pipeline.sampler!r}\npipeline.decoder = {pipeline.decoder!r}\n"
    head = (
        "from math import inf\n\nimport numpy as np\n\nfrom ulrec.diffusion.sampler import "
        f"SamplerConfig\nfrom ulrec.pipeline import Pipeline, sample_seeds\n\npipeline = "
        f'Pipeline.load("{shown.folder.name}")\n{steps}'
    )
    if person.user_id is not None:
        return (
            f"{head}made = pipeline.generate([{person.user_id!r}], per_user={number}, "
            f"guidance={wish.guidance}, seed={wish.seed})\n"
        )
    away = f"np.tile(pipeline.fold_in({list(person.disliked)!r}), ({number}, 1))"
    return (
        f"{head}factor = pipeline.fold_in({list(person.liked)!r})\n"
        f"seeds = sample_seeds({wish.seed}, np.full({number}, -1), np.arange({number}))\n"
        f"media, latents = pipeline.generate_for(\n    np.tile(factor, ({number}, 1)),\n"
        f"    seeds=seeds,\n    guidance={wish.guidance},\n"
        f"    away={away if person.disliked else None},\n)\n"
    )
