from __future__ import annotations

import dataclasses
import json
import os
import signal

import numpy as np
import pytest
import torch
from torch import nn

from ulrec.conditioning.user import UserConditioner, UserConditionerConfig
from ulrec.errors import ArtefactError, Interrupted, TrainingError
from ulrec.models.base import Base, BaseConfig
from ulrec.models.unified import Unified
from ulrec.training.datamodule import StepBatches, pair_source
from ulrec.training.fit import FitConfig, fit
from ulrec.training.tasks import (
    DROPOUT,
    BaseTask,
    OptimiserConfig,
    Task,
    UnifiedTask,
    learning_rate_factor,
    step_seed,
)

NUM_STEPS, NUM_SAMPLES, SEED = 10, 20, 3
FIT = FitConfig(num_steps=NUM_STEPS, batch_size=4, log_every=1, accelerator="cpu", average=0.2)
OPTIMISER = OptimiserConfig(learning_rate=3e-3)
EVERY_STEP = dataclasses.replace(FIT, save_every_s=0.0)


def unified_task(tiny, *, weights=0):
    torch.manual_seed(weights)
    return UnifiedTask(Unified(tiny), optimiser=OPTIMISER, num_steps=NUM_STEPS, seed=SEED)


def base_task(network, *, weights=0):
    torch.manual_seed(weights)
    conditioned = dataclasses.replace(network, cond_width=6)
    users = UserConditioner(UserConditionerConfig(num_factors=5, width=6, hidden=8, dropout=0.3))
    base = Base(BaseConfig(latent_shape=(4, 1, 2, 2), network=conditioned))
    return BaseTask(base, users, optimiser=OPTIMISER, num_steps=NUM_STEPS, seed=SEED)


@pytest.fixture(scope="session")
def pairs():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(9, 4, 1, 2, 2)).astype(np.float32)
    factors = rng.normal(size=(NUM_SAMPLES, 5)).astype(np.float32)
    return pair_source(z, rng.integers(0, 9, NUM_SAMPLES), factors)


def train(task, source, folder, config=FIT):
    return fit(task, source, num_samples=NUM_SAMPLES, config=config, folder=folder, title="test")


def losses(folder, name="loss"):
    return [line[name] for line in read_log(folder)]


def read_log(folder):
    return [json.loads(line) for line in (folder / "losses.jsonl").read_text().splitlines()]


def assert_same_weights(models, others):
    assert models.keys() == others.keys()
    for name, model in models.items():
        state = others[name].state_dict()
        for key, tensor in model.state_dict().items():
            assert torch.equal(tensor, state[key]), f"{name}.{key}"


@pytest.fixture(scope="package")
def reference(tiny, media, tmp_path_factory):
    """A training of stage 1 without any interruption."""
    folder = tmp_path_factory.mktemp("reference")
    return train(unified_task(tiny), media, folder), folder


def bare_loop(parameters, source, compute_loss):
    """Train without Lightning: the ten lines that do it."""
    optimiser = torch.optim.AdamW(
        parameters, lr=3e-3, betas=(0.9, 0.99), weight_decay=0.01, fused=True
    )
    batches = StepBatches(
        source=source, num_samples=NUM_SAMPLES, batch_size=4, seed=SEED, start=0, stop=NUM_STEPS
    )
    for step, batch in enumerate(batches):
        rate = learning_rate_factor(step, num_steps=NUM_STEPS, warmup=0.1, final=0.02)
        optimiser.param_groups[0]["lr"] = 3e-3 * rate
        loss = compute_loss(batch, step)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        yield loss.item()


def test_a_bare_loop_trains_stage_1_with_the_same_losses(tiny, media, reference):
    model = unified_task(tiny).model

    def loss(batch, step):
        return model.loss(batch[0], generator=seeded(step), progress=step / NUM_STEPS).total

    values = list(bare_loop(list(model.parameters()), media, loss))
    assert values == losses(reference[1])
    assert sum(values[-3:]) < sum(values[:3])


def test_a_bare_loop_trains_stage_2_with_the_same_losses(network, pairs, tmp_path):
    train(base_task(network), pairs, tmp_path)
    task = base_task(network)
    model, users = task.model, task.conditioner

    def loss(batch, step):
        z, factors = batch
        generator = seeded(step)
        cond = users(factors, keep=users.drop(len(z), generator))
        return model.loss(z, cond, generator=generator)

    parameters = [*model.parameters(), *users.parameters()]
    assert list(bare_loop(parameters, pairs, loss)) == losses(tmp_path)


