import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from ulrec.cli import main
from ulrec.config import load_config
from ulrec.data.media import MediaStore
from ulrec.errors import ConfigError, DataError
from ulrec.experiment.config import RunConfig
from ulrec.experiment.intake.recipe import (
    Recipe,
    choose_fit,
    choose_min_weight,
    choose_size,
    choose_split,
    render,
)
from ulrec.experiment.prepare import read_split
from ulrec.experiment.propose import propose
from ulrec.experiment.runner import Run, run_stages
from ulrec.experiment.stages import STAGES

ROOT = Path(__file__).parents[2]


def put(folder, names, size=(20, 30)):
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for name in names:
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(place)


def likes(num_users=4, items=range(1, 7), start=900_000_000):
    rows = [
        (user, item, 1 + (user + item) % 5, start + 10 * user + item)
        for user in range(num_users)
        for item in items
    ]
    return pl.DataFrame(rows, ["u", "i", "r", "t"], orient="row")


def movielens(folder):
    """Make u.data and posters named 0001.jpg, as somebody has them."""
    put(folder / "posters", [f"{item:04d}.jpg" for item in range(1, 8)])
    (folder / "posters" / "0005.jpg").write_bytes(b"")
    likes().write_csv(folder / "u.data", separator="\t", include_header=False)


def test_from_a_messy_folder_to_prepared_data(tmp_path, capsys):
    movielens(tmp_path / "ml")
    out = tmp_path / "own.yaml"
    assert main(["init", str(tmp_path / "ml"), "--out", str(out)]) == 0
    text = capsys.readouterr().out
    for told in ("7, 0.0 MB: 6 JPEG", "0005.jpg (is empty)", "leading zeros", "no header line"):
        assert told in text, told
    config = load_config(RunConfig, out, [f"folder={tmp_path}"])
    assert config.data.min_weight == 4.0
    assert (config.data.media.height, config.data.media.width) == (48, 32)
    assert config.data.media.max_bad_share > 1 / 7
    run = Run(config=config)
    run_stages(run, [STAGES["prepare"]], report=lambda result: None)
    store = MediaStore.open(run.path("media"))
    assert store.items.ids.tolist() == [1, 2, 3, 4, 6, 7]
    assert [entry.item_id for entry in store.quarantine] == [5]
    train, test = read_split(run, "train"), read_split(run, "test")
    expected = likes().filter((pl.col("r") >= 4) & (pl.col("i") != 5))
    assert len(train) + len(test) == len(expected)


def test_nothing_is_written_over(tmp_path, capsys):
    movielens(tmp_path / "ml")
    out = tmp_path / "own.yaml"
    out.write_text("mine")
    command = ["init", str(tmp_path / "ml"), "--out", str(out)]
    assert main(command) == 1
    assert "--force" in capsys.readouterr().err
    assert out.read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ml", "own.yaml"]
    assert main([*command, "--force"]) == 0
    assert load_config(RunConfig, out).name == "own"
    assert main([*command, "--force"]) == 0  # its own tables are no second candidate


def test_a_table_in_order_is_used_where_it_lies(tmp_path):
    put(tmp_path / "shop", [f"{i}.png" for i in range(1, 7)])
    table = likes().select(user_id="u", item_id="i", timestamp="t")
    table.write_csv(tmp_path / "shop" / "likes.csv")
    proposal = propose(tmp_path / "shop", out=tmp_path / "shop.yaml")
    assert proposal.interactions is None
    assert proposal.recipe.interactions == str(tmp_path / "shop" / "likes.csv")
    assert proposal.catalogue["item_id"].to_list() == [1, 2, 3, 4, 5, 6]
    names = [path.name for path in proposal.write()]
    assert names == ["shop.catalogue.parquet", "shop.yaml"]


def test_text_ids_stay_text_in_both_tables(tmp_path):
    put(tmp_path / "shop", ["0001.png", "0002.png"])
    table = pl.DataFrame({"user": ["a", "b"], "item": ["0001", "0002"], "time": [10, 20]})
    proposal = propose(tmp_path / "shop", table)
    assert proposal.catalogue["item_id"].to_list() == ["0001", "0002"]
    assert proposal.interactions["item_id"].to_list() == ["0001", "0002"]


def test_folders_become_categories(tmp_path):
    names = ["all/shoes/red/1.png", "all/shoes/2.png", "all/hats/3.png"]
    put(tmp_path, names)
    proposal = propose(tmp_path, pl.DataFrame({"user": [1, 1], "item": [1, 3], "time": [1, 2]}))
    rows = proposal.catalogue.select("item_id", "category", "subcategory").sort("item_id").rows()
    assert rows == [(1, "shoes", "red"), (2, "shoes", None), (3, "hats", None)]


def test_items_of_one_picture_share_a_concept(tmp_path):
    put(tmp_path, ["1.png", "2.png", "3.png"])
    (tmp_path / "2.png").write_bytes((tmp_path / "3.png").read_bytes())
    catalogue = propose(tmp_path, likes().select(user_id="u", item_id="i")).catalogue
    rows = catalogue.select("item_id", "concept").rows()
    assert rows == [(1, "1.png"), (2, "2.png"), (3, "2.png")]


