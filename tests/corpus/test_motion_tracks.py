import numpy as np
import pytest

from emotivetalk.corpus.motion_tracks import (
    BLINKS_PER_S,
    EmotionTransition,
    blinks,
    emotion_per_frame,
    emotion_weights,
    expression_track,
    gaze,
    pose_track,
    smooth_noise,
    speech_energy,
)
from emotivetalk.corpus.parameters import EMOTION_TARGETS, EXPRESSION, POSE

LONG = 4000


def speech_like(num_frames: int, seed: int = 0) -> np.ndarray:
    """Draw energy with syllables of about 0.2 s."""
    return np.clip(0.06 + 0.05 * smooth_noise(num_frames, 0.045, np.random.default_rng(seed))[:, 0], 0.001, None)


def still(emotion: int, intensity: float, num_frames: int = LONG) -> np.ndarray:
    return emotion_weights([EmotionTransition(0, emotion, intensity)], num_frames)


def test_a_transition_rises_and_the_old_emotion_fades():
    changes = [EmotionTransition(0, 5, 1.0), EmotionTransition(30, 6, 2 / 3, build_s=0.8)]
    weights = emotion_weights(changes, 64)
    assert weights[0, 5] == 1 and weights[-1, 6] == pytest.approx(2 / 3)
    assert (np.diff(weights[:, 6]) >= 0).all() and (np.diff(weights[:, 5]) <= 0).all()
    moving = np.flatnonzero(np.diff(weights[:, 6]))
    assert 18 <= len(moving) <= 22  # 0.8 s
    assert weights.sum(1).max() <= 1 + 1e-6
    emotions = emotion_per_frame(changes, 64)
    assert (emotions[:30] == 5).all() and (emotions[30:] == 6).all()


def test_energy_is_of_each_frame():
    waveform = np.repeat([0.1, -0.4], 640).astype(np.float32)
    np.testing.assert_allclose(speech_energy(waveform, 2), [0.1, 0.4], rtol=1e-3)


def test_blinks_come_at_their_rate_and_look_like_blinks():
    lids = blinks(100_000, np.random.default_rng(0))
    closed = lids == 1
    starts = np.flatnonzero(closed[1:] & ~closed[:-1])
    assert len(starts) / 4000 == pytest.approx(BLINKS_PER_S, rel=0.06)
    lengths = np.diff(np.flatnonzero(np.diff(np.r_[False, lids > 0, False].astype(int)))[:])[::2]
    assert lengths.min() == 3 and lengths.max() == 5
    assert np.diff(starts).min() >= 12  # half a second apart


def test_blinks_are_as_frequent_at_the_start_of_a_clip():
    first = np.mean([blinks(64, np.random.default_rng(seed)) for seed in range(1500)], axis=0)
    assert first[:16].mean() == pytest.approx(first[48:].mean(), rel=0.25)


def test_gaze_rests_and_jumps():
    speed = np.linalg.norm(np.diff(gaze(LONG, np.random.default_rng(0)), axis=0), axis=1)
    assert np.median(speed) < 0.01 and np.quantile(speed, 0.99) > 0.1
    assert np.abs(gaze(LONG, np.random.default_rng(0))).std() < 0.2


@pytest.mark.parametrize("emotion", range(len(EMOTION_TARGETS)))
@pytest.mark.parametrize("intensity", [1 / 3, 1.0])
def test_face_stays_around_its_target(emotion, intensity):
    track = expression_track(still(emotion, intensity), speech_like(LONG), np.random.default_rng(1))
    away = np.abs(track.mean(0) - intensity * EMOTION_TARGETS[emotion])
    assert away[[i for i, name in enumerate(EXPRESSION) if name != "blink"]].max() < 0.12
    assert track.dtype == np.float32 and np.isfinite(track).all()
    smile = track[:, EXPRESSION.index("smile")]
    assert np.abs(np.diff(smile)).max() < 0.2  # no jitter


def test_brows_correlate_with_the_stress_in_part():
    energy = speech_like(LONG)
    track = expression_track(still(0, 1.0), energy, np.random.default_rng(0))
    for name in ("brow_in", "brow_out"):
        brow = track[:, EXPRESSION.index(name)]
        correlation = [
            np.corrcoef(brow[max(lag, 0) :][:3900], energy[max(-lag, 0) :][:3900])[0, 1] for lag in range(-3, 4)
        ]
        assert 0.25 < correlation[3] < 0.55
        assert np.argmax(correlation) == 3  # no delay


def test_head_moves_in_its_range_also_in_silence():
    silence = np.full(LONG, 1e-4)
    spoken, idle = (pose_track(still(0, 1.0), e, np.random.default_rng(0)) for e in (speech_like(LONG), silence))
    deviation = dict(zip(POSE, spoken.std(0), strict=True))
    assert 0.008 < deviation["tx"] < 0.03 and 0.015 < deviation["rot"] < 0.05 and 0.12 < deviation["yaw"] < 0.3
    assert spoken[:, POSE.index("scale")].mean() == pytest.approx(1, abs=0.01)
    assert (idle.std(0) > 0.5 * spoken.std(0)).all()
    assert (np.abs(np.diff(spoken, axis=0)).max(0) < [0.02, 0.02, 0.05, 0.01, 0.25, 0.25]).all()


def test_anger_nods_more_than_sadness():
    energy = speech_like(LONG)
    angry, sad = (pose_track(still(e, 1.0), energy, np.random.default_rng(0)).std(0) for e in (1, 6))
    assert (angry > 1.3 * sad).all()


def test_tracks_depend_on_the_generator_alone():
    weights, energy = still(4, 1.0, 64), speech_like(64)
    for make in (expression_track, pose_track):
        first, again, other = (make(weights, energy, np.random.default_rng(seed)) for seed in (7, 7, 8))
        assert np.array_equal(first, again) and not np.array_equal(first, other)
