"""The committed catalogue, and the parts of the script that made it."""

import doctest
import importlib.util
import io
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from PIL import Image

from ulrec.data.tables import read_table, validate_catalogue
from ulrec.errors import DataError

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "datasets" / "fluent_emoji"


def load(name: str) -> ModuleType:
    """Import one of the scripts, which are no package."""
    spec = importlib.util.spec_from_file_location(f"fluent_emoji_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


concepts, packages, pictures = load("concepts"), load("packages"), load("pictures")


@pytest.fixture(scope="module")
def stills() -> pl.DataFrame:
    return read_table(FOLDER / "stills.parquet")


@pytest.fixture(scope="module")
def clips() -> pl.DataFrame:
    return read_table(FOLDER / "clips.parquet")


@pytest.fixture(scope="module")
def decoded(stills: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Pictures (1852, 64, 64, 3) and masks (1852, 64, 64)."""
    images = [Image.open(io.BytesIO(content)) for content in stills["image"]]
    masks = [Image.open(io.BytesIO(content)) for content in stills["mask"]]
    assert {image.mode for image in images} == {"RGB"}
    assert {mask.mode for mask in masks} == {"1"}
    return np.stack([np.asarray(i) for i in images]), np.stack([np.asarray(m) for m in masks])


# --- the committed files


def test_stills_are_a_valid_catalogue(stills):
    assert stills.columns == [
        *("item_id", "name", "category", "subcategory", "concept", "split", "image", "mask")
    ]
    assert len(validate_catalogue(stills)) == 1852
    assert stills["item_id"].n_unique() == 1852
    assert stills.null_count().row(0) == (0,) * 8
    assert stills["item_id"].str.contains(r"^[0-9a-f]{4,5}(-[0-9a-f]{4,5})*$").all()


def test_skin_tones_are_left_out(stills):
    assert not stills["item_id"].str.contains("1f3f[b-f]").any()


def test_stills_and_masks_decode_to_64x64(decoded):
    images, masks = decoded
    assert images.shape == (1852, 64, 64, 3)
    assert masks.shape == (1852, 64, 64)


def test_masks_cover_the_drawing_and_the_rest_is_white(decoded):
    images, masks = decoded
    near = masks.copy()
    for _ in range(4):  # grow by a pixel in four directions: WebP smears colour over a 2x2 block
        grown = np.pad(near, ((0, 0), (1, 1), (1, 1)))
        near |= grown[:, 2:, 1:-1] | grown[:, :-2, 1:-1] | grown[:, 1:-1, 2:] | grown[:, 1:-1, :-2]
    ink = 255 - images.min(-1).astype(int)
    assert masks.sum((1, 2)).min() >= 300
    assert ink[~near].max() <= 32
    assert ink[~near].mean() < 2
    inside = (ink * masks).sum((1, 2)) / masks.sum((1, 2))
    assert inside.min() > 8  # fog, the palest, is a white cloud
    assert np.median(inside) > 150


def test_split_holds_out_a_tenth_of_every_category(stills):
    shares = stills.group_by("category").agg((pl.col("split") == "heldout").mean())["split"]
    assert len(shares) == 9
    assert shares.is_between(0.09, 0.11).all()
    assert (stills["split"] == "heldout").sum() == 185


def test_no_concept_straddles_the_split(stills):
    assert stills.group_by("concept").agg(pl.col("split").n_unique())["split"].max() == 1


@pytest.mark.parametrize(
    ("item_ids", "concept"),
    [
        (["1f46e", "1f46e-200d-2640-fe0f", "1f46e-200d-2642-fe0f"], "cop"),
        (["1f9d1-200d-1f680", "1f468-200d-1f680", "1f469-200d-1f680"], "astronaut"),
        (["1f9d1", "1f468-200d-1f9b0", "1f471-200d-2640-fe0f", "1f475"], "adult"),
        (["1f550", "1f55b", "1f567"], "clock_face"),
        (["0023-fe0f-20e3", "0039-fe0f-20e3", "1f51f"], "keycap"),
        (["1f46a", "1f469-200d-1f467-200d-1f466"], "family"),
        (["1f48f", "1f469-200d-2764-fe0f-200d-1f48b-200d-1f468"], "couplekiss"),
        (["1f491", "1f468-200d-2764-fe0f-200d-1f468"], "couple_with_heart"),
        (["2764-fe0f", "1f499", "2665-fe0f"], "heart"),
        (["1f311", "1f315", "1f31a"], "moon"),
        (["1f431", "1f63a"], "cat_face"),  # the very same file upstream
        (["2764-fe0f-200d-1f525"], "heart_on_fire"),
        (["1f408"], "cat_standing"),
        (["2648"], "aries"),
    ],
)
def test_variants_of_one_drawing_share_a_concept(stills, item_ids, concept):
    found = stills.filter(pl.col("item_id").is_in(item_ids))
    assert len(found) == len(item_ids)
    assert found["concept"].unique().to_list() == [concept]


def test_biggest_concepts(stills):
    sizes = Counter(stills["concept"].to_list())
    assert [sizes[name] for name in ("adult", "family", "clock_face", "keycap")] == [24, 24, 24, 13]
    assert max(sizes.values()) == 24


def test_no_heldout_drawing_is_one_of_train(stills):
    distances = pictures.twin_distances(
        [
            pictures.Still(image=image, mask=mask)
            for image, mask in stills.select("image", "mask").iter_rows()
        ]
    )
    heldout = (stills["split"] == "heldout").to_numpy()
    assert distances[np.ix_(heldout, ~heldout)].min() > 0.005
    same = stills["item_id"].is_in(["1f431", "1f63a"]).to_numpy()
    np.testing.assert_allclose(distances[np.ix_(same, same)], 0, atol=1e-4)


def test_clips_belong_to_stills_and_move(stills, clips):
    told = ["item_id", "name", "category", "subcategory", "concept", "split"]
    assert clips.columns == [*told, "clip", "num_frames", "duration_ms"]
    assert len(validate_catalogue(clips)) == 734
    assert clips.select(told).equals(
        clips.select("item_id").join(stills.select(told), on="item_id", maintain_order="left")
    )
    assert len(clips) == clips["item_id"].n_unique() == 734
    assert set(clips["item_id"]) <= set(stills["item_id"])
    assert clips["num_frames"].is_between(13, 97).all()
    assert clips["duration_ms"].is_between(500, 5000).all()
    for i, content in enumerate(clips["clip"]):
        clip = Image.open(io.BytesIO(content))
        assert (clip.n_frames, clip.size) == (16, (64, 64))
        if i % 20 == 0:
            frames = [seek(clip, frame) for frame in range(16)]
            assert np.ptp(np.stack(frames), axis=0).max() > 30


def seek(clip: Image.Image, frame: int) -> np.ndarray:
    clip.seek(frame)
    return np.asarray(clip.convert("RGB")).astype(int)


@pytest.mark.parametrize("name", ["stills.parquet", "clips.parquet"])
def test_files_are_small_and_say_what_they_were_made_from(name):
    path = FOLDER / name
    assert path.stat().st_size < 16_000_000
    made = json.loads(pq.read_schema(path).metadata[b"fluent_emoji"])
    assert len(made["packages"]) == 6
    assert set(made["libraries"]) == {"pillow", "libwebp", "zlib", "pyarrow"}
    assert made["settings"]["size"] == 64


def test_the_card_quotes_the_right_figures(stills, clips):
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    moving = pl.col("item_id").is_in(clips["item_id"].to_list())
    held = pl.col("split") == "heldout"
    for name in [*stills["category"].unique(), "all"]:
        mine = stills.filter((pl.col("category") == name) | (pl.lit(name) == "all"))
        figures = (
            *(len(mine), len(mine.filter(moving)), mine["concept"].n_unique()),
            *(len(mine.filter(held)), len(mine.filter(held & moving))),
        )
        assert f"| {name} | {' | '.join(map(str, figures))} |" in card


# --- how they are made


def test_transparent_black_leaves_no_dark_fringe():
    image = np.zeros((256, 256, 4), dtype=np.uint8)
    image[:, :101] = (255, 0, 0, 255)
    image[:, 101:103] = (255, 0, 0, 128)
    small = np.asarray(pictures.on_background(Image.fromarray(image)))
    assert (small[..., 0] == 255).all()
    assert (small[..., 1] == small[..., 2]).all()
    assert (np.diff(small[0, :, 1].astype(int)) >= 0).all()  # no ringing
    assert (small[:, :24, 1] == 0).all()
    assert (small[:, 28:, 1] == 255).all()


def test_a_canvas_that_is_not_square_is_centred():
    image = np.zeros((264, 256, 4), dtype=np.uint8)
    image[4:260] = (0, 0, 255, 255)
    still = Image.fromarray(image)
    mask = pictures.opaque_area(still)
    assert mask.shape == (64, 64)
    assert mask[2:62, 2:62].all()
    assert not mask[0].any()
    assert not mask[-1].any()


def animation(num_frames: int) -> bytes:
    shades = np.linspace(0, 250, num_frames).astype(np.uint8)
    frames = [Image.new("RGBA", (256, 256), (int(s), 90, 200, 255)) for s in shades]
    out = io.BytesIO()
    frames[0].save(out, "WEBP", save_all=True, append_images=frames[1:], duration=40, lossless=True)
    return out.getvalue()


@pytest.mark.parametrize("num_frames", [13, 16, 40])
def test_clips_have_16_frames_whatever_the_source(num_frames):
    made = pictures.encode_clip(animation(num_frames))
    assert (made.num_frames, made.duration_ms) == (num_frames, 40 * num_frames)
    clip = Image.open(io.BytesIO(made.clip))
    assert clip.n_frames == 16
    reds = [seek(clip, frame)[32, 32, 0] for frame in range(15)]
    np.testing.assert_allclose(
        reds, np.arange(15) * 250 * num_frames / 16 / (num_frames - 1), atol=14
    )


def test_a_single_frame_is_no_clip():
    assert pictures.encode_clip(animation(1)) is None


def test_mixed_frames_add_up():
    for num_frames in (2, 13, 15):
        for place in pictures.places_of(num_frames):
            assert sum(part for _, part in place) == pytest.approx(1)
            assert all(0 <= i < num_frames for i, _ in place)


def test_twin_distance_by_hand():
    def still(colour: tuple[int, int, int], rows: int) -> object:
        mask, image = np.zeros((64, 64), dtype=bool), np.full((64, 64, 3), 255, dtype=np.uint8)
        mask[:rows], image[:rows] = True, colour
        out = io.BytesIO(), io.BytesIO()
        Image.fromarray(image).save(out[0], "PNG")
        Image.fromarray(mask).save(out[1], "PNG")
        return pictures.Still(image=out[0].getvalue(), mask=out[1].getvalue())

    red, blue, half = still((255, 0, 0), 64), still((0, 0, 255), 64), still((255, 0, 0), 32)
    distances = pictures.twin_distances([red, blue, half])
    # Red and blue, and either and white, differ by 1 in two of three channels. The half drawing is
    # white on one half of the joint area and its outline differs there.
    expected = [[0, 2 / 3, 1 / 3 + 1 / 2], [2 / 3, 0, 2 / 3 + 1 / 2], [5 / 6, 7 / 6, 0]]
    np.testing.assert_allclose(distances, expected, atol=1e-4)


@pytest.mark.parametrize("module", [concepts, pictures])
def test_examples_in_docstrings(module):
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0


ITEMS = [(f"dish {i}", "food") for i in range(100)] + [("clock face", "time")] * 24
ITEMS += [(f"tool {i // 3}", "tools") for i in range(150)]


def test_heldout_concepts_fill_the_quota_of_each_category():
    chosen = concepts.heldout_concepts(ITEMS, share=0.1, seed=0)
    counts = Counter(category for concept, category in ITEMS if concept in chosen)
    assert counts == {"food": 10, "tools": 15}
    assert "clock face" not in chosen


def test_heldout_concepts_depend_on_the_seed_only():
    chosen = [concepts.heldout_concepts(ITEMS, share=0.1, seed=seed) for seed in (0, 0, 1)]
    assert chosen[0] == chosen[1] != chosen[2]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("colour:\n  fruit: [apple, pearl]\n", "got pearl"),
        ("colour:\n  fruit: [apple]\nstate:\n  red: [apple]\n", "state.red.*got apple"),
        ("colour:\n  pear: [apple]\n", "got pear"),
    ],
)
def test_wrong_families_are_refused(tmp_path, content, message):
    (tmp_path / "concepts.yaml").write_text(content)
    with pytest.raises(DataError, match=message):
        concepts.read_families(tmp_path / "concepts.yaml", known={"apple", "pear"})


def test_a_damaged_package_is_refused(tmp_path):
    package = packages.read_sources(FOLDER / "packages.yaml").stills
    assert package.filename == "lobehub-fluent-emoji-3d-1.1.0.tgz"
    (tmp_path / package.filename).write_bytes(b"not the package")
    with pytest.raises(DataError, match=r"must have SHA-512.*delete the file"):
        packages.fetch(package, tmp_path)


def test_the_command_says_that_npm_is_missing(tmp_path):
    env = {**os.environ, "PATH": "", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, FOLDER / "prepare.py", "--out", tmp_path / "out"]
    done = subprocess.run(
        [*command, "--cache", tmp_path], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "npm is needed to fetch emoji-datasource@16.0.0" in done.stderr
    assert list((tmp_path / "out").iterdir()) == []
