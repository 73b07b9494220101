"""`EmotiveTalkPipeline`: portrait, speech and emotion to frames, in one process.

    portrait, waveform, emotion --perform--> Performance (V-AID's latents) --render--> frames, segment by segment

`perform` is V-AID, `render` is ETHD and the decoder; serving deploys the two apart. Both walk long video's plan
(`models/long_video.py`), so a clip of any length takes bounded memory and comes out as it is made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLTemporalDecoder, DiffusionPipeline, EulerDiscreteScheduler
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from models.autoencoder import LatentCodec, PortraitAutoencoder
from models.dicte import DiCTEConditions
from models.diffusion import Guidance, denoise, guide, sigma_schedule, svd_scheduler
from models.emotion import (
    EmotionImage,
    EmotionLabel,
    EmotionMapping,
    EmotionSource,
    EmotionSpeech,
    EmotionText,
    EmotionTrack,
    EmotionVideo,
    MeaninglessTextError,
)
from models.encoders import ConvAudioEncoder, ExpressionEncoder, LipEncoder, Wav2Vec2AudioEncoder
from models.ethd import ETHD, Conditions, lip_windows
from models.face_mask import FaceRegion
from models.log_mel import SAMPLES_PER_FRAME
from models.long_video import Call, LongVideoConfig, LongVideoPlan, frame_noise, run
from models.sentence_encoder import SentenceEncoder
from models.vaid import VAID

AUDIO_BLOCK_FRAMES = 1500
"""Long speech is encoded a minute at a time."""
TONE_WINDOW_FRAMES = 150
"""The emotion of the speech itself is judged over six seconds, and follows it."""
DECODED_AT_ONCE = 8
MIN_MEANING = 0.25
"""A text less likely than this to ask for any emotion is refused."""

Progress = Callable[[int, int], None]
"""(network calls done, of how many)."""


@dataclass(frozen=True)
class Performance:
    """What V-AID makes of speech and emotion for one portrait: all that rendering needs, for the whole clip."""

    portrait: Float[Tensor, "3 height width"]
    lip: Float[Tensor, "frames dim_lip"]
    expression: Float[Tensor, "frames dim_expression"]
    expression_reference: Float[Tensor, " dim_expression"]


def load_pipeline(checkpoint: str | Path, device: str = "cpu") -> EmotiveTalkPipeline:
    """A checkpoint in the precision that is fast on this device: the large networks in half, the small ones in float32.

    `EmotiveTalkPipeline.from_pretrained` gives whatever precision is asked for; this chooses. A CPU without bfloat16
    arithmetic gets float32 throughout.
    """
    has_half = device != "cpu" or torch.cpu._is_avx512_bf16_supported()
    half = torch.bfloat16 if has_half else torch.float32
    precision = {"vae": half, "ethd": half, "default": torch.float32}
    pipeline = EmotiveTalkPipeline.from_pretrained(str(checkpoint), dtype=precision).to(device)
    for network in (pipeline.vae, pipeline.ethd, pipeline.expression_encoder):
        for layer in network.modules():
            if isinstance(layer, nn.Conv2d):
                layer.to(memory_format=torch.channels_last)
    return pipeline


class EmotiveTalkPipeline(DiffusionPipeline):
    """Makes a portrait speak with an emotion.

    Args:
        vae, audio_encoder, lip_encoder, expression_encoder, emotion_mapping, vaid, ethd: the networks. The lip encoder
            is not needed to generate; it is kept so that a checkpoint can be measured and trained on.
        scheduler: whose noise levels ETHD is stepped through.
        image_size: side of the square pictures.
        num_steps: ETHD's steps, unless a call says otherwise.
        chunk_frames, segment_chunks, pinned_frames, shift_stride, fusion: long video for ETHD (`LongVideoConfig`).
        expression_steps, expression_chunk_frames: Di-CTE's steps and the length of the sequences it was trained on.
    """

    model_cpu_offload_seq = "audio_encoder->expression_encoder->emotion_mapping->vaid->ethd->vae"

    def __init__(
        self,
        vae: PortraitAutoencoder | AutoencoderKLTemporalDecoder,
        audio_encoder: ConvAudioEncoder | Wav2Vec2AudioEncoder,
        lip_encoder: LipEncoder,
        expression_encoder: ExpressionEncoder,
        emotion_mapping: EmotionMapping,
        vaid: VAID,
        ethd: ETHD,
        scheduler: EulerDiscreteScheduler,
        image_size: int = 256,
        num_steps: int = 3,
        chunk_frames: int = 12,
        segment_chunks: int = 10,
        pinned_frames: int = 4,
        shift_stride: int = 5,
        fusion: str = "shift",
        expression_steps: int = 16,
        expression_chunk_frames: int = 64,
    ) -> None:
        super().__init__()
        self.register_modules(
            vae=vae,
            audio_encoder=audio_encoder,
            lip_encoder=lip_encoder,
            expression_encoder=expression_encoder,
            emotion_mapping=emotion_mapping,
            vaid=vaid,
            ethd=ethd,
            scheduler=scheduler,
        )
        self.register_to_config(
            image_size=image_size,
            num_steps=num_steps,
            chunk_frames=chunk_frames,
            segment_chunks=segment_chunks,
            pinned_frames=pinned_frames,
            shift_stride=shift_stride,
            fusion=fusion,
            expression_steps=expression_steps,
            expression_chunk_frames=expression_chunk_frames,
        )
        for network in (vae, audio_encoder, lip_encoder, expression_encoder, emotion_mapping, vaid, ethd):
            network.eval()
        self._sentence_encoder: SentenceEncoder | None = None

    @property
    def image_size(self) -> int:
        """Side of the portraits it wants and of the frames it gives, pixels."""
        return self.config["image_size"]

    @property
    def long_video(self) -> LongVideoConfig:
        """How ETHD's clips are divided."""
        config = self.config
        return LongVideoConfig(
            config["chunk_frames"],
            config["segment_chunks"],
            config["pinned_frames"],
            config["fusion"],
            config["shift_stride"],
        )

    def __call__(
        self,
        portrait: Float[Tensor, "3 height width"],
        waveform: Float[Tensor, " samples"],
        emotion: EmotionSource = None,
        *,
        seed: int = 0,
        num_steps: int | None = None,
        emotion_strength: float = 1.0,
        guidance: Guidance | None = None,
        face_region: FaceRegion | None = None,
        progress: Progress | None = None,
    ) -> Iterator[UInt8[Tensor, "frames height width 3"]]:
        """Frames of the whole clip, a few at a time, in order; frame i is what is seen while samples 640 i ... are heard.

        Args:
            portrait: a framed face, RGB in -1..1, `image_size` square.
            waveform: mono speech, 16 kHz, -1..1. The video has ceil(samples / 640) frames.
            emotion: one of `models.emotion`'s sources; None keeps the portrait's own expression.
            seed: same seed and inputs, same frames.
            num_steps: ETHD's; more is slower and a little crisper.
            emotion_strength: classifier-free guidance of Di-CTE; 1 is as trained, more exaggerates.
            guidance: ETHD's, on lips and expression.
            face_region: where the face is, if the portrait is framed in another way.
            progress: told of ETHD's network calls.

        Raises:
            ValueError: shapes or values that do not fit.
        """
        performance = self.perform(portrait, waveform, emotion, seed=seed, emotion_strength=emotion_strength)
        return self.render(
            performance,
            seed=seed,
            num_steps=num_steps,
            guidance=guidance,
            face_region=face_region,
            progress=progress,
        )

    # ------------------------------------------------------------------------------------------------------ V-AID

    @torch.no_grad()
    def perform(
        self,
        portrait: Float[Tensor, "3 height width"],
        waveform: Float[Tensor, " samples"],
        emotion: EmotionSource = None,
        *,
        seed: int = 0,
        emotion_strength: float = 1.0,
    ) -> Performance:
        """Lip and expression latents of the whole clip; see `__call__`."""
        side = self.image_size
        if portrait.shape != (3, side, side):
            raise ValueError(f"the portrait has shape {tuple(portrait.shape)}; give (3, {side}, {side})")
        if not (torch.isfinite(portrait).all() and torch.isfinite(waveform).all()):
            raise ValueError("portrait and waveform must be finite; they have NaN or infinite values")
        if len(waveform) == 0:
            raise ValueError("the waveform is empty; give at least one sample")
        features = self._audio_features(waveform.to(self.device))
        lip = self.vaid.projector(features[None])[0]
        picture = portrait.to(self.device)[None]
        reference = self.expression_encoder(picture.to(self.expression_encoder.dtype))[0].float()
        if isinstance(emotion, EmotionVideo):
            expression = self._expression_of_video(emotion, len(lip))
        else:
            utterance = self._utterance(emotion, waveform, len(lip))
            expression = self._expand(features, picture, reference, utterance, seed, emotion_strength)
        return Performance(portrait, lip.float(), expression.float(), reference)

    def _audio_features(self, waveform: Float[Tensor, " samples"]) -> Float[Tensor, "frames dim_audio"]:
        """A minute at a time, each block with enough of its neighbours that no seam can be found."""
        encoder, context = self.audio_encoder, self.audio_encoder.context_frames
        num_frames = -(-len(waveform) // SAMPLES_PER_FRAME)
        blocks = []
        for start in range(0, num_frames, AUDIO_BLOCK_FRAMES):
            stop = min(start + AUDIO_BLOCK_FRAMES, num_frames)
            first, last = max(0, start - context), min(num_frames, stop + context)
            heard = encoder(waveform[None, first * SAMPLES_PER_FRAME : last * SAMPLES_PER_FRAME])[0]
            blocks.append(heard[start - first : stop - first])
        return torch.cat(blocks)

    def _expression_of_video(self, emotion: EmotionVideo, num_frames: int) -> Float[Tensor, "frames dim"]:
        """`expression_visual`, frame by frame; a video that is too short goes back and forth."""
        parts = emotion.frames.to(self.device).split(DECODED_AT_ONCE)
        seen = torch.cat([self.expression_encoder(part) for part in parts])
        index = torch.arange(num_frames, device=seen.device) % max(1, 2 * len(seen) - 2)
        return seen[torch.where(index < len(seen), index, 2 * len(seen) - 2 - index)]

    def _utterance(
        self, emotion: EmotionSource, waveform: Float[Tensor, " samples"], num_frames: int
    ) -> Float[Tensor, "frames dim"] | None:
        """The mapped utterance source of each frame; None is the portrait's own expression."""
        if emotion is None:
            return None
        if isinstance(emotion, EmotionSpeech):
            return self._tone_of_voice(waveform, num_frames)
        if isinstance(emotion, EmotionTrack):
            keys = torch.stack([self._mapped(key.source) for key in emotion.keys])
            return self.emotion_mapping.track(emotion, keys, num_frames).to(self.device)
        return self._mapped(emotion).expand(num_frames, -1)

    def _mapped(self, emotion: EmotionLabel | EmotionText | EmotionImage) -> Float[Tensor, " dim"]:
        if isinstance(emotion, EmotionLabel):
            return self.emotion_mapping.label(emotion.emotion, emotion.intensity)
        if isinstance(emotion, EmotionText):
            if self._sentence_encoder is None:
                self._sentence_encoder = SentenceEncoder()
            embedding = self._sentence_encoder([emotion.text]).to(self.device)
            if self.emotion_mapping.meaning(embedding)[0] < MIN_MEANING:
                raise MeaninglessTextError(emotion.text)
            return self.emotion_mapping.text(embedding)[0]
        return self.expression_encoder(emotion.image.to(self.device)[None])[0]

    def _tone_of_voice(self, waveform: Float[Tensor, " samples"], num_frames: int) -> Float[Tensor, "frames dim"]:
        """The speech's own emotion, window by window, blended along the frames between the windows' middles."""
        num_windows = max(1, round(num_frames / TONE_WINDOW_FRAMES))
        edges = [num_frames * i // num_windows * SAMPLES_PER_FRAME for i in range(num_windows + 1)]
        windows = [waveform[start:stop].to(self.device) for start, stop in pairwise(edges)]
        heard = torch.cat([self.emotion_mapping.speech(window[None]) for window in windows])
        return F.interpolate(heard.T[None], size=num_frames, mode="linear")[0].T

    def _expand(
        self,
        features: Float[Tensor, "frames dim_audio"],
        picture: Float[Tensor, "1 3 height width"],
        reference: Float[Tensor, " dim"],
        utterance: Float[Tensor, "frames dim"] | None,
        seed: int,
        strength: float,
    ) -> Float[Tensor, "frames dim"]:
        """Di-CTE: the emotion becomes a sequence of expressions."""
        dicte = self.vaid.dicte
        identity = dicte.identity_encoder(picture)
        chosen = reference.expand(len(features), -1) if utterance is None else utterance

        def predict(x: Tensor, sigma: Tensor, ranges: Sequence[range]) -> Tensor:
            num = len(ranges)
            conditions = DiCTEConditions(
                audio_features=torch.stack([features[r.start : r.stop] for r in ranges]),
                identity=identity.expand(num, -1),
                expression_reference=reference.expand(num, -1),
                utterance=torch.stack([chosen[r.start : r.stop] for r in ranges]),
                has_utterance=torch.full((num,), utterance is not None, device=x.device),
            )

            def evaluate(given: DiCTEConditions) -> Tensor:
                return denoise(lambda scaled, timestep: dicte(scaled, timestep, given), x, sigma.expand(num))

            if utterance is None:
                return evaluate(conditions)
            return guide(partial(evaluate, conditions.unconditional()), partial(evaluate, conditions), strength)

        length = self.config["expression_chunk_frames"]
        config = LongVideoConfig(length, segment_chunks=8, pinned_frames=length // 4, shift_stride=length // 3 | 1)
        sigmas = sigma_schedule(svd_scheduler(0.05, 20.0), self.config["expression_steps"]).to(features.device)
        plan = LongVideoPlan(config, len(features), len(sigmas) - 1)

        def noise(frames: range) -> Tensor:
            made = frame_noise(seed, frames.start, len(frames), reference.shape, "dicte")
            return made.to(features.device)

        return torch.cat([segment.frames for segment in run(plan, predict, sigmas, noise, batch_calls=8)])

    # ------------------------------------------------------------------------------------------------------- ETHD

    @torch.no_grad()
    def render(
        self,
        performance: Performance,
        *,
        seed: int = 0,
        num_steps: int | None = None,
        guidance: Guidance | None = None,
        face_region: FaceRegion | None = None,
        progress: Progress | None = None,
    ) -> Iterator[UInt8[Tensor, "frames height width 3"]]:
        """Frames from V-AID's latents, a few at a time; see `__call__`."""
        codec, dtype = LatentCodec(self.vae), self.vae.dtype
        picture = performance.portrait.to(self.device, dtype)[None].contiguous(memory_format=torch.channels_last)
        seen = codec.portrait(picture)
        for latents in self.render_latents(
            performance,
            seed=seed,
            num_steps=num_steps,
            guidance=guidance,
            face_region=face_region,
            progress=progress,
        ):
            for part in latents.to(dtype).split(DECODED_AT_ONCE):
                images = codec.decode(part.contiguous(memory_format=torch.channels_last), seen)
                yield ((images.float() + 1) * 127.5).round_().clamp_(0, 255).to(torch.uint8).permute(0, 2, 3, 1).cpu()

    @torch.no_grad()
    def render_latents(
        self,
        performance: Performance,
        *,
        seed: int = 0,
        num_steps: int | None = None,
        guidance: Guidance | None = None,
        face_region: FaceRegion | None = None,
        progress: Progress | None = None,
    ) -> Iterator[Float[Tensor, "frames channels h w"]]:
        """ETHD alone: the clip's latents, segment by segment."""
        guidance = guidance or Guidance()
        conditions = self._clip_conditions(performance, face_region or FaceRegion())
        num_frames, shape = len(performance.lip), conditions.reference_latent.shape[1:]
        sigmas = sigma_schedule(self.scheduler, num_steps or self.config["num_steps"]).to(self.device)
        plan = LongVideoPlan(self.long_video, num_frames, len(sigmas) - 1)
        num_calls, num_done = plan.num_calls, 0

        def noise(frames: range) -> Tensor:
            return frame_noise(seed, frames.start, len(frames), shape, "ethd").to(self.device)

        def told(_: Call) -> None:
            nonlocal num_done
            num_done += 1
            if progress is not None:
                progress(num_done, num_calls)

        predict = partial(self._predict_chunks, conditions, guidance)
        for segment in run(plan, predict, sigmas, noise, batch_calls=2, progress=told):
            yield segment.frames

    def _clip_conditions(self, performance: Performance, face_region: FaceRegion) -> Conditions:
        """The conditions of the whole clip, as a batch of one."""
        codec, dtype = LatentCodec(self.vae), self.ethd.dtype
        picture = performance.portrait.to(self.device, self.vae.dtype)[None]
        latent = codec.encode(picture.contiguous(memory_format=torch.channels_last))
        windows = lip_windows(performance.lip.to(self.device), self.ethd.config["lip_window"])
        mask = face_region.mask(*latent.shape[-2:]).to(self.device)
        return Conditions(
            reference_latent=latent.to(dtype),
            lip=windows[None].to(dtype),
            expression_driving=performance.expression.to(self.device, dtype)[None],
            expression_reference=performance.expression_reference.to(self.device, dtype)[None],
            face_mask=mask[None].to(dtype),
        )

    def _predict_chunks(
        self, clip: Conditions, guidance: Guidance, x: Tensor, sigma: Tensor, ranges: Sequence[range]
    ) -> Tensor:
        """ETHD's estimate of the clean latents of several chunks, guided."""
        num = len(ranges)
        chunk = Conditions(
            reference_latent=clip.reference_latent.expand(num, -1, -1, -1),
            lip=torch.cat([clip.lip[:, r.start : r.stop] for r in ranges]),
            expression_driving=torch.cat([clip.expression_driving[:, r.start : r.stop] for r in ranges]),
            expression_reference=clip.expression_reference.expand(num, -1),
            face_mask=clip.face_mask.expand(num, -1, -1, -1),
        )
        dtype = self.ethd.dtype

        def evaluate(conditions: Conditions) -> Tensor:
            def network(scaled: Tensor, timestep: Tensor) -> Tensor:
                return self.ethd(scaled.to(dtype), timestep, conditions).float()

            return denoise(network, x, sigma.expand(num))

        lip_only = chunk.without_expression()
        return guidance.guide(
            partial(evaluate, lip_only.without_lip()), partial(evaluate, lip_only), partial(evaluate, chunk)
        )
