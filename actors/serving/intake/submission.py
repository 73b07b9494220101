"""A submission: the request for one video as an HTTP or gRPC adapter read it, and the checks that need none of its files."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from emotivetalk.actors.serving.gateway.settings import CallerLimits, GatewaySettings
from emotivetalk.actors.serving.intake.fetch import check_address, numeric_address
from emotivetalk.errors import InputError, InvalidRequestError
from emotivetalk.request import Emotion, ImageEmotion, VideoEmotion, VideoSettings

SIZE = re.compile(r"[1-9][0-9]{0,4}x[1-9][0-9]{0,4}")
IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{1,255}")


@dataclass(frozen=True)
class Caller:
    """The caller: name of its token ("" if anonymous) and its limits."""

    name: str
    limits: CallerLimits


@dataclass(frozen=True)
class Upload:
    """A file on local disk and its name at the client. The HTTP or gRPC adapter removes it after `create`."""

    name: str
    path: Path


@dataclass(frozen=True)
class FileReference:
    """A file that the caller uploaded before, by its id."""

    file_id: str


Source = Upload | FileReference | str  # a string is an http(s) URL


@dataclass(frozen=True)
class Submission:
    """One video to make, not yet checked against its files.

    Attributes:
        emotion: None keeps the portrait's own expression; an image or video has its file in `emotion_source`.
        emotion_source: file of an emotion by image or video; None for all others.
        model, seconds: the client's expectations, which are checked and have no other effect (length of the speech, to
            the second).
        size: the client's wish, such as "1280x720". The model has one size, which is the nearest.
    """

    portrait: Source
    audio: Source
    emotion: Emotion | None = None
    emotion_source: Source | None = None
    settings: VideoSettings = field(default_factory=VideoSettings)
    webhook_url: str | None = None
    model: str | None = None
    size: str | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class ServedModel:
    """The model that renders: public name, checkpoint's id (name and hash) and side of its square pictures, pixels."""

    name: str
    checkpoint: str
    image_size: int


def check_submission(submission: Submission, key: str | None, settings: GatewaySettings, model: ServedModel) -> None:
    """Check everything that needs none of the files.

    Raises:
        InputError: the emotion does not match its source, or a field is invalid or not supported here.
    """
    if key is not None and not IDEMPOTENCY_KEY.fullmatch(key):
        raise InputError(
            "idempotency_key_invalid",
            "the Idempotency-Key is not 1 to 255 printable ASCII characters without spaces",
            "Send a UUID, for example.",
        )
    emotion = submission.emotion
    if isinstance(emotion, ImageEmotion | VideoEmotion) and submission.emotion_source is None:
        raise InputError(
            "emotion_missing", f"the {emotion.kind} of the emotion is missing", f"Send it as emotion_{emotion.kind}."
        )
    if submission.model not in (None, model.name, model.checkpoint, *settings.model_aliases):
        raise InputError(
            "model_not_found", f"there is no model {submission.model!r} here", f"Use {model.name!r}, or leave it out."
        )
    if submission.size is not None and not SIZE.fullmatch(submission.size):
        size = f"{model.image_size}x{model.image_size}"
        raise InputError("size_invalid", f"size is {submission.size[:50]!r}", f"Write pixels, such as {size}.")
    sources = (submission.portrait, submission.audio, submission.emotion_source)
    if not settings.allow_url_inputs and any(isinstance(source, str) for source in sources):
        raise InputError("urls_disabled", "this service takes no inputs by URL", "Upload the files.")
    if submission.webhook_url is not None:
        if settings.secret() is None:
            raise InputError(
                "webhooks_disabled", "this service sends no webhooks", "Poll the video, or read its events."
            )
        _check_webhook_url(submission.webhook_url, settings)


def _check_webhook_url(url: str, settings: GatewaySettings) -> None:
    """Check the URL itself. The addresses of its host are checked at each delivery."""
    try:
        parsed = urlsplit(url)
        is_valid = parsed.scheme in ("http", "https") and bool(parsed.hostname) and parsed.port != 0
    except ValueError:  # the port is not a number, or the brackets of an IPv6 address do not match
        is_valid = False
    if not is_valid or not url.isascii() or not url.isprintable() or " " in url or "@" in parsed.netloc:
        raise InvalidRequestError("webhook_url", "it is not an http(s) URL without credentials")
    host = parsed.hostname or ""
    if settings.allow_private_urls:
        return
    if host == "localhost" or host.endswith(".localhost"):
        raise InputError("url_private", "webhook_url leads to this machine", "Give a public URL.")
    address = numeric_address(host)
    if address is not None:
        check_address(address, url)
