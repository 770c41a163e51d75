"""The three pretext losses, and the classifier's.

The contrastive loss is a mean. The others are one value per sample, which the trainer averages.

Shapes: M samples (two views per image), G candidates of all replicas, E embedding width, H W C
image, K classes.
"""

import math

from keras import ops, tree

# Smaller blocks are slower, larger ones hold more logits.
ANCHORS_AT_ONCE = 1024


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
    """Mean normalised temperature-scaled cross-entropy (Chen et al. 2020, equation 1).

    An anchor is never compared with itself: the diagonal is masked, not subtracted. Many anchors
    are compared a block at a time, so that memory grows with M + G and not with M x G. As the loss
    is a mean, its gradients are known up to one factor once a block is compared, so its logits
    need neither be kept nor computed again.

    Args:
        anchors: (M, E). The embeddings whose loss is wanted.
        candidates: (G, E). All embeddings compared with, the anchors themselves among them.
        self_index: (M,) int. Where each anchor stands among the candidates.
        positive_index: (M,) int. Where each anchor's other view stands among the candidates.
        temperature: float.

    Returns:
        The mean of the anchors' losses, and the share of them that are more similar to their other
        view than to any other candidate. Scalars, float32.
    """
    anchors = _normalize(ops.cast(anchors, "float32")) / temperature
    candidates = _normalize(ops.cast(candidates, "float32"))
    indices = ops.cast(self_index, "int32"), ops.cast(positive_index, "int32")
    count = ops.shape(anchors)[0]
    at_once = isinstance(count, int) and count <= ANCHORS_AT_ONCE

    @ops.custom_gradient
    def contrast(anchors, candidates):
        compare = _compare if at_once else _compare_in_blocks
        losses, hits, *gradients = compare(anchors, candidates, *indices)

        def backward(*upstream):
            # Of the loss, which no anchor has where a last batch leaves a replica without any.
            factor = tree.flatten(upstream)[0] / ops.cast(ops.maximum(count, 1), "float32")
            return tuple(factor * gradient for gradient in gradients)

        return (ops.mean(losses), ops.mean(hits)), backward

    return contrast(anchors, candidates)


def _compare(anchors, candidates, self_index, positive_index):
    """Returns the losses and hits (M,), and the gradients of the sum of the losses."""
    rows = ops.arange(ops.shape(anchors)[0], dtype="int32")
    logits = ops.matmul(anchors, ops.transpose(candidates))  # (M, G)
    itself = ops.stack([rows, self_index], axis=1)
    logits = ops.scatter_update(logits, itself, ops.full_like(logits[:, 0], -1e9))
    shares = ops.softmax(logits)
    top, nearest = ops.top_k(logits, 1)
    positives = ops.take_along_axis(logits, positive_index[:, None], axis=1)
    losses = (top - positives) - ops.log(ops.take_along_axis(shares, nearest, axis=1))
    hits = ops.cast(nearest[:, 0] == positive_index, "float32")
    # The gradient of the logits: the shares, less 1 where they should be 1.
    other_view = ops.stack([rows, positive_index], axis=1)
    errors = ops.scatter_update(shares, other_view, ops.full_like(hits, -1), reduction="add")
    to_candidates = ops.matmul(ops.transpose(anchors), errors)
    return losses[:, 0], hits, ops.matmul(errors, candidates), ops.transpose(to_candidates)


def _compare_in_blocks(anchors, candidates, self_index, positive_index):
    """Does what `_compare` does, while it holds the logits of a block of anchors alone."""
    count, width = ops.shape(anchors)
    num_blocks = count // ANCHORS_AT_ONCE + 1
    size = -(-count // num_blocks)  # rounded up
    if not isinstance(count, int):  # a replica may have no anchors, but a block needs a row
        size = ops.maximum(size, 1)

    def split(x):
        filled = ops.pad(x, [[0, num_blocks * size - count], *[[0, 0]] * (len(x.shape) - 1)])
        return ops.reshape(filled, (num_blocks, size, *x.shape[1:]))

    def join(x):
        return ops.reshape(x, (num_blocks * size, *x.shape[2:]))[:count]

    self_index, positive_index = split(self_index), split(positive_index)

    def compare(block, found):
        # A block's gradients replace its anchors. As it so reads what the one before has written,
        # TensorFlow cannot begin several blocks at a time.
        losses, hits, rows, to_candidates = found
        *new, change = _compare(rows[block], candidates, self_index[block], positive_index[block])
        losses, hits, rows = (
            ops.scatter_update(old, [[block]], value[None])
            for old, value in zip((losses, hits, rows), new, strict=True)
        )
        return losses, hits, rows, to_candidates + change

    empty = ops.zeros((num_blocks, size))
    start = empty, empty, split(anchors), ops.zeros_like(candidates)
    losses, hits, rows, to_candidates = ops.fori_loop(0, num_blocks, compare, start)
    return join(losses), join(hits), join(rows), to_candidates


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
