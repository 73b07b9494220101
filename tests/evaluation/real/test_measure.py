"""Metrics on real video with fake networks in TorchScript files, and without networks."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio

from emotivetalk.cli import run
from emotivetalk.errors import InputError
from emotivetalk.evaluation.real.clips import ClipPair, find_pairs
from emotivetalk.evaluation.real.generation import generate_again
from emotivetalk.evaluation.real.measure import measure_clips
from emotivetalk.evaluation.real.weights import NETWORKS, Weights, weights_from
from emotivetalk.media.image import load_image
from emotivetalk.media.image_ops import resize
from emotivetalk.media.mux import VideoWriter
from tests.models import debug as debug_models

ROOT = Path(__file__).resolve().parents[3]
GENERATOR = torch.Generator().manual_seed(0)
SPEECH = (0.1 * np.random.default_rng(0).standard_normal(40 * 640)).astype(np.float32)


class Pooled(torch.nn.Module):
    """Fake feature extractor: means of a few cells. It returns classes unless features are requested."""

    def forward(self, x: torch.Tensor, return_features: bool = False) -> torch.Tensor:
        rows = torch.nn.functional.adaptive_avg_pool1d(x.flatten(2), 4).flatten(1) / 255.0
        return rows if return_features else rows[:, :1]


class Face(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.adaptive_avg_pool2d(x, 3).flatten(1)


class Perceptual(torch.nn.Module):
    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return (a - b).abs().mean((1, 2, 3))


class InStep(torch.nn.Module):
    def forward(self, mouths: torch.Tensor, speech: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return mouths.mean((1, 3, 4)), speech[:, 0, 0].unflatten(1, [5, 4]).mean(2)


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("weights")
    networks = {"inception": Pooled(), "i3d": Pooled(), "expression": Pooled(), "face": Face(), "lpips": Perceptual()}
    made = {}
    for name, network in {**networks, "syncnet": InStep()}.items():
        made[name] = folder / f"{name}.pt"
        torch.jit.script(network).save(str(made[name]))
    return made


def pictures(num: int = 40) -> torch.Tensor:
    return torch.rand(num, 3, 24, 24, generator=GENERATOR)


def clips(noise: float) -> list[ClipPair]:
    made = []
    for name in ("a", "b", "c"):
        real = pictures()
        generated = (real + noise * torch.randn(real.shape, generator=GENERATOR)).clamp(0, 1)
        made.append(ClipPair(name, real, generated, SPEECH))
    return made


def test_equal_videos_have_the_best_value_of_every_metric(files):
    found = {figure.key: figure for figure in measure_clips(clips(0), Weights(files)).figures}
    assert set(found) == {"fid", "fvd", "e_fid", "sync_c", "sync_d", "csim", "lpips", "psnr", "ssim"}
    for key in ("fid", "fvd", "e_fid"):
        assert found[key].value.value == pytest.approx(0, abs=1e-5), key
    assert found["lpips"].value.value == 0 and found["ssim"].value.value == pytest.approx(1, abs=1e-5)
    assert found["psnr"].value.value == 60
    for key in ("sync_c", "sync_d"):
        assert found[key].value.value == pytest.approx(found[key].ceiling.value)
        assert found[key].floor is not None


def test_noise_is_worse_in_every_metric(files):
    before, after = (
        {f.key: f.value.value for f in measure_clips(clips(n), Weights(files)).figures} for n in (0.05, 0.5)
    )
    for key in ("fid", "fvd", "e_fid", "lpips"):
        assert after[key] > before[key]
    for key in ("psnr", "ssim", "csim"):
        assert after[key] < before[key]


def test_psnr_equals_scikit_image(files):
    (clip,) = clips(0.1)[:1]
    (figure,) = [f for f in measure_clips([clip], Weights({})).figures if f.key == "psnr"]
    wanted = [
        peak_signal_noise_ratio(a.numpy(), b.numpy(), data_range=1)
        for a, b in zip(clip.real, clip.generated, strict=True)
    ]
    assert figure.value.value == pytest.approx(np.mean(wanted), rel=1e-4)


def test_metrics_without_weights_are_listed():
    found = measure_clips(clips(0), Weights({}))
    assert {figure.key for figure in found.figures} == {"psnr", "ssim"}
    assert "lacks: FVD needs I3D of Kinetics 400 weights: --weights i3d=PATH" in found.lacks
    assert len(found.lacks) == 7 and "--face-mesh-python" in found.lacks[-1]
    assert all(any(f"--weights {name}=PATH" in line for line in found.lacks) for name in NETWORKS)


def test_metrics_without_enough_data_are_listed(files):
    short = [ClipPair("a", pictures(10), pictures(10), None)]
    lacks = measure_clips(short, Weights(files)).lacks
    assert any("FVD needs at least two windows" in line for line in lacks)
    assert any("need real videos with sound" in line for line in lacks)


def test_weights_come_from_options_then_from_the_environment(files, tmp_path):
    environment = {"EMOTIVETALK_WEIGHTS_I3D": str(files["i3d"]), "EMOTIVETALK_WEIGHTS_FACE": str(tmp_path / "none")}
    found = weights_from([f"face={files['face']}"], environment)
    assert found.has("i3d") and found.has("face") and not found.has("lpips")
    assert found.network("i3d")(torch.zeros(2, 3, 16, 4, 4)).shape == (2, 12)  # features, not classes
    for options, message in (
        (["i3d"], "is not NAME=PATH"),
        (["vgg=x"], "weights 'vgg' are unknown"),
        ([f"i3d={tmp_path / 'none.pt'}"], "no i3d weights at"),
    ):
        with pytest.raises(InputError, match=message):
            weights_from(options, {})
    (tmp_path / "broken.pt").write_bytes(b"PK nothing")
    with pytest.raises(InputError, match="no TorchScript file"):
        weights_from([f"i3d={tmp_path / 'broken.pt'}"], {}).network("i3d")


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("videos")
    made = folder / "real", folder / "made"
    for place in made:
        place.mkdir()
        for name in ("one", "two"):
            frames = (torch.rand(20, 32, 32, 3, generator=GENERATOR) * 60 + 90).byte().numpy()
            with VideoWriter(place / f"{name}.mp4", 32, 32, waveform=SPEECH[: 20 * 640]) as writer:
                writer.write(frames)
    return made


def test_two_folders_by_one_command(folders, tmp_path, capsys):
    real, made = folders
    assert run(["evaluate", "--real", str(real), "--generated", str(made), "-o", str(tmp_path)]) == 0
    assert "lacks: FID needs Inception v3 weights: --weights inception=PATH" in capsys.readouterr().out
    data = json.loads((tmp_path / "report.json").read_text())
    assert data["num_clips"] == 2 and 36 <= data["num_frames"] <= 42
    assert 5 < data["figures"]["psnr"]["value"]["value"] < 40
    assert "| PSNR |" in (tmp_path / "report.md").read_text()


def test_folders_without_a_common_name_are_refused(folders, tmp_path, capsys):
    real, _ = folders
    with pytest.raises(InputError, match="has the name of one"):
        find_pairs(real, tmp_path)
    assert run(["evaluate", "--real", str(real), "--generated", str(tmp_path / "none"), "-o", str(tmp_path)]) == 2
    assert "there is no folder" in capsys.readouterr().err
    assert run(["evaluate", "--generated", str(real)]) == 2
    assert "go with --real" in capsys.readouterr().err


def test_clips_without_a_face_are_left_out_and_mpg_is_read(folders, tmp_path):
    """The clips here are noise, so the last error is raised; another suffix than .mp4 is found all the same."""
    real, _ = folders
    place = tmp_path / "recorded"
    place.mkdir()
    (place / "one.mpg").write_bytes((real / "one.mp4").read_bytes())
    assert [pair.real.name for pair in find_pairs(place, real)] == ["one.mpg"]
    with pytest.raises(InputError, match="no face was found"):
        generate_again(debug_models.pipeline(), place, tmp_path, seed=0, num_steps=1)
    with pytest.raises(InputError, match=r"\.mpg"):
        generate_again(debug_models.pipeline(), tmp_path, tmp_path, seed=0, num_steps=1)
    portrait = load_image(ROOT / "examples" / "portrait.png")
    frames = np.repeat(resize(portrait, 256, 256)[None], 10, 0)
    with VideoWriter(place / "face.mp4", 256, 256, waveform=SPEECH[: 10 * 640]) as writer:
        writer.write(frames)
    again = generate_again(debug_models.pipeline(), place, tmp_path, seed=0, num_steps=1)
    assert [path.name for path in again.generated.iterdir()] == ["face.mp4"]
    assert len(again.left_out) == 1 and again.left_out[0].startswith("one.mpg is left out: no face was found")
