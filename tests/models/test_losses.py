import subprocess
import sys

import numpy as np
import pytest
import reference
import tensorflow as tf

from sit_keras.models.losses import nt_xent, reconstruction_l1, rotation_cross_entropy
from sit_keras.models.weighting import FixedWeighting, UncertaintyWeighting

ROWS = np.arange(4)


def paired(embeddings, temperature=0.5):
    rows = np.arange(len(embeddings))
    return nt_xent(embeddings, embeddings, rows, rows ^ 1, temperature)


@pytest.mark.parametrize("images", [2, 5, 16])
@pytest.mark.parametrize("width", [3, 64])
@pytest.mark.parametrize("temperature", [0.1, 0.5, 2.0])
def test_nt_xent_against_the_loops(random, images, width, temperature):
    embeddings = random.normal(size=(2 * images, width)).astype("float32") * 5
    losses, logits = paired(embeddings, temperature)
    np.testing.assert_allclose(
        losses, reference.nt_xent(embeddings, temperature), rtol=1e-5, atol=1e-6
    )
    assert logits.shape == (2 * images, 2 * images)


@pytest.mark.parametrize("images", [2, 8, 100])
def test_collapsed_embeddings_give_the_log_of_the_others(images):
    losses, _ = paired(np.ones((2 * images, 6), "float32"))
    np.testing.assert_allclose(losses, np.log(2 * images - 1), rtol=1e-6)


def test_two_images_by_hand():
    # Views agree and the images are orthogonal: -log(e^2 / (e^2 + 1 + 1)).
    embeddings = np.array([[1, 0], [3, 0], [0, 1], [0, 0.5]], "float32")
    expected = np.log(1 + 2 * np.exp(-2))
    np.testing.assert_allclose(paired(embeddings)[0], expected, rtol=1e-6)


def test_a_zero_embedding_stays_finite():
    embeddings = tf.zeros((4, 3))
    with tf.GradientTape() as tape:
        tape.watch(embeddings)
        loss = tf.reduce_sum(nt_xent(embeddings, embeddings, ROWS, ROWS ^ 1, 0.5)[0])
    assert np.isfinite(loss)
    assert np.isfinite(tape.gradient(loss, embeddings)).all()


def test_anchors_may_be_a_part_of_the_candidates(random):
    embeddings = random.normal(size=(12, 4)).astype("float32")
    whole = paired(embeddings)[0]
    rows = np.arange(4, 8)
    part, _ = nt_xent(embeddings[4:8], embeddings, rows, rows ^ 1, 0.5)
    np.testing.assert_allclose(part, whole[4:8], rtol=1e-6)


def test_half_precision_embeddings_are_compared_in_float32(random):
    embeddings = random.normal(size=(8, 4)).astype("float16")
    losses, logits = paired(embeddings, 0.001)
    assert losses.dtype == logits.dtype == tf.float32
    assert np.isfinite(losses).all()


@pytest.mark.slow
def test_memory_of_a_large_batch():
    script = """
import re
import numpy as np, tensorflow as tf
from sit_keras.models.losses import nt_xent
def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 2**20
rows = np.arange(8192)
@tf.function
def step(x):
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = tf.reduce_mean(nt_xent(x, x, rows, rows ^ 1, 0.5)[0])
    return tape.gradient(loss, x)
x = tf.random.normal((8192, 512)); tf.matmul(x[:64], x[:64], transpose_b=True)
before = peak(); step(x); print(peak() - before)
"""
    output = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    gibibytes = float(output.stdout.split()[-1])
    assert 0.25 < gibibytes < 1.5, gibibytes


def test_rotation_by_hand():
    logits = np.array([[0, 0, 0, 0], [np.log(7), 0, 0, 0]], "float32")
    losses = rotation_cross_entropy(np.array([2, 0]), logits)
    np.testing.assert_allclose(losses, [np.log(4), np.log(10 / 7)], rtol=1e-6)


def test_reconstruction_by_hand():
    target = np.zeros((2, 2, 2, 3), "float32")
    guess = target.copy()
    guess[0] = -0.5
    guess[1, 0, 0, 0] = 12
    np.testing.assert_allclose(reconstruction_l1(target, guess), [0.5, 1.0])


LOSSES = {"reconstruction": 0.4, "rotation": 1.1, "contrastive": 3.0}
TENSORS = {task: tf.constant(loss) for task, loss in LOSSES.items()}


def test_uncertainty_weighting_is_the_papers_equation():
    weighting = UncertaintyWeighting(tuple(LOSSES))
    alphas = {"reconstruction": 0.3, "rotation": 1.7, "contrastive": 2.5}
    for task, alpha in alphas.items():
        weighting.log_alphas[task].assign(np.log(alpha))
    assert float(weighting(TENSORS)) == pytest.approx(reference.total(LOSSES, alphas), rel=1e-6)
    assert {t: float(a) for t, a in weighting.alphas().items()} == pytest.approx(alphas, rel=1e-6)


def test_alphas_start_as_in_the_authors_code():
    weighting = UncertaintyWeighting(tuple(LOSSES))
    weights = {task: float(w) for task, w in weighting.task_weights().items()}
    expected = {"reconstruction": 0.60653, "rotation": 0.36788, "contrastive": 0.36788}
    assert weights == pytest.approx(expected, rel=1e-4)


def test_alphas_settle_where_the_losses_say():
    """For a constant loss: alpha_rec = L and alpha^2 = 2 L for the two cross-entropies."""
    weighting = UncertaintyWeighting(tuple(LOSSES))
    variables = [v.value for v in weighting.trainable_variables]
    for _ in range(400):
        with tf.GradientTape() as tape:
            total = weighting(TENSORS)
        for v, g in zip(variables, tape.gradient(total, variables), strict=True):
            v.assign_sub(0.1 * g)
    alphas = {task: float(a) for task, a in weighting.alphas().items()}
    expected = {"reconstruction": 0.4, "rotation": 2.2**0.5, "contrastive": 6**0.5}
    assert alphas == pytest.approx(expected, rel=1e-3)


def test_fixed_weights():
    assert float(FixedWeighting(tuple(LOSSES))(TENSORS)) == pytest.approx(4.5)
    weighting = FixedWeighting(tuple(LOSSES), (2, 1, 0.5))
    assert float(weighting(TENSORS)) == pytest.approx(3.4)
    assert weighting.trainable_variables == []


def test_a_weighting_rebuilds_from_its_config():
    for weighting in (
        UncertaintyWeighting(("rotation", "contrastive"), name="mine"),
        FixedWeighting(("rotation", "contrastive"), (2.0, 3.0), name="mine"),
    ):
        twin = type(weighting).from_config(weighting.get_config())
        assert twin.get_config() == weighting.get_config()
        assert float(twin(TENSORS)) == pytest.approx(float(weighting(TENSORS)))
        assert twin.tasks == ("rotation", "contrastive") and twin.name == "mine"
