"""Metrics of retrieval by nearest neighbours. Labels are used for evaluation only, not for the features."""

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from tqdm import tqdm

QUERIES = 250  # at a time: their distances to the whole gallery are in memory
NEIGHBOURS = 5

Features = Float[Tensor, "_ feature"]
Labels = UInt8[Tensor, "_"]


def neighbour_accuracy(
    gallery: Features, gallery_labels: Labels, queries: Features, labels: Labels, *, progress: bool = False
) -> float:
    """Return the share of queries whose five nearest gallery images, by Euclidean distance, vote for the right label.

    Ties go to the label of the nearest image.
    """
    right = 0
    classes = int(max(gallery_labels.max(), labels.max())) + 1
    count = min(NEIGHBOURS, len(gallery))
    weights = 1.0 - 1e-3 * torch.arange(count)  # less for the farther ones only decides between equals
    for chunk, wanted in _chunks(queries, labels, progress=progress):
        nearest = _distances(chunk, gallery).topk(count, largest=False).indices
        votes = torch.zeros(len(chunk), classes)
        votes.scatter_add_(1, gallery_labels[nearest].long(), weights.expand(len(chunk), count))
        right += int((votes.argmax(1) == wanted).sum())
    return right / len(queries)


def mean_average_precision(
    gallery: Features, gallery_labels: Labels, queries: Features, labels: Labels, *, progress: bool = False
) -> float:
    """Return the mean over queries of the average precision.

    Average precision is the mean of the precision at the rank of every gallery image with the label of the query.
    """
    total, counted = 0.0, 0
    ranks = torch.arange(1, len(gallery) + 1)
    for chunk, wanted in _chunks(queries, labels, progress=progress):
        order = _distances(chunk, gallery).argsort(1)
        is_same = gallery_labels[order] == wanted[:, None]  # (queries, gallery)
        precision = is_same.cumsum(1) / ranks
        found = is_same.sum(1)
        average = (precision * is_same).sum(1) / found.clamp_min(1)
        total += float(average[found > 0].sum())
        counted += int((found > 0).sum())
    return total / max(1, counted)


def _distances(queries: Features, gallery: Features) -> Float[Tensor, "query image"]:
    """Return squared distances minus the squared norm of the query, which does not change their order."""
    return gallery.square().sum(1) - 2.0 * queries @ gallery.T


def _chunks(queries: Features, labels: Labels, *, progress: bool) -> "tqdm[tuple[Tensor, Tensor]]":
    pairs = list(zip(torch.split(queries, QUERIES), torch.split(labels, QUERIES), strict=True))
    return tqdm(pairs, desc="neighbours", unit="batch", disable=not progress)
