"""Preparation of one raw video: shots, faces, crops and scores; each candidate clip is kept, or dropped with a reason."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np
from jaxtyping import Float, UInt8

from emotivetalk.corpus.parameters import EXPRESSION, LIP, POSE
from emotivetalk.corpus.preparing.labels import Label
from emotivetalk.corpus.preparing.reasons import Reason, reason_of_error
from emotivetalk.corpus.preparing.results import ClipRow, FileRow, Scores, VideoSource, thumbnail
from emotivetalk.corpus.preparing.settings import PrepareSettings
from emotivetalk.corpus.preparing.synchrony import Curve, Offset, SyncMeter, offset_of, slice_sound
from emotivetalk.corpus.records import Clip, to_float, to_int16
from emotivetalk.errors import InputError
from emotivetalk.files import quoted
from emotivetalk.media.image_codec import encode_pictures, scaled, sharpness
from emotivetalk.media.raw_video import PictureReader, check_whole, probe, read_beside
from emotivetalk.media.shots import cut_scenes, signature
from emotivetalk.media.speech_activity import speech_activity
from emotivetalk.media.tracking import Track, looks_of, steady_crop, track_faces
from emotivetalk.models.emotion import EMOTIONS
from emotivetalk.timebase import FRAME_RATE_HZ

SHOT_SIDE, FACE_SIDE = 160, 640  # longer side in pixels for detecting cuts and faces
SHARPNESS_SIZE = 256
MIN_VISIBLE = 0.8  # least share of the sampled frames in which the face is detected
# A second face counts as another person from this width, relative to the first, in this share of the sampled frames.
RIVAL_WIDTH, RIVAL_VISIBLE = 0.5, 0.25
MIN_MOVE = 2  # frames; smaller offsets are within the error of the measurement and not noticeable

Picture = UInt8[np.ndarray, "height width 3"]
Sound = Float[np.ndarray, " samples"]


@dataclass(frozen=True)
class _Candidate:
    """A candidate clip that passed all checks but synchrony."""

    row: ClipRow
    frames: range
    pictures: tuple[bytes, ...]
    curve: Curve | None


def prepare_file(
    path: Path,
    source: VideoSource,
    settings: PrepareSettings,
    meter: SyncMeter | None,
    progress: Callable[[], None] = lambda: None,
) -> tuple[FileRow, list[Clip]]:
    """Prepare the clips of a file, and report on every candidate. The result is deterministic.

    Args:
        path: local path of the file.
        source: name and label of the file.
        meter: measurement of synchrony; None skips it.
        progress: called at least every few seconds.
    """
    row = FileRow(source.name, source.label)
    if settings.labelled_only and source.label.source == "assumed":
        return replace(row, reason=Reason.UNLABELLED, message=Reason.UNLABELLED.meaning), []
    try:
        return _prepare(path, row, settings, meter, progress)
    except InputError as error:
        message = error.message.replace(quoted(path), repr(source.name))
        return replace(row, reason=reason_of_error(error.code), message=message), []


def _prepare(
    path: Path, row: FileRow, settings: PrepareSettings, meter: SyncMeter | None, progress: Callable[[], None]
) -> tuple[FileRow, list[Clip]]:
    footage = probe(path)
    if not footage.has_sound:
        return replace(row, reason=Reason.NO_SOUND, message=Reason.NO_SOUND.meaning), []
    reader = PictureReader(footage, SHOT_SIDE)
    sound, sound_s = read_beside(footage, len(reader))
    progress()
    signatures = []
    for number, picture in enumerate(reader.read(range(len(reader)))):
        signatures.append(signature(picture))
        if number % 100 == 0:
            progress()
    check_whole(footage, reader.duration_s, sound_s)
    row = replace(row, duration_s=round(reader.duration_s, 3))
    small_reader, full_reader = PictureReader(footage, FACE_SIDE), PictureReader(footage)
    candidates: list[ClipRow | _Candidate] = []
    for shot in cut_scenes(signatures):
        candidates += _candidates(small_reader, full_reader, shot, sound, row.name, settings, meter, progress)
    rows, clips = [], []
    file_offset = _file_offset([c.curve for c in candidates if isinstance(c, _Candidate) and c.curve is not None])
    for candidate in candidates:
        if isinstance(candidate, ClipRow):
            rows.append(candidate)
            continue
        clip_row = _synchronized(candidate, file_offset, settings)
        rows.append(clip_row)
        if clip_row.reason is None:
            clips.append(_clip(candidate, clip_row, sound, row.label))
    return replace(row, clips=tuple(rows)), clips


def windows(shot: range, num_frames: int) -> list[range]:
    """Return as many clips of `num_frames` as fit into a shot, centered."""
    num = len(shot) // num_frames
    first = shot.start + (len(shot) - num * num_frames) // 2
    return [range(start, start + num_frames) for start in range(first, first + num * num_frames, num_frames)]


def _candidates(
    small_reader: PictureReader,
    full_reader: PictureReader,
    shot: range,
    sound: Sound,
    name: str,
    settings: PrepareSettings,
    meter: SyncMeter | None,
    progress: Callable[[], None],
) -> list[ClipRow | _Candidate]:
    clips = windows(shot, settings.num_frames)
    if not clips:
        return [_row(name, shot, Reason.TOO_SHORT)]
    sampled = looks_of(shot)
    thumbnails: dict[int, str] = {}

    def pictures() -> Iterator[tuple[int, Picture]]:
        for frame, picture in zip(sampled, small_reader.read(sampled)):
            progress()
            for clip in clips:
                if frame in clip and clip.start not in thumbnails:
                    thumbnails[clip.start] = thumbnail(picture)
            yield frame, picture

    factor = full_reader.width / small_reader.width
    tracks = [track.scaled(factor) for track in track_faces(pictures())]
    candidates: list[ClipRow | _Candidate] = []
    for frames in clips:
        row = _row(name, frames, None, thumbnails.get(frames.start, ""))
        sampled_frames = [frame for frame in sampled if frame in frames]
        reason, track = choose_track(tracks, frames, sampled_frames, settings.min_face)
        scores = Scores() if track is None else Scores(face=round(track.width(frames), 1))
        if reason is not None or track is None:
            candidates.append(replace(row, reason=reason, scores=scores))
            continue
        candidates.append(_crop(full_reader, track, frames, sound, replace(row, scores=scores), settings, meter))
        progress()
    return candidates


def choose_track(
    tracks: list[Track], frames: range, sampled_frames: list[int], min_face: int
) -> tuple[Reason | None, Track | None]:
    """Choose the face of a clip, or return the reason why there is not exactly one.

    Args:
        tracks: face tracks of the shot.
        frames: frames of the clip.
        sampled_frames: those of them in which faces were detected.
        min_face: least width in pixels.
    """
    visible = sorted(
        (track for track in tracks if track.is_sure and track.share(sampled_frames) > 0),
        key=lambda track: -track.share(sampled_frames) * track.width(frames),
    )
    if not visible:
        return Reason.NO_FACE, None
    main = visible[0]
    for other in visible[1:]:
        both_visible = len(set(main.frames) & set(other.frames) & set(sampled_frames)) / len(sampled_frames)
        if both_visible >= RIVAL_VISIBLE and other.width(frames) >= RIVAL_WIDTH * main.width(frames):
            return Reason.SEVERAL_FACES, main
    if main.width(frames) < min_face:  # before FACE_LOST, because small faces are lost more easily
        return Reason.FACE_TOO_SMALL, main
    if main.share(sampled_frames) < MIN_VISIBLE:
        return Reason.FACE_LOST, main
    return None, main


def _crop(
    reader: PictureReader,
    track: Track,
    frames: range,
    sound: Sound,
    row: ClipRow,
    settings: PrepareSettings,
    meter: SyncMeter | None,
) -> ClipRow | _Candidate:
    crop = steady_crop(track, frames)
    pictures = [crop.cut(i, picture, settings.size) for i, picture in enumerate(reader.read(frames))]
    middle = pictures[len(pictures) // 2]
    median_sharpness = float(np.median([sharpness(scaled(p, SHARPNESS_SIZE, SHARPNESS_SIZE)) for p in pictures[::8]]))
    speech = speech_activity(slice_sound(sound, frames)).share
    scores = replace(row.scores, sharpness=round(median_sharpness, 1), speech=round(speech, 3))
    row = replace(row, scores=scores, thumbnail=thumbnail(middle))
    if median_sharpness < settings.min_sharpness:
        return replace(row, reason=Reason.BLURRED)
    if speech < settings.min_speech:
        return replace(row, reason=Reason.NO_SPEECH)
    curve = None if meter is None else meter.curve(pictures, sound, frames)
    return _Candidate(row, frames, encode_pictures(pictures), curve)


def _file_offset(curves: list[Curve]) -> Offset | None:
    """Measure the offset of a file from the average over its clips, which reduces noise."""
    return offset_of(np.mean(curves, axis=0)) if curves else None


def _synchronized(candidate: _Candidate, file_offset: Offset | None, settings: PrepareSettings) -> ClipRow:
    """Return the clip's row with its own offset, the file's offset, or none: the first one that is reliable."""
    row = candidate.row
    if candidate.curve is None or file_offset is None:
        return row
    clip_offset = offset_of(candidate.curve)
    offset = clip_offset if clip_offset.is_sure else file_offset
    scores = replace(row.scores, confidence=round(offset.lead, 3))
    if not offset.is_sure:
        return replace(row, scores=scores)
    scores = replace(scores, offset=round(offset.frames, 2))
    move = round(offset.frames)
    if abs(move) > settings.max_offset:
        return replace(row, reason=Reason.AUDIO_OFFSET, scores=scores)
    return replace(row, scores=replace(scores, moved=move if abs(move) >= MIN_MOVE else 0))


def _clip(candidate: _Candidate, row: ClipRow, sound: Sound, label: Label) -> Clip:
    frames, moved = candidate.frames, row.scores.moved
    num = len(frames)
    waveform = slice_sound(sound, range(frames.start + moved, frames.stop + moved))
    emotion = EMOTIONS.index(label.emotion)
    return Clip(
        clip_id=row.clip_id,
        split="train",  # the assembly decides
        identity_seed=None,
        speaker=label.speaker,
        text=label.text,
        engine="recording",
        voice=label.speaker,
        emotion=emotion,
        emotion_per_frame=np.full(num, emotion),
        intensity=float(np.float32(label.intensity)),
        waveform=to_float(to_int16(waveform)),
        lip=np.zeros((0, len(LIP)), np.float32),
        expression=np.zeros((0, len(EXPRESSION)), np.float32),
        pose=np.zeros((0, len(POSE)), np.float32),
        seed=int.from_bytes(hashlib.sha256(row.clip_id.encode()).digest()[:6]),
        frames=candidate.pictures,
        label_source=label.source,
    )


def _row(name: str, frames: range, reason: Reason | None, picture: str = "") -> ClipRow:
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    clip_id = f"{PurePosixPath(name).stem[:40]}-{digest}-{frames.start:06d}"
    times = round(frames.start / FRAME_RATE_HZ, 2), round(frames.stop / FRAME_RATE_HZ, 2)
    return ClipRow(clip_id, *times, reason, thumbnail=picture)
