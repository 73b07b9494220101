"""Serving errors keep all their fields when pickled."""

import pickle

import pytest

from emotivetalk.actors import errors
from emotivetalk.errors import EmotiveTalkError, InputError

EXAMPLES = [
    errors.JobNotFoundError("video_1"),
    errors.JobStateError("video_1", "completed", "video video_1 is completed", "Send a new request."),
    errors.FencedError("video_1", "it is cancelled"),
    errors.IdempotencyConflictError("key", "video_1"),
    errors.QueueFullError(10, 2.5),
    errors.TooManyJobsError(3, 10),
    errors.TooManyBatchesError(3),
    errors.RateLimitedError(60, 1 / 3),
    errors.FileNotFoundInStoreError("file-1"),
    errors.BatchNotFoundError("batch_1"),
    errors.UnauthorizedError(),
    errors.VideoNotReadyError("video_1", "in_progress", 42),
    errors.VideoFailedError("video_1", "render_failed", "out of memory"),
    errors.VideoCancelledError("video_1"),
    errors.JobStoreError("job_store_unavailable", "no answer", "Start it."),
    errors.ArtifactStoreError("artifacts_no_space", "full", "Free space."),
    errors.ArtifactNotFoundError("jobs/video_1/video.mp4"),
]


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: error.code)
def test_a_pickled_error_is_equal(error: errors.ServingError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert (str(again), vars(again), again.args) == (str(error), vars(error), error.args)


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: error.code)
def test_an_error_has_a_message_and_a_remedy(error: errors.ServingError) -> None:
    assert isinstance(error, EmotiveTalkError)
    assert not error.message.endswith(".") and error.remedy.endswith(".")


def test_every_error_has_an_example() -> None:
    kinds = {kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, EmotiveTalkError)}
    assert kinds - {EmotiveTalkError, InputError, errors.ServingError, errors.OverloadError} == {
        type(error) for error in EXAMPLES
    }
