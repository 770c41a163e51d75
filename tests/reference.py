"""Slow, loop-by-loop transcriptions of the paper's formulas, to hold the fast ones to."""

import math

import numpy as np


def nt_xent(embeddings, temperature):
    """-log of the paper's ratio for each row; rows 2i and 2i + 1 are the views of image i."""
    rows = [row / np.linalg.norm(row) for row in embeddings.astype(np.float64)]
    losses = []
    for i, anchor in enumerate(rows):
        positive = i + 1 if i % 2 == 0 else i - 1
        numerator = math.exp(float(anchor @ rows[positive]) / temperature)
        denominator = 0.0
        for k, other in enumerate(rows):
            if k != i:
                denominator += math.exp(float(anchor @ other) / temperature)
        losses.append(-math.log(numerator / denominator))
    return np.array(losses)


def total(losses, alphas):
    """The paper's total loss."""
    return (
        losses["reconstruction"] / alphas["reconstruction"]
        + losses["rotation"] / alphas["rotation"] ** 2
        + losses["contrastive"] / alphas["contrastive"] ** 2
        + sum(math.log(alpha) for alpha in alphas.values())
    )


def blur(image, radius, sigma):
    """Gaussian blur of (H, W, C) with a reflected border, by loops."""
    taps = np.arange(-radius, radius + 1)
    kernel = np.exp(-0.5 * (taps / sigma) ** 2)
    kernel /= kernel.sum()
    padded = np.pad(image, ((radius, radius), (radius, radius), (0, 0)), mode="reflect")
    result = np.zeros_like(image)
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            patch = padded[y : y + len(taps), x : x + len(taps)]
            result[y, x] = np.einsum("i,j,ijc->c", kernel, kernel, patch)
    return result


def crop_box(numbers, height, width, area_range, ratio_range):
    """Random-resized-crop: ten tries, then the largest centre crop of an allowed ratio."""
    low, high = np.log(ratio_range)
    for i in range(10):
        area = height * width * (area_range[0] + (area_range[1] - area_range[0]) * numbers[i])
        ratio = math.exp(low + (high - low) * numbers[10 + i])
        w, h = max(round((area * ratio) ** 0.5), 1), max(round((area / ratio) ** 0.5), 1)
        if w <= width and h <= height:
            top = math.floor(numbers[-2] * (height - h + 1))
            left = math.floor(numbers[-1] * (width - w + 1))
            return top, left, h, w
    w, h = width, height
    if width / height < ratio_range[0]:
        h = round(width / ratio_range[0])
    elif width / height > ratio_range[1]:
        w = round(height * ratio_range[1])
    return (height - h) // 2, (width - w) // 2, h, w


def small_blocks(numbers, size, max_share, align=None):
    """Adds blocks until their area reaches the share drawn; returns those used."""
    low, high = max(1, int(0.05 * size)), max(int(0.25 * size), max(1, int(0.05 * size)) + 1)
    wanted, area, used = numbers[0] * max_share * size * size, 0, []
    for draw in numbers[1:].reshape(-1, 4):
        if area >= wanted:
            break
        top, left = (math.floor(u * (size - low)) for u in draw[:2])
        height, width = (low + math.floor(u * (high - low)) for u in draw[2:])
        if align:
            top, left = (max(k for k in range(0, x + 1, align)) for x in (top, left))
            height, width = (nearest_multiple(x, align) for x in (height, width))
        height, width = min(height, size - top), min(width, size - left)
        used.append((top, left, height, width))
        area += height * width
    return used


def knn_by_hand(train, train_labels, test, test_labels, k, temperature=0.07):
    """Wu et al. 2018's weighted nearest neighbours, one test image and one neighbour at a time."""
    train, test = ([x / np.sqrt(np.sum(x * x)) for x in images] for images in (train, test))
    hits = 0
    for image, label in zip(test, test_labels, strict=True):
        cosines = [float(np.dot(image, other)) for other in train]
        votes = {}
        for i in sorted(range(len(train)), key=lambda i: -cosines[i])[:k]:
            votes.setdefault(train_labels[i], 0.0)
            votes[train_labels[i]] += np.exp(cosines[i] / temperature)
        hits += max(votes, key=votes.get) == label
    return hits / len(test)


def nearest_multiple(side, align):
    """The multiple of `align` above 0 that is nearest to a side, the larger one of two as near."""
    multiples = range(align, side + 2 * align, align)
    return min(multiples, key=lambda multiple: (abs(multiple - side), -multiple))
