"""Loaders give the batches of the plain loop, with any number of loaders, also after one is killed."""

from __future__ import annotations

import pickle
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest
import ray
import torch

from emotivetalk.actors.training.driver import Launch, train_on_ray
from emotivetalk.actors.training.loaders import STEPS_AHEAD, LoaderFeed, Share, pack
from emotivetalk.errors import InputError
from emotivetalk.training.data.batches import step_seeds
from tests.actors.training.runs import assert_equal_runs, copy_until, toy_config, train_plain
from tests.actors.training.toys import BATCH_SIZE, RUN_SEED, PlannedKill, ToyBatch, ToyConfig, ToyStage
from tests.consoles import text_console


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("plain") / "run"
    train_plain(toy_config(folder))
    return folder


def share(rank: int = 0, num_workers: int = 1, **changes: object) -> Share:
    return Share(ToyStage, toy_config(Path("nowhere"), **changes), rank, num_workers, Path.cwd())


def test_unpacked_tensors_have_the_packed_values_and_memory_format() -> None:
    images = torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last)
    batch = ToyBatch(images, torch.tensor(True))
    again: ToyBatch = pickle.loads(pack([batch]))[0]
    assert torch.equal(again.images, images)
    assert again.images.stride() == images.stride()
    assert again.targets.item() is True
    again.images.zero_()  # must be writable, like a stage's own tensors
    sliced = images[:, :, ::2, 1:].transpose(2, 3)
    assert torch.equal(pickle.loads(pack(sliced)), sliced)
    assert pickle.loads(pack(torch.empty(0, 3))).shape == (0, 3)


def test_loaded_batches_equal_those_of_the_worker_from_any_step(cluster) -> None:
    ours, stage = share(rank=1, num_workers=2, accumulate=2), ToyStage(ToyConfig())
    with closing(LoaderFeed(ours, 2)) as feed:
        for step in (7, 8, 9, 10, 11, 3, 4):
            batches = feed.take(step)
            assert len(batches) == 2
            for batch, seeds in zip(batches, ours.seeds(step), strict=True):
                expected = stage.batch(seeds)
                assert torch.equal(batch.images, expected.images)
                assert torch.equal(batch.targets, expected.targets)
        assert feed.seeds(4) == step_seeds(RUN_SEED, 4, BATCH_SIZE)


class CountingStage(ToyStage):
    """Leaves a file for each batch. Asserts that a loader has no trained weights and no GPU."""

    def batch(self, seeds: Sequence[int]) -> ToyBatch:
        assert all(parameter.numel() == 0 for parameter in self.module.parameters() if parameter.requires_grad)
        assert ray.get_gpu_ids() == []
        assert torch.get_num_threads() == 1
        made = super().batch(seeds)
        Path(f"made_{self.step}").touch()
        return made


def test_loaders_prefetch_a_limited_number_of_steps(cluster, tmp_path: Path) -> None:
    config = toy_config(tmp_path, steps=60)
    with closing(LoaderFeed(Share(CountingStage, config, 0, 1, tmp_path), 1)) as feed:
        for step in range(3):
            feed.take(step)
        time.sleep(3)
        # Three batches were taken; the others are prefetched.
        assert 3 <= len(list(tmp_path.glob("made_*"))) <= 3 + STEPS_AHEAD


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_losses_with_loaders_equal_those_of_the_plain_loop_after_a_kill(cluster, plain, tmp_path, workers) -> None:
    kill = PlannedKill(place="batch", step=7, marker=tmp_path / "killed")
    console = text_console()
    config = toy_config(tmp_path / "ray", stage=ToyConfig(kills=(kill,)))
    train_on_ray(config, Launch(workers, num_loaders=2), stage=ToyStage, console=console)
    assert kill.marker.exists()
    assert "resuming after step" not in console.file.getvalue()  # only the loader was restarted
    assert_equal_runs(tmp_path / "ray", plain)


@pytest.mark.slow
def test_a_run_without_loaders_can_be_resumed_with_them(cluster, plain, tmp_path: Path) -> None:
    run = copy_until(plain, tmp_path / "run", 10)
    train_on_ray(toy_config(run), Launch(1, num_loaders=1), resume=True, stage=ToyStage, console=text_console())
    assert_equal_runs(run, plain)


@pytest.mark.slow
@pytest.mark.parametrize("loaders", [0, 2])
def test_an_unreadable_shard_ends_the_run_with_one_line(cluster, tmp_path: Path, loaders: int) -> None:
    config = toy_config(tmp_path / "run", stage=ToyConfig(corrupt_step=3))
    with pytest.raises(InputError, match=r"train-00000.parquet cannot be read") as caught:
        train_on_ray(config, Launch(2, num_loaders=loaders), stage=ToyStage, console=text_console())
    assert caught.value.code == "corpus_shard_corrupt"
    assert "\n" not in str(caught.value)


def test_too_many_loaders_are_refused_at_once(cluster, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"1 workers and 8 loaders need 9 CPUs, and .* of 4 CPUs are free") as caught:
        train_on_ray(toy_config(tmp_path), Launch(1, num_loaders=8), stage=ToyStage, console=text_console())
    assert "fewer --workers or --loaders" in str(caught.value)
