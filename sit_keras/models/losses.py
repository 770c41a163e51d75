"""The three pretext losses, and the classifier's. Each returns one value per sample.

The trainer reduces them once.

Shapes: M samples (two views per image), G candidates of all replicas, E embedding width, H W C
image, K classes.
"""

import math

from keras import ops


def rotation_cross_entropy(labels, logits):
    """Cross-entropy of the four-way rotation task (the paper's rotation loss).

    Args:
        labels: (M,) int, quarter turns clockwise in 0..3.
        logits: (M, 4) float32.

    Returns:
        (M,) float32.
    """
    return ops.sparse_categorical_crossentropy(labels, logits, from_logits=True)


def reconstruction_l1(targets, reconstructions):
    """Mean absolute error over all pixels and channels (the paper's pixel-wise l1 loss).

    Args:
        targets: (M, H, W, C) float32, the clean views.
        reconstructions: (M, H, W, C) float32.

    Returns:
        (M,) float32.
    """
    return ops.mean(ops.abs(targets - reconstructions), axis=(1, 2, 3))


def nt_xent(anchors, candidates, self_index, positive_index, temperature: float):
    """Normalised temperature-scaled cross-entropy (Chen et al. 2020, equation 1).

    One matrix product of normalised embeddings, so memory grows with M x G and never with
    M x G x E. An anchor is never compared with itself: the diagonal is masked, not subtracted.

    Args:
        anchors: (M, E). The embeddings whose loss is wanted.
        candidates: (G, E). All embeddings compared with, the anchors themselves among them.
        self_index: (M,) int. Where each anchor stands among the candidates.
        positive_index: (M,) int. Where each anchor's other view stands among the candidates.
        temperature: float.

    Returns:
        losses (M,) float32, and the masked logits (M, G) float32 for metrics.
    """
    anchors = _normalize(ops.cast(anchors, "float32"))
    candidates = _normalize(ops.cast(candidates, "float32"))
    logits = ops.matmul(anchors / temperature, ops.transpose(candidates))  # (M, G)
    columns = ops.arange(ops.shape(candidates)[0], dtype=self_index.dtype)
    logits = ops.where(columns[None, :] == self_index[:, None], -1e9, logits)
    losses = ops.sparse_categorical_crossentropy(positive_index, logits, from_logits=True)
    return losses, logits


def summed_cross_entropy(targets, logits):
    """Cross-entropy of mixed or smoothed targets, summed over all heads and tokens.

    Args:
        targets: (M, K) float32, shares of the classes.
        logits: (M, ..., K) float32.

    Returns:
        (M,) float32.
    """
    num_heads = math.prod(logits.shape[1:-1])
    log_shares = ops.log_softmax(ops.reshape(logits, (-1, num_heads, logits.shape[-1])))
    return -ops.sum(targets[:, None, :] * log_shares, axis=(1, 2))


def _normalize(x):
    """Scales rows to length 1; a zero row stays zero instead of becoming NaN."""
    return x * ops.rsqrt(ops.maximum(ops.sum(ops.square(x), axis=-1, keepdims=True), 1e-12))
