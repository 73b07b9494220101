"""Foreground is separated from background, the same way every time."""

import numpy as np

from emotivetalk.media.segmentation import GrabCutLabel, connected_component, grab_cut, open_and_close


def test_grab_cut_finds_the_disc_and_leaves_the_labels():
    y, x = np.mgrid[:48, :48]
    disc = np.hypot(x - 24, y - 24) < 14
    noise = np.random.default_rng(0).integers(0, 20, (48, 48, 3))
    image = (np.where(disc[..., None], (200, 120, 90), (40, 60, 120)) + noise).astype(np.uint8)
    labels = np.full((48, 48), GrabCutLabel.PROBABLE_BACKGROUND, np.uint8)
    labels[20:28, 20:28] = GrabCutLabel.FOREGROUND
    labels[:3] = GrabCutLabel.BACKGROUND
    before = labels.copy()
    mask = grab_cut(image, labels, 3)
    assert (mask == disc).mean() > 0.98
    assert np.array_equal(labels, before)
    assert np.array_equal(grab_cut(image, labels, 3), mask)


def test_specks_and_holes_are_removed_and_one_component_is_kept():
    mask = np.zeros((40, 40), bool)
    mask[5:15, 5:15] = mask[25:35, 25:35] = True
    mask[10, 10], mask[20, 3] = False, True
    cleaned = open_and_close(mask, opening_px=3, closing_px=5)
    assert cleaned[10, 10] and not cleaned[20, 3]
    first = connected_component(cleaned, 8, 8)
    assert first[10, 10] and not first[30, 30]
    assert np.array_equal(connected_component(cleaned, 0, 0), ~cleaned)
