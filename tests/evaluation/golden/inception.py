"""Golden numbers of the FID network, made by another implementation with the same random weights.

    pip install torch torchvision torch-fidelity==0.4.0 pytorch-fid==0.3.0
    python tests/evaluation/golden/inception.py

writes ``inception.json`` beside this file: features of seeded pictures from torch-fidelity (whole,
resize included), and how far pytorch-fid's network lies from them on the same 299x299 input. The
weights are drawn from a generator that each one's name seeds, so that no file of them is needed.
"""

import hashlib
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch

TARGET = Path(__file__).with_suffix(".json")
SEED = 0
SIZES = ((48, 64), (299, 299), (320, 310))
KEPT = 24


def weights(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    """Draw weights that keep the size of what flows through, one generator a name."""
    drawn = {}
    for name, shape in shapes.items():
        seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:6], "big")
        noise = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
        if name.endswith("running_var"):
            drawn[name] = 0.5 + noise.square()
        elif name.endswith("bn.weight"):
            drawn[name] = 1 + 0.2 * noise
        elif len(shape) > 1:
            drawn[name] = noise * (2 / (noise.numel() / shape[0])) ** 0.5
        else:
            drawn[name] = 0.1 * noise
    return drawn


def pictures() -> list[torch.Tensor]:
    """Return one smooth seeded picture (1, 3, H, W) uint8 of each size."""
    made = []
    for number, size in enumerate(SIZES):
        generator = torch.Generator().manual_seed(SEED + number)
        coarse = torch.randint(0, 256, (1, 3, 7, 5), generator=generator).float()
        fine = torch.nn.functional.interpolate(coarse, size=size, mode="nearest")
        made.append(fine.to(torch.uint8))
    return made


def main() -> None:
    """Run both networks and write the numbers."""
    import pytorch_fid.inception as second
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    from torchvision.models import inception_v3

    plain = inception_v3(weights=None, num_classes=1008, aux_logits=False, init_weights=False)
    state = weights({k: tuple(v.shape) for k, v in plain.state_dict().items() if v.ndim})
    state |= {k: v for k, v in plain.state_dict().items() if not v.ndim}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.pth"
        torch.save(state, path)
        first = FeatureExtractorInceptionV3(
            "inception-v3-compat",
            ["2048"],
            feature_extractor_weights_path=str(path),
        )
    second.load_state_dict_from_url = lambda *_, **__: state
    other = second.InceptionV3([3], resize_input=False, normalize_input=False).eval()
    rows: list[dict[str, object]] = []
    with torch.inference_mode():
        for picture in pictures():
            features = first(picture)[0][0]
            row: dict[str, object] = {"norm": features.norm().item()}
            row |= {"first": features[:KEPT].tolist(), "last": features[-KEPT:].tolist()}
            if tuple(picture.shape[2:]) == (299, 299):
                again = other((picture.float() - 128) / 128)[0].flatten()
                row["pytorch_fid_gap"] = (again - features).abs().max().item()
            rows.append(row)
    lines = ",\n".join(json.dumps(row) for row in rows)
    TARGET.write_text(f"[\n{lines}\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main()
