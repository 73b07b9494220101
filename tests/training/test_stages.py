"""Every stage at debug size: golden losses, a batch overfits in 50 steps, what is saved can be loaded."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from emotivetalk.errors import InputError
from emotivetalk.models.autoencoder import LatentCodec, PortraitAutoencoder
from emotivetalk.models.emotion import EmotionLabel
from emotivetalk.models.networks import load_network
from emotivetalk.models.pipeline import EmotiveTalkPipeline
from emotivetalk.models.vaid import VAID
from emotivetalk.training.optim.muon import OptimizerConfig, build_optimizers
from emotivetalk.training.run.config import TrainConfig, load_config
from emotivetalk.training.run.loop import train
from emotivetalk.training.stages.autoencoder import AutoencoderConfig, AutoencoderLoss
from emotivetalk.training.stages.ethd import _extend_to_brows
from emotivetalk.training.stages.registry import STAGE_NAMES, stage_class
from tests.training import debug

STAGES = [name for name in STAGE_NAMES if name != "reader"]
FALLS_TO = {
    "autoencoder": 0.5,
    "lip_sync": 0.6,
    "expression": 0.5,
    "photograph_encoders": 0.5,
    "audio_encoder": 0.8,
    "emotion_sources": 0.6,
    "vaid": 0.6,
    "projector": 0.9,
    "ethd": 0.6,
}
"""Greatest share of the first loss after 50 steps on one batch."""


def config_of(name: str, workplace: Path, output: Path) -> TrainConfig:
    return load_config(debug.CONFIGS / f"{name}_debug.yaml", debug.overrides(name, workplace, output))


@pytest.mark.parametrize("name", STAGES)
def test_losses_equal_the_golden_ones(name, workplace, tmp_path, check_golden):
    overrides = debug.overrides(name, workplace, tmp_path)
    own = [f"stage.cache={tmp_path / 'cache'}"] if any(o.startswith("stage.cache=") for o in overrides) else []
    check_golden(debug.CONFIGS / f"{name}_debug.yaml", 6, [*overrides, *own])


@pytest.mark.parametrize("name", STAGES)
def test_one_batch_overfits(name, workplace, tmp_path):
    config = config_of(name, workplace, tmp_path)
    torch.manual_seed(0)
    stage = stage_class(config.name)(config.stage)
    module = stage.module.train()
    optimizers = build_optimizers(stage.optimizer_groups(), OptimizerConfig(learning_rate=3e-3))
    batch, losses = stage.batch(range(config.batch_size)), []
    for _ in range(50):
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss = module(batch).total
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
        losses.append(float(loss.detach()))
    assert min(losses[-5:]) < FALLS_TO[name] * losses[0], (losses[0], losses[-5:])


@pytest.mark.parametrize("name", STAGES)
def test_a_batch_is_a_function_of_its_seeds(name, workplace, tmp_path):
    config = config_of(name, workplace, tmp_path)
    torch.manual_seed(0)
    stage = stage_class(config.name)(config.stage)
    one, again = stage.batch([7, 8]), stage.batch([7, 8])
    swapped = stage.batch([8, 7])
    for first, second, other in zip(vars(one).values(), vars(again).values(), vars(swapped).values(), strict=True):
        if isinstance(first, torch.Tensor):
            assert torch.equal(first, second)
            by_seed = first.unflatten(0, (2, -1)).flip(0).flatten(0, 1)  # a seed may bring several rows
            assert torch.allclose(by_seed.float(), other.float(), atol=1e-5)


def test_the_stages_together_make_a_checkpoint_that_generates(workplace, tmp_path):
    """Autoencoder, V-AID and ETHD, trained for a few steps each, into one folder."""
    checkpoint = tmp_path / "checkpoint"
    shutil.copytree(workplace / "checkpoint", checkpoint)
    for name in ("autoencoder", "vaid", "ethd"):
        changes = [c for c in debug.overrides(name, workplace, tmp_path / name) if not c.startswith("checkpoint=")]
        changes = [c for c in changes if not c.startswith(("stage.checkpoint", "stage.cache"))]
        changes += ["steps=3", "validate_every=3", "preview_every=3", f"checkpoint={checkpoint}"]
        if name != "autoencoder":
            changes += [f"stage.checkpoint={checkpoint}", f"stage.cache={tmp_path / 'cache'}"]
        result = train(load_config(debug.CONFIGS / f"{name}_debug.yaml", changes))
        assert result.is_finished
        assert result.metrics
    vae = PortraitAutoencoder.from_pretrained(checkpoint / "vae")
    assert len(vae.config["latents_mean"]) == 4
    pipeline = EmotiveTalkPipeline.from_pretrained(checkpoint)
    portrait = torch.rand(3, 64, 64) * 2 - 1
    frames = torch.cat(list(pipeline(portrait, 0.1 * torch.randn(16_000), EmotionLabel("happy"))))
    assert frames.shape == (25, 64, 64, 3)
    latents = LatentCodec(pipeline.vae).encode(portrait[None])
    assert torch.isfinite(latents).all()


def test_activation_checkpointing_changes_no_loss(workplace, tmp_path):
    def losses(name: str, *more: str) -> list[float]:
        folder = tmp_path / "-".join((name, *more))
        config = load_config(
            debug.CONFIGS / f"{name}_debug.yaml", [*debug.overrides(name, workplace, folder), "steps=4", *more]
        )
        train(config)
        return [json.loads(line)["loss"] for line in (folder / "steps.jsonl").read_text().splitlines()]

    assert losses("ethd", "gradient_checkpointing=true") == pytest.approx(losses("ethd"), rel=1e-4)
    with pytest.raises(InputError, match=r"no network of the stage autoencoder supports it \(PortraitAutoencoder\)"):
        losses("autoencoder", "gradient_checkpointing=true")


def test_the_decoder_can_be_trained_alone(workplace, tmp_path):
    """The latents and their standardisation do not change by a bit."""
    common = ["stage.train_encoder=false", f"stage.initial={workplace / 'checkpoint'}", "steps=3"]
    config = load_config(
        debug.CONFIGS / "autoencoder_debug.yaml",
        [*debug.overrides("autoencoder", workplace, tmp_path), *common],
    )
    assert train(config).is_finished
    before = PortraitAutoencoder.from_pretrained(workplace / "checkpoint" / "vae")
    after = PortraitAutoencoder.from_pretrained(config.checkpoint_folder / "vae")
    kept = {name for name, weight in before.state_dict().items() if torch.equal(weight, after.state_dict()[name])}
    assert {name for name in before.state_dict() if name.startswith("encoder.")} <= kept
    assert "conv_out.weight" not in kept
    assert after.config["latents_mean"] == before.config["latents_mean"]


def test_nearness_weight_keeps_the_latents_close(workplace, tmp_path):
    """A greater weight keeps the latents closer. Their standardisation does not change by a bit."""

    def trained(weight: float) -> PortraitAutoencoder:
        folder = tmp_path / str(weight)
        settings = [
            f"stage.nearness_weight={weight}",
            f"stage.initial={workplace / 'checkpoint'}",
            *("steps=12", "ema_decay=null", "optimizer.learning_rate=1e-3"),
        ]
        config = load_config(
            debug.CONFIGS / "autoencoder_debug.yaml",
            [*debug.overrides("autoencoder", workplace, folder), *settings],
        )
        assert train(config).is_finished
        return PortraitAutoencoder.from_pretrained(config.checkpoint_folder / "vae")

    before = PortraitAutoencoder.from_pretrained(workplace / "checkpoint" / "vae")
    images = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    near, nearer = trained(1e-6), trained(10.0)
    with torch.no_grad():
        near_latents, nearer_latents, known = (vae.encode(images).mode() for vae in (near, nearer, before))
    strayed = [float((latents - known).square().mean()) for latents in (near_latents, nearer_latents)]
    assert 0 < strayed[1] < 0.5 * strayed[0]
    for vae in (near, nearer):
        assert vae.config["latents_mean"] == before.config["latents_mean"]
        assert vae.config["latents_std"] == before.config["latents_std"]


def test_a_deeper_encoder_starts_equal_to_the_initial_one(workplace, tmp_path):
    """More residual blocks are the identity until they are trained; fewer are another architecture."""

    def encoder(blocks: str) -> torch.nn.Module:
        settings = [f"stage.initial={workplace / 'checkpoint'}", f"stage.num_encoder_blocks={blocks}"]
        config = load_config(
            debug.CONFIGS / "autoencoder_debug.yaml",
            [*debug.overrides("autoencoder", workplace, tmp_path), *settings],
        )
        assert isinstance(config.stage, AutoencoderConfig)
        return AutoencoderLoss(config.stage).vae.encoder

    initial = load_network(workplace / "checkpoint", "vae").encoder
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    deeper = encoder("[2, 3, 4]")
    assert len(deeper.state_dict()) > len(initial.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(deeper(images), initial(images))
    with pytest.raises(InputError, match=r"encoder\.6\.1\.block\.\S+ is .* there and missing here"):
        encoder("[1, 1, 1]")


def test_vaid_can_be_trained_from_a_checkpoint(workplace, tmp_path):
    """At a learning rate near 0 the result equals the checkpoint."""
    settings = [
        "steps=1",
        "ema_decay=null",
        "optimizer.learning_rate=1e-12",
        f"stage.initial={workplace / 'checkpoint'}",
    ]
    config = load_config(debug.CONFIGS / "vaid_debug.yaml", [*debug.overrides("vaid", workplace, tmp_path), *settings])
    assert train(config).is_finished
    before = VAID.from_pretrained(workplace / "checkpoint" / "vaid").state_dict()
    after = VAID.from_pretrained(config.checkpoint_folder / "vaid").state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_the_projector_can_be_trained_alone(workplace, tmp_path):
    """Di-CTE does not change by a bit."""
    config = load_config(
        debug.CONFIGS / "projector_debug.yaml", [*debug.overrides("projector", workplace, tmp_path), "steps=3"]
    )
    assert train(config).is_finished
    before = VAID.from_pretrained(workplace / "checkpoint" / "vaid").state_dict()
    after = VAID.from_pretrained(config.checkpoint_folder / "vaid").state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed and all(name.startswith("projector.") for name in changed)


def test_the_weight_of_brows_covers_raised_brows():
    """The weight of an eye's cell extends one cell down and sideways, and an eighth of the picture up."""
    eyes = torch.zeros(1, 1, 32, 32)
    eyes[0, 0, 15, 10] = 0.5
    reached = _extend_to_brows(eyes)[0, 0].nonzero()
    assert reached.amin(0).tolist() == [11, 9] and reached.amax(0).tolist() == [16, 11]
    assert len(reached) == 6 * 3


