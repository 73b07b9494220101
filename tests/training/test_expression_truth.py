"""The loss of the expression encoder includes every parameter that a face is drawn with, pose included."""

import numpy as np
import torch

from emotivetalk.corpus.parameters import EXPRESSION, POSE
from emotivetalk.training.run.config import load_config
from emotivetalk.training.stages.expression import ExpressionLoss, ExpressionStage
from tests.training.debug import CONFIGS, overrides


def stage(workplace, tmp_path, *changes: str) -> ExpressionStage:
    config = load_config(CONFIGS / "expression_debug.yaml", [*overrides("expression", workplace, tmp_path), *changes])
    return ExpressionStage(config.stage)


def test_the_truth_equals_the_parameters_of_the_drawn_face(workplace, tmp_path):
    made = stage(workplace, tmp_path)
    batch = made.batch(range(64))
    truth = batch.truth.flatten(0, 1)
    assert truth.shape == (128, 18)
    moves = truth.std(0) > 1e-3
    names = (*EXPRESSION, *POSE)
    assert moves[[names.index(name) for name in ("brow_in", "smile", "yaw")]].all()
    assert (truth[:, moves].mean(0).abs() < 0.5).all() and ((truth[:, moves].std(0) - 1).abs() < 0.5).all()


def test_its_error_is_part_of_the_loss(workplace, tmp_path):
    made = stage(workplace, tmp_path, "stage.truth_weight=2")
    batch = made.batch(range(2))
    with_it, terms = (lambda loss: (loss.total, loss.terms))(made.module.eval()(batch))
    without = ExpressionLoss(made.config.model_copy(update={"truth_weight": 0.0})).eval()
    without.load_state_dict(made.module.state_dict())
    torch.testing.assert_close(with_it - without(batch).total, 2 * terms["truth"])


def test_pairs_share_the_truth(workplace, tmp_path):
    """Swapping the pictures of a pair does not change the error."""
    made = stage(workplace, tmp_path)
    batch = made.batch(range(2))
    swapped = type(batch)(batch.other, batch.one, *(vars(batch)[name] for name in ("emotion", "intensity", "truth")))
    module = made.module.eval()
    errors = [module(one).terms["truth"].item() for one in (batch, swapped)]
    assert np.isclose(*errors, rtol=1e-5)
