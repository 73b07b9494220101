from collections.abc import Sequence
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from emotivetalk.training.data.batches import BatchFeed, module_seed, step_seeds, to_device


def test_seeds_differ_between_runs_steps_and_samples() -> None:
    seeds = [seed for run in (0, 1, 2**40) for step in (0, 1, 7, 2**33) for seed in step_seeds(run, step, 100)]
    seeds += [module_seed(run, step) for run in (0, 1) for step in range(100)]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_seeds_do_not_depend_on_the_batch_size_or_its_split() -> None:
    whole = step_seeds(3, 5, 8)
    assert step_seeds(3, 5, 4) == whole[:4]
    shares = [whole[rank::2] for rank in range(2)]
    assert sorted(shares[0] + shares[1]) == sorted(whole)


def test_seeds_are_the_same_on_every_machine() -> None:
    assert step_seeds(0, 0, 2) == [1317536309490288386, 7449029282396566744]


def test_a_feed_makes_the_requested_steps_and_none_past_the_end() -> None:
    made: list[list[int]] = []

    def make(seeds: Sequence[int]) -> int:
        made.append(list(seeds))
        return seeds[0]

    feed = BatchFeed(make, seed=1, batch_size=2, num_steps=4, prefetch=True)
    assert [feed.take(step) for step in (0, 2, 3)] == [step_seeds(1, step, 1)[0] for step in (0, 2, 3)]
    feed.close()
    assert made == [step_seeds(1, step, 2) for step in (0, 1, 2, 3)]


def test_an_error_in_the_background_is_raised_by_take() -> None:
    def fail(seeds: Sequence[int]) -> int:
        raise OSError("no such shard")

    feed = BatchFeed(fail, seed=0, batch_size=1, num_steps=2, prefetch=True)
    with pytest.raises(OSError, match="no such shard"):
        feed.take(0)
    feed.close()


@dataclass(frozen=True)
class Inner:
    tensor: Tensor


@dataclass(frozen=True)
class Outer:
    inner: Inner
    tensor: Tensor
    name: str


def test_moving_a_batch_moves_nested_batches() -> None:
    batch = Outer(Inner(torch.zeros(1)), torch.zeros(2), "a")
    moved = to_device(batch, torch.device("meta"))
    assert moved.inner.tensor.is_meta
    assert moved.tensor.is_meta
    assert moved.name == "a"
    with pytest.raises(ValueError, match="dataclass"):
        to_device({"images": torch.zeros(1)}, torch.device("cpu"))
