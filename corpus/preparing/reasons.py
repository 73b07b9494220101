"""Reasons why a file or a clip is not in the corpus."""

from enum import StrEnum


class Reason(StrEnum):
    """The first check that failed, in this order. Reasons up to UNLABELLED drop a whole file, the others a clip."""

    NOT_FETCHED = "not_fetched"
    UNREADABLE = "unreadable"
    TRUNCATED = "truncated"
    UNKNOWN_CODEC = "unknown_codec"
    TOO_LARGE = "too_large"
    TOO_LONG = "too_long"
    NO_PICTURES = "no_pictures"
    NO_SOUND = "no_sound"
    DAMAGED = "damaged"
    CRASHED = "crashed"
    HUNG = "hung"
    UNLABELLED = "unlabelled"

    TOO_SHORT = "too_short"
    NO_FACE = "no_face"
    SEVERAL_FACES = "several_faces"
    FACE_LOST = "face_lost"
    FACE_TOO_SMALL = "face_too_small"
    BLURRED = "blurred"
    NO_SPEECH = "no_speech"
    AUDIO_OFFSET = "audio_offset"

    @property
    def meaning(self) -> str:
        """Description of the reason."""
        return _MEANINGS[self]


_MEANINGS = {
    Reason.NOT_FETCHED: "the URL could not be fetched",
    Reason.UNREADABLE: "not a video file, or one that cannot be opened",
    Reason.TRUNCATED: "the file is cut off",
    Reason.UNKNOWN_CODEC: "the video codec is not supported by decord",
    Reason.TOO_LARGE: "too many pixels or bytes",
    Reason.TOO_LONG: "longer than half an hour",
    Reason.NO_PICTURES: "no video stream",
    Reason.NO_SOUND: "no audio stream",
    Reason.DAMAGED: "decoding failed midway",
    Reason.CRASHED: "the decoder crashed or needed too much memory",
    Reason.HUNG: "no progress within the time limit",
    Reason.UNLABELLED: "no label in its name or in the CSV",
    Reason.TOO_SHORT: "the shot is shorter than a clip",
    Reason.NO_FACE: "no upright frontal face",
    Reason.SEVERAL_FACES: "two faces of comparable size at once",
    Reason.FACE_LOST: "the face is not visible throughout",
    Reason.FACE_TOO_SMALL: "the face has too few pixels",
    Reason.BLURRED: "the face is blurred",
    Reason.NO_SPEECH: "no speech",
    Reason.AUDIO_OFFSET: "the offset of sound and lips is too large to correct",
}

_CODES = {
    "video_truncated": Reason.TRUNCATED,
    "video_codec": Reason.UNKNOWN_CODEC,
    "video_too_large": Reason.TOO_LARGE,
    "video_too_many_bytes": Reason.TOO_LARGE,
    "video_too_long": Reason.TOO_LONG,
    "audio_too_long": Reason.TOO_LONG,
    "video_missing_stream": Reason.NO_PICTURES,
    "video_empty": Reason.UNREADABLE,
    "audio_missing_stream": Reason.NO_SOUND,
    "video_corrupt": Reason.DAMAGED,
    "audio_corrupt": Reason.DAMAGED,
    "audio_not_finite": Reason.DAMAGED,
    "url_unreachable": Reason.NOT_FETCHED,
}


def reason_of_error(code: str) -> Reason:
    """Return the reason for an InputError's code; unknown codes mean unreadable."""
    return _CODES.get(code, Reason.UNREADABLE)
