"""Evaluation: frozen features, linear heads and nearest neighbours.

Of images of ten classes, 32 pixels each, by an encoder of patches of 8 pixels, 4 layers and a width
of 128. Weights, images, the grid of penalties and the numbers of neighbours are the same for all.
Weights are random, with deviations that leave the classes apart in part.
"""

import time

from benchmarks.turns import Contender

KS = (1, 5, 20, 200)
BLOCK = 1_000
TEMPERATURE = 0.07
CLASSES = 10
PARTS = ("features", "linear", "neighbours")
OURS = "tensorflow float32 (ours)"
THEIRS = "torch float32 and scikit-learn"


def contenders(quick: bool) -> list[Contender]:
    counts = {"train": 2_000, "test": 500} if quick else {"train": 50_000, "test": 10_000}
    found = []
    for case in (*PARTS, "all"):
        parts = list(PARTS) if case == "all" else [case]
        players = [(OURS, "ours", {}), (THEIRS, "theirs", {"threads": None})]
        if case in ("linear", "all"):
            players.append((f"{THEIRS} in one thread", "theirs", {"threads": 1}))
        for name, target, more in players:
            found.append(
                Contender(
                    case=f"{case} of {counts['train']:,} / {counts['test']:,}",
                    name=name,
                    target=f"{__name__}:{target}",
                    arguments={"parts": parts, **counts, **more},
                    packages=("torch", "sklearn") if target == "theirs" else (),
                )
            )
    return found


def network():
    from sit_keras.config.network import NetworkConfig

    return NetworkConfig(
        image_size=32, patch_size=8, hidden_dim=128, num_layers=4, num_heads=4, mlp_dim=512
    )


def weights():
    """Returns random weights in the order of `SiTBackbone.get_weights`."""
    import numpy as np

    size = network()
    width, hidden, patch = size.hidden_dim, size.mlp_dim, 3 * size.patch_size**2
    rows, columns = size.grid
    norm = [(width,), (width,)]
    shapes = [(patch, width), (width,), (1, 1, width), (1, 1, width)]
    shapes.append((1, 2 + rows * columns, width))
    for _ in range(size.num_layers):
        shapes += [*norm, (width, 3 * width), (3 * width,), (width, width), (width,)]
        shapes += [*norm, (width, hidden), (hidden,), (hidden, width), (width,)]
    random = np.random.default_rng(0)
    drawn = [
        random.normal(scale=shape[0] ** -0.5 if len(shape) == 2 else 0.1, size=shape)
        for shape in [*shapes, *norm]
    ]
    return [x.astype("float32") for x in drawn]


def images(count: int, seed: int):
    """Returns images (N, 32, 32, 3) uint8, a pattern of each class in noise, and labels (N,)."""
    import numpy as np

    patterns = np.random.default_rng(0).random((CLASSES, 8, 8, 3), dtype="float32")
    patterns = patterns.repeat(4, axis=1).repeat(4, axis=2)
    random = np.random.default_rng(seed)
    labels = random.integers(0, CLASSES, count)
    pixels = np.empty((count, 32, 32, 3), np.uint8)
    for first in range(0, count, BLOCK):
        part = labels[first : first + BLOCK]
        noise = random.standard_normal((len(part), 32, 32, 3), dtype="float32")
        values = 255 * (0.5 + 0.2 * (patterns[part] - 0.5) + 0.2 * noise)
        pixels[first : first + BLOCK] = np.clip(values, 0, 255)
    return pixels, labels


