"""docs/operations.md names metrics, settings and files that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from emotivetalk.actors.serving.config import DirectorSettings, WaitingVideoSettings
from emotivetalk.actors.serving.gateway.settings import GatewaySettings

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
OBSERVING = ROOT / "actors" / "serving" / "observing"


def test_its_metrics_are_exported():
    sources = "".join((OBSERVING / name).read_text() for name in ("meters.py", "job_metrics.py"))
    names = set(re.findall(r"`(?:rate\()?(?:ray_)?(emotivetalk_\w+?)(?:_total)?[`{\[]", TEXT))
    assert len(names) >= 6
    assert [name for name in names if f'"{name}"' not in sources] == []


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("waiting_s_per_replica", WaitingVideoSettings),
        ("ethd_in_flight", DirectorSettings),
        ("calls_in_flight", DirectorSettings),
        ("slots", DirectorSettings),
        ("max_queued", GatewaySettings),
        ("limits", GatewaySettings),
    ],
)
def test_its_settings_exist(name: str, settings: type):
    assert f"{name}`" in TEXT and name in settings.model_fields


def test_its_links_lead_to_files():
    for path in re.findall(r"`((?:docs|deploy|serve_configs)/[\w./]+)`", TEXT):
        assert (ROOT / path).exists(), path
