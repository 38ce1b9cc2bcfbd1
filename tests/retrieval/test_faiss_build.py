from __future__ import annotations

import pytest

from ulrec.retrieval.faiss_build import advise, faiss_build


def test_what_is_installed_here():
    build = faiss_build()
    assert tuple(map(int, build.version.split(".")[:2])) >= (1, 15)
    assert build.num_gpus >= 0
    assert build.has_gpu_code or build.num_gpus == 0
    assert build.both_installed or build.advice is None


@pytest.mark.parametrize(
    ("installed", "has_gpu_code", "is_wrong"),
    [
        (["faiss-cpu"], False, False),
        (["faiss-gpu"], True, False),
        (["faiss-cpu", "faiss-gpu"], True, False),
        (["faiss-cpu", "faiss-gpu"], False, True),
        ([], False, False),
    ],
)
def test_advice_where_the_cpu_build_won(installed, has_gpu_code, is_wrong):
    advice = advise(installed, has_gpu_code=has_gpu_code, version="1.15.1")
    assert (advice is not None) == is_wrong
    if advice is not None:
        assert advice.endswith("pip install --force-reinstall --no-deps faiss-gpu==1.15.1")
