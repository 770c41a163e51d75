"""Training over several workers, which Keras' own `fit` cannot do."""

import keras
import tensorflow as tf


def fit(
    model: keras.Model,
    dataset: tf.data.Dataset,
    initial_epoch: int,
    epochs: int,
    steps_per_epoch: int,
    validation_data: tf.data.Dataset | None,
    callbacks: list[keras.callbacks.Callback],
) -> None:
    """Does what `model.fit` does, with the model's own steps, on every worker of its strategy.

    (`fit` fails before the first step there: keras-team/keras issue 20585.)

    Args:
        model: compiled under a MultiWorkerMirroredStrategy.
        dataset: yields whole batches, the same on each worker; each takes its share of them.
        initial_epoch, epochs, steps_per_epoch, validation_data, callbacks: as for `fit`.
    """
    strategy = model.distribute_strategy
    calls = keras.callbacks.CallbackList(
        callbacks, model=model, epochs=epochs, steps=steps_per_epoch, verbose=0
    )
    train, test = (_on_all_replicas(strategy, step) for step in (model.train_step, model.test_step))
    batches = iter(_shared_out(strategy, dataset))
    if validation_data is not None:
        validation_data = _shared_out(strategy, validation_data)
    calls.on_train_begin()
    for epoch in range(initial_epoch, epochs):
        model.reset_metrics()
        calls.on_epoch_begin(epoch)
        for step in range(steps_per_epoch):
            calls.on_train_batch_begin(step)
            calls.on_train_batch_end(step, train(next(batches)))
        logs = _results(model)
        if validation_data is not None:
            model.reset_metrics()
            for batch in validation_data:
                test(batch)
            logs |= {f"val_{name}": value for name, value in _results(model).items()}
        calls.on_epoch_end(epoch, logs)
    calls.on_train_end()


def _shared_out(strategy, dataset):
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return strategy.experimental_distribute_dataset(dataset.with_options(options))


def _on_all_replicas(strategy, step):
    @tf.function
    def run(batch):
        logs = strategy.run(step, args=(batch,))
        return {name: strategy.reduce("MEAN", value, axis=None) for name, value in logs.items()}

    return run


def _results(model):
    return {name: float(value) for name, value in model.get_metrics_result().items()}
