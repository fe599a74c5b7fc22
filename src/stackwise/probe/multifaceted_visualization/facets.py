"""The facets of a unit: the kinds of pictures that excite it (Algorithm 1 of arXiv 1602.03616).

codes of a late layer -> PCA -> t-SNE to two dimensions -> k-means;
x0 of a cluster = the mean of the pictures nearest to its centre in the embedding
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from stackwise.errors import DataError

Embed = Literal["tsne", "none"]
MOST_FACETS = 6
"""Of which `auto` takes the number with the best silhouette."""


@dataclass(frozen=True)
class Facets:
    """Clusters of pictures.

    Attributes:
        labels: (n,) the cluster of each picture, the largest one 0.
        embedding: (n, d) in which they were found, d 2 with t-SNE.
        members: rows of the pictures nearest to each centre, nearest first.
        silhouette: how apart the clusters are, -1 to 1; NaN for one cluster.
    """

    labels: np.ndarray
    embedding: np.ndarray
    members: list[np.ndarray]
    silhouette: float

    def __len__(self) -> int:
        return len(self.members)


def find_facets(
    codes: Tensor,
    k: int | Literal["auto"] = "auto",
    *,
    n_mean: int = 15,
    pca: int = 50,
    embed: Embed = "tsne",
    seed: int = 0,
) -> Facets:
    """Cluster pictures by their codes.

    Args:
        codes: (n, D). k: clusters, or `auto`: the number from 2 to 6 of the best silhouette.
        n_mean: pictures nearest to a centre that are its members. pca: dimensions that are kept
            before t-SNE. embed: `none` clusters what PCA gives.

    Raises:
        DataError: there are fewer pictures than clusters, or a code is no number.
    """
    from sklearn.cluster import KMeans
    from sklearn.metrics import silhouette_score

    found = codes.detach().double().cpu().numpy()
    if not np.isfinite(found).all():
        raise DataError("codes of the pictures hold NaN or infinite numbers; give another layer")
    if k != "auto" and k > len(found):
        raise DataError(f"{len(found)} pictures have at most as many facets, not {k}")
    embedding = embedded(found, pca, embed, seed)
    best: tuple[float, np.ndarray, np.ndarray] | None = None
    for count in [k] if k != "auto" else range(2, MOST_FACETS + 1):
        if k == "auto" and count * 2 > len(found):
            break
        fitted = KMeans(count, n_init=10, random_state=seed).fit(embedding)
        apart = float("nan")
        if 1 < len(np.unique(fitted.labels_)) < len(found):
            apart = float(silhouette_score(embedding, fitted.labels_))
        if best is None or apart > best[0]:
            best = apart, fitted.labels_, fitted.cluster_centers_
    if best is None:
        raise DataError(f"{len(found)} pictures are too few to be parted; give at least 4, or k=1")
    apart, labels, centres = best
    order = np.argsort(-np.bincount(labels, minlength=len(centres)), kind="stable")
    members = []
    for cluster in order:
        rows = np.flatnonzero(labels == cluster)
        far = np.square(embedding[rows] - centres[cluster]).sum(1)
        members.append(rows[np.argsort(far, kind="stable")[:n_mean]])
    return Facets(np.argsort(order)[labels], embedding, members, apart)


def embedded(codes: np.ndarray, pca: int, embed: Embed, seed: int) -> np.ndarray:
    """(n, d) by PCA, and by t-SNE where it is asked for and there are pictures enough."""
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    kept = min(pca, *codes.shape)
    reduced: np.ndarray = PCA(kept, svd_solver="full", random_state=seed).fit_transform(codes)
    if embed == "none" or len(codes) < 10 or reduced.shape[1] < 2:
        return reduced
    perplexity = min(30.0, (len(codes) - 1) / 3)
    spread: np.ndarray = TSNE(
        2, perplexity=perplexity, init="pca", random_state=seed, n_jobs=1
    ).fit_transform(reduced.astype(np.float32))
    return spread.astype(np.float64)


def mean_images(pictures: Tensor, facets: Facets) -> Tensor:
    """(k, C, *S) the mean of each cluster's members, of pictures as they are."""
    return torch.stack([pictures[torch.from_numpy(rows)].mean(0) for rows in facets.members])
