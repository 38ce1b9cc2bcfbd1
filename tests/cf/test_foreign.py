from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ulrec.cf.base import recommend
from ulrec.cf.foreign import Foreign, ForeignConfig
from ulrec.data.ids import IdMap
from ulrec.data.schema import ITEM_ID, SCORE
from ulrec.errors import ConfigError, DataError


@pytest.fixture
def config(checkerboard, write_svd, tmp_path) -> ForeignConfig:
    return write_svd(checkerboard, tmp_path / "foreign", num_factors=2)


def rewrite_ids(path: str | None, change) -> None:
    file = Path(str(path))
    file.write_text("\n".join(change(file.read_text().splitlines())))


def test_factors_are_found_by_id(config, checkerboard):
    """Two factors say all of a checkerboard: a user's scores are high for their group alone."""
    model = Foreign(config).fit(checkerboard)
    users = np.load(str(config.user_factors)).astype(np.float32)
    np.testing.assert_array_equal(model.user_factors_[:24], users)
    assert not model.user_factors_[24].any()  # "cold" is not in the file
    scores = model.score(checkerboard.user_items[[3]], user_ids=np.array(["u03"]))[0]
    assert scores[1::2].min() > 0.5 > abs(scores[::2]).max()


def test_the_order_of_the_file_does_not_matter(config, checkerboard):
    expected = Foreign(config).fit(checkerboard).item_factors_
    np.save(str(config.item_factors), np.load(str(config.item_factors))[::-1])
    rewrite_ids(config.item_ids, lambda ids: ids[::-1])
    np.testing.assert_array_equal(Foreign(config).fit(checkerboard).item_factors_, expected)


def test_items_without_a_factor_get_zeros(config, checkerboard):
    rewrite_ids(config.item_ids, lambda ids: ["else", *ids[1:]])
    factors = Foreign(config).fit(checkerboard).factors()
    assert factors.known_items.tolist() == [False] + [True] * 19
    assert not factors.can_fold_in


def test_a_user_without_a_factor_gets_what_is_popular(config, checkerboard):
    rewrite_ids(config.user_ids, lambda ids: ["else", *ids[1:]])
    model = Foreign(config).fit(checkerboard)
    table = recommend(model, checkerboard, ["u00"], k=3, seed=0)
    rows = checkerboard.items.rows(table[ITEM_ID].to_list())
    assert table[SCORE].to_list() == checkerboard.popularity()[rows].tolist()


def test_ids_of_text_are_read_as_the_runs_are(weighted, write_svd, tmp_path):
    config = write_svd(weighted, tmp_path / "foreign", num_factors=2)
    assert Foreign(config).fit(weighted).factors().known_users.sum() == 29
    as_text = replace(
        weighted,
        users=IdMap([str(i) for i in weighted.users.ids]),
        items=IdMap([str(i) for i in weighted.items.ids]),
    )
    assert Foreign(config).fit(as_text).factors().known_users.sum() == 29


def test_too_few_matches_are_refused_with_examples_of_both(config, checkerboard):
    rewrite_ids(config.user_ids, lambda ids: [f"other{i}" for i in ids])
    message = (
        r"0 of the run's 25 users have a foreign factor, expected at least 13; the run has 'u00', "
        r"'u01', 'u02', the file 'otheru00'"
    )
    with pytest.raises(DataError, match=message):
        Foreign(config).fit(checkerboard)
    with pytest.raises(DataError, match="expected at least 1"):
        Foreign(replace(config, min_share=0.0)).fit(checkerboard)


def test_the_share_that_has_to_match_is_configurable(config, checkerboard):
    rewrite_ids(config.item_ids, lambda ids: [*ids[:4], *(f"other{i}" for i in ids[4:])])
    with pytest.raises(DataError, match=r"4 of the run's 20 items .* expected at least 10"):
        Foreign(config).fit(checkerboard)
    known = Foreign(replace(config, min_share=0.2)).fit(checkerboard).factors().known_items
    assert known.sum() == 4


def test_files_have_to_be_named(checkerboard):
    with pytest.raises(ConfigError, match="'user_factors' and 'item_factors'"):
        Foreign(ForeignConfig()).fit(checkerboard)
    with pytest.raises(ConfigError, match="'min_share' has to lie in"):
        ForeignConfig(min_share=1.5)


def test_all_files_are_known(config):
    assert len(config.files) == 4
    assert ForeignConfig(user_factors="u.parquet").files == (Path("u.parquet"),)
