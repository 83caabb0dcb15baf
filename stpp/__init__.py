"""ST++: semi-supervised semantic segmentation by selective self-training, as a cached workflow."""

__version__ = "0.1.0"
