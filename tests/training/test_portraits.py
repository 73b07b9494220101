"""Choice of portraits: another clip of the same person, from the index in memory, without reading the speaker's clips."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from emotivetalk.corpus.records import Corpus, read_corpus, write_shards
from emotivetalk.corpus.synthesize import FIRST_HELD_OUT_IDENTITY
from emotivetalk.models.autoencoder import LatentCodec
from emotivetalk.models.emotion import EMOTIONS
from emotivetalk.training.checkpoints.frozen_networks import frozen
from emotivetalk.training.data.portraits import PortraitClips
from emotivetalk.training.run.config import load_config
from emotivetalk.training.stages.ethd import ETHDStage
from emotivetalk.training.stages.vaid import VAIDStage
from tests.training import debug

NUM_SEEDS = 8


@pytest.fixture(scope="module")
def one_speaker(tmp_path_factory) -> Path:
    """A corpus in which one person speaks in all clips, in 12 row groups of 8 clips."""
    folder = tmp_path_factory.mktemp("one_speaker")
    clips = [debug.clip("train", 0, emotion, seed) for seed in range(12) for emotion in range(len(EMOTIONS))]
    clips += [debug.clip("held_out", FIRST_HELD_OUT_IDENTITY, emotion, seed=2) for emotion in range(len(EMOTIONS))]
    write_shards(clips, folder / "corpus")
    debug.write_checkpoint(folder / "checkpoint")
    return folder


@pytest.fixture
def count_row_groups(monkeypatch) -> Callable[[], int]:
    """Count the row groups that have been read; each holds the waveforms and pictures of 8 clips."""
    num_read = 0
    read_row_group = pq.ParquetFile.read_row_group

    def counted(self, *arguments, **options):
        nonlocal num_read
        num_read += 1
        return read_row_group(self, *arguments, **options)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", counted)
    return lambda: num_read


def without_cache(corpus: Path) -> Corpus:
    return read_corpus(corpus, "train", num_cached_groups=1)


def test_an_ethd_batch_reads_no_clip(one_speaker, tmp_path, count_row_groups):
    config = load_config(debug.CONFIGS / "ethd_debug.yaml", debug.overrides("ethd", one_speaker, tmp_path))
    stage = ETHDStage(config.stage)
    stage.train_clips.corpus = without_cache(one_speaker / "corpus")
    before = count_row_groups()
    stage.batch(range(NUM_SEEDS))
    assert count_row_groups() == before


def test_a_vaid_batch_reads_a_clip_and_its_portrait(one_speaker, tmp_path, count_row_groups):
    config = load_config(debug.CONFIGS / "vaid_debug.yaml", debug.overrides("vaid", one_speaker, tmp_path))
    stage = VAIDStage(config.stage)
    stage.train_clips.corpus = without_cache(one_speaker / "corpus")
    before = count_row_groups()
    stage.batch(range(NUM_SEEDS))
    # The cache holds one row group, so reading the clip again after its portrait counts as a third read.
    assert 0 < count_row_groups() - before <= 3 * NUM_SEEDS


def test_ethds_preview_draws_the_portrait_of_the_reference_latent(workplace, tmp_path):
    config = load_config(debug.CONFIGS / "ethd_debug.yaml", debug.overrides("ethd", workplace, tmp_path))
    stage = ETHDStage(config.stage)
    batch = stage.batch(range(4))
    codec = LatentCodec(frozen(workplace / "checkpoint", "vae"))
    for index in range(4):
        with torch.no_grad():
            latent = codec.encode(stage.train_clips.portrait_image(batch, index))[0]
        error = (latent - batch.reference_latent[index]).square().mean()
        assert error < 0.01 * latent.var()  # latents are cached in half precision and mixed-precision arithmetic


def test_portraits_show_the_same_person_mostly_with_another_emotion(workplace):
    corpus = read_corpus(workplace / "corpus", "train")
    portraits = PortraitClips(corpus)
    generator = np.random.default_rng(0)
    chosen = [(clip, portraits.choose_other(clip, generator)) for clip in range(len(corpus)) for _ in range(10)]
    assert all(portrait != clip for clip, portrait in chosen)
    assert all(corpus[portrait].speaker == corpus[clip].speaker for clip, portrait in chosen)
    share = np.mean([corpus[portrait].emotion != corpus[clip].emotion for clip, portrait in chosen])
    # Three quarters are chosen among other emotions; of the rest, 21 of the speaker's 23 other clips have another one.
    assert share == pytest.approx(0.75 + 0.25 * 21 / 23, abs=0.03)


def test_a_person_with_one_clip_is_its_own_portrait(tmp_path):
    write_shards([debug.clip("train", identity, 3, seed=0) for identity in range(2)], tmp_path)
    portraits = PortraitClips(read_corpus(tmp_path, "train"))
    assert not portraits.has_other(1)
    assert portraits.choose_other(1, np.random.default_rng(0)) == 1
