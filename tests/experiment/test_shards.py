import itertools
import json
import shutil

import numpy as np
import pytest

from ulrec.checkpoint import hash_file
from ulrec.cli import main
from ulrec.data.latents import LatentStore
from ulrec.errors import ArtefactError, ConfigError, DataError
from ulrec.experiment.generate import evaluated_users, pipeline_of
from ulrec.experiment.runner import Run, run_stages
from ulrec.experiment.shards import Batches, Shard, kept_batches, make_shard
from ulrec.experiment.stages import STAGES
from ulrec.pipeline import sample_seeds

OUTPUTS = {"encode": "latents", "generate": "generated"}
ENCODE = STAGES["encode"]


def files(run, stage):
    """The bytes of what a stage leaves, manifest included."""
    folder = run.path(OUTPUTS[stage])
    return {path.name: hash_file(path) for path in folder.iterdir()}


def run_again(run, stage):
    """Run a stage whose output and stamp are gone."""
    run_stages(run, [STAGES[stage]], report=lambda result: None)
    return files(run, stage)


def forget(run, stage):
    shutil.rmtree(run.path(OUTPUTS[stage]))
    (run.path("stages") / f"{stage}.json").unlink()


def parts(run):
    return sorted(run.path("parts").glob("*/*.safetensors"))


class Stop(Exception):
    """What interrupts the work of a test."""


def counting(made, *, stop_before=None):
    """Five batches that record who was made; one may be interrupted."""

    def make(number):
        if number == stop_before:
            raise Stop
        made.append(number)
        return {"z": np.full((2, 3), number, np.float32), "u": np.full(2, number, np.uint8)}

    return Batches(sizes=[2] * 5, make=make, unit="item")


def values(run, batches):
    with kept_batches(run, ENCODE, batches) as each:
        return [int(batch["z"][0, 0]) for batch in each]


@pytest.mark.parametrize("stage", list(OUTPUTS))
def test_three_shards_leave_the_bytes_of_one_process(tiny_copy, stage):
    """One of the batches is lost on the way: the stage makes what is missing."""
    expected = files(tiny_copy, stage)
    forget(tiny_copy, stage)
    for index in (2, 0, 1):
        result = make_shard(tiny_copy, STAGES[stage], Shard(index, 3))
        assert not result.skipped and f"shard {index}/3" in result.summary
    kept = parts(tiny_copy)
    assert len(kept) == {"encode": 2, "generate": 5}[stage]
    assert not tiny_copy.path(OUTPUTS[stage]).exists()
    kept[1].unlink()
    assert run_again(tiny_copy, stage) == expected
    assert not parts(tiny_copy)


def test_what_is_kept_is_used_and_not_made_again(tiny_copy):
    """A batch that no encoder makes shows where the latents come from."""
    forget(tiny_copy, "encode")
    work = ENCODE.batches(tiny_copy)
    assert list(work.sizes) == [128, 22]
    fake = Batches(
        sizes=work.sizes,
        make=lambda number: {"z": np.full_like(work.make(number)["z"], 7.0)},
        unit="item",
    )
    with pytest.raises(Stop), kept_batches(tiny_copy, ENCODE, fake) as batches:
        next(batches)
        raise Stop
    assert len(parts(tiny_copy)) == 1
    run_again(tiny_copy, "encode")
    z = LatentStore.open(tiny_copy.path("latents")).z
    assert (z[:128] == 7).all() and not (z[128:] == 7).any()


def test_an_interrupted_stage_goes_on_from_its_finished_batches(tiny_copy):
    made = []
    with pytest.raises(Stop):
        values(tiny_copy, counting(made, stop_before=3))
    assert made == [0, 1, 2] and len(parts(tiny_copy)) == 3
    assert values(tiny_copy, counting(made)) == [0, 1, 2, 3, 4]
    assert made == [0, 1, 2, 3, 4] and not parts(tiny_copy)


def test_arrays_come_back_as_they_were(tiny_copy):
    made = []
    with pytest.raises(Stop):
        values(tiny_copy, counting(made, stop_before=1))
    with kept_batches(tiny_copy, ENCODE, counting(made)) as batches:
        read, fresh = next(batches), next(batches)
    for batch, number in ((read, 0), (fresh, 1)):
        assert batch["z"].dtype == np.float32 and batch["u"].dtype == np.uint8
        assert (batch["z"] == number).all() and batch["u"].tolist() == [number, number]


