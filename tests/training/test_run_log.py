import json
from pathlib import Path

import numpy as np

from emotivetalk.training.run.log import RunLog, StepRecord, ValidationRecord, smoothed


def record(step: int, loss: float) -> StepRecord:
    return StepRecord(step, loss, {"part": loss}, 1e-3, 1.0, 0.1, 0.2, 40.0)


def steps(log: RunLog) -> list[int]:
    return [json.loads(line)["step"] for line in log.steps_file.read_text(encoding="utf-8").splitlines()]


def test_lines_after_the_resumed_step_and_incomplete_lines_are_dropped(tmp_path: Path) -> None:
    log = RunLog(tmp_path, 0)
    for step in range(5):
        log.step(record(step, 1.0))
        log.validation(ValidationRecord(step + 1, {"error": 1.0}))
    with log.steps_file.open("a", encoding="utf-8") as stream:
        stream.write('{"step": 5, "lo')
    resumed = RunLog(tmp_path, 3)
    assert steps(resumed) == [0, 1, 2]
    resumed.step(record(3, 1.0))
    assert steps(resumed) == [0, 1, 2, 3]
    assert len(resumed.validation_file.read_text(encoding="utf-8").splitlines()) == 3
    assert steps(RunLog(tmp_path, 0)) == []


def test_negative_losses_are_drawn_too(tmp_path: Path) -> None:
    log = RunLog(tmp_path, 0)
    log.plot()
    assert not log.plot_file.exists()
    for step in range(3):
        log.step(record(step, 1.0 - step))
    log.plot()
    assert log.plot_file.exists()


def test_smoothing_is_a_centred_mean() -> None:
    values = np.array([0.0, 3.0, 6.0, 0.0])
    np.testing.assert_allclose(smoothed(values, 3), [1.5, 3.0, 3.0, 3.0])
    np.testing.assert_allclose(smoothed(values, 1), values)
