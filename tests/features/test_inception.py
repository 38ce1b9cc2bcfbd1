"""The FID network: golden numbers of another implementation, and what may be called FID."""

import json
import runpy
from pathlib import Path

import pytest
import torch

from ulrec.errors import ArtefactError, DataError
from ulrec.evaluation.fidelity import frechet_name, kid_name
from ulrec.features import inception
from ulrec.features.extract import extract_features
from ulrec.features.inception import InceptionV3

GOLDEN = Path(__file__).parents[1] / "evaluation" / "golden" / "inception.py"
MAKER = runpy.run_path(str(GOLDEN))


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    """Everything that the distributed file holds: weights, counters, the unused classifier."""
    with torch.device("meta"):
        names = inception._Network().state_dict()
    drawn = MAKER["weights"]({name: tuple(v.shape) for name, v in names.items() if v.ndim})
    unused = {name: torch.zeros(shape) for name, shape in inception.UNUSED.items()}
    return drawn | {k: torch.tensor(0) for k, v in names.items() if not v.ndim} | unused


@pytest.fixture(scope="module")
def weights(state, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "random.pth"
    torch.save(state, path)
    return path


@pytest.fixture(scope="module")
def network(weights) -> InceptionV3:
    return InceptionV3(weights)


def test_features_equal_another_implementation_from_the_same_weights(network) -> None:
    """From bytes to pool3, through TensorFlow's resize from below, at and above 299."""
    rows = json.loads(GOLDEN.with_suffix(".json").read_text())
    for picture, row in zip(MAKER["pictures"](), rows, strict=True):
        features = network(picture)
        assert (features.shape, features.dtype) == ((1, 2048), torch.float32)
        kept = len(row["first"])
        expected = torch.tensor(row["first"] + row["last"])
        got = torch.cat([features[0, :kept], features[0, -kept:]])
        torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)
        assert features.norm().item() == pytest.approx(row["norm"], rel=1e-5)
    assert [row["pytorch_fid_gap"] for row in rows if "pytorch_fid_gap" in row] == [0.0]


def test_the_state_has_as_many_entries_as_the_published_file(state) -> None:
    assert len(state) == 566


def test_only_the_published_file_gives_fid(network, weights) -> None:
    assert network.name == f"inception-v3-{network.weight_hash[:8]}"
    assert frechet_name(network.name).startswith("FD-inception-v3-")
    assert kid_name(network.name).startswith("KID-inception-v3-")
    assert frechet_name("inception-v3") == "FID"
    assert inception.WEIGHTS_SHA256.startswith("6726825d") and len(inception.WEIGHTS_SHA256) == 64


def test_batches_encodings_and_stored_media_agree(network) -> None:
    generator = torch.Generator().manual_seed(0)
    media = torch.randint(0, 256, (2, 3, 20, 16), generator=generator, dtype=torch.uint8)
    whole = extract_features(network, [media], batch_size=2)
    single = extract_features(network, [media[:, :, None].float() / 127.5 - 1], batch_size=1)
    torch.testing.assert_close(torch.from_numpy(single), torch.from_numpy(whole), atol=1e-4, rtol=0)
    features = network(torch.zeros(0, 3, 8, 8))
    assert features.shape == (0, 2048)


def test_resize_by_hand() -> None:
    """Two pixels to 299: target i lies at 2 i / 299, and beyond the last pixel there is only it."""
    column = torch.tensor([0.0, 299.0]).view(1, 1, 2, 1).expand(1, 3, 2, 2)
    out = inception._resize(column)[0, 0, :, 0]
    expected = torch.clamp(2.0 * torch.arange(299), max=299)
    torch.testing.assert_close(out, expected, atol=1e-3, rtol=0)
    picture = torch.rand(1, 3, 299, 299)
    assert torch.equal(inception._resize(picture), picture)


def test_levels_are_bytes() -> None:
    floats = torch.tensor([-1.0, 0.0, 1.0 / 255, 1.0]).view(1, 1, 2, 2).expand(1, 3, 2, 2)
    assert inception._levels(floats)[0, 0].flatten().tolist() == [0, 128, 128, 255]


@pytest.mark.parametrize(
    ("media", "message"),
    [
        (torch.zeros(1, 1, 8, 8), r"\(B, 3, H, W\)"),
        (torch.zeros(1, 3, 2, 8, 8), "frames of clips"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.int64), "uint8 or float"),
        (torch.full((1, 3, 8, 8), 255.0), r"lie in \[-1, 1\]"),
        (torch.full((1, 3, 8, 8), float("nan")), r"lie in \[-1, 1\]"),
    ],
)
def test_other_media_are_refused(network, media, message) -> None:
    with pytest.raises(DataError, match=message):
        network(media)


def test_other_networks_are_refused(state) -> None:
    name = "Mixed_7c.branch_pool.conv.weight"
    less = {k: v for k, v in state.items() if k != name}
    with pytest.raises(ArtefactError, match=f"missing: {name} \\(1\\)"):
        inception._build(less, "weights.pth")
    with pytest.raises(ArtefactError, match=r"unknown: AuxLogits.fc.bias \(1\).*torchvision"):
        inception._build(state | {"AuxLogits.fc.bias": torch.zeros(2)}, "weights.pth")
    with pytest.raises(ArtefactError, match=r"of another shape: fc.bias \(1\)"):
        inception._build(state | {"fc.bias": torch.zeros(1000)}, "weights.pth")


def test_files_that_are_no_weights_are_refused(tmp_path) -> None:
    with pytest.raises(ArtefactError, match="no Inception weights at"):
        InceptionV3(tmp_path / "absent.pth")
    path = tmp_path / "w.pth"
    path.write_bytes(b"not found")
    with pytest.raises(ArtefactError, match="cannot be read as weights"):
        InceptionV3(path)
    torch.save({"code": Path("x")}, path)
    with pytest.raises(ArtefactError, match="tensors only"):
        InceptionV3(path)
    torch.save([torch.zeros(1)], path)
    with pytest.raises(ArtefactError, match="no state dict"):
        InceptionV3(path)
