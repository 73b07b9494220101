"""The body of `POST /v1/videos`: a form with files, or JSON, streamed into a folder with a limit on bytes."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, TypeVar
from urllib.parse import unquote_to_bytes

from pydantic import BaseModel, ValidationError
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from emotivetalk.actors.serving.gateway.http.schemas import CreateVideo, MediaReference
from emotivetalk.actors.serving.gateway.settings import GatewaySettings
from emotivetalk.actors.serving.intake.submission import Caller, FileReference, Source, Submission, Upload
from emotivetalk.actors.serving.threads import in_thread
from emotivetalk.errors import InputError, InvalidRequestError
from emotivetalk.request import (
    Emotion,
    ImageEmotion,
    TextEmotion,
    VideoEmotion,
    VideoSettings,
    invalid_request,
    only_one,
)

FILES = (
    "portrait",
    "input_reference",
    "image_reference",
    "audio",
    "audio_reference",
    "emotion_image",
    "emotion_video",
)
ModelT = TypeVar("ModelT", bound=BaseModel)

MAX_PARTS = 64
MAX_NAME_LENGTH = 100
BRACKETS = re.compile(r"([^\[\]]+)((?:\[[^\[\]]*\])*)")
MAX_BRACKETS = 3


async def read_submission(request: Request, folder: Path, caller: Caller, settings: GatewaySettings) -> Submission:
    """Read a form or a JSON body that creates a video.

    Args:
        folder: folder for its files, which the caller removes.

    Raises:
        InputError: as `read_body`, or the body does not match `CreateVideo`.
        starlette.requests.ClientDisconnect: the client disconnected.
    """
    fields, uploads = await read_body(request, folder, caller, settings)
    return await in_thread(None, submission_of, parsed(CreateVideo, fields), uploads, folder)


async def read_body(
    request: Request, folder: Path, caller: Caller, settings: GatewaySettings, names: Sequence[str] = FILES
) -> tuple[dict[str, Any], dict[str, Upload]]:
    """Read a form or a JSON body into fields and files.

    Args:
        folder: folder for the files, which the caller removes.
        names: fields of a form that may be files.

    Raises:
        InputError: the body is too large, too slow or malformed.
        starlette.requests.ClientDisconnect: the client disconnected.
    """
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    max_bytes = caller.limits.max_upload_bytes
    if kind == b"application/json":
        max_bytes = min(max_bytes, settings.max_body_mb * 1_000_000)
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > max_bytes:
        raise _too_large(max_bytes)
    try:
        async with asyncio.timeout(settings.upload_timeout_s):
            if kind == b"multipart/form-data":
                form = FormReader(options.get(b"boundary", b""), folder, settings.max_body_mb * 1_000_000, names)
                return await _read_form(request, form, max_bytes)
            if kind == b"application/json":
                return await _read_json(request, max_bytes), {}
    except TimeoutError as error:
        raise InputError(
            "upload_timeout",
            f"the request did not arrive within {settings.upload_timeout_s:g} s",
            "Send smaller files, or use a faster connection.",
        ) from error
    raise InputError(
        "body_unsupported",
        f"the content type is {kind.decode('latin-1')[:100]!r}",
        "Send multipart/form-data or application/json.",
    )


def parsed(model: type[ModelT], fields: dict[str, Any]) -> ModelT:
    """Return the fields as a model.

    Raises:
        InvalidRequestError: they do not match it; the error names the first wrong field.
    """
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        raise invalid_request(error) from error


async def _read_json(request: Request, max_bytes: int) -> dict[str, Any]:
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > max_bytes:
            raise _too_large(max_bytes)
    try:
        fields = await in_thread(None, json.loads, bytes(data))
    except (ValueError, RecursionError) as error:  # includes UnicodeDecodeError
        raise InputError("body_malformed", f"the body is not JSON ({error})", "Send one JSON object.") from error
    if not isinstance(fields, dict):
        raise InputError("body_malformed", "the body is not a JSON object", "Send one JSON object.")
    return fields


async def _read_form(request: Request, form: FormReader, max_bytes: int) -> tuple[dict[str, Any], dict[str, Upload]]:
    num_bytes = 0
    try:
        async for chunk in request.stream():
            num_bytes += len(chunk)
            if num_bytes > max_bytes:
                raise _too_large(max_bytes)
            if chunk:
                await in_thread(None, form.feed, chunk)
        return form.finish()
    except FormParserError as error:
        raise InputError(
            "body_malformed", f"the form is malformed ({error})", "Write the form with an HTTP library."
        ) from error
    finally:
        form.close()


class FormReader:
    """An incremental reader of a multipart form. Files go to disk; text stays in memory, up to a limit.

    Args:
        names: fields that may be files.
    """

    def __init__(self, boundary: bytes, folder: Path, max_text_bytes: int, names: Sequence[str] = FILES) -> None:
        self._folder, self._names = folder, names
        self._max_text_bytes = max_text_bytes
        self._num_text_bytes = 0
        self._num_parts = 0
        self._texts: list[tuple[str, str]] = []
        self._uploads: dict[str, Upload] = {}
        self._header: dict[bytes, bytes] = {}
        self._header_name = self._header_value = b""
        self._name = ""
        self._text = bytearray()
        self._upload: Upload | None = None
        self._file: BinaryIO | None = None
        self._ended = False
        callbacks: dict[str, Callable[..., None]] = {
            "on_part_begin": self._begin_part,
            "on_header_field": self._add_header_name,
            "on_header_value": self._add_header_value,
            "on_header_end": self._end_header,
            "on_headers_finished": self._end_headers,
            "on_part_data": self._add_data,
            "on_part_end": self._end_part,
            "on_end": self._end,
        }
        if not boundary:
            raise InputError("body_malformed", "the form has no boundary", "Write the form with an HTTP library.")
        try:
            self._parser = MultipartParser(boundary, callbacks)  # type: ignore[arg-type]  # a TypedDict of them
        except FormParserError as error:
            raise InputError(
                "body_malformed", f"the form is malformed ({error})", "Write the form with an HTTP library."
            ) from error

    def feed(self, data: bytes) -> None:
        """Process the next bytes."""
        self._parser.write(data)

    def finish(self) -> tuple[dict[str, Any], dict[str, Upload]]:
        """Return fields and files by name; bracketed names (`emotion[kind]`) become objects."""
        self._parser.finalize()
        if not self._ended:
            raise InputError("body_malformed", "the form is incomplete", "Send the whole form.")
        return nested(self._texts), self._uploads

    def close(self) -> None:
        """Close the open file, if any."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _begin_part(self) -> None:
        self._num_parts += 1
        if self._num_parts > MAX_PARTS:
            raise InputError("body_malformed", f"the form has more than {MAX_PARTS} parts", "Send fewer parts.")
        self._header = {}
        self._text = bytearray()
        self._upload = None

    def _add_header_name(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _add_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _end_header(self) -> None:
        self._header[self._header_name.lower()] = self._header_value
        self._header_name = self._header_value = b""

    def _end_headers(self) -> None:
        disposition, options = parse_options_header(self._header.get(b"content-disposition", b""))
        if disposition != b"form-data" or not options.get(b"name"):
            raise InputError("body_malformed", "a part of the form has no name", "Write the form with an HTTP library.")
        self._name = _decoded(options[b"name"])
        if b"filename" not in options:
            return
        if self._name not in self._names:
            raise InvalidRequestError(self._name[:100], f"it may not be a file; files are {', '.join(self._names)}")
        if self._name in self._uploads:
            raise InvalidRequestError(self._name, "it is given twice", "Send one file.")
        client_name = _decoded(options[b"filename"]).replace("\\", "/").rsplit("/", 1)[-1][-MAX_NAME_LENGTH:]
        self._upload = Upload(client_name or self._name, self._folder / f"upload-{self._name}")
        self._file = self._upload.path.open("xb")

    def _add_data(self, data: bytes, start: int, end: int) -> None:
        if self._file is not None:
            self._file.write(memoryview(data)[start:end])
            return
        self._num_text_bytes += end - start
        if self._num_text_bytes > self._max_text_bytes:
            raise InputError(
                "upload_too_large",
                f"the form's text fields have more than {self._max_text_bytes / 1e6:g} MB",
                "Send files as files.",
            )
        self._text += data[start:end]

    def _end_part(self) -> None:
        if self._upload is not None:
            self.close()
            self._uploads[self._name] = self._upload
        else:
            self._texts.append((self._name, _decoded(bytes(self._text))))

    def _end(self) -> None:
        self._ended = True


def nested(texts: list[tuple[str, str]]) -> dict[str, Any]:
    """Return form fields as JSON would have them: `emotion[kind]=label` is {"emotion": {"kind": "label"}}.

    Raises:
        InvalidRequestError: a field is given twice, or its brackets are malformed.
    """
    fields: dict[str, Any] = {}
    for name, text in texts:
        match = BRACKETS.fullmatch(name)
        keys = re.findall(r"\[([^\[\]]*)\]", match[2]) if match else []
        if match is None or len(keys) > MAX_BRACKETS or "" in keys:
            raise InvalidRequestError(name[:100], "the brackets in its name are malformed", "Send the object as JSON.")
        target = fields
        path = [match[1], *keys]
        for key in path[:-1]:
            target = target.setdefault(key, {})
            if not isinstance(target, dict):
                raise InvalidRequestError(name[:100], "it is given as a text and as an object", "Send one of them.")
        if path[-1] in target:
            raise InvalidRequestError(name[:100], "it is given twice", "Send it once.")
        # In a form, an empty text stands for null.
        target[path[-1]] = text if text or path == ["prompt"] else None
    return fields


def submission_of(body: CreateVideo, uploads: dict[str, Upload], folder: Path) -> Submission:
    """Make the submission: resolve aliases, and write data URLs to files.

    Raises:
        InputError: a source is missing, given twice, or cannot be decoded.
    """

    def source(*names: str) -> Source | None:
        given: dict[str, Source | MediaReference] = {name: uploads[name] for name in names if name in uploads}
        for name in names:
            reference = getattr(body, name)
            if reference is not None:
                if name in given:
                    raise InvalidRequestError(name, "it is given as a file and as a URL", "Send one of them.")
                given[name] = reference
        if len(given) > 1:
            raise InvalidRequestError(names[0], f"it is given as {' and as '.join(given)}", "Send one of them.")
        if not given:
            return None
        name, found = given.popitem()
        if not isinstance(found, MediaReference):
            return found
        if found.file_id is not None:
            return FileReference(found.file_id)
        return _located(found.location(), name, folder)

    portrait = source("portrait", "input_reference", "image_reference")
    audio = source("audio", "audio_reference")
    if portrait is None:
        raise InvalidRequestError("portrait", "it is missing", "Send a picture with a face as portrait.")
    if audio is None:
        raise InvalidRequestError("audio", "it is missing", "Send the speech as audio.")
    image, video = source("emotion_image"), source("emotion_video")
    return Submission(
        portrait=portrait,
        audio=audio,
        emotion=_emotion_of(body, image is not None, video is not None),
        emotion_source=image if image is not None else video,
        settings=VideoSettings.of(body),
        webhook_url=body.webhook_url,
        model=body.model,
        size=body.size,
        seconds=body.seconds,
    )


def _emotion_of(body: CreateVideo, has_image: bool, has_video: bool) -> Emotion | None:
    has_prompt = body.prompt is not None and bool(body.prompt.strip())
    by_file = isinstance(body.emotion, ImageEmotion | VideoEmotion)  # it needs a file beside it
    ways = {
        "prompt": has_prompt,
        "emotion": body.emotion is not None and not by_file,
        "emotion_image": has_image or isinstance(body.emotion, ImageEmotion),
        "emotion_video": has_video or isinstance(body.emotion, VideoEmotion),
    }
    only_one(way for way, is_given in ways.items() if is_given)
    if has_prompt:
        assert body.prompt is not None
        return TextEmotion(text=body.prompt)
    if has_image:
        return ImageEmotion()
    return VideoEmotion() if has_video else body.emotion


def _located(url: str, name: str, folder: Path) -> Source:
    """Return the URL, or the upload of a data URL's content."""
    if url[:5].lower() != "data:":
        return url
    head, comma, data = url.partition(",")
    try:
        is_base64 = head.lower().endswith(";base64")
        content = base64.b64decode(data, validate=True) if is_base64 else unquote_to_bytes(data)
    except (binascii.Error, ValueError) as error:
        raise InvalidRequestError(name, "the data URL cannot be decoded", "Encode the file with base64.") from error
    if not comma or not content:
        raise InvalidRequestError(name, "the data URL is empty", "Encode the file with base64.")
    path = folder / f"data-{name}"
    path.write_bytes(content)
    return Upload(name, path)


def _decoded(text: bytes) -> str:
    return text.decode("utf-8", "replace")


def _too_large(max_bytes: int) -> InputError:
    return InputError(
        "upload_too_large",
        f"the request has more than {max_bytes / 1e6:g} MB, which is the limit",
        "Send smaller files.",
    )
