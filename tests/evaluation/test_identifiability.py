import numpy as np
import pytest

from ulrec.errors import DataError
from ulrec.evaluation.identifiability import chance_mrr, identify, user_ranks
from ulrec.evaluation.personalization import Generated, Taste
from ulrec.evaluation.protocol import Protocol
from ulrec.evaluation.selection import select_best

PROTOCOL = Protocol(data_fingerprint="d", config_hash="c", code_version="1", seed=0, n=4)


def angles(*degrees):
    radians = np.radians(degrees)
    return np.stack([np.cos(radians), np.sin(radians)], axis=1)


# One item a user, at 0, 20, 40, 60 degrees.
HISTORY = Taste(features=angles(0, 20, 40, 60), user_idx=np.arange(4), item_idx=np.arange(4))


def test_ranks_by_hand():
    # user 0 at 3: first; user 1 at 32: after 40 (8 degrees against 12); user 3 at 21: after all
    made = Generated(features=5 * angles(3, 32, 21), user_idx=np.array([0, 1, 3]))
    found = identify(made, HISTORY, protocol=PROTOCOL, ks=(1, 2), seed=0)
    assert found.user_idx.tolist() == [0, 1, 3] and found.ranks.tolist() == [1, 2, 4]
    table = found.table()
    assert table["metric"].to_list() == ["top 1", "top 2", "MRR"]
    assert table["mean"].to_list() == pytest.approx([1 / 3, 2 / 3, (1 + 1 / 2 + 1 / 4) / 3])
    assert table["chance"].to_list() == pytest.approx([1 / 4, 2 / 4, 25 / 48])
    assert table["num_candidates"].to_list() == [4] * 3


def test_several_pictures_and_items_are_averaged():
    made = Generated(features=angles(-30, 70, 60, 60), user_idx=np.array([1, 1, 3, 3]))
    found = identify(made, HISTORY, protocol=PROTOCOL, ks=(1,), seed=0)
    assert found.ranks.tolist() == [1, 1]  # the mean of -30 and 70 lies at 20
    wide = Taste(
        features=angles(0, 90, 50), user_idx=np.array([0, 0, 1]), item_idx=np.array([0, 1, 2])
    )
    # 0's mean points to 45 and is short; its direction counts
    near = Generated(features=angles(46, 50), user_idx=np.array([0, 1]))
    assert identify(near, wide, protocol=PROTOCOL, seed=0).ranks.tolist() == [1, 1]


def test_p_is_that_of_all_relabellings():
    made = Generated(features=angles(0, 20, 40, 60), user_idx=np.arange(4))
    found = identify(made, HISTORY, protocol=PROTOCOL, ks=(1,), seed=0, num_permutations=4800)
    # all four are first: one of 24 labellings does as well
    assert [m.p_value for m in found.metrics] == pytest.approx([1 / 24] * 2, abs=0.012)
    assert found.metrics[0].interval.mean == 1


def test_power_and_level():
    rng = np.random.default_rng(0)
    items = rng.normal(size=(300, 16))
    history = Taste(features=items, user_idx=np.repeat(np.arange(100), 3), item_idx=np.arange(300))
    taste = items.reshape(100, 3, 16).mean(axis=1)
    personal = Generated(
        features=taste[:40] + 0.3 * rng.normal(size=(40, 16)), user_idx=np.arange(40)
    )
    settings = {"protocol": PROTOCOL, "seed": 0, "num_resamples": 10}
    found = identify(personal, history, num_permutations=999, **settings)
    assert found.num_candidates == 100 and found.metrics[0].interval.mean > 0.5
    assert found.metrics[-1].p_value == 1 / 1000
    nobody = [
        Generated(features=rng.normal(size=(40, 16)), user_idx=np.arange(40)) for _ in range(60)
    ]
    runs = [identify(made, history, num_permutations=99, **settings) for made in nobody]
    for at in range(4):
        means = [run.metrics[at].interval.mean for run in runs]
        assert np.mean(means) == pytest.approx(runs[0].metrics[at].chance, rel=0.25)
    assert 0.4 < np.mean([run.metrics[-1].p_value for run in runs]) < 0.6


def test_one_picture_for_everyone_is_at_chance():
    """All pictures are alike: whoever they point to, the mean over users is that of chance."""
    made = Generated(features=angles(*[33] * 4), user_idx=np.arange(4))
    found = identify(made, HISTORY, protocol=PROTOCOL, ks=(1, 2), seed=0)
    assert [m.interval.mean for m in found.metrics] == pytest.approx(
        [m.chance for m in found.metrics]
    )
    assert [m.p_value for m in found.metrics] == [1.0] * 3


def test_ties_are_broken_by_a_fixed_random_key():
    ranks = np.stack([user_ranks(np.zeros((1, 5)), seed=seed)[0] for seed in range(400)])
    assert np.abs(ranks.mean(axis=0) - 3).max() < 0.3  # not by row
    assert (np.sort(ranks, axis=1) == np.arange(1, 6)).all()
    two = user_ranks(np.zeros((2, 5)), seed=1)
    np.testing.assert_array_equal(two[0], two[1])
    # equal up to rounding is equal
    jitter = 1e-15 * np.random.default_rng(0).normal(size=(1, 5))
    np.testing.assert_array_equal(user_ranks(0.3 + jitter, seed=1)[0], two[0])


def test_chance_of_the_mean_reciprocal_rank():
    assert chance_mrr(1) == 1 and chance_mrr(3) == pytest.approx(11 / 18)


def test_users_without_history_are_counted():
    made = Generated(features=angles(0, 20, 50), user_idx=np.array([0, 1, 9]))
    found = identify(made, HISTORY, protocol=PROTOCOL, seed=0)
    assert found.user_idx.tolist() == [0, 1] and found.num_without_history == 1
    assert found.table()["num_without_history"].to_list() == [1] * 4


@pytest.mark.parametrize(
    ("features", "users", "settings", "message"),
    [
        (angles(0, 20), None, {}, "made for nobody"),
        (angles(0), [0], {}, "1 users have media and a history"),
        (angles(0, 20), [7, 8], {}, "0 users have media and a history"),
        (angles(0, 20) * np.nan, [0, 1], {}, "hold NaN"),
        (np.ones((2, 3)), [0, 1], {}, "one dimension"),
        (angles(0, 20), [0, 1], {"ks": (0,)}, "whole numbers from 1"),
        (angles(0, 20), [0, 1], {"ks": ()}, "whole numbers from 1"),
    ],
)
def test_bad_input_is_refused(features, users, settings, message):
    rows = None if users is None else np.array(users)
    made = Generated(features=features, user_idx=rows)
    with pytest.raises(DataError, match=message):
        identify(made, HISTORY, protocol=PROTOCOL, seed=0, **settings)


def test_media_picked_for_being_recognised_are_refused():
    picked = select_best(np.eye(2), name="identifiability", seed=0).recorded_in(PROTOCOL)
    made = Generated(features=angles(0, 20), user_idx=np.arange(2))
    with pytest.raises(DataError, match="identifiability picked the best of 2"):
        identify(made, HISTORY, protocol=picked, seed=0)
    with pytest.raises(DataError, match="finite matrix"):
        user_ranks([[1.0, np.nan]], seed=0)
