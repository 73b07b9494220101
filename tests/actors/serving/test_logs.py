"""Every log line of every deployment has its video's id, as text and as JSON, under concurrency."""

from __future__ import annotations

import asyncio
import contextvars
import io
import json
import logging
import logging.handlers
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray._common.formatters import JSONFormatter
from ray.serve._private.logging_utils import ServeFormatter, ServeLogAttributeRemovalFilter

from emotivetalk.actors.serving.jobs.store import JobStatus
from emotivetalk.actors.serving.observing import logs
from emotivetalk.actors.serving.observing.logs import log_with_serve
from tests.actors.serving.rendering import RenderingService, record_spans

log = logging.getLogger("emotivetalk.actors.serving.test")


class LogFile:
    """Serve's log file in memory, with handlers as Serve sets them up in a replica."""

    def __init__(self, formatter: logging.Formatter) -> None:
        self.stream = io.StringIO()
        file = logging.StreamHandler(self.stream)
        file.setFormatter(formatter)
        self.handler = logging.handlers.MemoryHandler(1, logging.ERROR, file)
        self.handler.addFilter(ServeLogAttributeRemovalFilter())

    @property
    def lines(self) -> list[str]:
        return self.stream.getvalue().splitlines()

    @property
    def fields(self) -> list[dict]:
        return [json.loads(line) for line in self.lines]


@pytest.fixture
def loggers() -> Iterator[logging.Logger]:
    """Serve's logger. This logger and ours are restored after the test."""
    serves, ours = logging.getLogger("ray.serve"), logging.getLogger("emotivetalk")
    kept = [(one, one.handlers, one.level, one.propagate) for one in (serves, ours)]
    serves.setLevel(logging.DEBUG)
    yield serves
    for one, handlers, level, propagate in kept:
        one.handlers, one.propagate = handlers, propagate
        one.setLevel(level)


@pytest.fixture
def as_json(loggers: logging.Logger) -> LogFile:
    log_file = LogFile(JSONFormatter())
    loggers.handlers = [log_file.handler]
    log_with_serve()
    return log_file


def test_a_json_line_has_the_video_id_of_its_task(as_json: LogFile) -> None:
    async def work(video_id: str) -> None:
        logs.about(video_id)
        await asyncio.sleep(0)
        log.info("half %d", 1)
        await asyncio.to_thread(log.info, "in a thread")

    async def both() -> None:
        await asyncio.gather(work("video_a"), work("video_b"))
        log.info("neither")

    asyncio.run(both())
    logged = [(line["message"], line.get("video_id")) for line in as_json.fields]
    assert sorted(logged, key=str) == [
        ("half 1", "video_a"),
        ("half 1", "video_b"),
        ("in a thread", "video_a"),
        ("in a thread", "video_b"),
        ("neither", None),
    ]


def test_a_text_line_has_the_video_id(loggers: logging.Logger) -> None:
    text, fields = LogFile(ServeFormatter("ETHD", "abc")), LogFile(JSONFormatter())
    loggers.handlers = [text.handler, fields.handler]
    log_with_serve()
    log.info("100 %% of %s", "it", extra={"video_id": "video_a"})
    assert text.lines[0].startswith("INFO") and text.lines[0].endswith(" [video_a] 100 % of it")
    assert (fields.fields[0]["message"], fields.fields[0]["video_id"]) == ("100 % of it", "video_a")


def test_the_level_of_serves_logger_applies(loggers: logging.Logger) -> None:
    log_file = LogFile(JSONFormatter())
    loggers.handlers = [log_file.handler]
    loggers.setLevel(logging.WARNING)
    log_with_serve()
    log.info("no")
    log.warning("yes")
    assert [line["message"] for line in log_file.fields] == ["yes"]


def test_the_lines_of_every_deployment_have_the_video_id(
    tmp_path: Path, as_json: LogFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Director, V-AID, ETHD and decoder. While a trace is recorded, the lines have its id too."""
    service, spans = RenderingService(tmp_path, monkeypatch), record_spans(monkeypatch)
    job = contextvars.Context().run(lambda: service.render(service.add()))
    service.jobs.close()
    assert job.status is JobStatus.COMPLETED
    files = {line["filename"] for line in as_json.fields}
    assert {"director.py", "vaid.py", "ethd.py", "decoder.py"} <= files
    assert {line.get("video_id") for line in as_json.fields} == {job.job_id}
    (render,) = spans.named("render")
    started = next(line for line in as_json.fields if line["message"].startswith("job started"))
    assert started["trace_id"] == f"{render.context.trace_id:032x}"


def test_fetched_urls_are_not_logged() -> None:
    import emotivetalk.actors.serving.intake.fetch as fetching

    assert fetching is not None and not logging.getLogger("httpx").isEnabledFor(logging.INFO)
