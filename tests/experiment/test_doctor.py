"""The doctor: says what is there, and the exact line for what is not."""

from importlib import metadata

import pytest

from ulrec.experiment import doctor
from ulrec.experiment.doctor import Check, Diagnosis, diagnose


def test_this_environment_is_fit() -> None:
    diagnosis = diagnose()
    found = {check.name: check for check in diagnosis.checks}
    assert diagnosis.ok
    assert found["numpy"].found == metadata.version("numpy")
    assert "build" in found["torch"].found and "build" in found["faiss"].found
    assert set(doctor.CORE) <= set(found)


def test_unset_threads_get_their_export_line() -> None:
    hints = {c.name: c for c in diagnose({"OPENBLAS_NUM_THREADS": "1"}).checks}
    assert hints["OMP_WAIT_POLICY"].remedy == "export OMP_WAIT_POLICY=PASSIVE"
    assert hints["OPENBLAS_NUM_THREADS"].status == "ok"


def test_what_is_missing_names_its_pip_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "CORE", ("a-package-nobody-has",))
    monkeypatch.setattr(doctor, "EXTRAS", {"clip": ("another-one", "prompts")})
    diagnosis = diagnose()
    assert not diagnosis.ok
    text = str(diagnosis)
    assert "pip install 'a-package-nobody-has'" in text
    assert "pip install 'ulrec[clip]'" in text
    assert text.splitlines()[-1].startswith("Not ready: a-package-nobody-has missing")


def test_text_lines_up() -> None:
    checks = (
        Check(name="a", found="1"),
        Check(name="long", found="none", status="hint", remedy="do this\nor that"),
    )
    assert str(Diagnosis(sections={"Things": checks})).splitlines() == [
        "Things",
        "    ok  a     1",
        "  hint  long  none",
        "              do this",
        "              or that",
        "",
        "Ready, with 1 hint; none stops a run.",
    ]
