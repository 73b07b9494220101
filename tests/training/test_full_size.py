"""The full size's networks at debug size: Stable Video Diffusion's U-Net and VAE, and wav2vec 2.0, from their own folders."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKLTemporalDecoder
from safetensors.torch import load_file
from transformers import Wav2Vec2Config, Wav2Vec2Model

from emotivetalk.errors import InputError
from emotivetalk.models.autoencoder import LatentCodec
from emotivetalk.models.encoders import Wav2Vec2AudioEncoder
from emotivetalk.models.networks import load_network
from emotivetalk.models.pipeline import load_pipeline
from emotivetalk.training.checkpoints.adopt import adopt_audio_encoder, adopt_vae
from emotivetalk.training.checkpoints.export import export
from emotivetalk.training.run.config import load_config
from emotivetalk.training.run.loop import train
from tests.models import debug
from tests.training.debug import CONFIGS, overrides

SIZE = 64
LIKE_THE_U_NET = ("stage.attention_levels=[true, false]", "stage.layers_per_block=2", "stage.feed_forward_mult=4")


@pytest.fixture(scope="module")
def downloaded(tmp_path_factory) -> Path:
    """Folders with random weights, laid out like the downloaded ones."""
    folder = tmp_path_factory.mktemp("weights")
    debug.unet().save_pretrained(folder / "svd" / "unet")
    AutoencoderKLTemporalDecoder(
        block_out_channels=(32, 32), down_block_types=("DownEncoderBlock2D",) * 2, layers_per_block=1
    ).save_pretrained(folder / "svd" / "vae")
    Wav2Vec2Model(
        Wav2Vec2Config(
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=32,
            conv_dim=(8,) * 7,
            num_conv_pos_embeddings=16,
            num_conv_pos_embedding_groups=4,
        )
    ).save_pretrained(folder / "wav2vec2")
    return folder


def test_pretrained_networks_are_trained_and_make_a_video(downloaded, workplace, tmp_path):
    checkpoint = tmp_path / "full"
    shutil.copytree(workplace / "checkpoint", checkpoint)
    adopt_vae(downloaded / "svd", checkpoint)
    adopt_audio_encoder(downloaded / "wav2vec2", checkpoint)
    stages = json.loads((checkpoint / "provenance.json").read_text())["stages"]
    assert stages["vae"]["adopted"] == "svd" and stages["audio_encoder"]["adopted"] == "wav2vec2"

    common = [f"stage.checkpoint={checkpoint}", f"stage.cache={tmp_path / 'latents'}", f"checkpoint={checkpoint}"]
    for stage, changes in (
        ("vaid", []),
        (
            "ethd",
            [f"stage.initial={downloaded / 'svd'}", *LIKE_THE_U_NET],
        ),
    ):
        settings = [*overrides(stage, workplace, tmp_path / stage), *common, *changes, "steps=2", "precision=bf16"]
        train(load_config(CONFIGS / f"{stage}_debug.yaml", settings))
    assert load_network(checkpoint, "vaid").config["dim_audio"] == 16
    assert load_network(checkpoint, "ethd").config["latent_channels"] == 4

    export(checkpoint, tmp_path / "shipped", "random weights", SIZE, chunk_frames=8)
    pipeline = load_pipeline(tmp_path / "shipped")
    assert isinstance(pipeline.vae, AutoencoderKLTemporalDecoder)
    assert isinstance(pipeline.audio_encoder, Wav2Vec2AudioEncoder)
    generator = torch.Generator().manual_seed(0)
    portrait, speech = torch.rand(3, SIZE, SIZE, generator=generator) * 2 - 1, torch.randn(6400, generator=generator)
    frames = torch.cat(list(pipeline(portrait, 0.1 * speech)))
    assert frames.shape == (10, SIZE, SIZE, 3) and frames.float().std() > 1


def test_the_vae_is_not_changed(downloaded, tmp_path):
    adopt_vae(downloaded / "svd", tmp_path)
    theirs = AutoencoderKLTemporalDecoder.from_pretrained(downloaded / "svd" / "vae").eval()
    images = torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        latents = LatentCodec(load_network(tmp_path, "vae")).encode(images)
        expected = theirs.encode(images).latent_dist.mode() * theirs.config["scaling_factor"]
    assert torch.equal(latents, expected)


def test_training_begins_with_the_u_nets_weights(downloaded, workplace, tmp_path):
    settings = [*overrides("ethd", workplace, tmp_path), f"stage.checkpoint={workplace / 'checkpoint'}", "steps=1"]
    settings += [f"checkpoint={tmp_path / 'out'}", f"stage.initial={downloaded / 'svd'}", "ema_decay=null"]
    settings += [*LIKE_THE_U_NET, "optimizer.learning_rate=1.0e-9"]
    train(load_config(CONFIGS / "ethd_debug.yaml", settings))
    unet = load_file(downloaded / "svd" / "unet" / "diffusion_pytorch_model.safetensors")
    ethd = load_network(tmp_path / "out", "ethd").state_dict()
    torch.testing.assert_close(
        ethd["down.0.residuals.0.spatial_res_block.conv1.weight"],
        unet["down_blocks.0.resnets.0.spatial_res_block.conv1.weight"],
    )


def test_a_u_net_of_other_widths_is_refused_by_name(downloaded, workplace, tmp_path):
    settings = [*overrides("ethd", workplace, tmp_path), f"stage.checkpoint={workplace / 'checkpoint'}"]
    with pytest.raises(InputError, match=r"unet has another architecture: .* has shape") as raised:
        train(load_config(CONFIGS / "ethd_debug.yaml", [*settings, f"stage.initial={downloaded / 'svd'}"]))
    assert raised.value.code == "initial_differs"


@pytest.mark.parametrize("stage", ["audio_encoder", "vaid", "ethd"])
def test_a_frozen_network_of_another_kind_is_refused(stage, workplace, tmp_path):
    """The error names the folder and the allowed kinds, as for a missing network, before any work."""
    checkpoint = tmp_path / "checkpoint"
    shutil.copytree(workplace / "checkpoint", checkpoint)
    name = {"audio_encoder": "audio_encoder", "vaid": "audio_encoder", "ethd": "lip_encoder"}[stage]
    shutil.copy(checkpoint / "ethd" / "config.json", checkpoint / name / "config.json")
    settings = [*overrides(stage, workplace, tmp_path), f"stage.checkpoint={checkpoint}"]
    settings.append(f"stage.cache={tmp_path / 'cache'}")
    for _ in ("another kind", "not there"):
        with pytest.raises(InputError, match=f"{name} holds no (ConvAudioEncoder|LipEncoder)") as raised:
            train(load_config(CONFIGS / f"{stage}_debug.yaml", settings))
        assert raised.value.code == "checkpoint_incomplete"
        shutil.rmtree(checkpoint / name, ignore_errors=True)


def test_a_folder_of_another_kind_is_refused(tmp_path):
    for adopt in (adopt_vae, adopt_audio_encoder):
        with pytest.raises(InputError, match="holds no") as raised:
            adopt(tmp_path / "nowhere", tmp_path / "checkpoint")
        assert raised.value.code == "weights_unreadable"
    assert not (tmp_path / "checkpoint").exists()
