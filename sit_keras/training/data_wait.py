"""How long training steps wait for their images."""

import tensorflow as tf


class DataWait:
    """Measures how long whoever reads a dataset waits for its elements.

    The times are taken within the pipeline, where an element is asked for and where it is there, so
    that no step is held up. It holds for one device: several have their own buffers behind the
    dataset, which fill while nobody waits.
    """

    def __init__(self):
        with tf.device("CPU"):
            self._seconds = tf.Variable(0.0, dtype=tf.float64, trainable=False)

    def watched(self, dataset: tf.data.Dataset) -> tf.data.Dataset:
        """Returns the same dataset, whose waiting times are added up."""

        def add(asked, element):
            with tf.control_dependencies(tf.nest.flatten(element)):
                waited = tf.timestamp() - asked
            with tf.control_dependencies([self._seconds.assign_add(waited, read_value=False)]):
                return tf.nest.map_structure(tf.identity, element)

        clock = tf.data.Dataset.range(1).repeat().map(lambda _: tf.timestamp())
        # `zip` asks for the time, and then for the element.
        return tf.data.Dataset.zip((clock, dataset)).map(add)

    @property
    def seconds(self) -> float:
        """All waiting until now."""
        return float(self._seconds.numpy())
