from __future__ import annotations

import numpy as np
import pytest

from ulrec.data.colour import hex_colours, mean_colours
from ulrec.errors import DataError


def test_lab_of_known_colours():
    # Lindbloom's calculator, sRGB, D65.
    pictures = np.array(
        [[255, 0, 0], [0, 255, 0], [0, 0, 255], [0, 0, 0], [119, 119, 119]], np.uint8
    )[:, :, None, None]
    expected = [
        [53.24, 80.09, 67.20],
        [87.73, -86.18, 83.18],
        [32.30, 79.19, -107.86],
        [0, 0, 0],
        [50.03, 0, 0],
    ]
    np.testing.assert_allclose(mean_colours(pictures), expected, atol=0.02)


def test_colour_is_that_of_the_foreground():
    pictures = np.full((3, 3, 2, 2), 255, np.uint8)
    pictures[:, :, 0, 0] = (255, 0, 0)
    masks = np.zeros((3, 2, 2), np.uint8)
    masks[0, 0, 0] = 255
    masks[1] = 255
    lab = mean_colours(pictures, masks)
    np.testing.assert_allclose(lab[0], [53.24, 80.09, 67.20], atol=0.02)
    np.testing.assert_allclose(lab[1:], mean_colours(pictures[1:]), atol=1e-4)
    for bad in (pictures[:, :1], pictures.astype(np.float32), pictures[0]):
        with pytest.raises(DataError, match=r"uint8 \(I, 3, H, W\)"):
            mean_colours(bad)
    with pytest.raises(DataError, match=r"masks have to be uint8 \(3, 2, 2\)"):
        mean_colours(pictures, masks[:2])


def test_hex_inverts_lab():
    colours = np.random.default_rng(0).integers(0, 256, (50, 3), dtype=np.uint8)
    lab = mean_colours(colours[:, :, None, None])
    assert hex_colours(lab) == [f"#{bytes(row).hex()}" for row in colours]
