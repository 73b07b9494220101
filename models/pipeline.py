"""`EmotiveTalkPipeline`: portrait, speech and emotion to frames, in one process.

    portrait, emotion --prepare--> MotionConditions --+
                                           speech ----+--generate_motion--> blocks of V-AID's latents
                                                                                |
                                                portrait conditions ---render---+--> frames, segment by segment

`generate_motion` is V-AID (`models/motion_generator.py`); `render` is ETHD and the decoder (`models/latent_sampler.py`,
`models/frame_decoder.py`). Serving deploys them separately. Both execute a long-video plan (`models/long_video.py`), so a clip
of any length takes bounded memory, and frames come out while later blocks are still to be generated.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from threading import Lock

import torch
from diffusers import AutoencoderKLTemporalDecoder, DiffusionPipeline, EulerDiscreteScheduler
from diffusers.utils import logging as diffusers_logging
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from emotivetalk.models.autoencoder import PortraitAutoencoder
from emotivetalk.models.diffusion import Guidance
from emotivetalk.models.emotion import EmotionMapping, EmotionSource
from emotivetalk.models.encoders import AudioEncoderNetwork, ExpressionEncoder, LipEncoder
from emotivetalk.models.ethd import ETHD
from emotivetalk.models.face_mask import FaceRegion
from emotivetalk.models.frame_decoder import DECODED_AT_ONCE, FrameDecoder
from emotivetalk.models.latent_sampler import LatentSampler, MotionLookup, PortraitConditions
from emotivetalk.models.long_video import at_once, run, run_excerpt
from emotivetalk.models.long_video_plan import Call, LongVideoConfig, LongVideoPlan
from emotivetalk.models.motion_generator import MotionBlock, MotionGenerator, join
from emotivetalk.models.precision import has_bfloat16
from emotivetalk.models.vaid import VAID
from emotivetalk.timebase import SAMPLES_PER_FRAME

PARTS = ("vae", "audio_encoder", "lip_encoder", "expression_encoder", "emotion_mapping", "vaid", "ethd", "scheduler")

Progress = Callable[[int, int], None]
"""(network calls done, network calls in all)."""


@dataclass(frozen=True)
class MotionSequence:
    """V-AID's latents of a whole clip, with the portrait: the input of rendering."""

    portrait: Float[Tensor, "3 height width"]
    lip: Float[Tensor, "frames dim_lip"]
    expression: Float[Tensor, "frames dim_expression"]
    expression_reference: Float[Tensor, " dim_expression"]


def load_pipeline(
    checkpoint: str | Path, device: str = "cpu", parts: Sequence[str] | None = None
) -> EmotiveTalkPipeline:
    """Load a checkpoint in the precision that is fast on this device: bfloat16 for large networks, float32 for small ones.

    Devices without bfloat16 arithmetic get float32 throughout. On a CPU, as many chunks are rendered at a time as PyTorch has
    threads. `EmotiveTalkPipeline.from_pretrained` loads in any precision.

    Args:
        parts: names of the networks to load, for a process that needs only some of them; None loads all.
    """
    half = torch.bfloat16 if has_bfloat16(device) else torch.float32
    precision = {"vae": half, "ethd": half, "default": torch.float32}
    diffusers_logging.disable_progress_bar()  # loading takes only a second
    not_loaded = {} if parts is None else dict.fromkeys(set(PARTS) - set(parts))
    pipeline = EmotiveTalkPipeline.from_pretrained(str(checkpoint), dtype=precision, **not_loaded).to(device)
    for network in (pipeline.vae, pipeline.ethd, pipeline.expression_encoder):
        for layer in network.modules() if network is not None else ():
            if isinstance(layer, nn.Conv2d):
                layer.to(memory_format=torch.channels_last)
    if device == "cpu":
        pipeline.num_workers = torch.get_num_threads()
    else:
        pipeline.chunks_at_once = 8
    return pipeline


