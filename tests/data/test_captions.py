import numpy as np
import pytest

from ulrec.data.captions import Described, captions, describe_items, draw_caption, shapes_of
from ulrec.errors import DataError


def disc(height: int, width: int, size: int = 32) -> np.ndarray:
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    return (y / height) ** 2 + (x / width) ** 2 <= 0.25


def test_items_are_described_by_colour_kind_and_shape():
    mask = disc(24, 24)
    picture = np.where(mask, np.array([32, 96, 224], np.uint8)[:, None, None], np.uint8(255))
    (item,) = describe_items(
        ["Big Ball"],
        ["sport"],
        pictures=picture[None],
        masks=mask[None].astype(np.uint8) * 255,
        kinds={"sport": ["toy"]},
    )
    assert item == Described(name="big ball", kinds=("toy",), colours=("blue",), shapes=("round",))
    named, like = captions(item)
    assert "blue big ball" in named and "big ball, toy" in named
    assert {"blue toy", "something blue", "blue round toy", "round thing"} <= set(like)
    assert not any("big ball" in text for text in like)


def test_a_group_without_words_is_named():
    with pytest.raises(DataError, match="groups sport"):
        describe_items(
            ["ball"],
            ["sport"],
            pictures=np.zeros((1, 3, 2, 2), np.uint8),
            masks=np.ones((1, 2, 2), np.uint8),
            kinds={},
        )


def test_outlines_that_are_plain_have_names():
    assert shapes_of(disc(20, 20)) == ("round",)
    assert shapes_of(disc(30, 10)) == ("tall",)
    assert shapes_of(disc(10, 30)) == ("wide",)
    assert shapes_of(np.ones((8, 8), bool)) == ("square",)
    assert shapes_of(np.tri(16, dtype=bool)) == ()
    assert shapes_of(np.zeros((4, 4), bool)) == ()


def test_a_colour_is_not_said_twice_and_two_are_said_together():
    named, like = captions(Described(name="red heart", kinds=("heart",), colours=("red", "pink")))
    assert "red red heart" not in named and "pink red heart" in named
    assert "red and pink heart" in like


def test_half_of_the_drawn_captions_name_the_item():
    item = Described(name="whale", kinds=("animal",), colours=("blue",))
    rng = np.random.default_rng(0)
    drawn = [draw_caption(item, rng) for _ in range(400)]
    share = np.mean([text in captions(item)[0] for text in drawn])
    assert 0.42 < share < 0.58  # three standard deviations of 0.025
    assert set(drawn) == set(sum(captions(item), ()))
    bare = Described(name="thing")
    assert {draw_caption(bare, rng) for _ in range(20)} == {"thing", "a thing"}
