"""The reader's stage: samples are functions of their seeds, and evaluation can load the saved reader."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from emotivetalk.evaluation.reader import Reader
from emotivetalk.models.emotion import EMOTIONS
from emotivetalk.training.run.config import load_config
from emotivetalk.training.run.loop import train
from emotivetalk.training.stages.reader import UNKNOWN_EMOTION, ReaderBatch, ReaderStage
from tests.corpus.drawn_face import write_portraits
from tests.training import debug

CONFIG = Path(__file__).resolve().parents[2] / "train_configs" / "reader_debug.yaml"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("reader")
    debug.write_corpus(folder)
    return folder


@pytest.fixture
def config(corpus, tmp_path):
    return load_config(CONFIG, [f"stage.corpus={corpus}", f"output={tmp_path}", "validate_every=6"])


def test_a_sample_is_a_function_of_its_seed(config):
    stage = ReaderStage(config.stage)
    batch, swapped = stage.batch([5, 6]), stage.batch([6, 5])
    num = config.stage.frames_per_person
    assert torch.allclose(batch.images, swapped.images.roll(num, 0), atol=1e-6)
    assert torch.equal(batch.parameters, swapped.parameters.roll(num, 0))
    assert not torch.equal(batch.parameters[0], batch.parameters[1])


def test_the_course_compares_frames_of_one_person(config):
    """The course ignores an error shared by all frames of a person, counts one that differs, and ignores random faces."""
    module = ReaderStage(config.stage).module
    module.reader.net[-1].weight.data.zero_()  # gives the same result for every picture
    num, pictures = config.stage.frames_per_person, torch.zeros(8, 3, 128, 128)
    read = module.reader(pictures)
    steady = torch.cat([read.lip, read.expression, read.pose], 1).detach()

    def course(parameters: torch.Tensor, emotion: int) -> float:
        batch = ReaderBatch(pictures[:num], parameters, torch.full((num,), emotion), torch.ones(num))
        return float(module(batch).terms["course"].detach())

    assert course(steady[:num] + 3, 0) == pytest.approx(0, abs=1e-6)
    astray = steady[:num].clone()
    astray[0] += module.wander
    assert course(astray, 0) == pytest.approx((num - 1) / num**2, rel=1e-4)
    assert course(astray, UNKNOWN_EMOTION) == 0


def test_only_faces_of_the_corpus_have_an_emotion(config):
    stage = ReaderStage(config.stage)
    emotions = stage.batch(range(24)).emotion
    assert {UNKNOWN_EMOTION} < set(emotions.tolist()) <= {UNKNOWN_EMOTION, *range(len(EMOTIONS))}


def test_faces_without_an_emotion_do_not_affect_its_loss(config):
    stage = ReaderStage(config.stage)
    batch = stage.batch(range(24))
    stage.module(batch).terms["emotion"].backward()
    weight = stage.module.reader.net[-1].weight.grad
    assert weight[-len(EMOTIONS) :].abs().sum() > 0
    assert weight[: -len(EMOTIONS)].abs().sum() == 0
    batch.emotion.fill_(UNKNOWN_EMOTION)
    assert stage.module(batch).terms["emotion"] == 0


def test_the_trained_reader_can_be_loaded(config):
    result = train(config)
    assert result.is_finished
    assert {"opening", "smile", "blink", "emotion_clip"} < result.metrics.keys()
    reader = Reader.from_pretrained(result.checkpoint)
    assert torch.isfinite(reader(torch.zeros(1, 3, 128, 128)).lip).all()
    saved = load_file(result.checkpoint / "diffusion_pytorch_model.safetensors")
    assert {tensor.dtype for tensor in saved.values()} == {torch.float16}


def test_photographs_are_sampled_and_measured_separately(config, tmp_path):
    folder = write_portraits(tmp_path, num=3, num_held_out=2)
    initial = ReaderStage(config.stage).module.reader
    with torch.no_grad():
        initial.net[-1].bias.fill_(0.25)
    initial.save_pretrained(tmp_path / "initial")
    changed = {"photographs": folder, "photograph_share": 1.0, "initial": tmp_path / "initial"}
    stage = ReaderStage(config.stage.model_copy(update=changed))
    # Training continues from the initial weights.
    assert torch.equal(stage.module.reader.net[-1].bias, initial.net[-1].bias)
    batch, avatars = stage.batch([5]), ReaderStage(config.stage).batch([5])
    assert torch.equal(batch.parameters, avatars.parameters)
    assert not torch.allclose(batch.images, avatars.images, atol=0.2)
    with torch.no_grad():
        metrics = stage.validate(stage.module.eval())
    names = {name for name in metrics if not name.startswith("photograph_")}
    assert {name.removeprefix("photograph_") for name in metrics} == names
    assert len(metrics) == 2 * len(names)
    assert metrics["photograph_opening"] != metrics["opening"]
