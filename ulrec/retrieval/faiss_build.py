"""Which faiss is installed: both wheels own the folder ``faiss/``, and only one can win."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata

__all__ = ["FaissBuild", "advise", "faiss_build"]

WHEELS = ("faiss-cpu", "faiss-gpu")


@dataclass(frozen=True, kw_only=True, slots=True)
class FaissBuild:
    """What ``ulrec doctor`` says of faiss.

    Attributes
    ----------
    version
        Of the module that imports.
    has_gpu_code
        Whether it is a GPU build.
    num_gpus
        How many GPUs it sees; 0 for a CPU build.
    both_installed
        Whether both wheels are installed, over one another.
    advice
        What to do, or None where nothing is wrong.
    """

    version: str
    has_gpu_code: bool
    num_gpus: int
    both_installed: bool
    advice: str | None


def faiss_build() -> FaissBuild:
    """Look at the faiss that imports and at the wheels that pip knows.

    Where torch is used in the same process, import it before calling this.

    Raises
    ------
    ImportError
        If no faiss is installed.
    """
    import faiss

    has_gpu_code = hasattr(faiss, "StandardGpuResources")
    installed = [name for name in WHEELS if _is_installed(name)]
    return FaissBuild(
        version=faiss.__version__,
        has_gpu_code=has_gpu_code,
        num_gpus=faiss.get_num_gpus() if has_gpu_code else 0,
        both_installed=len(installed) == len(WHEELS),
        advice=advise(installed, has_gpu_code=has_gpu_code, version=faiss.__version__),
    )


def advise(installed: list[str], *, has_gpu_code: bool, version: str) -> str | None:
    """Return how to repair what the wheels and the build disagree on, or None.

    Examples
    --------
    >>> advise(["faiss-cpu"], has_gpu_code=False, version="1.15.1") is None
    True
    >>> advice = advise(["faiss-cpu", "faiss-gpu"], has_gpu_code=False, version="1.15.1")
    >>> advice.partition("run: ")[2]
    'pip install --force-reinstall --no-deps faiss-gpu==1.15.1'
    """
    if "faiss-gpu" in installed and not has_gpu_code:
        return (
            "faiss-gpu is installed but faiss-cpu was written over it; run: "
            f"pip install --force-reinstall --no-deps faiss-gpu=={version}"
        )
    return None


def _is_installed(distribution: str) -> bool:
    try:
        metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return False
    return True