def ours(parts: list[str], train: int, test: int):
    from sit_keras.config.preprocessing import PreprocessingConfig
    from sit_keras.data.images import ImageSet
    from sit_keras.evaluation.features import FrozenFeatures, head_features, select_features
    from sit_keras.evaluation.knn import knn_predictions
    from sit_keras.evaluation.linear import fit_heads
    from sit_keras.models.backbone import SiTBackbone

    encoder = SiTBackbone(
        **network().backbone_arguments(), preprocessing=PreprocessingConfig(crop=1.0)
    )
    encoder.set_weights(weights())
    names = tuple("abcdefghij")
    sets = [ImageSet(*images(count, seed), names) for seed, count in enumerate((train, test))]
    bank_labels, query_labels = (each.labels for each in sets)
    frozen = FrozenFeatures(encoder)

    def features():
        return [frozen.of(each) for each in sets]

    def linear(found):
        bank, queries = map(head_features, found)
        return fit_heads(bank, bank_labels).accuracy(queries, query_labels)

    def neighbours(found):
        bank, queries = (select_features(each, "tokens") for each in found)
        predicted = knn_predictions(bank, bank_labels, queries, KS, TEMPERATURE)
        return float((predicted[20] == query_labels).mean())

    return _timed(parts, features, linear, neighbours)


def theirs(parts: list[str], train: int, test: int, threads: int | None):
    import numpy as np
    import torch
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import train_test_split
    from sklearn.preprocessing import StandardScaler
    from threadpoolctl import threadpool_limits
    from torch.nn import functional

    from benchmarks.contenders.torch_encoder import Encoder
    from sit_keras.evaluation.linear import MAX_STEPS, STRENGTHS

    encoder = Encoder(network(), weights())
    sets = [images(count, seed) for seed, count in enumerate((train, test))]
    pixels = [torch.from_numpy(each) for each, _ in sets]
    bank_labels, query_labels = (labels for _, labels in sets)
    fitted, held_out = train_test_split(
        np.arange(train), test_size=0.2, stratify=bank_labels, random_state=0
    )

    def features():
        each = [zip(*map(encoder, x.split(256)), strict=True) for x in pixels]
        return [[torch.cat(tokens) for tokens in found] for found in each]

    def logits(bank, labels, queries, strength):
        each = []
        for x, unseen in zip(bank, queries, strict=True):
            scaler = StandardScaler().fit(x)
            model = LogisticRegression(C=strength, max_iter=MAX_STEPS)
            model.fit(scaler.transform(x), labels)
            each.append(model.decision_function(scaler.transform(unseen)))
        return sum(each)

    def linear(found):
        bank, queries = ([x.numpy() for x in each] for each in found)
        parts = [[x[rows] for x in bank] for rows in (fitted, held_out)]
        best, best_score = STRENGTHS[0], 0.0
        with threadpool_limits(threads):
            for strength in STRENGTHS:
                predicted = logits(parts[0], bank_labels[fitted], parts[1], strength).argmax(1)
                score = (predicted == bank_labels[held_out]).mean()
                if score < best_score:
                    break
                best, best_score = strength, score
            predicted = logits(bank, bank_labels, queries, best).argmax(1)
        return float((predicted == query_labels).mean())

    @torch.inference_mode()
    def neighbours(found):
        bank, queries = (functional.normalize(torch.cat(each, 1)) for each in found)
        classes, predicted = torch.from_numpy(bank_labels), {k: [] for k in KS}
        for block in queries.split(BLOCK):
            closeness, nearest = (block @ bank.T).topk(max(KS))
            shares = (closeness / TEMPERATURE).exp()
            for k in KS:
                votes = torch.zeros(len(block), CLASSES)
                votes.scatter_add_(1, classes[nearest[:, :k]], shares[:, :k])
                predicted[k].append(votes.argmax(1))
        return float((torch.cat(predicted[20]).numpy() == query_labels).mean())

    return _timed(parts, features, linear, neighbours)


def _timed(parts, features, linear, neighbours):
    """Returns a function that times some parts, after it has computed what they start from."""
    found = features()

    def measure():
        scores, begin = {}, time.perf_counter()
        used = features() if "features" in parts else found
        if "linear" in parts:
            scores["linear accuracy"] = linear(used)
        if "neighbours" in parts:
            scores["knn accuracy"] = neighbours(used)
        return {"ms": 1e3 * (time.perf_counter() - begin), **scores}

    return measure
