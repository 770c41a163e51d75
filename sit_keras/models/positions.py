"""Position embeddings for another patch grid."""

from keras import ops


def resize_positions(positions, grid: tuple[int, int], new_grid: tuple[int, int]):
    """Resizes position embeddings to another patch grid; the prefix tokens' stay as they are.

    The kernel is cubic with a = -0.75 and no antialiasing, which is what PyTorch's bicubic
    interpolation does and what the authors' code resizes with.

    Args:
        positions: (1, P + N, D).
        grid: (rows, columns) of the N patches.
        new_grid: (rows, columns) wanted; neither grid need be square.

    Returns:
        (1, P + N', D).
    """
    num_prefix = positions.shape[1] - grid[0] * grid[1]
    prefix, patches = positions[:, :num_prefix], positions[:, num_prefix:]
    patches = ops.reshape(patches, (*grid, -1))  # (rows, columns, D)
    rows, columns = (_cubic_matrix(old, new) for old, new in zip(grid, new_grid, strict=True))
    patches = ops.einsum("ir,rcd->icd", rows, patches)
    patches = ops.einsum("jc,icd->ijd", columns, patches)
    patches = ops.reshape(patches, (1, new_grid[0] * new_grid[1], -1))
    return ops.concatenate([prefix, patches], axis=1)


def _cubic_matrix(old: int, new: int, a: float = -0.75):
    """Returns the (new, old) matrix of cubic interpolation, borders clamped."""
    centre = (ops.arange(new, dtype="float32") + 0.5) * (old / new) - 0.5
    matrix = ops.zeros((new, old))
    for tap in range(-1, 3):
        source = ops.floor(centre) + tap
        x = ops.abs(centre - source)
        near = ((a + 2) * x - (a + 3)) * x**2 + 1
        far = ((x - 5) * x + 8) * x * a - 4 * a
        weight = ops.where(x <= 1, near, ops.where(x < 2, far, 0.0))
        index = ops.cast(ops.clip(source, 0, old - 1), "int32")
        matrix = matrix + weight[:, None] * ops.one_hot(index, old)
    return matrix