def test_batches_of_another_configuration_are_not_used(tiny_copy, make_config):
    folder = tiny_copy.folder.parent
    generate = STAGES["generate"]
    forget(tiny_copy, "generate")
    make_shard(tiny_copy, generate, Shard(0, 1))
    old = parts(tiny_copy)
    other = Run(config=make_config(folder, "generate.guidance=1.0"))
    make_shard(other, generate, Shard(0, 5))
    new = [path for path in parts(other) if path not in old]
    assert len(old) == 5 and len(new) == 1
    assert new[0].name == old[0].name and hash_file(new[0]) != hash_file(old[0])


def test_batches_of_another_autoencoder_are_not_used(tiny_copy):
    made = []
    with pytest.raises(Stop):
        values(tiny_copy, counting(made, stop_before=4))
    manifest = tiny_copy.path("autoencoder") / "manifest.json"
    content = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**content, "fingerprint": "another"}))
    values(tiny_copy, counting(made))
    assert made == [0, 1, 2, 3, 0, 1, 2, 3, 4]


def test_batches_that_are_no_use_are_not_kept(tiny_copy):
    """What is not finite is made again, not found again."""
    with pytest.raises(DataError), kept_batches(tiny_copy, ENCODE, counting([])) as batches:
        list(batches)
        raise DataError("not finite")
    assert not parts(tiny_copy)


def test_a_damaged_batch_is_named(tiny_copy):
    with pytest.raises(Stop):
        values(tiny_copy, counting([], stop_before=2))
    path = parts(tiny_copy)[1]
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ArtefactError, match=rf"{path.name} is damaged.*delete it"):
        values(tiny_copy, counting([]))


def test_shards_take_every_batch_once():
    taken = [list(range(shard.index, 11, shard.count)) for shard in map(Shard.parse, SHARDS)]
    assert sorted(itertools.chain(*taken)) == list(range(11))


SHARDS = ("0/4", "1/4", "2/4", "3/4")


@pytest.mark.parametrize("text", ["4/4", "1", "-1/4", "a/b", "0/0", "1/", "/2", "0/1/2", "1.0/2"])
def test_a_shard_that_is_none_is_refused(text):
    with pytest.raises(ConfigError, match=r"I/N.*got '.*'.*0/4, 1/4, 2/4 and 3/4"):
        Shard.parse(text)


def test_a_stage_in_one_piece_has_no_shards(tiny_run):
    with pytest.raises(ConfigError, match="index is one piece of work"):
        make_shard(tiny_run, STAGES["index"], Shard(0, 2))


def test_the_command_line_makes_shards(tiny_copy, capsys, tmp_path):
    config = [f"--config={tiny_copy.path('config.yaml')}", f"folder={tiny_copy.folder.parent}"]
    assert main(["encode", *config, "--shard", "0/2"]) == 0
    assert "up to date" in capsys.readouterr().out
    expected = files(tiny_copy, "encode")
    forget(tiny_copy, "encode")
    assert main(["encode", *config, "--shard", "2/2"]) == 1
    assert "got '2/2'" in capsys.readouterr().err
    assert main(["encode", *config, "--shard", "1/2"]) == 0
    told = capsys.readouterr().out
    assert "1 of its 1 batches made; 1 of all 2 are there, `ulrec encode` makes" in told
    assert main(["encode", *config]) == 0
    assert files(tiny_copy, "encode") == expected
    files_too = ["--shard", "0/2", "--out", str(tmp_path / "out")]
    assert main(["generate", *config, *files_too]) == 1
    assert "without --shard" in capsys.readouterr().err


def test_batches_are_those_of_one_call(tiny_copy, make_config):
    """8 users x 9 are drawn 64 at once; each arm starts anew."""
    run = Run(config=make_config(tiny_copy.folder.parent, "generate.per_user=9"))
    work = STAGES["generate"].batches(run)
    assert list(work.sizes) == [64, 8] * 5
    pipeline = pipeline_of(run)
    rows = np.repeat(evaluated_users(run, pipeline), 9)
    media, latents = pipeline.generate_for(
        pipeline.factors.user_factors[rows],
        seeds=sample_seeds(0, rows, np.tile(np.arange(9), 8)),
        guidance=2.0,
    )
    made = [work.make(number) for number in (0, 1)]
    assert np.array_equal(np.concatenate([batch["media"] for batch in made]), media)
    assert np.array_equal(np.concatenate([batch["latents"] for batch in made]), latents)
