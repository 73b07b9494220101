"""The task graph: any order of completion gives the same frames as one process, in bounded memory."""

import random
import weakref
from functools import partial

import pytest
import torch

from emotivetalk.actors.serving.rendering.graph import FinishTask, MotionTask, RenderGraph, RenderTask
from emotivetalk.models.latent_sampler import widened
from emotivetalk.models.long_video import advance, blend, finish, frame_noise, run
from emotivetalk.models.long_video_plan import LongVideoConfig, LongVideoPlan

CONFIG = LongVideoConfig(chunk_frames=8, segment_chunks=4, pinned_frames=3, fusion="shift", shift_stride=3)
OVERLAP = LongVideoConfig(chunk_frames=8, segment_chunks=4, pinned_frames=3, fusion="overlap", overlap_frames=2)
FREE = LongVideoConfig(
    chunk_frames=8, segment_chunks=4, pinned_frames=3, fusion="overlap", overlap_frames=2, joint="free"
)
BLOCKS = LongVideoConfig(chunk_frames=16, segment_chunks=2, pinned_frames=4, fusion="shift", shift_stride=5)
SIGMAS = torch.tensor([8.0, 2.0, 0.5, 0.0])
STEPS = len(SIGMAS) - 1


def noise(frames: range) -> torch.Tensor:
    return frame_noise(7, frames.start, len(frames), (2,), "test")


def predict(x: torch.Tensor, sigma: torch.Tensor, ranges) -> torch.Tensor:
    """Stand in for a network: mix the frames of a chunk, so that every source matters."""
    kernel = torch.tensor([0.2, 0.5, 0.3]).view(1, 1, 3).expand(2, 1, 3)
    mixed = torch.nn.functional.conv1d(x.transpose(1, 2), kernel, padding=1, groups=2).transpose(1, 2)
    return torch.tanh(mixed / (1 + sigma))


def plans(num_frames: int, config: LongVideoConfig) -> tuple[LongVideoPlan, LongVideoPlan]:
    return LongVideoPlan(config, num_frames, STEPS), LongVideoPlan(BLOCKS, num_frames, 2)


class Result(dict):
    """A task's result. A weak reference to it tells whether the graph still holds it."""

    __hash__ = object.__hash__


def walk(
    graph: RenderGraph, num_segments: int, seed: int, stored: dict[int, torch.Tensor], width: int = 6
) -> tuple[dict[int, torch.Tensor], int]:
    """Run `width` tasks at a time and complete them in random order. Returns the segments and the largest number of results held."""
    order, running = random.Random(seed), []
    segments: dict[int, torch.Tensor] = {}
    held: weakref.WeakSet[Result] = weakref.WeakSet()
    max_held, blocks = 0, []
    while len(segments) < num_segments:
        for kind in ("vaid", "ethd", "decoder"):
            while len(running) < width and (task := graph.take(kind)) is not None:
                running.append(task)
        assert running, "nothing is ready and nothing runs: the graph would hang"
        task = running.pop(order.randrange(len(running)))
        results = graph.results(task)
        assert all(result is not None for result in results), task
        result = Result()
        if isinstance(task, MotionTask):
            assert [set(source) for source in results] == ([{task.block - 1}] if task.block else [])
            blocks.append(task.block)
            result[task.block] = None
        elif isinstance(task, RenderTask):
            result |= _advance(task, results, stored)
        else:
            chunks, tail = _inputs(task, results, stored)
            segments[task.id.segment] = finish(task.result, task.ease, chunks, tail)
        held.add(result)
        graph.complete(task, result)
        del results, result
        max_held = max(max_held, len(held))
    assert blocks == sorted(blocks)
    return segments, max_held


def _inputs(task: RenderTask | FinishTask, results: list, stored: dict[int, torch.Tensor]):
    num_blocks = task.num_blocks if isinstance(task, RenderTask) else 0
    chunks = {key: chunk for part in results[num_blocks:] for key, chunk in part.items()}
    if task.tail is not None:
        return chunks, blend(task.tail, chunks)
    return chunks, stored[task.id.segment - 1] if task.reads_stored_tail else None


def _advance(task: RenderTask, results: list, stored: dict[int, torch.Tensor]) -> dict:
    chunks, tail = _inputs(task, results, stored)
    return {
        key: chunk
        for call in task.calls
        for key, chunk in advance([call], chunks, tail, noise, SIGMAS, predict).items()
    }


@pytest.mark.parametrize("config", [CONFIG, OVERLAP, FREE], ids=["shift", "overlap", "free"])
@pytest.mark.parametrize("num_frames", [1, 8, 37, 150])
@pytest.mark.parametrize("chunks_per_call", [1, 2, 5])
def test_any_order_of_completion_gives_the_frames_of_one_process(config, num_frames, chunks_per_call):
    plan, blocks = plans(num_frames, config)
    expected = torch.cat([segment.frames for segment in run(plan, predict, SIGMAS, noise)])
    for seed in range(4):
        graph = RenderGraph(plan, blocks, partial(widened, window=5, num_frames=num_frames), 0, chunks_per_call)
        segments, _ = walk(graph, plan.num_segments, seed, {})
        torch.testing.assert_close(torch.cat([segments[i] for i in range(plan.num_segments)]), expected)


@pytest.mark.parametrize("config", [CONFIG, FREE], ids=["pinned", "free"])
@pytest.mark.parametrize("first", [1, 3])
def test_a_run_resumes_after_the_stored_segments(first, config):
    plan, blocks = plans(150, config)
    whole = list(run(plan, predict, SIGMAS, noise))
    graph = RenderGraph(plan, blocks, partial(widened, window=5, num_frames=150), first, 2)
    segments, _ = walk(graph, plan.num_segments - first, 0, {first - 1: whole[first - 1].frames})
    assert sorted(segments) == list(range(first, plan.num_segments))
    for index, frames in segments.items():
        torch.testing.assert_close(frames, whole[index].frames)


def test_the_number_of_results_held_does_not_grow_with_the_video():
    held = []
    for num_frames in (300, 1200):
        plan, blocks = plans(num_frames, CONFIG)
        graph = RenderGraph(plan, blocks, partial(widened, window=5, num_frames=num_frames))
        held.append(walk(graph, plan.num_segments, 1, {})[1])
    assert held[1] <= held[0] + 4


def test_later_segments_start_before_the_first_is_finished():
    """Only their first chunks depend on it, so replicas stay busy at the end of a segment."""
    plan, blocks = plans(150, CONFIG)
    graph = RenderGraph(plan, blocks, partial(widened, window=5, num_frames=150), segments_ahead=3)
    while (task := graph.take("vaid")) is not None:
        graph.complete(task, task.id)
    ready = []
    while (task := graph.take("ethd")) is not None:
        ready.append(task.id)
    assert {key.segment for key in ready} == {0, 1, 2}
    assert ready == sorted(ready), "earlier segments go first"
