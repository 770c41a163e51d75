"""Prints on which device pipelines hold their images; run in a process of its own.

The second of two logical CPUs stands for a GPU: it is where TensorFlow puts what is placed nowhere.
"""

import json

import numpy as np
import tensorflow as tf

from sit_keras import SiTBackbone, SiTPretrainer
from sit_keras.config.finetune import FinetuneConfig
from sit_keras.data.images import ImageSet
from sit_keras.data.labelled_views import AugmentedViews, labelled_views
from sit_keras.data.pipeline import eval_batches, step_images, step_views
from sit_keras.models.preprocessing import ImagePreprocessing

LARGE = 1_000  # bytes


def held(dataset):
    """Returns the tensors that a dataset and those that it is made of hold."""
    tensors = [t for part in dataset._functions() for t in part.function.captured_inputs]
    tensors += getattr(dataset, "_tensors", [])
    return tensors + [t for source in dataset._inputs() for t in held(source)]


def main():
    cpu = tf.config.list_physical_devices("CPU")[0]
    halves = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(cpu, halves)
    pixels = np.zeros((1000, 8, 8, 3), np.uint8)
    images = ImageSet(pixels, np.zeros(1000, int), ("a",))
    paths = np.array([f"/{number:08d}.png" for number in range(1000)], object)
    files = ImageSet(paths, np.zeros(1000, int), ("a",))
    found = {}
    with tf.device("CPU:1"):
        backbone = SiTBackbone((8, 8, 3), 4, 8, 1, 1, 8)
        model = SiTPretrainer(backbone, projection_dim=4)
        preprocessing = ImagePreprocessing.of(backbone)
        augmented = AugmentedViews(8, FinetuneConfig(), backbone.preprocessing)
        datasets = {
            "nothing of ours": tf.data.Dataset.from_tensors(pixels),
            "step_images": step_images(images, model.two_views, 8, 0, 1),
            "step_images of files": step_images(files, model.two_views, 8, 0, 1),
            "step_views": step_views(images, model.two_views, 8, 0, 1),
            "labelled_views": labelled_views(images, augmented, 8, 0, 1),
            "eval_batches": eval_batches(images, preprocessing),
            "eval_batches of files": eval_batches(files, preprocessing),
        }
        given = []
        model.compile()
        model.make_train_function = lambda force=False: setattr(
            model, "train_function", lambda iterator: given.append(iterator._dataset) or {}
        )
        model.fit(pixels, epochs=1, steps_per_epoch=1, verbose=0)
        datasets["fit"] = given[0]
    for name, dataset in datasets.items():
        tensors = [t for t in held(dataset) if t.dtype not in (tf.resource, tf.variant)]
        large = [t for t in tensors if t.dtype == tf.string or t.dtype.size * tf.size(t) > LARGE]
        found[name] = sorted({tensor.device[-1] for tensor in large})
    print(json.dumps(found))


if __name__ == "__main__":
    main()