def test_without_interactions_users_are_simulated_and_it_is_said(tmp_path):
    put(tmp_path / "shop", [f"hats/{i}.png" for i in range(20)] + ["shoes/20.png", "21.png"])
    proposal = propose(tmp_path / "shop", out=tmp_path / "x.yaml")
    assert proposal.recipe.interactions is None
    assert any("SIMULATED" in finding.text for finding in proposal.findings)
    assert proposal.catalogue.select("category", "subcategory").null_count().row(0) == (0, 0)
    proposal.write()
    overrides = [f"folder={tmp_path}", "data.simulation.num_users=20"]
    config = load_config(RunConfig, tmp_path / "x.yaml", overrides)
    run_stages(Run(config=config), [STAGES["prepare"]], report=lambda result: None)
    assert (tmp_path / "x" / "simulation" / "manifest.json").is_file()


def test_without_times_a_like_of_each_user_is_drawn(tmp_path):
    put(tmp_path, [f"{i}.png" for i in range(1, 7)])
    proposal = propose(tmp_path, likes().select(user_id="u", item_id="i"))
    assert proposal.recipe.split == "leave_last"
    assert proposal.interactions["timestamp"].unique().to_list() == [0]
    assert any("no times" in finding.text for finding in proposal.findings)


@pytest.mark.parametrize(
    ("interactions", "message"),
    [
        (
            pl.DataFrame({"user": [1], "item": [77]}),
            r"no item .* has a picture: .* such as 77, .*1\.png",
        ),
        (Path("none.csv"), "table not found: none.csv"),
        (pl.DataFrame({"user": [1], "colour": [7]}), "item_id cannot be told"),
    ],
)
def test_unusable_tables_are_errors_and_write_nothing(tmp_path, interactions, message):
    put(tmp_path / "shop", ["1.png", "2.png"])
    proposal = propose(tmp_path / "shop", interactions, out=tmp_path / "own.yaml")
    assert not proposal.ok and proposal.findings[0].level == "error"
    with pytest.raises(DataError, match=message):
        proposal.write()
    assert [path.name for path in tmp_path.iterdir()] == ["shop"]


def test_folders_without_use_are_errors(tmp_path, capsys):
    assert main(["init", str(tmp_path / "none")]) == 1
    assert "folder of pictures not found" in capsys.readouterr().out
    (tmp_path / "1.jpg").write_bytes(b"")
    assert main(["init", str(tmp_path)]) == 1
    assert "no picture can be opened (1.jpg)" in capsys.readouterr().out
    put(tmp_path, ["2.png"])
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text("user,item\n1,2\n")
    assert main(["init", str(tmp_path)]) == 1
    assert "several tables may hold the interactions" in capsys.readouterr().out


def test_a_table_of_items(tmp_path):
    put(tmp_path / "shop", ["img/a.png", "img/b.png", "stray.png"])
    items = pl.DataFrame(
        {
            "sku": ["001", "002", "003"],
            "file": ["img\\a.png", "b.png", "gone.png"],
            "title": ["A", "B", "C"],
            "genre": [1, 2, 3],
            "price": [1.0, 2.0, 3.0],
        }
    )
    items.write_csv(tmp_path / "items.csv")
    table = pl.DataFrame({"user": [5, 5, 6], "item": [1, 2, 3], "time": [1, 2, 3]})
    proposal = propose(tmp_path / "shop", table, catalogue=tmp_path / "items.csv")
    rows = proposal.catalogue.select("item_id", "path", "name", "category").rows()
    assert rows == [(1, "img/a.png", "A", "1"), (2, "img/b.png", "B", "2")]
    told = " ".join(finding.text for finding in proposal.findings)
    assert "not used: price" in told and "no picture in the folder" in told
    assert "33.3% of the interactions name 1 items without a picture" in told


def test_items_without_paths_are_matched_by_their_ids(tmp_path):
    put(tmp_path, ["7.png", "8.png"])
    items = pl.DataFrame({"item_id": [7, 8], "category": ["x", "y"]})
    table = pl.DataFrame({"user": [1, 1], "item": [7, 8], "time": [1, 2]})
    rows = propose(tmp_path, table, catalogue=items).catalogue.rows()
    assert rows == [(7, "x", "7.png"), (8, "y", "8.png")]


def test_encoded_pictures_and_absolute_paths(tmp_path):
    put(tmp_path / "deep", ["1.png", "2.png"])
    places = [tmp_path / "deep" / name for name in ("1.png", "2.png")]
    table = pl.DataFrame({"user": [1, 1], "item": [1, 2], "time": [1, 2]})
    by_path = propose(pl.DataFrame({"item_id": [1, 2], "path": list(map(str, places))}), table)
    assert by_path.recipe.media_root == str(tmp_path / "deep")
    assert by_path.catalogue["path"].to_list() == ["1.png", "2.png"]
    images = [place.read_bytes() for place in places]
    by_bytes = propose(pl.DataFrame({"item_id": [1, 2], "image": images}), table)
    assert by_bytes.catalogue["image"].to_list() == images


