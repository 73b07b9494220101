"""The routes of files and batches: OpenAI's `/v1/files` and `/v1/batches`."""

from __future__ import annotations

from pathlib import Path as LocalPath
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import StreamingResponse

from emotivetalk.actors.serving.gateway.http import openapi
from emotivetalk.actors.serving.gateway.http.access import CountedCaller, ServiceDependency
from emotivetalk.actors.serving.gateway.http.batch_schemas import (
    BATCH_EXAMPLE,
    FILE_EXAMPLE,
    BatchList,
    BatchObject,
    CreateBatch,
    CreateFile,
    FileDeleted,
    FileList,
    FileObject,
)
from emotivetalk.actors.serving.gateway.http.schemas import CreateVideo, Video
from emotivetalk.actors.serving.gateway.http.uploads import parsed, read_body, submission_of
from emotivetalk.actors.serving.intake.submission import Submission
from emotivetalk.actors.serving.jobs.records import Job
from emotivetalk.errors import InvalidRequestError

FileId = Annotated[str, Path(description="The file's id.", examples=[FILE_EXAMPLE])]
BatchId = Annotated[str, Path(description="The batch's id.", examples=[BATCH_EXAMPLE])]
After = Annotated[str | None, Query(description="The last id of the page before.")]
Order = Annotated[Literal["asc", "desc"], Query(description="By time of creation.")]

files = APIRouter(prefix="/v1/files", tags=["files"])
batches = APIRouter(prefix="/v1/batches", tags=["batches"])


class HttpFront:
    """Reads the bodies of `POST /v1/videos` and writes its answers; the `Front` of `BatchRunner`.

    Args:
        model: name of the served model.
    """

    def __init__(self, model: str) -> None:
        self._model = model

    def check_body(self, body: dict[str, Any]) -> CreateVideo:
        """Return the body.

        Raises:
            InvalidRequestError: it does not match `CreateVideo`, or it has no portrait or audio.
        """
        checked = parsed(CreateVideo, body)
        for names in (("portrait", "input_reference", "image_reference"), ("audio", "audio_reference")):
            if all(getattr(checked, name) is None for name in names):
                raise InvalidRequestError(
                    names[0], "it is missing", "Give a URL, an uploaded file's id, or a data URL."
                )
        return checked

    def submission(self, body: dict[str, Any], folder: LocalPath) -> Submission:
        """Return the body as a submission, with inline files written to the folder."""
        return submission_of(self.check_body(body), {}, folder)

    def describe(self, job: Job) -> dict[str, Any]:
        """Return the JSON of a video."""
        return Video.of(job, self._model).model_dump(mode="json")


@files.post(
    "", response_model=FileObject, responses=openapi.errors(408, 413, 415, 507), openapi_extra=openapi.file_body()
)
async def create_file(request: Request, service: ServiceDependency, caller: CountedCaller) -> FileObject:
    """Upload a manifest, or a file that videos will refer to by its id."""
    async with service.upload_folder() as folder:
        fields, uploads = await read_body(request, folder, caller, service.settings, names=("file",))
        body = parsed(CreateFile, fields)
        if "file" not in uploads:
            raise InvalidRequestError("file", "it is missing", "Send multipart/form-data with a file.")
        seconds = None if body.expires_after is None else body.expires_after.seconds
        stored = await service.batches.create_file(caller, uploads["file"], body.purpose, expires_after_s=seconds)
    return FileObject.of(stored)


@files.get("", response_model=FileList, responses=openapi.errors())
async def list_files(
    service: ServiceDependency,
    caller: CountedCaller,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 10_000,
    after: After = None,
    order: Order = "desc",
    purpose: Annotated[str | None, Query(description="Only files with this purpose.")] = None,
) -> FileList:
    """List your files by time of creation."""
    page = await service.batches.list_files(caller, limit=limit, after=after, order=order, purpose=purpose)
    data = [FileObject.of(file) for file in page.items]
    return FileList(
        data=data, first_id=data[0].id if data else None, last_id=data[-1].id if data else None, has_more=page.has_more
    )


@files.get("/{file_id}", response_model=FileObject, responses=openapi.errors(404))
async def get_file(service: ServiceDependency, caller: CountedCaller, file_id: FileId) -> FileObject:
    """Get a file's record."""
    return FileObject.of(await service.batches.file(caller, file_id))


@files.delete("/{file_id}", response_model=FileDeleted, responses=openapi.errors(404))
async def delete_file(service: ServiceDependency, caller: CountedCaller, file_id: FileId) -> FileDeleted:
    """Remove a file. Videos that were made of it stay."""
    await service.batches.delete_file(caller, file_id)
    return FileDeleted(id=file_id)


@files.get(
    "/{file_id}/content",
    response_class=Response,
    responses={200: {"description": "The file.", "content": {"application/octet-stream": {}}}} | openapi.errors(404),
)
async def get_file_content(service: ServiceDependency, caller: CountedCaller, file_id: FileId) -> Response:
    """Download a file: a batch's results are JSON lines."""
    file = await service.batches.file(caller, file_id)
    headers = {"content-length": str(file.num_bytes), "content-disposition": "attachment", "cache-control": "private"}
    return StreamingResponse(service.batches.read_file(file), 200, headers, media_type="application/octet-stream")


@batches.post("", response_model=BatchObject, responses=openapi.errors(404))
async def create_batch(body: CreateBatch, service: ServiceDependency, caller: CountedCaller) -> BatchObject:
    """Create a batch of an uploaded manifest, a line of JSON per video."""
    batch = await service.batches.create(
        caller,
        body.input_file_id,
        endpoint=body.endpoint,
        completion_window=body.completion_window,
        metadata=body.metadata,
    )
    return BatchObject.of(batch)


@batches.get("", response_model=BatchList, responses=openapi.errors())
async def list_batches(
    service: ServiceDependency,
    caller: CountedCaller,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    after: After = None,
) -> BatchList:
    """List your batches, newest first."""
    page = await service.batches.list(caller, limit=limit, after=after)
    data = [BatchObject.of(batch) for batch in page.items]
    return BatchList(
        data=data, first_id=data[0].id if data else None, last_id=data[-1].id if data else None, has_more=page.has_more
    )


@batches.get("/{batch_id}", response_model=BatchObject, responses=openapi.errors(404))
async def get_batch(service: ServiceDependency, caller: CountedCaller, batch_id: BatchId) -> BatchObject:
    """Get a batch's status and counts."""
    return BatchObject.of(await service.batches.get(caller, batch_id))


@batches.post("/{batch_id}/cancel", response_model=BatchObject, responses=openapi.errors(404))
async def cancel_batch(service: ServiceDependency, caller: CountedCaller, batch_id: BatchId) -> BatchObject:
    """Cancel a batch. Finished videos stay; one that has ended does not change."""
    return BatchObject.of(await service.batches.cancel(caller, batch_id))
