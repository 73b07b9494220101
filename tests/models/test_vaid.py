"""V-AID and Di-CTE: the switch, the identity encoder, and receptive fields over time."""

from dataclasses import replace

import pytest
import torch

from emotivetalk.models.dicte import DiCTE, DiCTEConditions
from emotivetalk.models.vaid import VAID, AudioLipProjector
from tests.models import debug

FRAMES = 12
LEVEL = torch.tensor([0.2, -0.4])


@pytest.fixture(scope="module")
def dicte() -> DiCTE:
    torch.manual_seed(0)
    return debug.stir(DiCTE(debug.DIM_EXPRESSION, debug.DIM_AUDIO, 32, 2, 2))


def given(dicte: DiCTE, seed: int = 0, has_utterance: bool = True) -> DiCTEConditions:
    torch.manual_seed(seed)
    return DiCTEConditions(
        audio_features=torch.randn(2, FRAMES, debug.DIM_AUDIO),
        identity=dicte.identity_encoder(torch.randn(2, 3, 128, 128)),
        expression_reference=torch.randn(2, debug.DIM_EXPRESSION),
        utterance=torch.randn(2, FRAMES, debug.DIM_EXPRESSION),
        has_utterance=torch.full((2,), has_utterance),
    )


def test_the_switch_passes_one_condition(dicte):
    noisy = torch.randn(2, FRAMES, debug.DIM_EXPRESSION)
    conditional, other = given(dicte), torch.randn(2, debug.DIM_EXPRESSION)
    unconditional = conditional.unconditional()
    assert torch.equal(
        dicte(noisy, LEVEL, conditional), dicte(noisy, LEVEL, replace(conditional, expression_reference=other))
    )
    changed = replace(unconditional, utterance=torch.randn_like(conditional.utterance))
    assert torch.equal(dicte(noisy, LEVEL, unconditional), dicte(noisy, LEVEL, changed))
    assert not torch.equal(dicte(noisy, LEVEL, conditional), dicte(noisy, LEVEL, unconditional))


def test_the_switch_itself_is_a_condition(dicte):
    noisy, conditional = torch.randn(2, FRAMES, debug.DIM_EXPRESSION), given(dicte)
    own = conditional.expression_reference[:, None].expand_as(noisy)
    same = replace(conditional, utterance=own)
    assert not torch.equal(dicte(noisy, LEVEL, same), dicte(noisy, LEVEL, same.unconditional()))


def test_the_output_depends_on_the_portrait_and_the_speech(dicte):
    noisy, one = torch.randn(2, FRAMES, debug.DIM_EXPRESSION), given(dicte)
    two = given(dicte, seed=5)
    for changed in (replace(one, identity=two.identity), replace(one, audio_features=two.audio_features)):
        assert (dicte(noisy, LEVEL, one) - dicte(noisy, LEVEL, changed)).abs().max() > 1e-3


def test_only_relative_time_matters(dicte):
    """A periodic sequence gives a periodic result, except near the ends."""
    torch.manual_seed(2)
    one = given(dicte)
    steady = replace(
        one,
        audio_features=one.audio_features[:, :1].expand(-1, 80, -1),
        utterance=one.utterance[:, :1].expand(-1, 80, -1),
    )
    output = dicte(torch.randn(2, 1, debug.DIM_EXPRESSION).expand(-1, 80, -1), LEVEL, steady)
    torch.testing.assert_close(output[:, 38], output[:, 41], rtol=0.05, atol=0.02)


def test_projector_context_is_as_documented():
    torch.manual_seed(0)
    projector = debug.stir(AudioLipProjector(debug.DIM_AUDIO, debug.DIM_LIP, 32))
    features = torch.randn(1, 41, debug.DIM_AUDIO, requires_grad=True)
    gradient = torch.autograd.grad(projector(features)[0, 20].sum(), features)[0]
    frames = (gradient[0].abs().sum(-1) > 0).nonzero().flatten()
    assert frames.min() == 20 - projector.context_frames
    assert frames.max() == 20 + projector.context_frames


def test_a_saved_and_loaded_network_is_equal(tmp_path):
    torch.manual_seed(0)
    vaid = debug.stir(VAID(debug.DIM_AUDIO, debug.DIM_LIP, debug.DIM_EXPRESSION, 32, 2, 2))
    vaid.save_pretrained(tmp_path)
    loaded = VAID.from_pretrained(tmp_path).eval()
    features = torch.randn(1, 9, debug.DIM_AUDIO)
    assert torch.equal(loaded.projector(features), vaid.projector(features))
