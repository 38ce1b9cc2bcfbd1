import numpy as np
import pytest

from ulrec.data.colour_names import COLOURS, PROTOTYPES, colour_shares
from ulrec.errors import DataError


def plain(colour: str, size: int = 4) -> np.ndarray:
    channels = np.array(list(bytes.fromhex(colour[1:])), np.uint8)
    return np.broadcast_to(channels[:, None, None], (3, size, size)).copy()


@pytest.mark.parametrize("name", COLOURS)
def test_a_prototype_has_its_own_name(name):
    pictures = np.stack([plain(colour) for colour in PROTOTYPES[name]])
    shares = colour_shares(pictures)
    assert shares[:, COLOURS.index(name)].tolist() == [1.0] * len(pictures)


def test_shares_of_halves_and_of_what_a_mask_shows():
    picture = np.concatenate([plain("#e02020", 4), plain("#2060e0", 4)], axis=2)  # (3, 4, 8)
    shares = colour_shares(picture[None])[0]
    assert shares[COLOURS.index("red")] == shares[COLOURS.index("blue")] == 0.5
    mask = np.zeros((1, 4, 8), np.uint8)
    mask[:, :, 5:] = 255
    assert colour_shares(picture[None], mask)[0, COLOURS.index("blue")] == 1
    assert np.array_equal(colour_shares(picture[None], mask * 0)[0], shares)


def test_bad_shapes_are_named():
    with pytest.raises(DataError, match=r"uint8 \(I, 3, H, W\)"):
        colour_shares(np.zeros((1, 3, 2, 2), np.float32))
    with pytest.raises(DataError, match=r"masks have to be \(1, 2, 2\)"):
        colour_shares(np.zeros((1, 3, 2, 2), np.uint8), np.zeros((1, 3, 3), np.uint8))