def test_addresses_on_the_web_are_refused(tmp_path):
    put(tmp_path, ["1.png"])
    items = pl.DataFrame({"item_id": [1], "path": ["https://example.org/1.png"]})
    proposal = propose(tmp_path, likes(), catalogue=items)
    assert "download them" in proposal.findings[0].text


def test_the_template_is_what_init_writes():
    recipe = Recipe(
        name="own",
        catalogue="shop/catalogue.parquet",
        media_root="shop/pictures",
        interactions="shop/interactions.parquet",
        height=48,
    )
    template = ROOT / "configs/own_catalogue.yaml"
    assert template.read_text() == render(recipe)
    assert load_config(RunConfig, template).data.split.name == "global_time"


@pytest.mark.parametrize("aspect", [0.2, 0.5, 0.66, 0.8, 1.0, 1.25, 1.5, 1.78, 3.0])
def test_every_size_that_is_proposed_fits_the_networks(tmp_path, aspect):
    from ulrec.models.base import BaseConfig

    height, width = choose_size(aspect)
    recipe = Recipe(
        name='a "b"',
        catalogue="c: d",
        media_root=".",
        interactions=None,
        height=height,
        width=width,
    )
    (tmp_path / "own.yaml").write_text(render(recipe))
    config = load_config(RunConfig, tmp_path / "own.yaml")
    assert (config.name, config.data.catalogue) == ('a "b"', "c: d")
    shape = config.latents.model.autoencoder.latent_shape
    BaseConfig(latent_shape=shape, network=config.base.network)
    assert abs(np.log(np.clip(aspect, 0.5, 2) / (width / height))) < np.log(1.15)


def test_crop_where_it_costs_little():
    assert choose_fit(pl.Series([0.66, 0.67, 0.7]), (48, 32)) == "crop"
    assert choose_fit(pl.Series([0.66, 1.5, 0.7]), (48, 32)) == "pad"


def test_which_weights_are_likes():
    assert choose_min_weight(pl.Series([0.5, 3.0, 5.0]))[0] == 4.0
    assert choose_min_weight(pl.Series([0.0, 1.0, 1.0]))[0] == 1.0
    assert choose_min_weight(pl.Series([1.0, 1.0]))[0] == 0.0
    assert choose_min_weight(pl.Series([1.0, 2.0, 17.0]))[0] == 0.0
    like, told = choose_min_weight(pl.Series([1.0, 8.0, 10.0, 9.0]))
    assert like == 8.0 and "75% are at least 8" in told


def test_a_global_split_needs_users_that_come_back():
    def table(times):
        rows = [(u, i, times(u, i)) for u in range(100) for i in range(10)]
        return pl.DataFrame(rows, ["user_id", "item_id", "timestamp"], orient="row")

    assert choose_split(table(lambda user, item: 1000 * item + user))[0] == "global_time"
    assert choose_split(table(lambda user, item: 1000 * user + item))[0] == "leave_last"
    assert choose_split(table(lambda user, item: 5))[0] == "leave_last"


def test_weights_of_zero_are_left_out(tmp_path):
    put(tmp_path, ["1.png", "2.png", "3.png"])
    table = pl.DataFrame(
        {"user": [1, 1, 1], "item": [1, 2, 3], "rating": [0, 1, 1], "time": [1, 2, 3]}
    )
    proposal = propose(tmp_path, table)
    assert proposal.interactions["item_id"].to_list() == [2, 3]
    assert json.dumps([f.text for f in proposal.findings]).count("weight 0 or less") == 1


def test_a_catalogue_of_other_items_is_an_error(tmp_path):
    put(tmp_path, ["1.png"])
    items = pl.DataFrame({"item_id": [1]})
    table = pl.DataFrame({"user": [1], "item": [9], "time": [1]})
    error = propose(tmp_path, table, catalogue=items).findings[0]
    assert error.level == "error" and "ids such as 9 there and 1 here" in error.text


def test_likes_without_pictures_are_an_error(tmp_path):
    put(tmp_path, ["1.png"])
    table = pl.DataFrame({"user": [1, 1], "item": [1, 2], "rating": [2, 5]})
    error = propose(tmp_path, table).findings[0]
    assert error.level == "error" and "weight of 4 or more" in error.text


def test_force_is_asked_for(tmp_path):
    put(tmp_path / "shop", ["1.png", "2.png"])
    table = pl.DataFrame({"user": [1, 1], "item": [1, 2], "time": [1, 2]})
    proposal = propose(tmp_path / "shop", table, out=tmp_path / "own.yaml")
    proposal.write()
    with pytest.raises(ConfigError, match=r"own\.yaml would be written over; .*--force"):
        proposal.write()
