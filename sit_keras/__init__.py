"""SiT in Keras 3: pre-train a Vision Transformer on your own unlabelled images.

What is named here is imported when it is first asked for, so that a command answers at once and
the network, which runs on any backend of Keras, does not wait for TensorFlow.
"""

import importlib
import typing

from sit_keras._version import VERSION

if typing.TYPE_CHECKING:  # for editors, which then complete the names
    from sit_keras.augment.pretext import TwoViews
    from sit_keras.config.execution import Execution
    from sit_keras.config.finetune import FinetuneConfig
    from sit_keras.config.network import NetworkConfig
    from sit_keras.config.preprocessing import PreprocessingConfig
    from sit_keras.config.presets import finetune_config, presets, run_config
    from sit_keras.config.settings import CorruptionConfig, RunConfig, ViewConfig
    from sit_keras.data.images import ImageSet
    from sit_keras.data.mixed_sizes import pair_crops
    from sit_keras.data.sources import load_source
    from sit_keras.evaluation.callbacks import NearestNeighbours
    from sit_keras.evaluation.features import FrozenFeatures
    from sit_keras.evaluation.finetune import finetune
    from sit_keras.models.attention import attention_maps
    from sit_keras.models.backbone import SiTBackbone
    from sit_keras.models.classifier import SiTImageClassifier
    from sit_keras.models.optimizers import SiTAdamW
    from sit_keras.models.preprocessing import ImagePreprocessing
    from sit_keras.serving.export import export, verify_export
    from sit_keras.training.callbacks import ReconstructionSheets, TaskGradients
    from sit_keras.training.epoch_report import EpochReport
    from sit_keras.training.pretrainer import SiTPretrainer
    from sit_keras.workflows.convert import convert
    from sit_keras.workflows.duplicates import duplicates
    from sit_keras.workflows.embed import embed
    from sit_keras.workflows.evaluate import evaluate
    from sit_keras.workflows.orient import orient
    from sit_keras.workflows.outliers import outliers
    from sit_keras.workflows.pretrain import draw_batch, pretrain
    from sit_keras.workflows.report import report
    from sit_keras.workflows.search import search
    from sit_keras.workflows.tune import tune

__version__ = VERSION

# Each name and the module that it comes from.
_HOMES = {
    "CorruptionConfig": "config.settings",
    "EpochReport": "training.epoch_report",
    "Execution": "config.execution",
    "FinetuneConfig": "config.finetune",
    "FrozenFeatures": "evaluation.features",
    "ImagePreprocessing": "models.preprocessing",
    "ImageSet": "data.images",
    "NearestNeighbours": "evaluation.callbacks",
    "NetworkConfig": "config.network",
    "PreprocessingConfig": "config.preprocessing",
    "ReconstructionSheets": "training.callbacks",
    "RunConfig": "config.settings",
    "SiTAdamW": "models.optimizers",
    "SiTBackbone": "models.backbone",
    "SiTImageClassifier": "models.classifier",
    "SiTPretrainer": "training.pretrainer",
    "TaskGradients": "training.callbacks",
    "TwoViews": "augment.pretext",
    "ViewConfig": "config.settings",
    "attention_maps": "models.attention",
    "convert": "workflows.convert",
    "draw_batch": "workflows.pretrain",
    "duplicates": "workflows.duplicates",
    "embed": "workflows.embed",
    "evaluate": "workflows.evaluate",
    "export": "serving.export",
    "finetune": "evaluation.finetune",
    "finetune_config": "config.presets",
    "load_source": "data.sources",
    "orient": "workflows.orient",
    "outliers": "workflows.outliers",
    "pair_crops": "data.mixed_sizes",
    "presets": "config.presets",
    "pretrain": "workflows.pretrain",
    "report": "workflows.report",
    "run_config": "config.presets",
    "search": "workflows.search",
    "tune": "workflows.tune",
    "verify_export": "serving.export",
}

__all__ = [
    "CorruptionConfig",
    "EpochReport",
    "Execution",
    "FinetuneConfig",
    "FrozenFeatures",
    "ImagePreprocessing",
    "ImageSet",
    "NearestNeighbours",
    "NetworkConfig",
    "PreprocessingConfig",
    "ReconstructionSheets",
    "RunConfig",
    "SiTAdamW",
    "SiTBackbone",
    "SiTImageClassifier",
    "SiTPretrainer",
    "TaskGradients",
    "TwoViews",
    "ViewConfig",
    "attention_maps",
    "convert",
    "draw_batch",
    "duplicates",
    "embed",
    "evaluate",
    "export",
    "finetune",
    "finetune_config",
    "load_source",
    "orient",
    "outliers",
    "pair_crops",
    "presets",
    "pretrain",
    "report",
    "run_config",
    "search",
    "tune",
    "verify_export",
]


if not typing.TYPE_CHECKING:  # a type checker would take it that every name exists

    def __getattr__(name):
        if name not in _HOMES:
            raise AttributeError(f"module 'sit_keras' has no attribute {name!r}")
        return getattr(importlib.import_module(f"sit_keras.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
