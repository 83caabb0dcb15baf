"""Images of any number of bands at another size, as Pillow resizes them."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def resized_by_pillow(
    image: NDArray[np.uint8], size: tuple[int, int], box: tuple[float, float, float, float] | None = None
) -> NDArray[np.uint8]:
    """What Pillow makes of an image uint8 (H, W, B), or of a box of it, at `size` = (width, height): bilinear,
    antialiased. Each band is resized as any other, so those of an RGB image are as in Pillow.
    """
    if image.shape[2] == 3:
        return np.array(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR, box=box))
    bands = [Image.fromarray(image[..., band]) for band in range(image.shape[2])]
    return np.stack([np.asarray(band.resize(size, Image.Resampling.BILINEAR, box=box)) for band in bands], axis=2)
