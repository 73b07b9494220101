"""Plots of the report: lag curves, confusion matrices, drift and seams (ours)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure as Canvas

from emotivetalk.evaluation.figures import Confusion, Drift, Lags, Seam
from emotivetalk.evaluation.metrics import MOST_DB
from emotivetalk.models.emotion import EMOTIONS

_DPI = 130
_GRAY, _BLUE, _RED = "0.6", "tab:blue", "tab:red"


def plot_lags(lags: Sequence[Lags], path: Path) -> None:
    """Plot the correlation over lags for generated and true frames, one panel per entry."""
    canvas = Canvas(figsize=(4.2 * len(lags), 3.4), layout="constrained")
    for axes, item in zip(canvas.subplots(1, len(lags), squeeze=False, sharey=True)[0], lags, strict=True):
        axes.axvline(0, color=_GRAY, linewidth=0.8)
        axes.plot(item.ceiling.lags, item.ceiling.r, color=_GRAY, label="true frames")
        axes.plot(item.curve.lags, item.curve.r, color=_BLUE, marker="o", markersize=3, label="generated")
        axes.set_title(item.title, fontsize=9)
        axes.set_xlabel("lag, frames (right: the video is late)")
        axes.set_ylim(-0.4, 1.02)
    canvas.axes[0].set_ylabel("r within clips")
    canvas.axes[0].legend(fontsize=8)
    canvas.savefig(path, dpi=_DPI)


def plot_confusions(confusions: Sequence[Confusion], path: Path) -> None:
    """Plot confusion matrices, one panel per entry; the shade is the share of the row."""
    canvas = Canvas(figsize=(4.2 * len(confusions), 4.4), layout="constrained")
    for axes, item in zip(canvas.subplots(1, len(confusions), squeeze=False)[0], confusions, strict=True):
        shares = item.counts / np.maximum(item.counts.sum(1, keepdims=True), 1)
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for row, column in zip(*np.nonzero(item.counts), strict=True):
            ink = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, str(item.counts[row, column]), ha="center", va="center", color=ink, fontsize=8)
        axes.set_xticks(range(len(EMOTIONS)), EMOTIONS, rotation=60, ha="right", fontsize=8)
        axes.set_yticks(range(len(EMOTIONS)), EMOTIONS, fontsize=8)
        axes.set_xlabel("recognized")
        axes.set_title(item.title, fontsize=9)
    canvas.axes[0].set_ylabel("target")
    canvas.savefig(path, dpi=_DPI)


def plot_drift(drift: Drift, must_hold_db: float, path: Path) -> None:
    """Plot the PSNR of each second against the first, over the still part of the picture."""
    canvas = Canvas(figsize=(6, 3), layout="constrained")
    axes = canvas.subplots()
    seconds = np.arange(1, len(drift.generated_db) + 1)
    axes.axhline(must_hold_db, color=_RED, linewidth=0.8, label=f"must hold: {must_hold_db:g} dB")
    axes.plot(seconds, drift.truth_db, color=_GRAY, label="true frames")
    axes.plot(seconds, drift.generated_db, color=_BLUE, label="generated")
    axes.set_xlabel("second of the clip")
    axes.set_ylabel("PSNR against the first, dB")
    axes.set_ylim(20, MOST_DB + 1)
    axes.legend(fontsize=8)
    canvas.savefig(path, dpi=_DPI)


def plot_seams(seams: Sequence[Seam], must_hold: float, path: Path) -> None:
    """Plot the relative change around borders, one panel per kind of border; 1 means no seam."""
    canvas = Canvas(figsize=(4.6 * len(seams), 3.2), layout="constrained")
    for axes, seam in zip(canvas.subplots(1, len(seams), squeeze=False, sharey=True)[0], seams, strict=True):
        axes.axhline(must_hold, color=_RED, linewidth=0.8, label=f"must hold: {must_hold:g}")
        axes.plot(seam.offsets, seam.truth, color=_GRAY, label="true frames")
        axes.plot(seam.offsets, seam.generated, color=_BLUE, marker="o", markersize=3, label="generated")
        axes.set_title(seam.title, fontsize=9)
        axes.set_xlabel("frames from the border")
    canvas.axes[0].set_ylabel("change over the median")
    canvas.axes[0].legend(fontsize=8)
    canvas.savefig(path, dpi=_DPI)
