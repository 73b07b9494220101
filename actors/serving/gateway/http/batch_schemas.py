"""The JSON of `/v1/files` and `/v1/batches`: OpenAI's objects."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from emotivetalk.actors.serving.jobs.batch_records import Batch, StoredFile
from emotivetalk.request.batch_line import ENDPOINT

FILE_EXAMPLE, BATCH_EXAMPLE = "file-0199c7a5b1e27c3d9d3f5a1be07c42d8", "batch_0199c7a5b1e27c3d9d3f5a1be07c42d8"


class ExpiresAfter(BaseModel):
    """When a file is removed."""

    model_config = ConfigDict(extra="forbid")

    anchor: Literal["created_at"] = "created_at"
    seconds: int


class CreateFile(BaseModel):
    """The text fields of an upload; `file` is the file."""

    model_config = ConfigDict(extra="forbid")

    purpose: str = Field(description="batch (a manifest), or user_data or vision (a portrait, speech or emotion).")
    expires_after: ExpiresAfter | None = None


class CreateCharacter(BaseModel):
    """The text fields of a character; `video` is a picture of it."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=100)


class Character(BaseModel):
    """A portrait to which videos refer as {"file_id": id}."""

    id: str = Field(examples=[FILE_EXAMPLE])
    object: Literal["character"] = "character"
    created_at: int = Field(description="Unix time, seconds.")
    expires_at: int
    name: str

    @classmethod
    def of(cls, file: StoredFile) -> Character:
        """Return the character of a stored portrait."""
        return cls(
            id=file.file_id, created_at=int(file.created_at), expires_at=int(file.expires_at), name=file.filename
        )


class FileObject(BaseModel):
    """A stored file."""

    id: str = Field(examples=[FILE_EXAMPLE])
    object: Literal["file"] = "file"
    bytes: int
    created_at: int = Field(description="Unix time, seconds.")
    expires_at: int
    filename: str
    purpose: str
    status: Literal["processed"] = "processed"
    status_details: None = None

    @classmethod
    def of(cls, file: StoredFile) -> FileObject:
        """Return the object of a stored file."""
        return cls(
            id=file.file_id,
            bytes=file.num_bytes,
            created_at=int(file.created_at),
            expires_at=int(file.expires_at),
            filename=file.filename,
            purpose=file.purpose,
        )


class FileDeleted(BaseModel):
    """The file is removed."""

    id: str
    object: Literal["file"] = "file"
    deleted: Literal[True] = True


class CreateBatch(BaseModel):
    """A batch to create. Unknown fields are refused."""

    model_config = ConfigDict(extra="forbid")

    input_file_id: str = Field(description="A manifest, uploaded with purpose=batch.", examples=[FILE_EXAMPLE])
    endpoint: str = Field(examples=[ENDPOINT])
    completion_window: str = Field(description="1h to 168h; rows without a video by then fail.", examples=["24h"])
    metadata: dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]] | None = None


class BatchError(BaseModel):
    """A reason why a whole batch failed."""

    code: str
    message: str
    line: int | None = None
    param: None = None


class BatchErrors(BaseModel):
    """The reasons why a whole batch failed."""

    object: Literal["list"] = "list"
    data: list[BatchError]


class RequestCounts(BaseModel):
    """Numbers of rows."""

    total: int
    completed: int
    failed: int


class BatchObject(BaseModel):
    """A batch of videos. Times are Unix times in seconds."""

    id: str = Field(examples=[BATCH_EXAMPLE])
    object: Literal["batch"] = "batch"
    endpoint: str
    errors: BatchErrors | None = None
    input_file_id: str
    completion_window: str
    status: Literal[
        "validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled"
    ]
    output_file_id: str | None = None
    error_file_id: str | None = None
    created_at: int
    in_progress_at: int | None = None
    expires_at: int
    finalizing_at: int | None = None
    completed_at: int | None = None
    failed_at: int | None = None
    expired_at: int | None = None
    cancelling_at: int | None = None
    cancelled_at: int | None = None
    request_counts: RequestCounts
    metadata: dict[str, str] | None = None

    @classmethod
    def of(cls, batch: Batch) -> BatchObject:
        """Return the object of a batch."""
        times = {
            name: None if value is None else int(value) for name, value in vars(batch).items() if name.endswith("_at")
        }
        counts = RequestCounts(total=batch.num_total, completed=batch.num_completed, failed=batch.num_failed)
        return cls.model_validate(
            {
                "id": batch.batch_id,
                "endpoint": batch.endpoint,
                "errors": None if batch.errors is None else {"data": batch.errors},
                "input_file_id": batch.input_file_id,
                "completion_window": batch.completion_window,
                "status": batch.status.value,
                "output_file_id": batch.output_file_id,
                "error_file_id": batch.error_file_id,
                "request_counts": counts,
                "metadata": batch.metadata,
                **times,
            }
        )


class FileList(BaseModel):
    """A page of files. The next page begins `after` its `last_id`."""

    object: Literal["list"] = "list"
    data: list[FileObject]
    first_id: str | None
    last_id: str | None
    has_more: bool


class BatchList(BaseModel):
    """A page of batches. The next page begins `after` its `last_id`."""

    object: Literal["list"] = "list"
    data: list[BatchObject]
    first_id: str | None
    last_id: str | None
    has_more: bool
