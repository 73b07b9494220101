"""Export: one checkpoint in half precision that generates the same video."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from diffusers.utils import logging

from emotivetalk.errors import InputError
from emotivetalk.models.emotion import EmotionLabel
from emotivetalk.models.latent_sampler import PortraitConditions
from emotivetalk.models.pipeline import EmotiveTalkPipeline, load_pipeline
from emotivetalk.training.checkpoints.export import export
from tests.models import debug


@pytest.fixture
def trained(tmp_path) -> Path:
    """A checkpoint as the stages write it: a folder per network and provenance.json, without model_index.json."""
    folder = tmp_path / "trained"
    debug.pipeline().save_pretrained(folder)
    (folder / "model_index.json").unlink()
    (folder / "provenance.json").write_text(json.dumps({"stages": {"ethd": {"commit": "abc"}}}))
    return folder


def video(pipeline: EmotiveTalkPipeline) -> torch.Tensor:
    portrait = torch.rand(3, debug.IMAGE_SIZE, debug.IMAGE_SIZE, generator=torch.Generator().manual_seed(0)) * 2 - 1
    speech = 0.1 * torch.randn(10_000, generator=torch.Generator().manual_seed(1))
    return torch.cat(list(pipeline(portrait, speech))).float()


def test_the_exported_checkpoint_generates_the_same_in_half_the_bytes(trained, tmp_path):
    size = export(trained, tmp_path / "shipped", "squares", debug.IMAGE_SIZE, 8)
    assert size < 0.6 * sum(path.stat().st_size for path in trained.rglob("*.safetensors"))
    record = json.loads((tmp_path / "shipped" / "provenance.json").read_text())
    assert record == {"trained_on": "squares", "stages": {"ethd": {"commit": "abc"}}}
    shipped = EmotiveTalkPipeline.from_pretrained(tmp_path / "shipped")
    before = debug.pipeline()
    before.register_to_config(num_steps=2, expression_steps=16, segment_chunks=10, pinned_frames=4, shift_stride=5)
    before.register_to_config(expression_chunk_frames=64, fusion="overlap", overlap_frames=4, joint="free")
    assert (video(shipped) - video(before)).abs().max() <= 4  # of 255


def test_exporting_prints_no_progress(trained, tmp_path, caplog, capfd):
    logging.enable_propagation()
    try:
        export(trained, tmp_path / "shipped", "squares", debug.IMAGE_SIZE, 8)
    finally:
        logging.disable_propagation()
    assert caplog.messages == [] and capfd.readouterr().err == ""


def test_the_noise_scale_is_exported_and_used(trained, tmp_path):
    export(trained, tmp_path / "shipped", "squares", debug.IMAGE_SIZE, 8, noise_scale=0.5)
    shipped, full = EmotiveTalkPipeline.from_pretrained(tmp_path / "shipped"), debug.pipeline()
    assert full.config["noise_scale"] == 1
    portrait_conditions = PortraitConditions(torch.zeros(4, 8, 8), torch.zeros(16), torch.ones(1, 8, 8))
    half, whole = (one.latent_sampler.noise(portrait_conditions, 3)(range(5, 9)) for one in (shipped, full))
    assert whole.std() > 0.8 and torch.equal(half, whole / 2)
    half, whole = (video(one) for one in (shipped, full))
    assert not torch.equal(half, whole)


def test_the_guidance_is_exported_and_multiplies_the_strength(trained, tmp_path):
    export(trained, tmp_path / "shipped", "squares", debug.IMAGE_SIZE, 8, expression_guidance=1.5)
    portrait, speech = torch.zeros(3, debug.IMAGE_SIZE, debug.IMAGE_SIZE), 0.1 * torch.ones(6400)
    shipped, plain = (EmotiveTalkPipeline.from_pretrained(tmp_path / "shipped") for _ in range(2))
    assert shipped.config["expression_guidance"] == 1.5 and debug.pipeline().config["expression_guidance"] == 1
    plain.register_to_config(expression_guidance=1.0)

    def expressions(one: EmotiveTalkPipeline, strength: float, emotion: EmotionLabel | None) -> torch.Tensor:
        return one.generate_motion(portrait, speech, emotion, emotion_strength=strength).expression

    label = EmotionLabel("happy")
    guided = expressions(shipped, 1.0, label)
    assert torch.equal(guided, expressions(plain, 1.5, label))
    assert not torch.equal(guided, expressions(plain, 1.0, label))
    assert torch.equal(
        expressions(shipped, 1.0, None), expressions(plain, 1.0, None)
    )  # without an emotion there is no guidance


def test_guidance_may_begin_at_a_lower_noise_level(trained, tmp_path):
    portrait, speech = torch.zeros(3, debug.IMAGE_SIZE, debug.IMAGE_SIZE), 0.1 * torch.ones(6400)
    made = {}
    for below in (None, 20.1, 6.0, 0.01):  # sampling begins at 20 and ends with 0.05
        export(
            trained, tmp_path / "it", "", debug.IMAGE_SIZE, 8, expression_guidance=1.5, expression_guidance_below=below
        )
        pipeline = EmotiveTalkPipeline.from_pretrained(tmp_path / "it")
        made[below] = pipeline.generate_motion(portrait, speech, EmotionLabel("happy")).expression
    unguided = EmotiveTalkPipeline.from_pretrained(tmp_path / "it", expression_guidance=1.0)
    assert torch.equal(made[None], made[20.1])
    assert torch.equal(made[0.01], unguided.generate_motion(portrait, speech, EmotionLabel("happy")).expression)
    assert (made[6.0] - made[None]).abs().max() > 1e-3 and (made[6.0] - made[0.01]).abs().max() > 1e-3


def test_the_fast_precision_is_close(trained, tmp_path):
    export(trained, tmp_path / "shipped", "squares", debug.IMAGE_SIZE, 8)
    fast = load_pipeline(tmp_path / "shipped")
    exact = EmotiveTalkPipeline.from_pretrained(tmp_path / "shipped")
    assert fast.vaid.dtype == torch.float32
    assert (video(fast) - video(exact)).abs().mean() < 2


def test_exporting_again_replaces_the_folder(trained, tmp_path):
    for _ in range(2):
        export(trained, tmp_path / "shipped", "squares", debug.IMAGE_SIZE, 8)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["shipped", "trained"]


def test_missing_networks_are_named(trained, tmp_path):
    shutil.rmtree(trained / "vaid")
    with pytest.raises(InputError, match="has no vaid"):
        export(trained, tmp_path / "shipped", "squares", debug.IMAGE_SIZE, 8)
    assert not (tmp_path / "shipped").exists()
