"""Training over several workers, which Keras' own `fit` cannot do."""

import typing

import keras
import tensorflow as tf

from sit_keras.data.pipeline import Shard

BatchesOf = typing.Callable[[Shard], tf.data.Dataset]


def fit(
    model: keras.Model,
    batches_of: BatchesOf,
    initial_epoch: int,
    epochs: int,
    steps_per_epoch: int,
    callbacks: list[keras.callbacks.Callback],
) -> None:
    """Does what `model.fit` does, with the model's own steps, on every worker of its strategy.

    (`fit` fails before the first step there: keras-team/keras issue 20585.)

    Args:
        model: compiled under a MultiWorkerMirroredStrategy.
        batches_of: returns the dataset of a shard, which this worker makes for its own devices.
        initial_epoch, epochs, steps_per_epoch, callbacks: as for `fit`.
    """
    strategy = model.distribute_strategy
    calls = keras.callbacks.CallbackList(
        callbacks, model=model, epochs=epochs, steps=steps_per_epoch, verbose=0
    )
    train = _on_all_replicas(strategy, model.train_step)
    batches = iter(_own_share(strategy, batches_of))
    model.stop_training = False
    calls.on_train_begin()
    for epoch in range(initial_epoch, epochs):
        model.reset_metrics()
        calls.on_epoch_begin(epoch)
        for step in range(steps_per_epoch):
            calls.on_train_batch_begin(step)
            calls.on_train_batch_end(step, train(next(batches)))
        logs = {name: float(value) for name, value in model.get_metrics_result().items()}
        calls.on_epoch_end(epoch, logs)
        if model.stop_training:
            break
    calls.on_train_end()


def _own_share(strategy, batches_of):
    def make(context):
        local = context.num_replicas_in_sync // context.num_input_pipelines
        shard = Shard(context.input_pipeline_id * local, local, context.num_replicas_in_sync)
        return batches_of(shard)

    return strategy.distribute_datasets_from_function(make)


def _on_all_replicas(strategy, step):
    @tf.function
    def run(batch):
        logs = strategy.run(step, args=(batch,))
        return {name: strategy.reduce("MEAN", value, axis=None) for name, value in logs.items()}

    return run
