"""Images of records that two other processes decode, by tf.data service."""

import collections
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from sit_keras.models.backbone import SiTBackbone
from sit_keras.training.pretrainer import SiTPretrainer
from sit_keras.workflows.pack import pack

WORKER = """
import sys, tensorflow as tf
service = tf.data.experimental.service
config = service.WorkerConfig(dispatcher_address=sys.argv[1])
print("started", flush=True)
service.WorkerServer(config).join()
"""


def image(record):
    features = tf.io.parse_single_example(
        record, {"image/encoded": tf.io.FixedLenFeature((), tf.string)}
    )
    pixels = tf.io.decode_image(features["image/encoded"], channels=3, expand_animations=False)
    pixels = tf.image.resize(pixels, (20, 20), "bicubic", antialias=True)
    return tf.cast(tf.round(tf.clip_by_value(pixels, 0, 255)), tf.uint8)


def contents(batches):
    """How often each image is in some batches."""
    return collections.Counter(pixels.tobytes() for batch in batches for pixels in batch.numpy())


@pytest.mark.slow
def test_two_worker_processes_feed_model_fit_with_each_image_once(tmp_path, monkeypatch):
    monkeypatch.setattr("sit_keras.workflows.pack.SHARD_BYTES", 2**16)
    pack("digits", tmp_path)
    service = tf.data.experimental.service
    dispatcher = service.DispatchServer()
    address = dispatcher.target.partition("://")[2]
    workers = [
        subprocess.Popen([sys.executable, "-c", WORKER, address], stdout=subprocess.PIPE)
        for _ in range(2)
    ]
    try:
        assert all(worker.stdout.readline() == b"started\n" for worker in workers)
        shards = sorted(map(str, tmp_path.glob("train-*.tfrecord")))
        shards = tf.data.Dataset.from_tensor_slices(shards)
        images = shards.interleave(tf.data.TFRecordDataset).map(image, tf.data.AUTOTUNE)
        plain = contents(images.batch(16))
        images = images.batch(16).apply(
            service.distribute(service.ShardingPolicy.DYNAMIC, dispatcher.target)
        )
        assert contents(images) == plain and plain.total() == 1437
        model = SiTPretrainer(SiTBackbone((16, 16, 3), 8, 24, 1, 2, 24), projection_dim=8)
        model.compile("sgd", jit_compile=False)
        batches = images.unbatch().shuffle(256).batch(16, drop_remainder=True)
        history = model.fit(batches, verbose=0)
        assert int(model.step) == 1437 // 16
        assert np.isfinite(history.history["loss"]).all()
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
