"""Patch tokens as colours, so that patches that the encoder takes for alike look alike.

Shapes: N images, P patches, D width.
"""

import numpy as np
from sklearn.decomposition import PCA


def patch_colours(tokens: np.ndarray) -> np.ndarray:
    """Returns the first three principal components of patch tokens as red, green and blue.

    The components are those of the patches of all images together, so a colour means the same in
    each of them.

    Args:
        tokens: (N, P, D) float32.

    Returns:
        (N, P, 3) float32 in [0, 1]; 0.5 where there are fewer components, or no differences.

    Reference:
        Oquab et al. 2023, DINOv2, figure 1.
    """
    patches = tokens.reshape(-1, tokens.shape[-1])
    colours = np.full((len(patches), 3), 0.5, "float32")
    if np.ptp(patches, axis=0).max() <= 1e-6:
        return colours.reshape(*tokens.shape[:2], 3)
    count = min(3, *patches.shape)
    parts = PCA(count, random_state=0).fit_transform(patches)
    # One odd patch would leave all others a single colour.
    low, high = np.percentile(parts, (1, 99), axis=0)
    differs = high - low > 1e-6
    scaled = (parts[:, differs] - low[differs]) / (high - low)[differs]
    colours[:, np.flatnonzero(differs)] = np.clip(scaled, 0, 1)
    return colours.reshape(*tokens.shape[:2], 3)
