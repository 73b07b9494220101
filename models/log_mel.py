"""Log-mel spectrogram of speech, aligned with the video: four steps per frame, without delay.

Ours: the paper uses a frozen audio encoder; the small networks start from this fixed transform instead.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from emotivetalk.timebase import SAMPLE_RATE_HZ, SAMPLES_PER_FRAME

STEPS_PER_FRAME = 4
NUM_MELS = 80

HOP = SAMPLES_PER_FRAME // STEPS_PER_FRAME  # 160 samples: 100 steps per second
WINDOW = SAMPLE_RATE_HZ // 40  # 400 samples: 25 ms
CONTEXT = (WINDOW - HOP) // 2  # samples that a window extends beyond its own step, on either side
FFT_SIZE = 512
FLOOR = 1e-8  # power, 80 dB below full scale: silence, dither and coding noise all become SILENCE
SILENCE = -2.0
"""Value of a silent band."""


class LogMel(nn.Module):
    """Transform of mono speech to 80 log-mel bands at 100 Hz, aligned with video frames of 640 samples.

    Step s is centred on sample 160 s + 80, so the centres of steps 4i to 4i + 3 lie inside frame i, symmetrically about
    its middle. Step s reads samples 160 s - 120 to 160 s + 279; frame i therefore reads 640 i - 120 to 640 i + 759. A
    stream with 120 samples of context on either side yields exactly the steps of the whole waveform. Outside the waveform
    is silence.

    A band holds the log10 of its mean power (white noise of variance v has v in every band), scaled so that -80 dB is -2
    and 0 dB is +2; loudness is preserved. The transform has no weights, and nothing of it is saved.
    """

    window: Float[Tensor, " window"]
    filters: Float[Tensor, "bins bands"]

    def __init__(self) -> None:
        super().__init__()
        window = torch.hann_window(WINDOW, periodic=True)
        self.register_buffer("window", window / window.square().sum().sqrt(), persistent=False)
        self.register_buffer("filters", mel_filters(NUM_MELS, FFT_SIZE), persistent=False)

    def forward(self, waveform: Float[Tensor, "batch samples"]) -> Float[Tensor, "batch steps 80"]:
        """Transform 16 kHz speech in -1..1; steps = 4 * ceil(samples / 640).

        The computation is in float32, whatever the dtype of the module.

        Raises:
            ValueError: the waveform has no samples.
        """
        num_samples = waveform.shape[-1]
        if num_samples == 0:
            raise ValueError("the waveform has no samples; give at least one.")
        missing = -num_samples % SAMPLES_PER_FRAME
        padded = F.pad(waveform.float(), (CONTEXT, CONTEXT + missing))
        windows = padded.unfold(-1, WINDOW, HOP) * self.window.float()
        power = torch.fft.rfft(windows, FFT_SIZE).abs().square()
        return (power @ self.filters.float()).clamp(min=FLOOR).log10() / 2 + 2


def mel_filters(num_bands: int, fft_size: int) -> Float[Tensor, "bins bands"]:
    """Build triangular filters, each a weighted mean over FFT bins, evenly spaced in mel from 0 Hz to Nyquist.

    The scale is Slaney's (Auditory Toolbox, 1998): linear up to 1 kHz, then logarithmic, 27 steps from 1 to 6.4 kHz. On
    O'Shaughnessy's logarithmic scale the lowest bands would be narrower than an FFT bin; here none is.
    """
    nyquist_hz = SAMPLE_RATE_HZ / 2
    linear_hz, break_hz = 200 / 3, 1000.0
    break_mel, log_step = break_hz / linear_hz, torch.log(torch.tensor(6.4, dtype=torch.float64)) / 27

    top_mel = break_mel + torch.log(torch.tensor(nyquist_hz / break_hz, dtype=torch.float64)) / log_step
    mels = torch.linspace(0, 1, num_bands + 2, dtype=torch.float64) * top_mel
    edges_hz = torch.where(mels < break_mel, mels * linear_hz, break_hz * torch.exp((mels - break_mel) * log_step))

    bins_hz = torch.linspace(0, nyquist_hz, fft_size // 2 + 1, dtype=torch.float64)[:, None]
    left, centre, right = edges_hz[:-2], edges_hz[1:-1], edges_hz[2:]
    rising = (bins_hz - left) / (centre - left)
    falling = (right - bins_hz) / (right - centre)
    triangles = torch.minimum(rising, falling).clamp(min=0)
    return (triangles / triangles.sum(dim=0)).float()
