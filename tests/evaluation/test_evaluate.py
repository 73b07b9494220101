"""The whole evaluation: a pipeline that returns true frames scores the ceilings, and a random one is reported."""

import json

import numpy as np
import pytest

from emotivetalk.evaluation.evaluate import evaluate
from emotivetalk.evaluation.reference import reference_of
from emotivetalk.evaluation.report import write_report
from emotivetalk.evaluation.stability import border_frames
from emotivetalk.evaluation.targets import MUST_HOLD
from emotivetalk.models.long_video_plan import LongVideoConfig
from tests.evaluation.conftest import SETTINGS, TruthPipeline, cases_of
from tests.models import debug as debug_models

NO_SOURCES = dict.fromkeys(
    ("image_clips", "text_clips", "video_clips", "speech_clips", "level_clips", "sample_clips"), 0
)
SMALL = SETTINGS.model_copy(update={**NO_SOURCES, "label_clips": 2, "track_clips": 1, "driven_clips": 1})


@pytest.fixture(scope="module")
def calls() -> list[tuple[int, int]]:
    return []


@pytest.fixture(scope="module")
def report(corpus, builder, readers, calls):
    pipeline = TruthPipeline(cases_of(builder, SETTINGS))
    return evaluate(pipeline, readers, corpus, SETTINGS, progress=lambda done, total: calls.append((done, total)))


@pytest.fixture(scope="module")
def avatars(report):
    (part,) = report.kinds  # the corpus has no photographs
    assert part.kind == "avatars"
    return part


RANDOM_NETWORKS = ("retrieval", "decoupling", "edi")
"""Prefixes of figures that depend on the fake's random V-AID and ETHD."""


def test_the_truth_scores_its_ceilings(avatars):
    for figure in avatars.figures:
        if figure.ceiling is None or figure.key.startswith(RANDOM_NETWORKS):
            continue
        if figure.key.startswith("motion."):
            assert figure.value.value == pytest.approx(0, abs=1e-3), figure.key
        elif figure.key.startswith("driven."):
            assert figure.value.value == pytest.approx({"driven.psnr": 60, "driven.high_pass": 1}[figure.key], rel=0.02)
        else:
            assert figure.value.value == pytest.approx(figure.ceiling.value, abs=1e-3), figure.key
    assert avatars.figure("long.seam_unbroken").value.value == pytest.approx(1)  # it has no segments
    for item in avatars.lags:
        assert item.curve.r == pytest.approx(item.ceiling.r, abs=1e-3)
    for row in avatars.motions:
        assert row.generated.velocity == pytest.approx(row.truth.velocity, rel=1e-3)
    for seam in avatars.seams:
        assert seam.generated == pytest.approx(seam.truth, abs=1e-2, nan_ok=True)


def test_figures_have_their_bounds(avatars):
    with_bounds = [figure for figure in avatars.figures if figure.key in MUST_HOLD["avatars"]]
    assert len(with_bounds) > 20
    for figure in with_bounds:
        bound = MUST_HOLD["avatars"][figure.key]
        assert (figure.at_least, figure.at_most) == (bound.at_least, bound.at_most)
    assert avatars.figure("motion.velocity").holds is True  # true frames
    assert avatars.figure("emotion.label").holds is False  # an untrained reader
    assert avatars.figure("emotion.copied").holds is None
    assert avatars.figure("emotion.label") in avatars.failures


def test_every_figure_is_measured(avatars):
    keys = {figure.key for figure in avatars.figures}
    assert keys >= {
        "mouth_r.held_out",
        "mouth_r.swapped",
        "emotion.label",
        "emotion.copied",
        "emotion.image",
        "emotion.video",
        "emotion.speech",
        "intensity",
        "intensity_within",
        "edi.margin",
        "track.delay",
        "track.arrives",
        "retrieval",
        "driven.psnr",
        "driven.high_pass",
        "motion.velocity",
        "motion.low",
        "motion.middle",
        "motion.high",
        "motion.variance",
        "vae.whole",
        "vae.mouth",
        "vae.eyes",
        "vae.high_pass",
        "long.mouth_r.1",
        "long.mouth_r.4",
        "long.mouth_fall",
        "long.drift",
        "long.seam_segments",
        "long.seam_unbroken",
    }
    assert avatars.figure("long.drift").value.value > 50  # the renderer's background does not move
    assert any("foreign" in note for note in avatars.notes)
    assert any("two people" in note for note in avatars.notes)


def test_progress_reaches_its_total(report, calls):
    assert calls[-1] == (report.num_frames, report.num_frames)
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)


