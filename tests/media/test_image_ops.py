"""Image operations keep their conventions: coordinates, borders and indices."""

import numpy as np
import pytest

from emotivetalk.media.image_ops import (
    erode,
    fill_polygon,
    gaussian_blur,
    guided_filter,
    rasterize_triangles,
    remap,
    resize,
    warp_affine,
)

IMAGE = np.random.default_rng(0).random((24, 32, 3)).astype(np.float32)


def test_blur_keeps_constants_and_the_border_modes_differ():
    assert gaussian_blur(np.full_like(IMAGE, 0.5), 3) == pytest.approx(0.5, abs=1e-5)
    assert not np.array_equal(gaussian_blur(IMAGE, 2)[0], gaussian_blur(IMAGE, 2, border="reflect")[0])


def test_resize_takes_width_before_height():
    assert resize(IMAGE, 16, 8).shape == (8, 16, 3)
    blocks = IMAGE.reshape(12, 2, 16, 2, 3).mean((1, 3))
    assert resize(IMAGE, 16, 12, "area") == pytest.approx(blocks, abs=1e-6)


def test_warp_and_remap_agree_on_a_shift():
    matrix = np.array([[1.0, 0, -3], [0, 1, -2]])
    shifted = warp_affine(IMAGE, matrix, 16, "linear")
    assert shifted == pytest.approx(IMAGE[2:18, 3:19], abs=1e-6)
    x, y = np.meshgrid(np.arange(16, dtype=np.float32) + 3, np.arange(16, dtype=np.float32) + 2)
    assert remap(IMAGE, x, y) == pytest.approx(shifted, abs=1e-6)


def test_polygon_is_filled_in_place_with_its_edge():
    plane = np.zeros((8, 8), np.float32)
    fill_polygon(plane, np.array([[1, 2], [5, 2], [5, 6], [1, 6]], np.int32), 1.0)
    assert plane.sum() == 25 and plane[2:7, 1:6].all()
    assert erode(plane, 3).sum() == 9


def test_triangles_have_their_indices_and_the_rest_is_minus_one():
    corners = np.array([[[0, 0], [7, 0], [0, 7]], [[20, 20], [27, 20], [27, 27]]], np.float64)
    indices = rasterize_triangles(corners, 32)
    assert (indices[1, 1], indices[21, 25], indices[10, 25]) == (0, 1, -1)


def test_guided_filter_follows_the_edge_of_the_guide():
    guide = np.zeros((32, 32), np.float32)
    guide[:, 16:] = 1
    mask = gaussian_blur(guide, 3)
    filtered = guided_filter(guide, mask, radius_px=4, smoothness=1e-3)
    assert filtered[16, 16] - filtered[16, 15] > 3 * (mask[16, 16] - mask[16, 15])
