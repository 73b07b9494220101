"""`emotivetalk jobs`: inspect, cancel and retry jobs. It uses the job store directly, so no service has to run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from emotivetalk.output import say

if TYPE_CHECKING:
    from collections.abc import Iterator

    from emotivetalk.actors.serving.jobs.store import Job, JobStore, Segment

jobs = typer.Typer(
    name="jobs",
    help="Inspect, cancel and retry the jobs of a service.\n\n\b\nExample:\n  emotivetalk jobs list --status failed",
    no_args_is_help=True,
    rich_markup_mode=None,
)

StoreOption = Annotated[
    str,
    typer.Option(
        "--store",
        metavar="URL",
        envvar="EMOTIVETALK_JOBS",
        help="URL of the job store, such as sqlite:////var/lib/emotivetalk/jobs.db or postgresql://user@host/emotivetalk.",
    ),
]
JobsArgument = Annotated[list[str], typer.Argument(metavar="ID", help="The videos, such as video_0198c7a2....")]
JsonOption = Annotated[bool, typer.Option("--json", help="Write JSON.")]


@jobs.command("list")
def list_jobs(
    store: StoreOption,
    status: Annotated[
        str | None,
        typer.Option(
            metavar="STATUS",
            help="List only jobs with this status: queued, in_progress, completed, failed or cancelled.",
        ),
    ] = None,
    owner: Annotated[str | None, typer.Option(metavar="NAME", help="List only jobs of this token.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Maximum number of jobs.")] = 20,
    after: Annotated[
        str | None, typer.Option(metavar="ID", help="Start after this job, the last one of the previous page.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List jobs, newest first.

    \b
    Example:
      emotivetalk jobs list --store sqlite:////var/lib/emotivetalk/jobs.db --status in_progress
    """
    from emotivetalk.actors.serving.jobs.store import JobStatus
    from emotivetalk.errors import InputError

    if status is not None and status not in set(JobStatus):
        raise InputError(
            "status_unknown",
            f"there is no status {status!r}",
            f"Choose one of {', '.join(one.value for one in JobStatus)}.",
        )
    with _opened(store) as opened:
        page = opened.list(owner, limit=limit, after=after, status=None if status is None else JobStatus(status))
    if as_json:
        _write_json({"jobs": [_job_as_json(job) for job in page.jobs], "has_more": page.has_more})
        return
    _write_table(
        ("id", "status", "done", "frames", "age", "attempt", "owner", "error"),
        [
            (
                job.job_id,
                job.status.value,
                f"{job.progress} %",
                str(job.num_frames),
                _age(job.created_at),
                str(job.attempt),
                job.owner or "-",
                job.error.code if job.error else "",
            )
            for job in page.jobs
        ],
    )
    if page.has_more:
        say(f"More jobs follow: --after {page.jobs[-1].job_id}", is_result=True)


@jobs.command("show")
def show_job(
    job_id: Annotated[str, typer.Argument(metavar="ID", help="The video, such as video_0198c7a2....")],
    store: StoreOption,
    as_json: JsonOption = False,
) -> None:
    """Show one job and its finished segments.

    \b
    Example:
      emotivetalk jobs show video_0198c7a2b41e7d0c8f3a5b6c7d8e9f01
    """
    with _opened(store) as opened:
        job = opened.get(job_id)
        segments = opened.segments(job_id)
    if as_json:
        _write_json({**_job_as_json(job), "segments": [_segment_as_json(segment) for segment in segments]})
        return
    for name, value in _facts(job):
        say(f"{name:<12} {value}", is_result=True)
    if segments:
        say(is_result=True)
        _write_table(
            ("segment", "frames", "MB", "published", "seconds by step"),
            [
                (
                    str(segment.index),
                    f"{segment.start_frame} to {segment.start_frame + segment.num_frames - 1}",
                    f"{segment.num_bytes / 1e6:.2f}",
                    _time(segment.published_at),
                    ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in segment.timings.items()),
                )
                for segment in segments
            ],
        )


