from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from ulrec.checkpoint import open_artefact
from ulrec.config import load_config
from ulrec.data.colour import mean_colours
from ulrec.data.schema import CATEGORY, ITEM_ID, SPLIT, SUBCATEGORY, TIMESTAMP, USER_ID
from ulrec.data.simulate import SimulatedWorld, SimulationConfig, simulate
from ulrec.data.splits import global_time
from ulrec.data.tables import validate_interactions
from ulrec.errors import ConfigError, DataError

COLOURS = np.array(
    [[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0], [128, 128, 128]], np.uint8
)
NUM_ITEMS = 200


def make_catalogue():
    rows = np.arange(NUM_ITEMS)
    return pl.DataFrame(
        {
            ITEM_ID: [f"item{row}" for row in rows],
            CATEGORY: [f"category{row % 4}" for row in rows],
            SUBCATEGORY: [f"sub{row % 20}" for row in rows],
            SPLIT: ["heldout" if row % 8 == 3 else "train" for row in rows],
        }
    )


def make_pictures():
    colour = COLOURS[np.arange(NUM_ITEMS) // 20 % 5]
    return np.broadcast_to(colour[:, :, None, None], (NUM_ITEMS, 3, 4, 4)).copy()


CONFIG = SimulationConfig(num_users=120, mean_history=20, seed=1)


@pytest.fixture(scope="module")
def world():
    return simulate(make_catalogue(), make_pictures(), None, CONFIG)


def test_interactions_are_valid_and_of_the_period(world):
    table = validate_interactions(world.interactions)
    assert table.equals(world.interactions)
    assert table.columns == [USER_ID, ITEM_ID, TIMESTAMP]
    assert table[TIMESTAMP].is_sorted()
    assert table[TIMESTAMP].min() >= CONFIG.start
    assert table[TIMESTAMP].max() < CONFIG.end
    counts = table.group_by(USER_ID).len()["len"]
    assert len(counts) == 120
    assert counts.min() >= CONFIG.min_history
    assert abs(counts.mean() - 20) < 4
    assert world.users["num_interactions"].sum() == len(table)


def test_the_same_seed_gives_the_same_world(world):
    again = simulate(make_catalogue(), make_pictures(), None, CONFIG)
    assert again.interactions.equals(world.interactions)
    assert again.users.equals(world.users)
    other = simulate(
        make_catalogue(), make_pictures(), None, load_config(SimulationConfig, None, ["seed=2"])
    )
    assert not other.interactions.equals(world.interactions)


def test_nothing_cold_happens_before_the_cut(world):
    before = world.interactions.filter(pl.col(TIMESTAMP) < CONFIG.cut)
    cold_items = set(world.items.filter("cold")[ITEM_ID])
    assert cold_items == set(make_catalogue().filter(pl.col(SPLIT) == "heldout")[ITEM_ID])
    assert not cold_items & set(before[ITEM_ID])
    cold_users = set(world.users.filter("cold")[USER_ID])
    assert len(cold_users) == round(0.05 * 120)
    assert set(before[USER_ID]) == set(world.users[USER_ID]) - cold_users
    info = global_time(world.interactions, test_from=CONFIG.cut).info["test"]
    assert info["num_cold_users"] == len(cold_users)
    assert 0 < info["num_cold_items"] <= len(cold_items) + 5


def test_nobody_picks_what_is_not_there(world):
    joined = world.interactions.join(world.items.select(ITEM_ID, "released"), on=ITEM_ID)
    joined = joined.join(world.users.select(USER_ID, "joined"), on=USER_ID)
    assert (joined[TIMESTAMP] >= joined["released"]).all()
    assert (joined[TIMESTAMP] >= joined["joined"]).all()


def test_utility_is_standardised_and_broadcasts(world):
    users, items = np.arange(120), np.arange(NUM_ITEMS)
    utility = world.utility(users[:, None], items)
    assert utility.shape == (120, NUM_ITEMS)
    assert utility.dtype == np.float32
    np.testing.assert_allclose(utility.mean(axis=1), 0, atol=1e-5)
    np.testing.assert_allclose(utility.std(axis=1), 1, atol=1e-4)
    np.testing.assert_array_equal(world.utility([3, 5], [7, 9]), utility[[3, 5], [7, 9]])
    for user_rows, item_rows in (([-1], [0]), ([120], [0]), ([0], [NUM_ITEMS]), ([0.5], [0])):
        with pytest.raises(DataError, match=r"look ids up with IdMap\.rows"):
            world.utility(user_rows, item_rows)


def test_utility_by_hand(world):
    row = 7
    user = world.users.row(row, named=True)
    category = dict.fromkeys(make_catalogue()[CATEGORY], 0.0)
    subcategory = dict.fromkeys(make_catalogue()[SUBCATEGORY], 0.0)
    favourites = user["favourite_subcategories"]
    for name, strength in zip(favourites, np.linspace(1, 0.6, len(favourites)), strict=True):
        subcategory[name] = strength
        parent = f"category{int(name[3:]) % 4}"
        category[parent] = max(category[parent], strength)
    favourite = bytes.fromhex(user["favourite_colour"][1:])
    lab = mean_colours(np.array([list(favourite)], np.uint8)[:, :, None, None])
    distance = ((mean_colours(make_pictures()) - lab) ** 2).sum(axis=1)
    raw = (
        make_catalogue()[CATEGORY].replace_strict(category).to_numpy()
        + 2 * make_catalogue()[SUBCATEGORY].replace_strict(subcategory).to_numpy()
        + 1.5 * np.exp(-distance / (2 * 25**2))
    )
    expected = (raw - raw.mean()) / raw.std()
    np.testing.assert_allclose(world.utility(row, np.arange(NUM_ITEMS)), expected, atol=0.02)


def test_tastes_are_clear(world):
    for favourites in world.users["favourite_subcategories"]:
        assert 1 <= len(favourites) <= 3
    user_rows = world.user_ids.rows(world.interactions[USER_ID].to_list())
    item_rows = world.item_ids.rows(world.interactions[ITEM_ID].to_list())
    assert world.utility(user_rows, item_rows).mean() > 0.8


def late_minus_early(seed):
    """Return for every user how much more the late warm picks are liked than the early ones."""
    config = load_config(SimulationConfig, None, ["num_users=300", f"seed={seed}"])
    world = simulate(make_catalogue(), make_pictures(), None, config)
    warm = world.interactions.join(world.items.filter(~pl.col("cold")).select(ITEM_ID), on=ITEM_ID)
    user_rows = world.user_ids.rows(warm[USER_ID].to_list())
    utility = world.utility(user_rows, world.item_ids.rows(warm[ITEM_ID].to_list()))
    means = (
        warm.with_columns(utility=utility, late=pl.col(TIMESTAMP) >= config.cut)
        .group_by(USER_ID, "late")
        .agg(pl.col("utility").mean())
        .pivot(on="late", index=USER_ID, values="utility")
        .drop_nulls()
    )
    return (means["true"] - means["false"]).to_numpy()


def test_picks_do_not_fade_with_time():
    difference = np.concatenate([late_minus_early(seed) for seed in (1, 2, 3)])
    assert len(difference) > 800
    assert abs(difference.mean()) < 3 * difference.std() / np.sqrt(len(difference)) < 0.1


def test_popularity_and_temperature_do_what_they_say():
    def draw(**options):
        config = SimulationConfig(num_users=300, mean_history=20, **options)
        world = simulate(make_catalogue(), make_pictures(), None, config)
        rows = world.item_ids.rows(world.interactions[ITEM_ID].to_list())
        counts = np.bincount(rows, minlength=NUM_ITEMS)
        users = world.user_ids.rows(world.interactions[USER_ID].to_list())
        correlation = np.corrcoef(counts, world.items["log_popularity"].to_numpy())[0, 1]
        return correlation, world.utility(users, rows).mean()

    correlation, mean = draw(popularity_strength=1.5)
    assert correlation > 0.6
    _, noisy = draw(popularity_strength=1.5, temperature=5.0)
    assert noisy < mean - 0.5


def test_round_trip_is_labelled(world, tmp_path):
    fingerprint = world.save(tmp_path / "w", made_from={"catalogue": "abc"})
    again = SimulatedWorld.load(tmp_path / "w")
    assert again.fingerprint == fingerprint
    assert again.config == world.config
    assert again.interactions.equals(world.interactions)
    assert again.users.equals(world.users)
    assert again.items.equals(world.items)
    rows = np.arange(20)
    np.testing.assert_array_equal(again.utility(rows, rows), world.utility(rows, rows))
    manifest = open_artefact(tmp_path / "w", kind="simulation")
    assert manifest.info["simulated"] is True
    assert manifest.info["cut"] == CONFIG.cut
    for name in ("interactions", "users", "items"):
        metadata = pl.read_parquet_metadata(tmp_path / "w" / f"{name}.parquet")
        assert metadata["simulated"] == "true"


def test_catalogues_without_a_split_are_warm():
    world = simulate(make_catalogue().drop(SPLIT), make_pictures(), None, CONFIG)
    assert not world.items["cold"].any()


def test_a_catalogue_of_one_kind_and_histories_beyond_it():
    catalogue = pl.DataFrame({ITEM_ID: [1, 2], CATEGORY: ["x", "x"], SUBCATEGORY: ["y", "y"]})
    world = simulate(catalogue, np.zeros((2, 3, 1, 1), np.uint8), None, CONFIG)
    assert world.users["num_interactions"].unique().to_list() == [2]
    np.testing.assert_array_equal(world.utility([0, 1], [0, 1]), 0)


@pytest.mark.parametrize(
    ("catalogue", "message"),
    [
        (make_catalogue().drop(SUBCATEGORY), "needs the column 'subcategory'"),
        (make_catalogue()[:-1], "has 199 items, there are 200 pictures"),
        (make_catalogue().with_columns(category=pl.lit(None)), "'category' .* is null"),
    ],
)
def test_bad_catalogues(catalogue, message):
    with pytest.raises(DataError, match=message):
        simulate(catalogue, make_pictures(), None, CONFIG)


@pytest.mark.parametrize(
    "override",
    ["num_users=0", "temperature=0", "cold_user_share=1.0", "cut_share=1.0", "mean_history=3"],
)
def test_bad_configurations(override):
    name = override.split("=")[0]
    with pytest.raises(ConfigError, match=f"'{name}'"):
        load_config(SimulationConfig, None, [override])
