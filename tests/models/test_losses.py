import subprocess
import sys

import numpy as np
import pytest
import reference
import tensorflow as tf

from sit_keras.models import losses
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
    loss, _ = paired(embeddings, temperature)
    expected = np.mean(reference.nt_xent(embeddings, temperature))
    np.testing.assert_allclose(loss, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("images", [2, 8, 100])
def test_collapsed_embeddings_give_the_log_of_the_others(images):
    loss, _ = paired(np.ones((2 * images, 6), "float32"))
    np.testing.assert_allclose(loss, np.log(2 * images - 1), rtol=1e-6)


def test_two_images_by_hand():
    # Views agree and the images are orthogonal: -log(e^2 / (e^2 + 1 + 1)).
    embeddings = np.array([[1, 0], [3, 0], [0, 1], [0, 0.5]], "float32")
    expected = np.log(1 + 2 * np.exp(-2))
    loss, accuracy = paired(embeddings)
    np.testing.assert_allclose(loss, expected, rtol=1e-6)
    assert accuracy == 1


def test_an_anchor_closer_to_another_image_is_a_miss():
    embeddings = np.array([[1, 0], [0.9, 0.1], [0, 1], [0.8, 0.2]], "float32")
    assert paired(embeddings)[1] == 0.75  # the fourth one is closer to the second


def test_a_zero_embedding_stays_finite():
    embeddings = tf.zeros((4, 3))
    with tf.GradientTape() as tape:
        tape.watch(embeddings)
        loss, _ = nt_xent(embeddings, embeddings, ROWS, ROWS ^ 1, 0.5)
    assert np.isfinite(loss)
    assert np.isfinite(tape.gradient(loss, embeddings)).all()


def test_the_means_of_parts_of_the_anchors_average_to_that_of_all(random):
    embeddings = random.normal(size=(12, 4)).astype("float32")
    parts = [
        nt_xent(embeddings[rows], embeddings, rows, rows ^ 1, 0.5)
        for rows in np.split(np.arange(12), 3)
    ]
    np.testing.assert_allclose(np.mean(parts, axis=0), paired(embeddings), rtol=1e-6)


def test_half_precision_embeddings_are_compared_in_float32(random):
    embeddings = random.normal(size=(8, 4)).astype("float16")
    loss, _ = paired(embeddings, 0.001)
    assert loss.dtype == tf.float32
    assert np.isfinite(loss)


def contrast(embeddings, rows, factor=1.0):
    """Loss, accuracy and the gradient of some anchors, the positives being neighbours."""
    with tf.GradientTape() as tape:
        tape.watch(embeddings)
        anchors = tf.gather(embeddings, rows)
        loss, accuracy = nt_xent(anchors, embeddings, rows, rows ^ 1, 0.1)
        scaled = factor * loss
    return loss, accuracy, tape.gradient(scaled, embeddings)


def plainly(embeddings, rows, factor=1.0):
    """The same in float64, by TensorFlow's own gradients."""
    embeddings = tf.cast(embeddings, tf.float64)
    with tf.GradientTape() as tape:
        tape.watch(embeddings)
        unit = tf.linalg.normalize(embeddings, axis=1)[0]
        logits = tf.gather(unit, rows) @ tf.transpose(unit) / 0.1
        logits -= 1e9 * tf.one_hot(rows, len(embeddings), dtype=tf.float64)
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(rows ^ 1, logits))
        scaled = factor * loss
    accuracy = np.mean(np.argmax(logits, 1) == rows ^ 1)
    return loss, accuracy, tf.convert_to_tensor(tape.gradient(scaled, embeddings))


@pytest.mark.parametrize(
    ("anchors_at_once", "compiled"),
    [(1024, False), (1024, True), (39, None), (20, False), (7, False), (7, True), (1, None)],
)
def test_blocks_of_any_size_have_the_loss_and_the_gradients_of_the_whole(
    random, monkeypatch, anchors_at_once, compiled
):
    monkeypatch.setattr(losses, "ANCHORS_AT_ONCE", anchors_at_once)
    embeddings = random.normal(size=(60, 8)).astype("float32")
    embeddings[1::2] += embeddings[::2]
    rows = np.arange(10, 50, dtype="int32")
    function = contrast if compiled is None else tf.function(contrast, jit_compile=compiled)
    found = function(tf.constant(embeddings), rows, tf.constant(3.0))
    expected = plainly(embeddings, rows, 3.0)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-6)
    assert float(found[1]) == pytest.approx(expected[1]) and 0.1 < expected[1] < 0.9
    largest = np.abs(expected[2]).max()
    np.testing.assert_allclose(found[2], expected[2], atol=2e-6 * largest)


def test_batches_of_any_size_go_through_one_trace():
    @tf.function(input_signature=[tf.TensorSpec((None, 3))])
    def step(embeddings):
        return contrast(embeddings, tf.range(tf.shape(embeddings)[0]))

    for count in (2, 6, 1024, 1026, 2050):
        embeddings = tf.random.stateless_normal((count, 3), (0, count))
        loss, _, gradients = step(embeddings)
        expected = plainly(embeddings, np.arange(count, dtype="int32"))
        np.testing.assert_allclose(loss, expected[0], rtol=1e-5)
        largest = np.abs(expected[2]).max()
        np.testing.assert_allclose(gradients, expected[2], atol=1e-5 * largest + 1e-9)
    assert step.experimental_get_tracing_count() == 1


@pytest.mark.slow
def test_the_memory_of_a_large_batch_is_far_below_that_of_one_matrix_of_its_logits():
    """8,192 samples would have 256 MiB of logits, and as much for each of the gradient's steps."""
    script = """
import re
import numpy as np, tensorflow as tf
from sit_keras.models.losses import nt_xent
def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 2**10
@tf.function(autograph=False)
def step(x):
    rows = tf.range(tf.shape(x)[0])
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss, _ = nt_xent(x, x, rows, tf.bitwise.bitwise_xor(rows, 1), 0.5)
    return tape.gradient(loss, x)
step(tf.random.normal((64, 64)))
x = tf.random.normal((8192, 64))
step.get_concrete_function(x)
before = peak(); step(x); print(peak() - before)
"""
    output = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    mebibytes = float(output.stdout.split()[-1])
    assert 16 < mebibytes < 200, mebibytes


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
