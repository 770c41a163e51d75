"""The numbers of the paper's tables. They are of single runs, so none has a deviation."""

LINEAR, FINETUNED = "linear", "fine-tuned"

# Top-1 accuracy in percent, by table, row and column.
PAPER: dict[str, dict[tuple[str, str], float]] = {
    "linear": {
        ("cifar10", LINEAR): 81.20,
        ("cifar100", LINEAR): 55.97,
        ("tiny_imagenet", LINEAR): 40.67,
        ("stl10", LINEAR): 78.51,
    },
    "transfer": {
        ("cifar100 -> cifar10", LINEAR): 73.79,
        ("cifar10 -> cifar100", LINEAR): 55.72,
    },
    "finetune": {("stl10", FINETUNED): 93.02, ("stl10, from scratch", FINETUNED): 59.38},
    "fewshot": {
        (f"{dataset}, {share} %", column): value
        for dataset, columns in {
            "cifar10": {
                FINETUNED: (None, 74.78, 87.16, 92.90, 94.84, 97.70),
                LINEAR: (81.20, 81.72, 87.90, 93.12, 95.14, 97.53),
            },
            "cifar100": {
                FINETUNED: (None, 27.50, 53.72, 67.58, 74.46, 80.30),
                LINEAR: (55.97, 56.81, 61.35, 70.58, 75.97, 80.20),
            },
        }.items()
        for column, values in columns.items()
        for share, value in zip((0, 1, 10, 25, 50, 100), values, strict=True)
        if value is not None
    },
    "ablation": {
        (f"stl10, {row}", column): value
        for row, values in {
            "from scratch": (59.38, 37.75),
            "reconstruction": (90.03, 45.49),
            "rotation": (65.48, 46.80),
            "contrastive": (84.50, 69.90),
            "reconstruction + rotation": (91.80, 70.38),
            "reconstruction + contrastive": (89.46, 73.90),
            "rotation + contrastive": (90.44, 77.10),
            "all three": (91.49, 78.58),
            "all three, uncertainty": (93.02, 78.51),
        }.items()
        for column, value in zip((FINETUNED, LINEAR), values, strict=True)
    },
}
