"""Class-activation maps that an attention refines, as PseudoSeg has them (Zou et al., ICLR 2021)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stpp.models.blocks import resize


class RefinedActivation(nn.Module):
    """From maps of an encoder to a second segmentation, and to which classes an image has.

    `channels` are those of the last two maps. Class 0 is the background. The map of each other class is what the last
    map says of it, by a linear classifier of the whole image; the attention between its places carries it on, and a
    last 1x1 convolution with batch norm makes logits of all maps. Through the maps and what the attention sees no
    gradient reaches the encoder; the classifier of images trains it.
    """

    def __init__(self, channels: Sequence[int], classes: int, width: int = 128) -> None:
        super().__init__()
        self.of_images = nn.Conv2d(channels[1], classes - 1, 1)
        self.keys = nn.Conv2d(sum(channels), width, 1, bias=False)
        self.queries = nn.Conv2d(sum(channels), width, 1, bias=False)
        self.score = nn.Sequential(nn.Conv2d(classes, classes, 1, bias=False), nn.BatchNorm2d(classes))

    def forward(self, maps: Sequence[Tensor], valid: Tensor, present: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Logits (N, classes, h, w) at the resolution of the last map, and those of the image, (N, classes - 1).

        `maps` are the last two; `valid`, bool (N, H, W), says which pixels are the image's. `present`, bool
        (N, classes - 1), are the classes that the image has; None: those that are more probable than not.
        """
        last = maps[1]
        of_image = self.of_images(last).mean(dim=(2, 3))
        present = of_image.detach() > 0 if present is None else present
        with torch.no_grad():
            active = F.relu(F.conv2d(last, self.of_images.weight)) * present[:, :, None, None]
            most = active.amax(dim=(2, 3), keepdim=True)
            active = active / torch.where(most > 0, most, 1.0)
            seen = torch.cat([resize(maps[0], last), last], dim=1)
            inside = F.interpolate(valid[:, None].float(), size=last.shape[-2:])[:, 0].flatten(1) > 0
            inside |= ~inside.any(dim=1, keepdim=True)
        keys, queries = self.keys(seen).flatten(2), self.queries(seen).flatten(2)
        products = queries.transpose(1, 2) @ keys / keys.shape[1] ** 0.5
        attention = products.masked_fill(~inside[:, None], float("-inf")).softmax(dim=2)
        carried = (active.flatten(2) @ attention.transpose(1, 2)).view_as(active) + active
        background = 2 - carried.amax(dim=1, keepdim=True)
        logits: Tensor = self.score(torch.cat([background, carried], dim=1))
        return logits, of_image