def seeded(step):
    """What a step draws its times and noises from; dropout draws from the global generator."""
    torch.manual_seed(step_seed(SEED, step, DROPOUT))
    return torch.Generator().manual_seed(step_seed(SEED, step, 0))


def test_losses_are_logged_line_by_line(reference, tiny):
    lines = read_log(reference[1])
    assert [line["step"] for line in lines] == list(range(1, NUM_STEPS + 1))
    for line in lines:
        assert line["bits_per_pixel"] == pytest.approx(line["prior_nats"] / np.log(2) / 64)
    last = lines[-1]
    expected = (last["prior_nats"] + last["decoder_nats"]) / 192
    assert last["loss"] == pytest.approx(expected, rel=1e-5)


def test_a_sparse_log_ends_with_the_last_step(tiny, media, tmp_path):
    train(unified_task(tiny), media, tmp_path, dataclasses.replace(FIT, log_every=4))
    assert [line["step"] for line in read_log(tmp_path)] == [4, 8, 10]


def test_averages_follow_the_weights(tiny, media, tmp_path):
    """A second implementation: the decay of a step is min(decay, (1 + n) / (10 + n))."""
    task = unified_task(tiny)
    expected = {name: p.detach().clone() for name, p in task.model.named_parameters()}
    seen = []

    def update(step):
        decay = min(1 - 1 / (0.2 * NUM_STEPS), (1 + step) / (10 + step))
        for name, parameter in task.model.named_parameters():
            expected[name] = decay * expected[name] + (1 - decay) * parameter.detach()
        seen.append(step)

    task.on_train_batch_end = lambda *_: update(task.global_step)
    averaged = train(task, media, tmp_path)["model"]
    assert seen == list(range(1, NUM_STEPS + 1))
    assert not averaged.training
    for name, parameter in averaged.named_parameters():
        torch.testing.assert_close(parameter.detach(), expected[name], atol=1e-6, rtol=1e-5)
        if expected[name].any():
            assert not torch.equal(parameter, dict(task.model.named_parameters())[name])


def stopping(source, *, after, how):
    """A source that stops the training when it has been asked ``after`` times."""
    calls = []

    def fetch(rows, rng):
        calls.append(rows)
        if len(calls) == after:
            how()
        return source(rows, rng)

    return fetch


def terminate():
    os.kill(os.getpid(), signal.SIGTERM)


def interrupt():
    os.kill(os.getpid(), signal.SIGINT)


def press_ctrl_c():
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("how", "error", "config"),
    [
        (terminate, Interrupted, FIT),
        (interrupt, Interrupted, FIT),
        (press_ctrl_c, SystemExit, EVERY_STEP),  # what a signal before ours would raise
    ],
)
def test_a_stopped_training_resumes_exactly(tiny, media, reference, tmp_path, how, error, config):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(error):
        train(unified_task(tiny), stopping(media, after=6, how=how), tmp_path, config)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    saved = torch.load(tmp_path / "resume.ckpt", weights_only=True)
    assert 4 <= saved["global_step"] <= 6
    models = train(unified_task(tiny, weights=99), media, tmp_path)
    assert_same_weights(models, reference[0])
    assert (tmp_path / "losses.jsonl").read_text() == (reference[1] / "losses.jsonl").read_text()


def test_resuming_twice_and_users_too(network, pairs, tmp_path):
    whole = train(base_task(network), pairs, tmp_path / "whole")
    for after, weights in ((3, 0), (4, 98)):
        with pytest.raises(Interrupted, match=r"stopped at step \d+ after SIGTERM; run the same"):
            source = stopping(pairs, after=after, how=terminate)
            train(base_task(network, weights=weights), source, tmp_path / "parts")
    models = train(base_task(network, weights=99), pairs, tmp_path / "parts")
    assert_same_weights(models, whole)
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")


def test_a_crash_in_the_middle_of_a_line_does_not_matter(tiny, media, reference, tmp_path):
    """Lines after the resume point are written again, a torn last one among them."""
    with pytest.raises(Interrupted):
        train(unified_task(tiny), stopping(media, after=5, how=terminate), tmp_path)
    with (tmp_path / "losses.jsonl").open("a") as file:
        file.write('{"step": 9, "loss": 3.0}\n{"step": 10, "lo')
    train(unified_task(tiny), media, tmp_path)
    assert (tmp_path / "losses.jsonl").read_text() == (reference[1] / "losses.jsonl").read_text()


