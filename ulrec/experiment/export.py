"""Pack what a run has trained into a small folder that other runs start from."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch

from ulrec.checkpoint import copy_artefact, load_component, write_text
from ulrec.errors import ArtefactError
from ulrec.experiment.runner import Run
from ulrec.models.components import save_model
from ulrec.models.rarity import load_prior
from ulrec.pipeline import load_autoencoder, load_base

__all__ = ["export"]

HALF = torch.float16
DTYPES = {16: torch.float16, 8: torch.int8}


def export(run: Run, out: str | Path, *, bits: int = 16) -> str:
    """Write a run's autoencoder, prior and unconditional base in half precision.

    Everything that reads them computes in float32 with the rounded weights, so that figures taken
    with the exported folder are figures of what is stored.

    Parameters
    ----------
    run
        Trained up to ``encode``; the base is left out where the run has none.
    out
        The new folder, for ``latents.pretrained`` and ``base.pretrained``.
    bits
        Of a weight of prior and base, 16 or 8. The autoencoder keeps 16: what it makes of a
        catalogue is stored and compared.

    Returns
    -------
    str
        A line on what was written.

    Raises
    ------
    ArtefactError
        If there is something at ``out`` already, or the run is not trained that far.
    """
    if bits not in DTYPES:
        raise ArtefactError(f"a weight is exported in 16 or 8 bits, got {bits}")
    out = Path(out)
    if out.exists():
        raise ArtefactError(f"{out} exists already; choose another place or remove it first")
    temporary = out.with_name(f".{out.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        parts = _write(run, temporary, DTYPES[bits])
        out.parent.mkdir(parents=True, exist_ok=True)
        temporary.rename(out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    rounded = "" if bits == 16 else f", the last {'two' if 'base' in parts else 'one'} in 8 bits"
    return f"{', '.join(parts)} in half precision{rounded}, {size / 1e6:.1f} MB, in {out}"


def _write(run: Run, folder: Path, dtype: torch.dtype) -> list[str]:
    fingerprint = _write_latents(run, folder, dtype)
    parts = ["autoencoder", "prior"]
    if run.path("base_unconditional").is_dir():
        base, base_from = load_base(run.path("base_unconditional"))
        _require_own(run, base_from)
        save_model(
            base,
            folder / "base",
            kind="base",
            config=base.config,
            made_from={"autoencoder": fingerprint},
            info={"seed": run.config.seed},
            dtype=dtype,
        )
        parts.append("base")
    write_text(folder / "config.yaml", run.path("config.yaml").read_text(encoding="utf-8"))
    return parts


def _write_latents(run: Run, folder: Path, dtype: torch.dtype) -> str:
    """Write autoencoder and prior; what came from an export goes on as it is."""
    if run.config.latents.pretrained is not None:
        copy_artefact(run.path("prior"), folder / "prior", kind="prior")
        return copy_artefact(run.path("autoencoder"), folder / "autoencoder", kind="autoencoder")
    autoencoder, trained_as = load_autoencoder(run.path("autoencoder"))
    fingerprint = save_model(
        autoencoder,
        folder / "autoencoder",
        kind="autoencoder",
        config=autoencoder.config,
        info={"seed": run.config.seed, "trained_as": trained_as},
        dtype=HALF,
    )
    prior = load_prior(run.path("prior"))
    save_model(
        prior,
        folder / "prior",
        kind="prior",
        config=prior.config,
        made_from={"autoencoder": fingerprint},
        info=load_component(run.path("prior"), kind="prior").manifest.info,
        dtype=dtype,
    )
    return fingerprint


def _require_own(run: Run, base_from: dict[str, str]) -> None:
    own = {"latents": run.fingerprint("latents"), "autoencoder": run.fingerprint("autoencoder")}
    if any(base_from.get(name, fingerprint) != fingerprint for name, fingerprint in own.items()):
        raise ArtefactError(
            f"{run.path('base_unconditional')} was trained on other latents than the run's; run "
            "`ulrec train-base` again"
        )
