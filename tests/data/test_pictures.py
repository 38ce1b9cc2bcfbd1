from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from ulrec.config import load_config
from ulrec.data.pictures import MediaConfig, decode
from ulrec.errors import ConfigError, DataError


def encode(pixels, kind="PNG", **options):
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def config(height=2, width=2, **options):
    return MediaConfig(height=height, width=width, **options)


def picture(data, *args, **options):
    """Decode to (H, W, C)."""
    media = decode(data, config(*args, **options)).media
    assert media.dtype == np.uint8
    assert media.shape[:2] == (3, 1)
    return media[:, 0].transpose(1, 2, 0)


def noise(height, width, channels=3, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (height, width, channels), dtype=np.uint8)


def smooth(height, width):
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    return np.stack([255 * x, 255 * y, 255 * (x + y) / 2], axis=-1).astype(np.uint8)


def png_that_claims(width, height):
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + b"IHDR" + header
    checksum = struct.pack(">I", zlib.crc32(b"IHDR" + header))
    return b"\x89PNG\r\n\x1a\n" + chunk + checksum + struct.pack(">I", 100) + b"IDAT"


def test_alpha_is_composited_exactly():
    pixels = np.array(
        [[[200, 100, 0, 255], [200, 100, 0, 0]], [[200, 100, 0, 128], [255, 1, 77, 51]]], np.uint8
    )
    decoded = decode(encode(pixels), config(background=(10, 20, 30)))
    alpha = pixels[..., 3:].astype(int)
    exact = (pixels[..., :3] * alpha + np.array([10, 20, 30]) * (255 - alpha)) / 255
    expected = np.floor(exact + 0.5).astype(np.uint8)
    np.testing.assert_array_equal(decoded.media[:, 0].transpose(1, 2, 0), expected)
    assert expected[0].tolist() == [[200, 100, 0], [10, 20, 30]]
    np.testing.assert_array_equal(decoded.mask, pixels[None, ..., 3])


def test_hidden_colours_do_not_bleed():
    pixels = noise(8, 8, 4)
    pixels[:, :4, 3] = 0
    alpha = pixels[..., 3:] / 255
    over = pixels[..., :3] * alpha + 255 * (1 - alpha)
    expected = over.reshape(2, 4, 2, 4, 3).mean(axis=(1, 3))
    got = picture(encode(pixels), resample="box")
    assert np.abs(got - expected).max() <= 1
    assert (got[:, 0] == 255).all()


def test_box_is_the_mean_and_the_same_size_is_exact():
    pixels = noise(6, 4)
    np.testing.assert_array_equal(picture(encode(pixels), 6, 4), pixels)
    mean = pixels.reshape(3, 2, 2, 2, 3).mean(axis=(1, 3))
    assert np.abs(picture(encode(pixels), 3, 2, resample="box") - mean).max() <= 1


@pytest.mark.parametrize("resample", ["box", "hamming", "bicubic", "lanczos"])
def test_every_filter_keeps_a_flat_colour(resample):
    flat = np.full((300, 200, 3), (12, 200, 99), np.uint8)
    got = picture(encode(flat), 48, 32, resample=resample)
    np.testing.assert_array_equal(got, np.broadcast_to(flat[0, 0], got.shape))


@pytest.mark.parametrize(
    ("size", "fit", "inside"),
    [
        ((3, 6), "pad", (slice(2, 6), slice(0, 8))),
        ((8, 4), "pad", (slice(0, 8), slice(2, 6))),
        ((1, 100), "pad", (slice(3, 4), slice(0, 8))),
        ((3, 6), "crop", (slice(0, 8), slice(0, 8))),
    ],
)
def test_aspect_is_kept(size, fit, inside):
    pixels = np.full((*size, 3), 50, np.uint8)
    decoded = decode(encode(pixels), config(8, 8, fit=fit, background=(0, 255, 0)))
    expected = np.zeros((8, 8), bool)
    expected[inside] = True
    got = decoded.media[:, 0].transpose(1, 2, 0)
    np.testing.assert_array_equal((got == 50).all(axis=-1), expected)
    assert (got[~expected] == (0, 255, 0)).all()
    if expected.all():
        assert decoded.mask is None
    else:
        np.testing.assert_array_equal(decoded.mask[0], expected * 255)


