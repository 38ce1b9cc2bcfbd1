from __future__ import annotations

import math

import pytest
import torch

from ulrec.diffusion.schedule import SCHEDULES, Schedule


def test_ends_are_exact(schedule_z):
    """METHOD.md 6.5: neither shape nor shift moves logsnr_z(0) = 5."""
    ends = schedule_z.logsnr(torch.tensor([0.0, 1.0], dtype=torch.float64))
    torch.testing.assert_close(ends, torch.tensor([5.0, -10.0], dtype=torch.float64))
    in_single = schedule_z.logsnr(torch.tensor([0.0, 1.0]))
    assert in_single.dtype == torch.float32
    torch.testing.assert_close(in_single, torch.tensor([5.0, -10.0]), atol=5e-4, rtol=0)


def test_slope_is_the_negative_derivative(schedule_z):
    t = torch.linspace(0, 1, 101, dtype=torch.float64, requires_grad=True)
    (derivative,) = torch.autograd.grad(schedule_z.logsnr(t).sum(), t)
    torch.testing.assert_close(schedule_z.slope(t.detach()), -derivative)
    assert (derivative < 0).all()


def test_falls_with_time_in_any_shape_of_tensor(schedule_z):
    t = torch.linspace(0, 1, 1000).reshape(10, 100)
    logsnr = schedule_z.logsnr(t)
    assert logsnr.shape == schedule_z.slope(t).shape == t.shape
    assert (logsnr.flatten().diff() < 0).all()


def test_cosine_is_the_cosine_of_time_where_nothing_is_cut_off():
    schedule = Schedule(logsnr_0=60.0, logsnr_1=-60.0)
    t = torch.linspace(0.01, 0.99, 99, dtype=torch.float64)
    alpha = torch.sigmoid(schedule.logsnr(t)).sqrt()
    torch.testing.assert_close(alpha, torch.cos(math.pi / 2 * t), atol=1e-9, rtol=0)


def test_linear_is_linear():
    schedule = Schedule(logsnr_0=4.0, logsnr_1=-8.0, name="linear")
    t = torch.tensor([0.0, 0.25, 0.5, 1.0])
    assert schedule.logsnr(t).tolist() == [4.0, 1.0, -2.0, -8.0]
    assert schedule.slope(t).tolist() == [12.0] * 4


def test_shift_moves_the_middle_towards_less_noise():
    middle = torch.tensor(0.5, dtype=torch.float64)
    levels = [
        Schedule(logsnr_0=9.0, logsnr_1=-9.0, shift=shift).logsnr(middle).item()
        for shift in (-2.0, 0.0, 2.0)
    ]
    assert levels[1] == pytest.approx(0.0, abs=1e-9)
    assert levels[0] == pytest.approx(-levels[2])
    assert 1.5 < levels[2] < 2.0


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize(("first", "last"), [(-10.0, 5.0), (5.0, 5.0), (math.nan, -10.0)])
def test_swapped_or_equal_ends_are_refused(name, first, last):
    with pytest.raises(ValueError, match=r"logsnr_0 .* has to be above logsnr_1 .* swap them"):
        Schedule(logsnr_0=first, logsnr_1=last, name=name)
