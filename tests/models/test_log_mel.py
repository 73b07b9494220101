import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from emotivetalk.models.log_mel import CONTEXT, FFT_SIZE, NUM_MELS, LogMel, mel_filters
from emotivetalk.timebase import SAMPLE_RATE_HZ, SAMPLES_PER_FRAME


def noise(num_samples: int, batch: int = 1, seed: int = 0) -> torch.Tensor:
    return 0.1 * torch.randn(batch, num_samples, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=25, deadline=None)
@given(num_samples=st.integers(1, 4000))
def test_four_steps_for_every_begun_video_frame(num_samples: int) -> None:
    mel = LogMel()(noise(num_samples, batch=2))
    assert mel.shape == (2, 4 * -(-num_samples // SAMPLES_PER_FRAME), NUM_MELS)
    assert mel.isfinite().all()


def test_a_click_shows_in_the_steps_of_its_own_frame_symmetrically() -> None:
    frame = 3
    left_middle = frame * SAMPLES_PER_FRAME + SAMPLES_PER_FRAME // 2 - 1
    waveform = torch.zeros(1, 7 * SAMPLES_PER_FRAME)
    waveform[0, left_middle : left_middle + 2] = 0.5
    energy = LogMel()(waveform)[0].mean(dim=-1)
    assert energy.argmax() // 4 == frame
    torch.testing.assert_close(energy[4 * frame + 1], energy[4 * frame + 2], atol=0.02, rtol=0)
    assert (energy.flatten() > -1.9).nonzero().flatten().tolist() == [4 * frame + 1, 4 * frame + 2]


def test_gradients_show_the_documented_receptive_field() -> None:
    waveform = noise(10 * SAMPLES_PER_FRAME).requires_grad_()
    frame = 4
    LogMel()(waveform)[:, 4 * frame : 4 * frame + 4].sum().backward()
    assert waveform.grad is not None
    seen = waveform.grad[0].abs().nonzero().flatten()
    # the periodic Hann window's first weight is zero
    assert seen[0] == frame * SAMPLES_PER_FRAME - CONTEXT + 1
    assert seen[-1] == (frame + 1) * SAMPLES_PER_FRAME + CONTEXT - 1


def test_a_stream_with_context_equals_the_whole() -> None:
    log_mel, waveform = LogMel(), noise(8 * SAMPLES_PER_FRAME)
    whole = log_mel(waveform)
    # a frame of context on either side holds the 120 samples a window reaches over
    start, stop = 3 * SAMPLES_PER_FRAME, 5 * SAMPLES_PER_FRAME
    part = log_mel(waveform[:, start - SAMPLES_PER_FRAME : stop + SAMPLES_PER_FRAME])[:, 4:-4]
    torch.testing.assert_close(part, whole[:, 12:20])


def test_padding_is_silence() -> None:
    log_mel, waveform = LogMel(), noise(1000)
    padded = torch.cat([waveform, torch.zeros(1, 280)], dim=-1)
    torch.testing.assert_close(log_mel(waveform), log_mel(padded))


@pytest.mark.parametrize("frequency_hz", [150.0, 440.0, 1000.0, 3000.0, 6500.0])
def test_a_sine_peaks_in_the_band_that_holds_it(frequency_hz: float) -> None:
    time_s = torch.arange(6400) / SAMPLE_RATE_HZ
    mel = LogMel()(torch.sin(2 * torch.pi * frequency_hz * time_s)[None])
    bins_hz = torch.linspace(0, SAMPLE_RATE_HZ / 2, FFT_SIZE // 2 + 1)
    centres_hz = (mel_filters(NUM_MELS, FFT_SIZE) * bins_hz[:, None]).sum(dim=0)
    peak_hz = centres_hz[mel[0, 20].argmax()]
    assert abs(peak_hz - frequency_hz) < max(40.0, 0.06 * frequency_hz)


def test_the_scale_ten_decibels_are_a_half() -> None:
    log_mel, waveform = LogMel(), noise(16_000)
    louder = log_mel(waveform * 10**0.5) - log_mel(waveform)
    torch.testing.assert_close(louder[:, 4:-4], torch.full_like(louder[:, 4:-4], 0.5), atol=1e-3, rtol=0)
    torch.testing.assert_close(log_mel(torch.zeros(1, 640)), torch.full((1, 4, 80), -2.0))
    # white noise of variance v has mean power v in every band
    assert log_mel(waveform).mean().item() == pytest.approx(1.0, abs=0.1)


def test_every_filter_is_a_mean_over_bins() -> None:
    filters = mel_filters(NUM_MELS, FFT_SIZE)
    assert filters.shape == (FFT_SIZE // 2 + 1, NUM_MELS)
    assert (filters >= 0).all()
    torch.testing.assert_close(filters.sum(dim=0), torch.ones(NUM_MELS))


def test_nothing_to_learn_and_nothing_to_save() -> None:
    log_mel = LogMel()
    assert not list(log_mel.parameters())
    assert not log_mel.state_dict()


def test_no_samples_is_refused() -> None:
    with pytest.raises(ValueError, match="no samples"):
        LogMel()(torch.zeros(1, 0))