def test_another_architecture_is_named(workplace, tmp_path):
    common = [*debug.overrides("autoencoder", workplace, tmp_path), f"stage.initial={workplace / 'checkpoint'}"]
    with pytest.raises(InputError, match=r"conv_in\.weight is .* there and .* here") as raised:
        train(load_config(debug.CONFIGS / "autoencoder_debug.yaml", [*common, "stage.latent_channels=7"]))
    assert raised.value.code == "initial_differs"
    with pytest.raises(InputError, match="holds no PortraitAutoencoder"):
        train(load_config(debug.CONFIGS / "autoencoder_debug.yaml", [*common, f"stage.initial={tmp_path}"]))
    with pytest.raises(InputError, match="initial must name"):
        load_config(debug.CONFIGS / "autoencoder_debug.yaml", ["stage.train_encoder=false"])
    with pytest.raises(InputError, match="nearness_weight is set: initial must name"):
        load_config(debug.CONFIGS / "autoencoder_debug.yaml", ["stage.nearness_weight=0.1"])


def test_audio_features_as_lips_exclude_other_voices() -> None:
    with pytest.raises(InputError, match="other_voices must be false"):
        load_config(debug.CONFIGS / "ethd_debug.yaml", ["stage.lips=audio_features", "stage.other_voices=true"])
