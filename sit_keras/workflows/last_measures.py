"""What is measured once, at the end of a run, for its results and for the answer in sentences."""

import typing

import numpy as np

from sit_keras.evaluation.baselines import compare_with_baselines
from sit_keras.evaluation.diagnostics import token_spread
from sit_keras.evaluation.features import FrozenFeatures, head_features
from sit_keras.models.loading import start_from
from sit_keras.runs.data import RunData
from sit_keras.training.pretrainer import SiTPretrainer

# Images whose features are looked at for collapse where there is no comparison.
MAX_SPREAD_IMAGES = 512


def last_measures(model: SiTPretrainer, features: FrozenFeatures, data: RunData) -> dict:
    """Measures how good the tasks and the encoder have become.

    Args:
        model: SiTPretrainer, trained.
        features: FrozenFeatures of its encoder.
        data: RunData.

    Returns:
        A dict of `contrastive_images`, the images of a batch that are compared with each other;
        `flat_error`, the reconstruction loss of views of one colour, if there is that task;
        `token_spread`; `validation_views`, how many held-out views the tasks were measured on, if
        there is a validation; and where there are labels what `compare_with_baselines` returns.
    """
    config = data.config
    found: dict[str, typing.Any] = {}
    if "contrastive" in config.tasks:
        shares = model.distribute_strategy.num_replicas_in_sync
        is_local = config.negatives == "local"
        found["contrastive_images"] = config.batch_size // (shares if is_local else 1)
    if "reconstruction" in config.tasks:
        clean = data.sample_of_validation(model.make_views)["clean"].numpy()
        flat = clean.mean(axis=(-3, -2), keepdims=True)  # the mean colour of each view
        found["flat_error"] = float(np.abs(clean - flat).mean())
    if data.can_validate:
        found["validation_views"] = 2 * data.num_validation_images
    compared = _compared(model, features, data)
    if not compared:
        some = features.of(data.watched(MAX_SPREAD_IMAGES))
        found["token_spread"] = {"trained": token_spread(head_features(some))}
    return {**found, **compared}


def _compared(model, features, data):
    """Compares the encoder with its baselines where there are labels."""
    test = data.held_out if data.test is None else data.test
    bank, queries = data.probe_images(test)
    if not len(bank) or not len(queries):
        return {}
    start = data.config.initial_encoder
    initial = None if start is None else model.backbone.clone()
    if initial is not None:
        start_from(start, initial)
    seed = data.config.seed
    found = compare_with_baselines(model.backbone, bank, queries, seed, features, initial)
    if not found:
        return {}
    labelled = len(data.train.labelled()) + len(data.held_out.labelled())
    split = "held out" if data.test is None else "test"
    return {"probe_test_split": split, "labelled_images": labelled, **found}
