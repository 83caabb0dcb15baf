"""What an evaluation measured, as it lies on disk: `metrics.json` as a whole, `images.csv` of each image."""

import json
from pathlib import Path
from typing import Any

import pandas as pd


def read_metrics(path: Path) -> dict[str, Any]:
    """The content of a `metrics.json`: `subset`, `images`, `miou`, `iou` by class and more; mIoU and IoU in [0, 1]."""
    metrics: dict[str, Any] = json.loads(path.read_text())
    return metrics


def read_by_image(path: Path) -> pd.DataFrame:
    """A CSV file with one row an image, by its `id` as it is (an image may be called NA or 001); no `miou` is NaN."""
    return pd.read_csv(path, dtype={"id": str}, keep_default_na=False, na_values={"miou": [""]})
