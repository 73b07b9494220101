"""One raw video to its clips: scenes, faces, crops, scores; each stretch is kept, or dropped with a reason."""

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
from emotivetalk.corpus.preparing.results import ClipRow, FileRow, Scores, Source, thumbnail
from emotivetalk.corpus.preparing.settings import Settings
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

SCENE_SIDE, FACE_SIDE = 160, 640  # long sides at which cuts and faces are looked for
SHARPNESS_SIZE = 256
MIN_SEEN = 0.8  # of the looks at a clip must have found its face
RIVAL_WIDTH, RIVAL_SEEN = 0.5, 0.25  # another face so wide, of the first, in so many of the looks is a second person
MIN_MOVE = 2  # frames: less is within what can be measured, and nobody notices

Picture = UInt8[np.ndarray, "height width 3"]
Sound = Float[np.ndarray, " samples"]


@dataclass(frozen=True)
class _Candidate:
    """A stretch that got as far as having pictures."""

    row: ClipRow
    frames: range
    pictures: tuple[bytes, ...]
    curve: Curve | None


def prepare_file(
    path: Path,
    source: Source,
    settings: Settings,
    meter: SyncMeter | None,
    progress: Callable[[], None] = lambda: None,
) -> tuple[FileRow, list[Clip]]:
    """All clips of a file, and what became of every stretch of it. Deterministic.

    Args:
        path: where the file is now; its name and label are the source's.
        meter: measures synchrony; None leaves that out.
        progress: called after every few seconds of work at most.
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
    path: Path, row: FileRow, settings: Settings, meter: SyncMeter | None, progress: Callable[[], None]
) -> tuple[FileRow, list[Clip]]:
    footage = probe(path)
    if not footage.has_sound:
        return replace(row, reason=Reason.NO_SOUND, message=Reason.NO_SOUND.meaning), []
    reader = PictureReader(footage, SCENE_SIDE)
    sound, sound_s = read_beside(footage, len(reader))
    progress()
    signatures = []
    for number, picture in enumerate(reader.read(range(len(reader)))):
        signatures.append(signature(picture))
        if number % 100 == 0:
            progress()
    check_whole(footage, reader.duration_s, sound_s)
    row = replace(row, duration_s=round(reader.duration_s, 3))
    looking, whole_size = PictureReader(footage, FACE_SIDE), PictureReader(footage)
    stretches: list[ClipRow | _Candidate] = []
    for scene in cut_scenes(signatures):
        stretches += _cut(looking, whole_size, scene, sound, row.name, settings, meter, progress)
    rows, clips = [], []
    whole = _whole_offset([s.curve for s in stretches if isinstance(s, _Candidate) and s.curve is not None])
    for stretch in stretches:
        if isinstance(stretch, ClipRow):
            rows.append(stretch)
            continue
        judged = _synchronized(stretch, whole, settings)
        rows.append(judged)
        if judged.reason is None:
            clips.append(_clip(stretch, judged, sound, row.label))
    return replace(row, clips=tuple(rows)), clips


def windows(scene: range, num_frames: int) -> list[range]:
    """As many clips of `num_frames` as fit into a scene, from its middle."""
    num = len(scene) // num_frames
    first = scene.start + (len(scene) - num * num_frames) // 2
    return [range(start, start + num_frames) for start in range(first, first + num * num_frames, num_frames)]


def _cut(
    looking: PictureReader,
    whole_size: PictureReader,
    scene: range,
    sound: Sound,
    name: str,
    settings: Settings,
    meter: SyncMeter | None,
    progress: Callable[[], None],
) -> list[ClipRow | _Candidate]:
    clips = windows(scene, settings.num_frames)
    if not clips:
        return [_row(name, scene, Reason.TOO_SHORT)]
    looks = looks_of(scene)
    thumbnails: dict[int, str] = {}

    def shown() -> Iterator[tuple[int, Picture]]:
        for frame, picture in zip(looks, looking.read(looks)):
            progress()
            for clip in clips:
                if frame in clip and clip.start not in thumbnails:
                    thumbnails[clip.start] = thumbnail(picture)
            yield frame, picture

    factor = whole_size.width / looking.width
    tracks = [track.scaled(factor) for track in track_faces(shown())]
    found: list[ClipRow | _Candidate] = []
    for frames in clips:
        row = _row(name, frames, None, thumbnails.get(frames.start, ""))
        looked = [frame for frame in looks if frame in frames]
        reason, track = choose_track(tracks, frames, looked, settings.min_face)
        scores = Scores() if track is None else Scores(face=round(track.width(frames), 1))
        if reason is not None or track is None:
            found.append(replace(row, reason=reason, scores=scores))
            continue
        found.append(_crop(whole_size, track, frames, sound, replace(row, scores=scores), settings, meter))
        progress()
    return found


def choose_track(
    tracks: list[Track], frames: range, looked: list[int], min_face: int
) -> tuple[Reason | None, Track | None]:
    """The one face of a clip, or why there is none.

    Args:
        tracks: of the scene.
        frames: of the clip.
        looked: those among them in which faces were looked for.
        min_face: least width in pixels.
    """
    seen = sorted(
        (track for track in tracks if track.is_sure and track.share(looked) > 0),
        key=lambda track: -track.share(looked) * track.width(frames),
    )
    if not seen:
        return Reason.NO_FACE, None
    main = seen[0]
    for other in seen[1:]:
        at_once = len(set(main.frames) & set(other.frames) & set(looked)) / len(looked)
        if at_once >= RIVAL_SEEN and other.width(frames) >= RIVAL_WIDTH * main.width(frames):
            return Reason.SEVERAL_FACES, main
    if main.width(frames) < min_face:  # before the next: small faces are lost more easily
        return Reason.FACE_TOO_SMALL, main
    if main.share(looked) < MIN_SEEN:
        return Reason.FACE_LOST, main
    return None, main


def _crop(
    reader: PictureReader,
    track: Track,
    frames: range,
    sound: Sound,
    row: ClipRow,
    settings: Settings,
    meter: SyncMeter | None,
) -> ClipRow | _Candidate:
    crop = steady_crop(track, frames)
    pictures = [crop.cut(i, picture, settings.size) for i, picture in enumerate(reader.read(frames))]
    middle = pictures[len(pictures) // 2]
    sharp = float(np.median([sharpness(scaled(p, SHARPNESS_SIZE, SHARPNESS_SIZE)) for p in pictures[::8]]))
    speech = speech_activity(slice_sound(sound, frames)).share
    scores = replace(row.scores, sharpness=round(sharp, 1), speech=round(speech, 3))
    row = replace(row, scores=scores, thumbnail=thumbnail(middle))
    if sharp < settings.min_sharpness:
        return replace(row, reason=Reason.BLURRED)
    if speech < settings.min_speech:
        return replace(row, reason=Reason.NO_SPEECH)
    curve = None if meter is None else meter.curve(pictures, sound, frames)
    return _Candidate(row, frames, encode_pictures(pictures), curve)


def _whole_offset(curves: list[Curve]) -> Offset | None:
    """Of a file by all its clips, whose noise is averaged away."""
    return offset_of(np.mean(curves, axis=0)) if curves else None


def _synchronized(candidate: _Candidate, whole: Offset | None, settings: Settings) -> ClipRow:
    """The clip's row with its offset: its own if that is sure, else the file's if that is; else nothing is claimed."""
    row = candidate.row
    if candidate.curve is None or whole is None:
        return row
    own = offset_of(candidate.curve)
    offset = own if own.is_sure else whole
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
        split="train",  # whoever puts the corpus together decides
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
