"""Ablations: a part is removed within the block only, and only the needed figures are measured."""

from dataclasses import replace

import pytest
import torch

from emotivetalk.errors import InputError
from emotivetalk.evaluation.ablations import (
    ABLATIONS,
    Ablation,
    apply_ablation,
    audio_features_as_lips,
    constant_expression,
    disable_edi,
    find_ablation,
    settings_of,
)
from emotivetalk.evaluation.evaluate import evaluate
from emotivetalk.evaluation.settings import EvaluationSettings
from emotivetalk.models.edi import EDI
from emotivetalk.models.emotion import EmotionLabel, EmotionSpeech
from tests.evaluation.conftest import SETTINGS
from tests.evaluation.made_measurements import case
from tests.models import debug as debug_models


@pytest.fixture(scope="module")
def pipeline():
    return debug_models.pipeline()


def spoken_case(emotion):
    made = case(emotion=emotion, num=12)
    generator = torch.Generator().manual_seed(0)
    portrait = torch.rand(3, debug_models.IMAGE_SIZE, debug_models.IMAGE_SIZE, generator=generator) * 2 - 1
    return replace(made, portrait=portrait, waveform=0.1 * torch.randn(12 * 640, generator=generator))


def test_names_are_found_and_others_refused():
    assert len({ablation.name for ablation in ABLATIONS}) == len(ABLATIONS) == 7
    assert find_ablation("no-edi").disabled_part == "edi"
    with pytest.raises(InputError, match=r"no ablation 'edi'.*no-vaid"):
        find_ablation("edi")


def test_disabled_edi_layers_return_their_input_until_the_block_ends(pipeline):
    edi = next(module for module in pipeline.ethd.modules() if isinstance(module, EDI))
    width = edi.driving.attention.to_q.in_features
    hidden, one, other = torch.randn(2, 5, width), torch.randn(2, 4, 16), torch.randn(2, 4, 16)
    mask = torch.ones(2, 5, 1)
    before = edi(hidden, one, other, mask)
    assert not torch.equal(before, hidden)
    with disable_edi(pipeline):
        assert torch.equal(edi(hidden, one, other, mask), hidden)
    assert torch.equal(edi(hidden, one, other, mask), before)


def test_the_expression_is_constant_and_the_lips_are_not(pipeline):
    label = EmotionLabel("happy")
    held = constant_expression(pipeline, spoken_case(label), 0)
    made = pipeline.generate_motion(spoken_case(label).portrait, spoken_case(label).waveform, label)
    assert torch.equal(held.lip, made.lip)
    assert torch.allclose(held.expression, pipeline.emotion_mapping.label("happy").expand(12, -1))
    assert (held.expression == held.expression[0]).all() and not (made.expression == made.expression[0]).all()
    own = constant_expression(pipeline, spoken_case(None), 0)
    neutral = EmotionLabel("neutral")  # `case` replaces None by it
    assert torch.allclose(own.expression, pipeline.emotion_mapping.label(neutral.emotion).expand(12, -1))
    assert len(constant_expression(pipeline, spoken_case(EmotionSpeech()), 0).expression) == 12


def test_audio_features_need_an_ethd_that_was_trained_on_them(pipeline):
    with pytest.raises(InputError, match="lip latents of size 8"):
        audio_features_as_lips(pipeline, spoken_case(None), 0)
    ours = debug_models.pipeline()
    ours.register_modules(ethd=debug_models.ethd(dim_lip=debug_models.DIM_AUDIO))
    made = audio_features_as_lips(ours, spoken_case(None), 0)
    assert made.lip.shape == (12, debug_models.DIM_AUDIO)
    assert torch.equal(made.expression, made.expression_reference.expand(12, -1))
    assert sum(len(part) for part in ours.render(made)) == 12


def test_fusion_is_set_for_the_block_and_idle_ablations_are_refused(pipeline):
    other = find_ablation("overlap-fusion")
    with apply_ablation(other, pipeline) as generate_motion:
        assert generate_motion is None and pipeline.long_video.fusion == "overlap"
    assert pipeline.long_video.fusion == "shift"
    with pytest.raises(InputError, match="changes nothing"), apply_ablation(find_ablation("shift-fusion"), pipeline):
        pass


@pytest.mark.parametrize("ablation", ABLATIONS, ids=lambda ablation: ablation.name)
def test_only_the_needed_figures_are_measured(ablation: Ablation):
    chosen = settings_of(ablation, EvaluationSettings())
    keys = ablation.figure_keys
    assert bool(chosen.long_s) == ("long." in keys)
    assert bool(chosen.driven_clips) == ("driven." in keys)
    assert bool(chosen.motion_clips) == ("motion." in keys)
    assert bool(chosen.latent_clips) == ("retrieval" in keys)
    assert chosen.audio_clips == EvaluationSettings().audio_clips
    assert chosen.level_clips == chosen.track_clips == chosen.still_frames == chosen.sample_clips == 0


@pytest.mark.parametrize("name", ["no-edi", "no-dicte"])
def test_a_report_of_an_ablation_has_its_figures(name, pipeline, corpus, readers):
    ablation = find_ablation(name)
    small = SETTINGS.model_copy(update={"label_clips": 2, "audio_clips": 2})
    found = evaluate(pipeline, readers, corpus, settings_of(ablation, small), ablation=ablation)
    keys = {figure.key for figure in found.of("avatars").figures}
    assert {"emotion.label", "mouth_r.held_out"} <= keys
    assert "edi.margin" not in keys and "vae.whole" not in keys and found.of("avatars").drift is None