def test_a_finished_training_gives_its_result_again(tiny, media, tmp_path):
    first = train(unified_task(tiny), media, tmp_path, EVERY_STEP)
    log = (tmp_path / "losses.jsonl").read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["losses.jsonl", "resume.ckpt"]

    def unasked(rows, rng):
        pytest.fail("a finished training asked for data")

    assert_same_weights(train(unified_task(tiny, weights=99), unasked, tmp_path), first)
    assert (tmp_path / "losses.jsonl").read_text() == log


def test_a_resume_point_of_another_model_is_refused(tiny, network, media, pairs, tmp_path):
    with pytest.raises(Interrupted):
        train(unified_task(tiny), stopping(media, after=3, how=terminate), tmp_path)
    before = (tmp_path / "resume.ckpt").read_bytes()
    encoder = dataclasses.replace(tiny.autoencoder.encoder, latent_channels=4)
    wider = dataclasses.replace(
        tiny, autoencoder=dataclasses.replace(tiny.autoencoder, encoder=encoder)
    )
    for task, source in ((unified_task(wider), media), (base_task(network), pairs)):
        with pytest.raises(ArtefactError, match=r"(?s)resume\.ckpt does not fit .*delete it to"):
            train(task, source, tmp_path)
    assert (tmp_path / "resume.ckpt").read_bytes() == before


@pytest.mark.parametrize(
    "damage", [lambda data: b"", lambda data: b"text", lambda data: data[:-99]]
)
def test_a_damaged_resume_point_is_refused(tiny, media, tmp_path, damage):
    with pytest.raises(Interrupted):
        train(unified_task(tiny), stopping(media, after=3, how=terminate), tmp_path)
    path = tmp_path / "resume.ckpt"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ArtefactError, match=r"resume\.ckpt .*delete it to start over"):
        train(unified_task(tiny), media, tmp_path)


def test_a_loss_that_is_not_finite_stops_before_harm(tiny, media, reference, tmp_path):
    calls = []

    def poisoned(rows, rng):
        calls.append(rows)
        (x,) = media(rows, rng)
        return (x * float("nan") if len(calls) == 6 else x,)

    task = unified_task(tiny)
    with pytest.raises(TrainingError, match=r"loss of step 5 is nan, .*Lower the learning rate"):
        train(task, poisoned, tmp_path, EVERY_STEP)
    assert all(parameter.isfinite().all() for parameter in task.parameters())
    saved = torch.load(tmp_path / "resume.ckpt", weights_only=True)
    assert saved["global_step"] == 5
    assert_same_weights(train(unified_task(tiny), media, tmp_path), reference[0])


class Overflow(nn.Module):
    """A loss that is finite and whose gradient is not, from the fourth step on."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))

    def forward(self, step: int) -> torch.Tensor:
        return self.weight.sum() if step < 3 else (0 * self.weight).sum().sqrt()


class OverflowTask(Task):
    def __init__(self) -> None:
        super().__init__(optimiser=OPTIMISER, num_steps=NUM_STEPS, seed=SEED)
        self.model = Overflow()

    def training_step(self, batch, index):
        return self.model(self.global_step)


def test_a_gradient_that_is_not_finite_stops_before_harm(media, tmp_path):
    task = OverflowTask()
    with pytest.raises(TrainingError, match="gradient of step 3"):
        train(task, media, tmp_path, EVERY_STEP)
    assert task.model.weight.isfinite().all()
    saved = torch.load(tmp_path / "resume.ckpt", weights_only=True)
    assert saved["global_step"] == 3
    assert saved["state_dict"]["model.weight"].isfinite().all()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"batch_size": 5, "devices": 2}, "batch_size 5 does not divide by 2 devices"),
        ({"num_steps": 0}, "num_steps has to be at least 1, got 0"),
        ({"batch_size": 0}, "batch_size has to be at least 1"),
        ({"devices": 0}, "devices has to be at least 1"),
        ({"log_every": 0}, "log_every has to be at least 1"),
        ({"clip": 0.0}, "clip has to be above 0"),
        ({"average": 1.5}, r"average has to lie in \[0, 1\]"),
    ],
)
def test_bad_configurations_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        FitConfig(**wrong)
