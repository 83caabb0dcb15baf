"""Where segmentations are wrong, and who teaches whom there: the maps of guided collaborative training (GCT)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from stpp.common.labels import IGNORE


def flaws(probabilities: Tensor, masks: Tensor) -> Tensor:
    """How wrong `probabilities` (N, C, H, W) are at each pixel, (N, H, W): half of the sum of |1 or 0 - p|.

    That is 1 - p of the true class. `masks` are integers (N, H, W); 0 where they are 255.
    """
    known = masks != IGNORE
    true = F.one_hot(masks.long() * known, probabilities.shape[1]).movedim(3, 1)
    return (true - probabilities).abs().sum(dim=1) / 2 * known


def flaw_target(probabilities: Tensor, masks: Tensor) -> Tensor:
    """What the flaw detector is to say: `flaws`, blurred, dilated and blurred; (N, H, W), 0 to 1 in each image."""
    found = flaws(probabilities.detach(), masks)
    side = min(found.shape[-2:])
    dilated = F.max_pool2d(blurred(found, side // 8), 3, stride=1, padding=1)
    return stretched(blurred(dilated, side // 4))


def flaw_map(detected: Tensor) -> Tensor:
    """What the flaw detector says, (N, H, W), blurred; 0 to 1 in each image, and 0 where none of it exceeds 0.1."""
    found = blurred(detected.detach().clamp(min=0), min(detected.shape[-2:]) // 16)
    return stretched(found * (found.amax(dim=(1, 2), keepdim=True) > 0.1))


def mutual_targets(
    own: Tensor, other: Tensor, own_flaws: Tensor, other_flaws: Tensor, threshold: float
) -> tuple[Tensor, Tensor]:
    """What a network is to predict, probabilities (N, C, H, W), and where neither of two knows, bool (N, H, W).

    It keeps its `own` probabilities where its flaw is at most that of the other one, a flaw over the `threshold` being
    as bad as any. No gradient reaches the target.
    """
    bad, as_bad = own_flaws > threshold, other_flaws > threshold
    kept = other_flaws.masked_fill(as_bad, 1.0) >= own_flaws.masked_fill(bad, 1.0)
    return torch.where(kept[:, None], own, other).detach(), bad & as_bad


def blurred(maps: Tensor, size: int) -> Tensor:
    """`maps` (N, H, W) under a Gaussian of `size` pixels, or one more where that is even; mirrored at the border.

    Its deviation is 0.3 ((size - 1) / 2 - 1) + 0.8 pixels. Its tails, which are longer than that, are mirrored into it,
    as they are in the authors' code, whose weights are a filtered picture of one pixel.
    """
    size += 1 - size % 2
    if size == 1:
        return maps
    deviation = 0.3 * ((size - 1) / 2 - 1) + 0.8
    reach = int(4 * deviation + 0.5)
    offsets = torch.arange(-reach, reach + 1, device=maps.device, dtype=maps.dtype)
    whole, tail = torch.exp(-(offsets**2) / (2 * deviation**2)), reach - size // 2
    weights = whole[tail:-tail] / whole.sum()
    weights[:tail] += whole[:tail].flip(0) / whole.sum()
    weights[-tail:] += whole[-tail:].flip(0) / whole.sum()
    padded = F.pad(maps[:, None], [size // 2] * 4, mode="reflect")
    rows = F.conv2d(padded, weights.view(1, 1, -1, 1))
    return F.conv2d(rows, weights.view(1, 1, 1, -1))[:, 0]


def stretched(maps: Tensor) -> Tensor:
    """`maps` (N, H, W), in each image from 0, its least value, to 1, its largest one; 0 where these are equal."""
    least, most = maps.amin(dim=(1, 2), keepdim=True), maps.amax(dim=(1, 2), keepdim=True)
    return (maps - least) / torch.where(most > least, most - least, 1.0)
