"""What every map is compared with: k-means on scaled bands, and on their principal components."""

from stackwise.tasks.rasters.baselines.kmeans import BandsMapper, PCAMapper

__all__ = ["BandsMapper", "PCAMapper"]
