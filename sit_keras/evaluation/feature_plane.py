"""Features laid out in a plane, for a map.

Shapes: N images, E features.
"""

import numpy as np
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

from sit_keras.config.progress import Progress


def feature_plane(features: np.ndarray, seed: int = 0) -> np.ndarray:
    """Lays features out in a plane by t-SNE, so that similar ones are neighbours.

    Args:
        features: (N, E) float32.
        seed: int.

    Returns:
        (N, 2) float32. Zeros where there are too few features, or all of them are the same.
    """
    if len(features) <= 3 or np.ptp(features, axis=0).max() <= 1e-6:
        return np.zeros((len(features), 2), "float32")  # scikit-learn cannot lay these out
    perplexity = min(30, (len(features) - 1) / 3)
    layout = TSNE(perplexity=perplexity, init="pca", random_state=seed)
    # Its threads wait for each other, the longer the busier the machine is.
    with threadpool_limits(1), Progress(f"map of {len(features):,} images"):
        return layout.fit_transform(features)