def test_the_report_is_written_whole(report, avatars, tmp_path):
    path = write_report(report, "debug", tmp_path)
    text = path.read_text(encoding="utf-8")
    for figure in avatars.figures:
        assert figure.title in text
    for name in (
        "lags.png",
        "confusion.png",
        "drift.png",
        "seams.png",
        "emotions.png",
        "videos/1_neutral.mp4",
        "videos/track.mp4",
    ):
        assert (tmp_path / name).stat().st_size > 1000
        assert name in text
    data = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    found = data["kinds"]["avatars"]
    assert found["figures"]["emotion.label"]["value"]["value"] == avatars.figure("emotion.label").value.value
    assert np.sum(found["confusions"]["emotion by label, 8-way"]) == SETTINGS.label_clips


def test_a_pipeline_of_random_weights_can_be_measured(corpus, readers):
    pipeline = debug_models.pipeline()
    report = evaluate(pipeline, readers, corpus, SMALL)
    assert np.isfinite([figure.value.value for figure in report.of("avatars").figures]).all()
    assert report.of("avatars").figure("vae.whole").holds is False
    at_borders = 2 * len(border_frames(pipeline.long_video, 50, pipeline.config["num_steps"])[0])
    assert at_borders
    assert report.num_frames == (2 + 2 + 2 + 2 + 1) * 12 + 32 + 50 + at_borders
    assert 0 <= report.of("avatars").figure("retrieval").value.value <= 1


def test_a_corpus_of_both_kinds_gives_two_columns(mixed_corpus, readers, tmp_path):
    few = {"audio_clips": 2, "label_clips": 2, "motion_clips": 0, "edi_clips": 0, "driven_clips": 0, "sample_clips": 1}
    other = {"track_clips": 0, "latent_clips": 0, "still_frames": 2, "long_clips": 0}
    calls: list[tuple[int, int]] = []
    pipeline, settings = debug_models.pipeline(), SETTINGS.model_copy(update={**NO_SOURCES, **few, **other})
    report = evaluate(pipeline, readers, mixed_corpus, settings, lambda done, total: calls.append((done, total)))
    assert [part.kind for part in report.kinds] == ["avatars", "photographs"]
    keys = [[figure.key for figure in part.figures] for part in report.kinds]
    assert keys[0] == keys[1]
    assert report.of("avatars").figure("vae.whole").at_least != report.of("photographs").figure("vae.whole").at_least
    assert calls[-1] == (report.num_frames, report.num_frames) == (2 * 4 * 12, 2 * 4 * 12)
    text = write_report(report, "debug", tmp_path).read_text(encoding="utf-8")
    assert "| figure | avatars | ceiling | floor | must hold | | photographs | ceiling | floor | must hold | |" in text
    assert "photographs_lags.png" in text and (tmp_path / "photographs_lags.png").exists()
    assert (tmp_path / "videos" / "1_neutral.mp4").exists()
    assert (tmp_path / "videos" / "photographs_1_neutral.mp4").exists()
    data = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert set(data["kinds"]) == {"avatars", "photographs"}
    rows = reference_of(report, "debug").rows
    assert set(rows) == {"avatars", "photographs"}
    only = evaluate(pipeline, readers, mixed_corpus, settings, kinds=["photographs"])
    (part,) = only.kinds
    for figure, same in zip(part.figures, report.of("photographs").figures, strict=True):
        assert figure.value == same.value, figure.key


def test_motion_uses_additional_clips_and_each_clip_has_its_own_seed(corpus, builder, readers):
    class Seeded(TruthPipeline):
        def __call__(self, portrait, waveform, emotion=None, *, seed=0, num_steps=None):
            seeds.append(seed)
            return super().__call__(portrait, waveform, emotion, seed=seed, num_steps=num_steps)

    seeds: list[int] = []
    only = {"audio_clips": 0, "label_clips": 2, "motion_clips": 3, "edi_clips": 0, "track_clips": 0, "driven_clips": 0}
    other = {"latent_clips": 0, "still_frames": 0, "long_clips": 0, "seed": 7}
    settings = SETTINGS.model_copy(update={**NO_SOURCES, **only, **other})
    report = evaluate(Seeded(cases_of(builder, settings)), readers, corpus, settings)
    assert seeds == [7, 8, 9, 10, 11]
    assert np.sum(report.of("avatars").confusions[0].counts) == 2
    assert report.num_frames == 5 * settings.clip_frames


def test_borders_follow_the_plan():
    segments, chunks = border_frames(LongVideoConfig(8, 3, 2, "shift", 3), 60, 2)
    assert segments == [
        21,
        40,
    ]  # three balanced segments of at most 24 frames; two pinned frames belong to the segment before
    assert chunks
    assert not set(chunks) & set(segments)
    assert all(0 < border < 60 for border in chunks)
    assert border_frames(LongVideoConfig(8, 3, 2, "shift", 3), 8, 1) == ([], [])
