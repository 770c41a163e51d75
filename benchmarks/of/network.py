"""The network alone: forward and backward pass of the whole loss on the same views again and again.

keras-hub's `ViTBackbone` gets our heads and losses. It has one prefix token instead of two and no
stochastic depth, so its work is a little less than what is counted.
"""

import numpy as np

from benchmarks.contenders.cases import case, case_names
from benchmarks.contenders.operations import step_gflop
from benchmarks.contenders.timing import repeated
from benchmarks.turns import Contender

TIMES = 4  # in a round, whose figure is their median


def contenders(quick: bool) -> list[Contender]:
    found = []
    for name in case_names(quick):
        for precision in ("float32", "bfloat16"):
            work = {"name": name, "precision": precision}

            def add(who, function, packages, work=work, **changes):
                found.append(
                    Contender(
                        case=" ".join(work.values()),
                        name=who,
                        target=f"{__name__}:{function}",
                        arguments={**work, **changes},
                        packages=packages,
                    )
                )

            add(f"tensorflow {precision} (ours)", "ours", ("tensorflow",))
            add(f"torch {precision} (good)", "torch", ("torch",), compiled=False)
            if precision == "float32":
                add("torch float32 (good, compiled)", "torch", ("torch",), compiled=True)
                add("tensorflow float32 (keras-hub)", "keras_hub", ("tensorflow", "keras_hub"))
    return found


def ours(name: str, precision: str):
    from sit_keras.models.backbone import SiTBackbone
    from sit_keras.models.heads import build_pretext_network
    from sit_keras.training.fused import fuse

    config = case(name)
    backbone = SiTBackbone(
        **config.model.backbone_arguments(),
        dtype="mixed_bfloat16" if precision == "bfloat16" else "float32",
    )
    fuse(backbone)  # as `SiTPretrainer.compile` does
    return _tensorflow(config, build_pretext_network(backbone, config.model.projection_dim))


def keras_hub(name: str, precision: str):
    import keras
    from keras_hub.models import ViTBackbone

    from sit_keras.models.heads import ReconstructionHead, projection_head, rotation_head

    config = case(name)
    network = config.model
    backbone = ViTBackbone(
        image_shape=network.image_shape,
        patch_size=network.patch_size,
        num_layers=network.num_layers,
        num_heads=network.num_heads,
        hidden_dim=network.hidden_dim,
        mlp_dim=network.mlp_dim,
    )
    images = keras.Input(network.image_shape)
    tokens = backbone(images)
    head = ReconstructionHead(network.grid, network.patch_size)
    outputs = {
        "rotation_logits": rotation_head()(tokens[:, 0]),
        "projection": projection_head(network.projection_dim)(tokens[:, 0]),
        "reconstruction": head(tokens[:, 1:]),
    }
    return _tensorflow(config, keras.Model(images, outputs))


def torch(name: str, precision: str, compiled: bool):
    import torch

    from benchmarks.contenders.torch_network import PretextNetwork
    from benchmarks.contenders.torch_step import loss_maker

    config = case(name)
    corrupted, clean, rotation = (torch.from_numpy(part) for part in _views(config))
    corrupted, clean = (
        x.flatten(0, 1).permute(0, 3, 1, 2).contiguous() for x in (corrupted, clean)
    )
    network = PretextNetwork(config.model, fused=True)
    loss_of = loss_maker(network, precision, compiled)

    def work():
        network.zero_grad(set_to_none=True)
        loss = loss_of(corrupted, clean, rotation.flatten(), config.temperature)
        loss.backward()

    return repeated(work, TIMES, gflop=step_gflop(config))


def _tensorflow(config, network):
    import tensorflow as tf

    from sit_keras.models.weighting import build_weighting
    from sit_keras.training.objective import PretextObjective

    objective = PretextObjective(network, config.tasks, config.temperature, config.negatives)
    weighting = build_weighting(config.weighting, config.tasks)
    corrupted, clean, rotation = map(tf.constant, _views(config))
    views = {"corrupted": corrupted, "clean": clean, "rotation": rotation}
    variables = network.trainable_variables + weighting.trainable_variables

    @tf.function(autograph=False)
    def loss_and_gradients(views):
        with tf.GradientTape() as tape:
            losses, _ = objective.losses(views, training=True)
            total = weighting(losses)
        return total, tape.gradient(total, [variable.value for variable in variables])

    return repeated(lambda: loss_and_gradients(views)[0].numpy(), TIMES, gflop=step_gflop(config))


def _views(config):
    """Returns corrupted and clean views (B, 2, S, S, 3) float32 and rotations (B, 2) int64."""
    random, size = np.random.default_rng(0), config.model.image_size
    shape = config.batch_size, 2, size, size, 3
    corrupted, clean = (random.normal(size=shape).astype(np.float32) for _ in range(2))
    return corrupted, clean, random.integers(0, 4, shape[:2])
