"""Features of whole images, against the maps of the encoder averaged by hand."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from trained import checkpoint, picture

from stpp.commands.segmenter import PLAIN, load
from stpp.engine.features import image_features
from stpp.models import build
from stpp.models.folding import PRECISIONS, for_prediction
from stpp.plan.counts import LONGEST_ENCODED


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
    large = picture(LONGEST_ENCODED // 2, 2 * LONGEST_ENCODED)
    small = large.resize((LONGEST_ENCODED, LONGEST_ENCODED // 4), Image.Resampling.BILINEAR)
    assert np.array_equal(model.features(np.asarray(large)), model.features(np.asarray(small)))


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("encoder", ["resnet18", "mobilenet_v2", "timm/test_vit", "timm/test_efficientnet"])
def test_every_encoder_gives_features_of_images_of_any_size_in_each_precision(encoder: str, precision: str) -> None:
    network = build({"backbone": encoder, "architecture": "linear", "output_stride": 16}, 3)
    ready, prediction = for_prediction(network, precision), {**PLAIN, "precision": precision}
    found = image_features(ready, np.asarray(picture(37, 50)), torch.device("cpu"), prediction)
    assert found.shape == (network.backbone.channels[-1],)
    assert np.linalg.norm(found) == pytest.approx(1, abs=1e-5)
