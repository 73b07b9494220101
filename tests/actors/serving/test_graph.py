"""The graph of a video's calls: any order of completion makes the frames that one process makes, in bounded memory."""

import random
from functools import partial

import pytest
import torch

from emotivetalk.actors.serving.rendering.graph import RenderGraph, Task
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
    """A network that mixes the frames of a chunk, so that every source matters."""
    kernel = torch.tensor([0.2, 0.5, 0.3]).view(1, 1, 3).expand(2, 1, 3)
    mixed = torch.nn.functional.conv1d(x.transpose(1, 2), kernel, padding=1, groups=2).transpose(1, 2)
    return torch.tanh(mixed / (1 + sigma))


def plans(num_frames: int, config: LongVideoConfig) -> tuple[LongVideoPlan, LongVideoPlan]:
    return LongVideoPlan(config, num_frames, STEPS), LongVideoPlan(BLOCKS, num_frames, 2)


def walk(graph: RenderGraph, seed: int, stored: dict[int, torch.Tensor], width: int = 6):
    """Do the graph's tasks, `width` at a time, which end in a random order. Gives segments and the most results held."""
    order, running = random.Random(seed), []
    segments: dict[int, torch.Tensor] = {}
    most, asked_for_blocks = 0, []
    while not graph.is_done:
        for kind in ("vaid", "ethd", "decoder"):
            while len(running) < width and (task := graph.take(kind)) is not None:
                running.append(task)
        assert running, "nothing is ready and nothing runs: the graph would hang"
        task = running.pop(order.randrange(len(running)))
        results = graph.results(task)
        assert all(result is not None for result in results), task
        if task.id.kind == "vaid":
            asked_for_blocks.append(task.block)
            assert results == ([task.block - 1] if task.block else [])
            graph.finish(task, task.block)
        elif task.id.kind == "ethd":
            graph.finish(task, _advance(task, results, stored))
        else:
            chunks = {key: chunk for part in results for key, chunk in part.items()}
            tail = blend(task.before, chunks) if task.before is not None else stored.get(task.id.segment - 1)
            segments[task.id.segment] = finish(task.result, task.ease, chunks, tail)
            graph.finish(task, "published")
        most = max(most, graph.num_held)
    assert asked_for_blocks == sorted(asked_for_blocks)
    return segments, most


def _advance(task: Task, results: list, stored: dict[int, torch.Tensor]):
    chunks = {key: chunk for part in results[task.blocks :] for key, chunk in part.items()}
    tail = blend(task.before, chunks) if task.before is not None else stored.get(task.id.segment - 1)
    made = {}
    for call in task.calls:
        made |= advance([call], chunks, tail, noise, SIGMAS, predict)
    return made


@pytest.mark.parametrize("config", [CONFIG, OVERLAP, FREE], ids=["shift", "overlap", "free"])
@pytest.mark.parametrize("num_frames", [1, 8, 37, 150])
@pytest.mark.parametrize("chunks_per_call", [1, 2, 5])
def test_any_order_makes_the_frames_of_one_process(config, num_frames, chunks_per_call):
    plan, blocks = plans(num_frames, config)
    expected = torch.cat([segment.frames for segment in run(plan, predict, SIGMAS, noise)])
    for seed in range(4):
        graph = RenderGraph(plan, blocks, partial(widened, window=5, num_frames=num_frames), 0, chunks_per_call)
        segments, _ = walk(graph, seed, {})
        torch.testing.assert_close(torch.cat([segments[i] for i in range(plan.num_segments)]), expected)


@pytest.mark.parametrize("config", [CONFIG, FREE], ids=["pinned", "free"])
@pytest.mark.parametrize("first", [1, 3])
def test_a_run_goes_on_from_what_is_stored(first, config):
    plan, blocks = plans(150, config)
    whole = list(run(plan, predict, SIGMAS, noise))
    graph = RenderGraph(plan, blocks, partial(widened, window=5, num_frames=150), first, 2)
    segments, _ = walk(graph, 0, {first - 1: whole[first - 1].frames})
    assert sorted(segments) == list(range(first, plan.num_segments))
    for index, frames in segments.items():
        torch.testing.assert_close(frames, whole[index].frames)


def test_memory_does_not_grow_with_the_video():
    held = []
    for num_frames in (300, 1200):
        plan, blocks = plans(num_frames, CONFIG)
        graph = RenderGraph(plan, blocks, partial(widened, window=5, num_frames=num_frames))
        held.append(walk(graph, 1, {})[1])
    assert held[1] <= held[0] + 4


def test_later_segments_begin_before_the_first_is_finished():
    """Only their first chunks wait for it: replicas do not run dry at the end of a segment."""
    plan, blocks = plans(150, CONFIG)
    graph = RenderGraph(plan, blocks, partial(widened, window=5, num_frames=150), segments_ahead=3)
    while (task := graph.take("vaid")) is not None:
        graph.finish(task, task.block)
    ready = []
    while (task := graph.take("ethd")) is not None:
        ready.append(task.id)
    assert {key.segment for key in ready} == {0, 1, 2}
    assert ready == sorted(ready), "what is shown earlier goes first"


def test_a_task_that_failed_can_be_taken_again():
    plan, blocks = plans(20, CONFIG)
    graph = RenderGraph(plan, blocks, partial(widened, window=5, num_frames=20))
    task = graph.take("vaid")
    assert task is not None
    assert graph.take("vaid") is None
    graph.put_back(task)
    assert graph.take("vaid") == task
