"""Features of whole images, against the maps of the encoder averaged by hand."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from trained import checkpoint, picture

from stpp.commands.segmenter import load
from stpp.engine.features import LONGEST


def test_features_are_the_mean_of_the_coarsest_map_and_of_length_1(tmp_path: Path) -> None:
    model = load(checkpoint(tmp_path / "m.pt"), "cpu")
    image = np.asarray(picture(40, 48))
    found = model.features(image)
    mean, std = (np.array(values) for values in model.network.normalisation)
    batch = torch.from_numpy(((image / 255 - mean) / std).transpose(2, 0, 1)[None]).float()
    with torch.inference_mode():
        coarsest = model.network.backbone(batch)[-1][0].double().numpy()
    expected = coarsest.mean(axis=(1, 2))
    assert found.dtype == np.float32 and found.shape == (model.network.backbone.channels[-1],)
    np.testing.assert_allclose(found, expected / np.linalg.norm(expected), atol=1e-5)


def test_large_images_are_reduced_first(tmp_path: Path) -> None:
    model = load(checkpoint(tmp_path / "m.pt"), "cpu")
    large = picture(LONGEST // 2, 2 * LONGEST)
    small = large.resize((LONGEST, LONGEST // 4), Image.Resampling.BILINEAR)
    assert np.array_equal(model.features(np.asarray(large)), model.features(np.asarray(small)))
