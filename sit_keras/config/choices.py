"""The names that commands and workflows choose from. Standard library only."""

DATASETS = (
    "digits", "translated_digits", "cifar10", "cifar100", "stl10", "tiny_imagenet", "folder:PATH",
    "list:FILE", "records:PATH", "tfds:NAME",
)  # fmt: skip

# Evaluation: how an encoder is evaluated, which of it is quick, and which features are looked at.
PROTOCOLS = ("linear", "augmented", "knn", "diagnostics", "finetune", "fewshot")
QUICK = ("linear", "knn", "diagnostics")
FEATURES = ("tokens", "rotation_token", "contrastive_token", "patch_tokens")
TABLES = ("linear", "transfer", "finetune", "fewshot", "ablation")

# The search for settings: how, by what, and which.
SEARCHES = ("random", "bayesian", "hyperband")
OBJECTIVES = ("knn", "linear")
PARAMETERS = (
    "learning_rate", "temperature", "corruption", "weight_decay", "drop_path", "task_weights",
)  # fmt: skip

# The authors' first release counts quarter turns counter-clockwise, the second clockwise, as here.
RELEASES = ("2021-07", "2021-04")
# Attention heads by width, in the paper, timm and DeiT; other networks have others.
HEADS = {192: 3, 384: 6, 768: 12, 1024: 16}

# What an export is written as, and the numbers that keep its weights.
FORMATS = ("savedmodel", "onnx", "openvino", "litert")
PRECISIONS = ("float32", "float16", "int8")
