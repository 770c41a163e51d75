"""How many floating-point operations the work of a contender needs at least."""

from sit_keras.config.settings import RunConfig

NUM_VIEWS = 2


def step_gflop(config: RunConfig) -> float:
    """Returns the billions of operations of the network's matrix products in one training step.

    A product of (M, K) and (K, N) takes 2 M N K of them. Counted are the encoder, the three heads
    and the matrix of similarities between all views, forward and backward, and the backward pass as
    twice the forward one. Views, norms, activations and the optimizer are not counted.

    Args:
        config: RunConfig. Its `batch_size` counts images, each of which gives two views.
    """
    views = NUM_VIEWS * config.batch_size
    similarities = 2 * views**2 * config.model.projection_dim
    return 3 * (views * config.model.num_flops + similarities) / 1e9
