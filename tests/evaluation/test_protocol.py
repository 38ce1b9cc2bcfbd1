"""Results of different protocols refuse to meet, and the picking score is not reported."""

import dataclasses
import json

import pytest

from ulrec.errors import DataError
from ulrec.evaluation.protocol import (
    METRIC_VERSION,
    Protocol,
    difference,
    require_comparable,
    require_not_selected_by,
)

BASE = Protocol(
    data_fingerprint="d1",
    config_hash="c1",
    code_version="0.1.0",
    seed=0,
    n=200,
    backbone="efflite0",
    weight_hash="57934424",
    resize="bicubic",
    dtype="float32",
    sampler="ddim",
    steps=25,
    guidance=2.0,
    can_fold_in=True,
)


def test_it_survives_json() -> None:
    text = json.dumps(dataclasses.asdict(BASE))
    again = Protocol(**json.loads(text))
    assert again == BASE
    assert again.metric_version == METRIC_VERSION


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(Protocol)])
def test_every_field_counts(field) -> None:
    if field in ("num_candidates", "selected_by"):
        other = dataclasses.replace(BASE, num_candidates=4, selected_by="clip")
    else:
        other = dataclasses.replace(BASE, **{field: None})
    assert field in difference(BASE, other)
    with pytest.raises(DataError, match=field):
        require_comparable(BASE, other)


def test_what_the_comparison_is_about_may_differ() -> None:
    other = dataclasses.replace(BASE, guidance=3.0, config_hash="c2")
    assert difference(BASE, other) == {"guidance": (2.0, 3.0), "config_hash": ("c1", "c2")}
    require_comparable(BASE, BASE)
    require_comparable(BASE, other, varying=("guidance", "config_hash"))
    with pytest.raises(DataError, match="'c1' against 'c2'"):
        require_comparable(BASE, other, varying=("guidance",))
    with pytest.raises(DataError, match="no fields"):
        require_comparable(BASE, BASE, varying=("no_field",))


def test_selection_is_named_and_guarded() -> None:
    picked = dataclasses.replace(BASE, num_candidates=4, selected_by="heldout_lift")
    require_not_selected_by(picked, "kid")
    with pytest.raises(DataError, match="best of 4"):
        require_not_selected_by(picked, "heldout_lift")
    with pytest.raises(DataError, match="name the score"):
        dataclasses.replace(BASE, num_candidates=4)