@jobs.command("cancel")
def cancel_jobs(job_ids: JobsArgument, store: StoreOption, as_json: JsonOption = False) -> None:
    """Cancel jobs. Jobs that have ended do not change.

    \b
    Example:
      emotivetalk jobs cancel video_0198c7a2b41e7d0c8f3a5b6c7d8e9f01
    """
    with _opened(store) as opened:
        _write_statuses((opened.cancel(job_id) for job_id in job_ids), as_json)


@jobs.command("retry")
def retry_jobs(job_ids: JobsArgument, store: StoreOption, as_json: JsonOption = False) -> None:
    """Queue failed or cancelled jobs again. Finished segments are kept.

    \b
    Example:
      emotivetalk jobs retry video_0198c7a2b41e7d0c8f3a5b6c7d8e9f01
    """
    with _opened(store) as opened:
        _write_statuses((opened.retry(job_id) for job_id in job_ids), as_json)


def _opened(url: str) -> Any:
    from contextlib import closing

    from emotivetalk.actors.serving.jobs.store import JobStore

    store: JobStore = JobStore(url, create=False)  # a mistyped URL must not create an empty store
    return closing(store)


def _write_statuses(changed: Iterator[Job], as_json: bool) -> None:
    for job in changed:  # write each at once, in case the next one fails
        if as_json:
            _write_json(_job_as_json(job), indent=None, is_result=False)
        else:
            say(f"{job.job_id} {job.status.value}")


def _write_json(value: object, indent: int | None = 2, is_result: bool = True) -> None:
    import json

    say(json.dumps(value, indent=indent), is_result=is_result)


def _write_table(columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for column in table.columns:
        column.no_wrap = True
    for row in rows:
        table.add_row(*(_printable(cell) for cell in row))
    console = Console(markup=False, highlight=False)
    if not console.is_terminal:
        console.width = 240  # do not cut lines in a pipe
    with console.capture() as captured:
        console.print(table)
    say(captured.get().removesuffix("\n"), is_result=True)


def _job_as_json(job: Job) -> dict[str, Any]:
    from dataclasses import asdict

    return {**asdict(job), "progress": job.progress}


def _segment_as_json(segment: Segment) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(segment)


def _facts(job: Job) -> Iterator[tuple[str, str]]:
    import json

    yield "id", job.job_id
    yield "status", f"{job.status.value}, {job.progress} %"
    if job.error is not None:
        yield "error", _printable(f"{job.error.code}: {job.error.message}")
    yield "owner", _printable(job.owner or "-")
    yield "video", f"{job.num_frames} frames of {job.width} x {job.height}"
    yield "segments", f"{job.next_segment} of {'?' if job.num_segments is None else job.num_segments}"
    yield "attempt", f"{job.attempt} (fence {job.fence}, at most {job.max_attempts} without a segment)"
    for name in ("created_at", "started_at", "completed_at", "expires_at"):
        yield name.removesuffix("_at"), _time(getattr(job, name))
    yield "result", job.result or "-"
    yield "fingerprint", job.fingerprint
    yield "request", json.dumps(job.request)


def _printable(text: str) -> str:
    """Replace control characters in text from clients and exceptions: they would move the terminal's cursor."""
    return "".join(character if character.isprintable() else "?" for character in text)


def _time(at: float | None) -> str:
    from datetime import datetime

    return "-" if at is None else datetime.fromtimestamp(at).astimezone().isoformat(" ", "seconds")


def _age(since: float) -> str:
    import time

    return _duration(max(0.0, time.time() - since))


def _duration(seconds: float) -> str:
    """Format as 4.5 s, 12.0 min, 3.4 h or 6.0 d."""
    for limit, size, unit in ((60, 1, "s"), (3600, 60, "min"), (86400, 3600, "h")):
        if seconds < limit:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds / 86400:.1f} d"