class EmotiveTalkPipeline(DiffusionPipeline):
    """Generates videos of a portrait that speaks with an emotion.

    Args:
        vae, audio_encoder, lip_encoder, expression_encoder, emotion_mapping, vaid, ethd: the networks. The lip encoder
            is only used to evaluate a checkpoint and to continue its training.
        scheduler: ETHD's noise schedule.
        image_size: side of the square images, pixels.
        num_steps: default number of ETHD's steps.
        noise_scale: standard deviation of ETHD's noise (ours). A value below 1, with which it was trained, is a lower
            temperature: with few steps it reduces random detail that flickers.
        chunk_frames, segment_chunks, pinned_frames, shift_stride, fusion, overlap_frames, joint: how to divide ETHD's clips
            (`LongVideoConfig`).
        expression_steps, expression_chunk_frames: Di-CTE's steps, and the length of the sequences it was trained on.
        expression_guidance: Di-CTE's classifier-free guidance at an emotion strength of 1 (ours). With 1, no guidance,
            expressions are weaker than requested.
        expression_guidance_below: highest noise level with guidance (ours, after Kynkäänniemi et al. 2024); None guides at
            all levels. At the highest levels guidance makes blinks shallower.
    """

    model_cpu_offload_seq = "audio_encoder->expression_encoder->emotion_mapping->vaid->ethd->vae"

    def __init__(
        self,
        vae: PortraitAutoencoder | AutoencoderKLTemporalDecoder,
        audio_encoder: AudioEncoderNetwork,
        lip_encoder: LipEncoder,
        expression_encoder: ExpressionEncoder,
        emotion_mapping: EmotionMapping,
        vaid: VAID,
        ethd: ETHD,
        scheduler: EulerDiscreteScheduler,
        image_size: int = 256,
        num_steps: int = 2,
        noise_scale: float = 1.0,
        chunk_frames: int = 12,
        segment_chunks: int = 10,
        pinned_frames: int = 4,
        shift_stride: int = 5,
        fusion: str = "overlap",
        overlap_frames: int = 4,
        joint: str = "free",
        expression_steps: int = 16,
        expression_chunk_frames: int = 64,
        expression_guidance: float = 1.0,
        expression_guidance_below: float | None = None,
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
            noise_scale=noise_scale,
            chunk_frames=chunk_frames,
            segment_chunks=segment_chunks,
            pinned_frames=pinned_frames,
            shift_stride=shift_stride,
            fusion=fusion,
            overlap_frames=overlap_frames,
            joint=joint,
            expression_steps=expression_steps,
            expression_chunk_frames=expression_chunk_frames,
            expression_guidance=expression_guidance,
            expression_guidance_below=expression_guidance_below,
        )
        for network in (vae, audio_encoder, lip_encoder, expression_encoder, emotion_mapping, vaid, ethd):
            if network is not None:  # `load_pipeline` may skip some
                network.eval()
        self.num_workers = 1
        """Number of worker threads, each with one PyTorch thread, that render chunks and decode frames: for a CPU."""
        self.chunks_at_once = 1
        """Number of chunks to stack into one network call: for a GPU."""

    @property
    def image_size(self) -> int:
        """Side of portraits and frames, pixels."""
        return self.config["image_size"]

    @property
    def long_video(self) -> LongVideoConfig:
        """Division of ETHD's clips."""
        return LongVideoConfig.from_checkpoint(self.config)

    @cached_property
    def motion_generator(self) -> MotionGenerator:
        """V-AID with its sampler."""
        return MotionGenerator(
            self.audio_encoder,
            self.expression_encoder,
            self.emotion_mapping,
            self.vaid,
            self.config["expression_steps"],
            self.config["expression_chunk_frames"],
            self.config["expression_guidance"],
            self.config["expression_guidance_below"],
        )

    @property
    def latent_sampler(self) -> LatentSampler:
        """ETHD with its sampler."""
        config = self.config
        return LatentSampler(self.ethd, self.scheduler, self.long_video, config["num_steps"], config["noise_scale"])

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
        """Generate the frames of the whole clip in order, a few at a time. Frame i shows samples 640 i to 640 i + 639.

        Args:
            portrait: a cropped face, RGB in -1..1, `image_size` square.
            waveform: mono speech, 16 kHz, -1..1. The video has ceil(samples / 640) frames.
            emotion: one of `emotivetalk.models.emotion`'s sources; None keeps the portrait's own expression.
            seed: equal seeds and inputs give equal frames.
            num_steps: ETHD's steps; more are slower and a little crisper.
            emotion_strength: multiplies `expression_guidance`; 0 shows no emotion, values above 1 exaggerate.
            guidance: ETHD's guidance on lips and expression.
            face_region: position of the face, for a portrait that is cropped differently.
            progress: called after each of ETHD's network calls.

        Raises:
            ValueError: an input has the wrong shape, is empty or is not finite.
        """
        self._check(portrait, waveform)
        conditions = self.motion_generator.prepare(portrait, emotion)
        blocks = self.motion_generator.blocks(conditions, waveform, seed=seed, emotion_strength=emotion_strength)
        return self._frames(
            portrait,
            conditions.expression_reference,
            _LazyMotion(blocks),
            -(-len(waveform) // SAMPLES_PER_FRAME),
            seed,
            num_steps,
            guidance,
            face_region,
            progress,
        )

    def generate_motion(
        self,
        portrait: Float[Tensor, "3 height width"],
        waveform: Float[Tensor, " samples"],
        emotion: EmotionSource = None,
        *,
        seed: int = 0,
        emotion_strength: float = 1.0,
    ) -> MotionSequence:
        """Generate the lip and expression latents of the whole clip with V-AID; see `__call__`."""
        self._check(portrait, waveform)
        conditions = self.motion_generator.prepare(portrait, emotion)
        blocks = list(self.motion_generator.blocks(conditions, waveform, seed=seed, emotion_strength=emotion_strength))
        whole = join(blocks, range(blocks[-1].frames.stop))
        return MotionSequence(portrait, whole.lip, whole.expression, conditions.expression_reference)

    def render(
        self,
        motion: MotionSequence,
        *,
        seed: int = 0,
        num_steps: int | None = None,
        guidance: Guidance | None = None,
        face_region: FaceRegion | None = None,
        progress: Progress | None = None,
    ) -> Iterator[UInt8[Tensor, "frames height width 3"]]:
        """Render frames from V-AID's latents, a few at a time; see `__call__`."""
        return self._frames(
            motion.portrait,
            motion.expression_reference,
            _whole(motion),
            len(motion.lip),
            seed,
            num_steps,
            guidance,
            face_region,
            progress,
        )

    def excerpts(
        self,
        motion: MotionSequence,
        spans: Sequence[range],
        *,
        seed: int = 0,
        num_steps: int | None = None,
    ) -> Iterator[UInt8[Tensor, "frames height width 3"]]:
        """Render some spans of a clip as if the clip were one segment. Only the calls that they depend on run.

        This shows a part of a long clip alone, or the frames at a segment border as they are without the border.

        Raises:
            ValueError: a span is empty or reaches beyond the clip.
        """
        frame_decoder, latent_sampler, num_frames = FrameDecoder(self.vae), self.latent_sampler, len(motion.lip)
        portrait_conditions = self.portrait_conditions(motion.portrait, motion.expression_reference)
        features = frame_decoder.portrait_features(motion.portrait)
        divided = latent_sampler.long_video
        whole = replace(divided, segment_chunks=max(divided.segment_chunks, -(-num_frames // divided.chunk_frames)))
        segment = LongVideoPlan(whole, num_frames, num_steps or latent_sampler.num_steps).segment(0)
        predict = partial(latent_sampler.predict, portrait_conditions, _whole(motion), num_frames, Guidance())
        sigmas, noise = latent_sampler.sigmas(num_steps), latent_sampler.noise(portrait_conditions, seed)
        for span in spans:
            latents = run_excerpt(segment, span, predict, sigmas, noise)
            yield torch.cat([frame_decoder.decode(part, features) for part in latents.split(DECODED_AT_ONCE)])

    def render_latents(
        self,
        motion: MotionSequence,
        *,
        seed: int = 0,
        num_steps: int | None = None,
        guidance: Guidance | None = None,
        face_region: FaceRegion | None = None,
        progress: Progress | None = None,
    ) -> Iterator[Float[Tensor, "frames channels h w"]]:
        """Sample the clip's latents with ETHD, segment by segment."""
        portrait_conditions = self.portrait_conditions(motion.portrait, motion.expression_reference, face_region)
        with ExitStack() as stack:
            yield from self._latents(
                portrait_conditions,
                _whole(motion),
                len(motion.lip),
                seed,
                num_steps,
                guidance,
                progress,
                self._pool(stack),
            )

    def portrait_conditions(
        self,
        portrait: Float[Tensor, "3 height width"],
        expression_reference: Float[Tensor, " dim_expression"],
        face_region: FaceRegion | None = None,
    ) -> PortraitConditions:
        """Compute ETHD's conditions from the portrait."""
        latent = FrameDecoder(self.vae).reference_latent(portrait)
        mask = (face_region or FaceRegion()).mask(*latent.shape[-2:])
        return PortraitConditions(latent, expression_reference, mask)

    def _check(self, portrait: Tensor, waveform: Tensor) -> None:
        side = self.image_size
        if portrait.shape != (3, side, side):
            raise ValueError(f"the portrait has shape {tuple(portrait.shape)}; give (3, {side}, {side})")
        if not (torch.isfinite(portrait).all() and torch.isfinite(waveform).all()):
            raise ValueError("portrait and waveform must be finite; they have NaN or infinite values")
        if len(waveform) == 0:
            raise ValueError("the waveform is empty; give at least one sample")

    def _pool(self, stack: ExitStack) -> ThreadPoolExecutor | None:
        """Open a pool of threads with one PyTorch thread each: two chunks by one thread each are faster than one by two."""
        if self.num_workers == 1:
            return None
        pool = ThreadPoolExecutor(self.num_workers, initializer=partial(torch.set_num_threads, 1))
        stack.callback(pool.shutdown, cancel_futures=True)
        return pool

    def _frames(
        self,
        portrait: Tensor,
        expression_reference: Tensor,
        motion_at: MotionLookup,
        num_frames: int,
        seed: int,
        num_steps: int | None,
        guidance: Guidance | None,
        face_region: FaceRegion | None,
        progress: Progress | None,
    ) -> Iterator[UInt8[Tensor, "frames height width 3"]]:
        frame_decoder = FrameDecoder(self.vae)
        features = frame_decoder.portrait_features(portrait)
        portrait_conditions = self.portrait_conditions(portrait, expression_reference, face_region)
        with ExitStack() as stack:
            ahead = stack.enter_context(ThreadPoolExecutor(1)) if self.num_workers > 1 else None
            pool = self._pool(stack)
            map_parts = map if pool is None else pool.map
            segments = self._latents(
                portrait_conditions, motion_at, num_frames, seed, num_steps, guidance, progress, pool
            )
            latents = next(segments, None)
            while latents is not None:
                # Submit all frames of a segment before the chunks of the next one, so that no thread is idle.
                frames = map_parts(lambda part: frame_decoder.decode(part, features), latents.split(DECODED_AT_ONCE))
                upcoming = ahead.submit(next, segments, None) if ahead is not None else None
                yield from frames
                latents = upcoming.result() if upcoming is not None else next(segments, None)

    def _latents(
        self,
        portrait_conditions: PortraitConditions,
        motion_at: MotionLookup,
        num_frames: int,
        seed: int,
        num_steps: int | None,
        guidance: Guidance | None,
        progress: Progress | None,
        pool: ThreadPoolExecutor | None,
    ) -> Iterator[Float[Tensor, "frames channels h w"]]:
        latent_sampler = self.latent_sampler
        plan = latent_sampler.plan(num_frames, num_steps)
        num_calls, num_done = plan.num_calls, 0

        def report(_: Call) -> None:
            nonlocal num_done
            num_done += 1
            if progress is not None:
                progress(num_done, num_calls)

        predict = partial(latent_sampler.predict, portrait_conditions, motion_at, num_frames, guidance or Guidance())
        segments = run(
            plan,
            predict,
            latent_sampler.sigmas(num_steps),
            latent_sampler.noise(portrait_conditions, seed),
            batch_calls=self.chunks_at_once,
            progress=report,
            submit=at_once if pool is None else pool.submit,
        )
        for segment in segments:
            yield segment.frames


def _whole(motion: MotionSequence) -> MotionLookup:
    """Look up frames of motion that is already generated."""
    block = MotionBlock(range(len(motion.lip)), motion.lip, motion.expression)
    return lambda frames: join([block], frames)


class _LazyMotion:
    """Looks up frames of motion and generates blocks on demand. Keeps the last three blocks."""

    def __init__(self, blocks: Iterator[MotionBlock]) -> None:
        self._blocks = blocks
        self._kept: deque[MotionBlock] = deque(maxlen=3)
        self._lock = Lock()

    def __call__(self, frames: range) -> MotionBlock:
        with self._lock:
            while not self._kept or self._kept[-1].frames.stop < frames.stop:
                self._kept.append(next(self._blocks))
            return join(list(self._kept), frames)
