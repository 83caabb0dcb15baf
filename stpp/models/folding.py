"""A network made ready for prediction: batch norms folded into convolutions, weights as precise as asked."""

from copy import deepcopy

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from stpp.models.network import SegmentationNetwork
from stpp.models.packing import packed

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


def for_prediction(network: SegmentationNetwork, precision: str) -> SegmentationNetwork:
    """A copy in evaluation mode that computes the same in less time, in channels_last memory.

    `precision`, a key of `PRECISIONS`, is that of its weights, and its input's; the logits are float32 in any case.
    """
    ready = deepcopy(network).eval()
    for module in list(ready.modules()):
        previous = ""
        for name, child in list(module.named_children()):
            before = getattr(module, previous, None)
            # A batch norm is registered right after its convolution in all networks here.
            if isinstance(child, nn.BatchNorm2d) and isinstance(before, nn.Conv2d):
                setattr(module, previous, fuse_conv_bn_eval(before, child))
                setattr(module, name, nn.Identity())
            previous = name
    return packed(ready.to(PRECISIONS[precision], memory_format=torch.channels_last))  # type: ignore[call-overload]
