"""Latents predicted from a few drawn frames are close to the encoded ones, and the offset of each person is found."""

import numpy as np
import torch

from emotivetalk.corpus.parameters import LIP
from emotivetalk.training.data.latents import motion_latents
from emotivetalk.training.data.modelled_latents import DRAWN_FRAMES, _predict, modelled_latents
from emotivetalk.training.stages.audio_encoder import AudioEncoderConfig, AudioEncoderStage

NUM_PEOPLE, CLIPS_EACH, NUM_FRAMES, NUM_PARAMETERS = 40, 3, 24, 3


def faces(seed: int, offset: float) -> tuple[torch.Tensor, torch.Tensor, list[str]]:
    """Make parameters, latents that are a nonlinear function of them plus an offset per person, and the persons' names."""
    generator = torch.Generator().manual_seed(seed)
    parameters = torch.randn(NUM_PEOPLE * CLIPS_EACH, NUM_FRAMES, NUM_PARAMETERS, generator=generator)
    person = torch.arange(NUM_PEOPLE).repeat_interleave(CLIPS_EACH)
    own = offset * torch.randn(NUM_PEOPLE, 1, NUM_PARAMETERS, generator=generator)
    latents = torch.tanh(parameters) + own[person]
    return parameters, latents, [f"avatar-{p}" for p in person.tolist()]


def drawn(latents: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    frame = np.stack([np.sort(rng.choice(NUM_FRAMES, DRAWN_FRAMES, replace=False)) for _ in latents])
    return frame, np.take_along_axis(latents.numpy(), frame[..., None], 1)


def test_all_frames_are_predicted_from_a_few():
    parameters, latents, _ = faces(0, offset=0.0)
    made = _predict(parameters, *drawn(latents))
    assert (made - latents).square().mean() < 0.25 * latents.var()


def test_offsets_per_person_reduce_the_error():
    parameters, latents, people = faces(1, offset=2.0)
    frame, encoded = drawn(latents)
    common, personal = _predict(parameters, frame, encoded), _predict(parameters, frame, encoded, people)
    error = [(made.mean(1) - latents.mean(1)).square().mean() for made in (common, personal)]
    assert error[1] < 0.2 * error[0]


def test_predictions_do_not_depend_on_the_global_generator():
    parameters, latents, people = faces(2, offset=1.0)
    torch.manual_seed(5)
    first = _predict(parameters, *drawn(latents), people)
    assert torch.equal(_predict(parameters, *drawn(latents), people), first)


def test_a_corpus_has_latents_of_every_frame(workplace, tmp_path):
    paths = (workplace / "corpus", "train", workplace / "checkpoint")
    encoded = motion_latents(*paths, tmp_path, num_workers=1)
    made = modelled_latents(*paths, tmp_path, num_workers=1)
    assert made.lip.shape == encoded.lip.shape
    assert made.expression.shape == encoded.expression.shape
    assert torch.isfinite(made.lip).all()
    assert torch.isfinite(made.expression).all()
    assert made.lip.std(1).mean() > 0  # the lips change over time


def test_the_audio_encoder_learns_the_true_lips_from_modelled_latents(workplace, tmp_path):
    config = AudioEncoderConfig(
        corpus=workplace / "corpus",
        checkpoint=workplace / "checkpoint",
        cache=tmp_path,
        motion="modelled",
        window=3,
        truth_weight=1.0,
        validation_clips=2,
    )
    stage = AudioEncoderStage(config)
    batch = stage.batch([0, 1])
    assert batch.truth.shape == (*batch.lip_visual.shape[:2], len(LIP))
    assert batch.truth.std() > 0.1
    loss = stage.module(batch)
    assert loss.terms["truth"] > 0
    loss.total.backward()
    gradients = {name: parameter.grad for name, parameter in stage.module.named_parameters()}
    read = gradients["to_truth.weight"]
    assert read is not None
    assert read.abs().sum() > 0
