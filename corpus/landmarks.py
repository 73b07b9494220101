"""Names of the 478 landmarks of a face mesh, and the square crop of a photograph that they determine.

The indices are those of MediaPipe's face mesh with irises (Kartynnik et al., 2019, "Real-time Facial Surface Geometry
from Monocular Video on Mobile GPUs"). "Left" and "right" are sides of the picture.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from emotivetalk.media.image_ops import gaussian_blur, warp_affine

NUM_LANDMARKS: Final = 478
CHIN: Final = 152
FOREHEAD: Final = 10
NOSE_TIP: Final = 1
NOSE_BASE: Final = 2
LEFT_CHEEK: Final = 234
RIGHT_CHEEK: Final = 454
LEFT_CORNER: Final = 61
RIGHT_CORNER: Final = 291
UPPER_LIP_INNER: Final = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308)
LOWER_LIP_INNER: Final = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308)
UPPER_LIP_OUTER: Final = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291)
LOWER_LIP_OUTER: Final = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291)
OVAL: Final = (
    *(10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377),
    *(152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109),
)
LEFT_EYE_UPPER: Final = (33, 246, 161, 160, 159, 158, 157, 173, 133)
LEFT_EYE_LOWER: Final = (33, 7, 163, 144, 145, 153, 154, 155, 133)
RIGHT_EYE_UPPER: Final = (362, 398, 384, 385, 386, 387, 388, 466, 263)
RIGHT_EYE_LOWER: Final = (362, 382, 381, 380, 374, 373, 390, 249, 263)
LEFT_BROW: Final = (70, 63, 105, 66, 107, 46, 53, 52, 65, 55)
RIGHT_BROW: Final = (336, 296, 334, 293, 300, 285, 295, 282, 283, 276)
LEFT_IRIS: Final = (468, 469, 470, 471, 472)
RIGHT_IRIS: Final = (473, 474, 475, 476, 477)

SOURCE_SIZE: Final = 512
"""Side in pixels of a framed photograph: twice that of the frames, so that warped parts stay as sharp as the others."""

# The mean crop of `emotivetalk.media.faces` on 34 portraits, in shares of the side. Single crops of that detector differ
# from these by 1.6 % (x), 2.8 % (y) and 7 % (side), standard deviations.
_FACE_SHARE = 0.49  # distance from cheek to cheek
_FACE_HEIGHT_SHARE = 0.60  # distance from forehead to chin; sets the scale of turned heads, which are narrow
_CENTER_Y = 0.03  # height of the crop's center above the middle of the face

Points = Float[np.ndarray, "478 2"]


@dataclass(frozen=True)
class FramedPortrait:
    """A photograph cropped to a square around one upright face.

    Attributes:
        picture: RGB in 0..1.
        points: (x, y) of the landmarks; -1 is the left or upper edge of the square, 1 the right or lower edge.
        depth: depth of the landmarks in the unit of `points`; larger is nearer to the camera.
    """

    picture: Float[Tensor, "3 512 512"]
    points: Points
    depth: Float[np.ndarray, "478"]

    def mirrored(self) -> "FramedPortrait":
        """Return the mirror image. Left and right landmarks are exchanged."""
        points = self.points * np.array([-1, 1])
        return FramedPortrait(self.picture.flip(-1), points[_MIRROR], self.depth[_MIRROR])


@dataclass(frozen=True)
class CropJitter:
    """Difference of a crop from the usual one: shift in shares of the side, and ratio of the sides."""

    x: float = 0.0
    y: float = 0.0
    scale: float = 1.0

    @staticmethod
    def sample(rng: np.random.Generator) -> "CropJitter":
        """Sample the errors that face detection makes (see `_FACE_SHARE`), within two standard deviations."""
        x, y, scale = np.clip(rng.normal(size=3), -2, 2) * (0.016, 0.028, 0.07)
        return CropJitter(round(float(x), 4), round(float(y), 4), round(float(np.exp(scale)), 4))


NO_JITTER: Final = CropJitter()


def frame_portrait(
    image: UInt8[np.ndarray, "height width 3"],
    landmarks: Float[np.ndarray, "478 3"],
    jitter: CropJitter = NO_JITTER,
) -> FramedPortrait:
    """Rotate a photograph upright and crop the square that has the face where the networks expect it.

    Args:
        image: the photograph.
        landmarks: x and y in pixels of the photograph; z in the same unit, smaller is nearer to the camera.
        jitter: difference from the usual crop.
    """
    points = landmarks[:, :2].astype(np.float64)
    between_eyes = points[263] - points[33]
    angle = np.arctan2(between_eyes[1], between_eyes[0])
    width = np.hypot(*(points[RIGHT_CHEEK] - points[LEFT_CHEEK]))
    height = np.hypot(*(points[CHIN] - points[FOREHEAD]))
    side = jitter.scale * max(width / _FACE_SHARE, height / _FACE_HEIGHT_SHARE)
    middle = (points[LEFT_CHEEK] + points[RIGHT_CHEEK]) / 4 + (points[FOREHEAD] + points[CHIN]) / 4
    up = np.array([np.sin(angle), -np.cos(angle)])
    center = middle + (_CENTER_Y - jitter.y) * side * up + jitter.x * side * np.array([-up[1], up[0]])
    scale = SOURCE_SIZE / side
    rotation = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]) * scale
    matrix = np.hstack([rotation, (SOURCE_SIZE / 2 - 0.5 - rotation @ (center - 0.5))[:, None]])
    # Prefilter against aliasing, in pixels of the photograph: frames have half the size of the crop.
    sigma_px = float(np.sqrt(max(0.8**2 - (0.5 * scale) ** 2, 0)) / scale)
    if sigma_px > 0.25:
        image = gaussian_blur(image, sigma_px, border="reflect")
    cropped = warp_affine(image, matrix, SOURCE_SIZE, "cubic" if scale > 1 else "linear")
    framed_points = ((points - center) @ rotation.T) / SOURCE_SIZE * 2
    depth = -landmarks[:, 2].astype(np.float64) / side * 2
    return FramedPortrait(torch.from_numpy(cropped).permute(2, 0, 1).float() / 255, framed_points, depth)


# Index of the mirrored landmark for each landmark (ours: from the mean of a hundred frontal faces).
_MIRROR = np.array(
    """
    0 1 2 248 4 5 6 249 8 9 10 11 12 13 14 15 16 17 18 19 250 251 252 253 254 255 256 257 258 259 260 261 262
    263 264 265 266 267 268 269 270 271 272 273 274 275 276 277 278 279 280 281 282 283 284 285 286 287 288 289
    290 291 292 293 294 295 296 297 298 299 300 301 302 303 304 305 306 307 308 309 310 311 312 313 314 315 316
    317 318 319 320 321 322 323 94 324 325 326 327 328 329 330 331 332 333 334 335 336 337 338 339 340 341 342
    343 344 345 346 347 348 349 350 351 352 353 354 355 356 357 358 359 360 361 362 363 364 365 366 367 368 369
    370 371 372 373 374 375 376 377 378 379 151 152 380 381 382 383 384 385 386 387 388 389 390 164 391 392 393
    168 394 395 396 397 398 399 175 400 401 402 403 404 405 406 407 408 409 410 411 412 413 414 415 416 417 418
    195 419 197 420 199 200 421 422 423 424 425 426 427 428 429 430 431 432 433 434 435 436 437 438 439 440 441
    442 443 444 445 446 447 448 449 450 451 452 453 454 455 456 457 458 459 460 461 462 463 464 465 466 467 3 7
    20 21 22 23 24 25 26 27 28 29 30 31 32 33 34 35 36 37 38 39 40 41 42 43 44 45 46 47 48 49 50 51 52 53 54 55
    56 57 58 59 60 61 62 63 64 65 66 67 68 69 70 71 72 73 74 75 76 77 78 79 80 81 82 83 84 85 86 87 88 89 90 91
    92 93 95 96 97 98 99 100 101 102 103 104 105 106 107 108 109 110 111 112 113 114 115 116 117 118 119 120 121
    122 123 124 125 126 127 128 129 130 131 132 133 134 135 136 137 138 139 140 141 142 143 144 145 146 147 148
    149 150 153 154 155 156 157 158 159 160 161 162 163 165 166 167 169 170 171 172 173 174 176 177 178 179 180
    181 182 183 184 185 186 187 188 189 190 191 192 193 194 196 198 201 202 203 204 205 206 207 208 209 210 211
    212 213 214 215 216 217 218 219 220 221 222 223 224 225 226 227 228 229 230 231 232 233 234 235 236 237 238
    239 240 241 242 243 244 245 246 247 473 476 475 474 477 468 471 470 469 472
    """.split(),
    np.int64,
)