def test_crop_takes_the_centre():
    pixels = np.zeros((4, 12, 3), np.uint8)
    pixels[:, 4:8] = noise(4, 4)
    np.testing.assert_array_equal(picture(encode(pixels), 4, 4, fit="crop"), pixels[:, 4:8])


def test_posters_fill_two_by_three():
    decoded = decode(encode(noise(138, 92), "JPEG"), config(48, 32))
    assert decoded.media.shape == (3, 1, 48, 32)
    assert decoded.mask is None


ORIENTATIONS = {
    1: lambda p: p,
    2: lambda p: p[:, ::-1],
    3: lambda p: p[::-1, ::-1],
    4: lambda p: p[::-1],
    5: lambda p: p.swapaxes(0, 1),
    6: lambda p: p.swapaxes(0, 1)[:, ::-1],
    7: lambda p: p.swapaxes(0, 1)[::-1, ::-1],
    8: lambda p: p.swapaxes(0, 1)[::-1],
}


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_exif_orientation(orientation):
    pixels = noise(4, 6)
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = ORIENTATIONS[orientation](pixels)
    got = picture(encode(pixels, exif=exif), *upright.shape[:2])
    np.testing.assert_array_equal(got, upright)


@pytest.mark.parametrize("kind", ["TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_exif_orientation_of_other_formats(kind, orientation):
    pixels = noise(4, 6)
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = ORIENTATIONS[orientation](pixels)
    options = {"lossless": True} if kind == "WEBP" else {}
    got = picture(encode(pixels, kind, exif=exif, **options), *upright.shape[:2])
    np.testing.assert_array_equal(got, upright)


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_large_jpeg_is_drafted_without_a_visible_difference(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(smooth(512, 1024), "JPEG", quality=95, exif=exif)
    upright = ORIENTATIONS[orientation](np.asarray(Image.open(io.BytesIO(data))))
    size = (16, 32) if orientation == 1 else (32, 16)
    expected = upright.reshape(size[0], 32, size[1], 32, 3).mean(axis=(1, 3))
    got = picture(data, *size, resample="box")
    assert np.abs(got - expected).max() < 3


def test_a_drafted_jpeg_of_odd_size_keeps_its_place():
    exact = decode(encode(smooth(1001, 667), "PNG"), config(48, 32)).media.astype(int)
    drafted = decode(encode(smooth(1001, 667), "JPEG", quality=95), config(48, 32)).media
    assert np.abs(exact - drafted).max() <= 6


def test_palettes():
    palette = Image.new("P", (2, 2))
    palette.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    palette.putdata([0, 1, 2, 1])
    expected = [[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [0, 255, 0]]]
    assert picture(encode(palette)).tolist() == expected
    expected[0][1] = expected[1][1] = [9, 9, 9]
    assert picture(encode(palette, transparency=1), background=(9, 9, 9)).tolist() == expected
    assert (
        picture(encode(palette, "GIF", transparency=1), background=(9, 9, 9)).tolist() == expected
    )


def test_transparent_colour_of_an_rgb_picture():
    pixels = np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8)
    got = picture(encode(pixels, transparency=(4, 5, 6)), 1, 2, background=(7, 7, 7))
    assert got.tolist() == [[[1, 2, 3], [7, 7, 7]]]


def test_greys():
    grey = np.array([[0, 100], [200, 255]], np.uint8)
    assert picture(encode(grey))[..., 1].tolist() == grey.tolist()
    bits = Image.fromarray(grey).convert("1", dither=Image.Dither.NONE)
    assert picture(encode(bits))[..., 0].tolist() == [[0, 0], [255, 255]]
    with_alpha = Image.merge("LA", [Image.fromarray(grey), Image.new("L", (2, 2), 0)])
    assert (picture(encode(with_alpha)) == 255).all()


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_not_clipped(kind):
    grey = np.array([[0, 257], [25700, 65535]], np.uint16)
    assert picture(encode(grey, kind))[..., 2].tolist() == [[0, 1], [100, 255]]


def test_floats_have_no_known_range():
    data = encode(Image.fromarray(np.ones((2, 2), np.float32)), "TIFF")
    with pytest.raises(DataError, match="their range is not known"):
        decode(data, config())


def test_cmyk():
    cyan = Image.new("CMYK", (16, 16), (255, 0, 0, 0))
    assert np.abs(picture(encode(cyan, "TIFF")) - np.array([0, 255, 255])).max() == 0
    assert np.abs(picture(encode(cyan, "JPEG")).astype(int) - [0, 255, 255]).max() <= 2


@pytest.mark.parametrize("kind", ["BMP", "GIF", "TIFF", "WEBP", "JPEG", "AVIF"])
def test_formats(kind):
    flat = Image.new("RGB", (8, 8), (40, 80, 200))
    assert np.abs(picture(encode(flat, kind)).astype(int) - [40, 80, 200]).max() <= 6


def test_an_animation_gives_its_first_frame():
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    data = encode(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    assert (picture(data) == (255, 0, 0)).all()


def test_an_opaque_alpha_channel_is_no_mask():
    pixels = noise(2, 2, 4)
    pixels[..., 3] = 255
    assert decode(encode(pixels), config()).mask is None


def test_a_given_mask_is_fitted_with_the_picture():
    mask = np.zeros((4, 8), np.uint8)
    mask[:, 4:] = 255
    decoded = decode(encode(noise(2, 4)), config(4, 4, resample="box"), mask=encode(mask))
    expected = [[0, 0, 0, 0], [0, 0, 255, 255], [0, 0, 255, 255], [0, 0, 0, 0]]
    assert decoded.mask.tolist() == [expected]
    for fit in ("pad", "crop"):
        with pytest.raises(DataError, match="has a mask of another aspect: 4 x 8"):
            decode(encode(noise(2, 4)), config(4, 4, fit=fit), mask=encode(mask.T.copy()))
    white = encode(np.full((4, 4), 255, np.uint8))
    assert decode(encode(noise(4, 4)), config(), mask=white).mask is None


def test_an_unknown_orientation_is_upright():
    pixels = noise(4, 6)
    exif = Image.Exif()
    exif[0x0112] = 9
    np.testing.assert_array_equal(picture(encode(pixels, exif=exif), 4, 6), pixels)


JPEG = encode(noise(64, 64), "JPEG")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is not a readable picture"),
        (b"hello", "is not a readable picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 1 1\n", "is not a readable picture"),
        (JPEG[: len(JPEG) // 2], "cannot be decoded .*truncated"),
        (encode(noise(64, 64))[:3000], "cannot be decoded"),
        (encode(noise(64, 64), "WEBP")[:1000], "cannot be decoded|not a readable"),
        (png_that_claims(6000, 7000), "has 6000 x 7000 pixels, more than max_pixels 40000000"),
        (png_that_claims(2**31 - 1, 2**31 - 1), "cannot be decoded .*DecompressionBomb"),
        (png_that_claims(10, 10), "cannot be decoded"),
    ],
)
def test_unusable_pictures_say_why(data, message):
    with pytest.raises(DataError, match=message) as caught:
        decode(data, config())
    assert " 0x" not in str(caught.value)


def test_the_limit_is_configuration():
    data = encode(noise(10, 10))
    assert decode(data, config(max_pixels=100)).media.shape == (3, 1, 2, 2)
    with pytest.raises(DataError, match="has 10 x 10 pixels, more than max_pixels 99"):
        decode(data, config(max_pixels=99))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("height=0", "'height' and 'width' have to be positive"),
        ("max_frames=0", "have to be positive, got 1, 0"),
        ("background=[0, 0, 256]", "three values in 0 .. 255"),
        ("background=[0, 0]", "list of 3 values"),
        ("max_pixels=200000000", "'max_pixels' has to be in"),
        ("max_bad_share=1.0", "'max_bad_share' has to be in"),
        ("resample=nearest", "'resample' has to be one of 'box', 'hamming'"),
    ],
)
def test_bad_configurations(override, message):
    with pytest.raises(ConfigError, match=message):
        load_config(MediaConfig, None, [override])
