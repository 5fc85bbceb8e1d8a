"""Variational optical flow of two images: the linear combined local-global (CLG) method.

Bruhn, Weickert, Kohlberger and Schnörr (IEEE Trans. Image Processing 14, 2005), with the settings
and the way of solving of the library VarFlow, by which the HKO-7 benchmark computes its ROVER
opponent. What is forecast from the flow is not here but in `rover`.

The flow (u, v) minimises the sum over pixels of w' Jρ w + α (|∇u|² + |∇v|²), w = (u, v, 1), where
Jρ is the tensor of the first image's spatial derivatives and the difference of both, blurred by ρ.
Nothing is warped: motion is seen as far as the images' blur of σ reaches.

As in VarFlow: grey values 0–255, the derivatives' stencil, α, ρ, σ; one sweep updates u, then v,
pixel by pixel; levels from coarse to fine, each begun from the coarser one's flow and swept as
often as two of VarFlow's cycles do it. Not as there: red-black instead of row by row; images at
full precision instead of 8 bits; no correction of a level by coarser ones, which VarFlow divides by
α twice and so makes too small to matter. The minimum is reached to thousandths of a pixel.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

ALPHA = 2000.0
"""Weight of smoothness, for grey values 0–255."""

RHO = 1.5
"""Standard deviation in pixels of the blur of the tensor."""

SIGMA = 4.5
"""Standard deviation in pixels of the blur of the images."""

LEVELS = 7
"""Most levels; the side of a pixel doubles from one to the next."""

SWEEPS = 8
"""Gauss–Seidel sweeps at each level."""

_DERIVATIVE = np.array([[1, -8, 0, 8, -1]], dtype=np.float32) / 12
_NEIGHBOURS = np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]], dtype=np.float32)

Field = NDArray[np.float32]


def variational_flow(first: NDArray[np.floating], second: NDArray[np.floating]) -> Field:
    """Flow from the first image to the second.

    Args:
        first: brightness in [0, 1], `(y, x)`, at least 2 pixels on each side.
        second: likewise.

    Returns:
        `(2, y, x)`: displacement in pixels to the right (x) and downwards (y, as rows count).
    """
    tensors = [_tensor(first, second)]
    while len(tensors) < LEVELS and min(tensors[-1].shape[:2]) >= 4:
        height, width = tensors[-1].shape[:2]
        tensors.append(_resized(tensors[-1], height // 2, width // 2))
    flow: Field = np.zeros((*tensors[-1].shape[:2], 2), dtype=np.float32)
    for level in reversed(range(len(tensors))):
        tensor = tensors[level]
        flow = _resized(flow, *tensor.shape[:2])
        _sweep(flow, tensor * np.float32(4**level / ALPHA))
    return np.ascontiguousarray(np.moveaxis(flow, -1, 0))


def _tensor(first: NDArray[np.floating], second: NDArray[np.floating]) -> Field:
    """Products of derivatives J11, J12, J22, J13, J23, blurred: `(y, x, 5)`."""
    before, after = (
        _blurred((255.0 * image).astype(np.float32), SIGMA) for image in (first, second)
    )
    along_x = cv2.filter2D(before, -1, _DERIVATIVE)
    along_y = cv2.filter2D(before, -1, _DERIVATIVE.T)
    in_time = after - before
    products = (
        along_x * along_x,
        along_x * along_y,
        along_y * along_y,
        along_x * in_time,
        along_y * in_time,
    )
    return np.stack([_blurred(product, RHO) for product in products], axis=-1)


def _sweep(flow: Field, tensor: Field) -> None:
    """Sweeps of a level, in place; `tensor` times h²/α, h the side of a pixel."""
    j11, j12, j22, j13, j23 = np.moveaxis(tensor, -1, 0)
    u, v = (np.ascontiguousarray(component) for component in np.moveaxis(flow, -1, 0))
    number = _of_neighbours(np.ones_like(u))
    rows, columns = np.indices(u.shape)
    red = (rows + columns) % 2 == 0
    for colour in [red, ~red] * SWEEPS:
        np.copyto(u, (_of_neighbours(u) - j12 * v - j13) / (number + j11), where=colour)
        np.copyto(v, (_of_neighbours(v) - j12 * u - j23) / (number + j22), where=colour)
    flow[..., 0], flow[..., 1] = u, v


def _of_neighbours(values: Field) -> Field:
    """Sum over the up to four neighbours inside the grid."""
    total = cv2.filter2D(values, -1, _NEIGHBOURS, borderType=cv2.BORDER_CONSTANT)
    return np.asarray(total, dtype=np.float32)


def _blurred(image: Field, sigma: float) -> Field:
    blurred = cv2.GaussianBlur(image, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)
    return np.asarray(blurred, dtype=np.float32)


def _resized(values: Field, height: int, width: int) -> Field:
    resized = cv2.resize(values, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(resized, dtype=np.float32)
