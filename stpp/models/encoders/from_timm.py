"""Encoders of timm (Wightman, PyTorch Image Models): CNNs, and ViTs for images of any size.

timm is imported when one is built: that takes seconds. Of its interface, only what is documented is used:
`create_model`, `feature_info`, `forward_intermediates`, `prune_intermediate_layers`, `pretrained_cfg`.
"""

import difflib
import sys
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stpp.common.errors import StppError
from stpp.models.blocks import replace_modules
from stpp.models.depthwise import DepthwiseConv2d, depthwise
from stpp.models.lite import in_names_of_timm
from stpp.models.network import Backbone, Normalisation

NAMES = ("timm/",)
PUBLISHED = "timm"
STRIDES = (8, 16, 32)
MAPS = 4
CHECKED_WHEN_BUILT = True
DEEP: dict[int, tuple[int, ...]] = {24: (4, 11, 17, 23)}
"""Which blocks of a ViT of so many give the maps, as UniMatch V2 has it; else the last of each quarter."""


class TimmEncoder(Backbone):
    """Four maps: those of the last four resolutions of a CNN, or those after a quarter, a half, ... of a ViT's blocks.

    A ViT's maps are of one resolution, of a value for each patch, and pass its last norm, as DINOv2's do; its positions
    are interpolated to that resolution. A CNN is dilated to the output stride.
    """

    model: Any

    def __init__(self, name: str, output_stride: int, bands: int = 3) -> None:
        super().__init__()
        with torch.device("meta"):
            full = created(name, in_chans=bands)
        strides = [level["reduction"] for level in full.feature_info]
        if not hasattr(full, "forward_intermediates") or len(strides) < MAPS:
            raise StppError(f"network.backbone: {name} gives no {MAPS} feature maps; choose another encoder")
        plain = len(set(strides)) == 1
        if plain:
            how: dict[str, Any] = {"dynamic_img_size": True}
        else:
            how = {} if output_stride == strides[-1] else {"output_stride": output_stride}
        self.model = created(name, in_chans=bands, **how)
        levels = self.model.feature_info
        if not plain and levels[-1]["reduction"] != output_stride:
            raise StppError(_without_stride(name, output_stride, strides[-1]))
        quarters = tuple(len(levels) * quarter // MAPS - 1 for quarter in range(1, MAPS + 1))
        self.indices = DEEP.get(len(levels), quarters) if plain else tuple(range(len(levels) - MAPS, len(levels)))
        self.plain = plain
        self.channels = tuple(int(levels[index]["num_chs"]) for index in self.indices)
        self.strides = tuple(int(levels[index]["reduction"]) for index in self.indices)
        self.multiple_of = int(strides[-1])
        config = self.model.pretrained_cfg
        self.normalisation = Normalisation(*(tuple(map(float, config[part])) for part in ("mean", "std")))
        self.model.prune_intermediate_layers(list(self.indices), prune_norm=not plain, prune_head=True)
        before = list(self.model.state_dict())
        replace_modules(self.model, _plain)
        self.name = name
        self.own_names = dict(zip(before, self.state_dict()))
        tokens = {own for own, _ in self.model.named_parameters(recurse=False)}
        if hasattr(self.model, "no_weight_decay"):
            tokens |= self.model.no_weight_decay() & dict(self.model.named_parameters()).keys()
        self.undecayed = frozenset(f"model.{own}" for own in tokens)

    def layers(self) -> list[list[str]]:
        """See `Backbone.layers`; blocks are timm's, the norm after the last one is a part of it."""
        from timm.models import group_parameters

        parameters, found = dict(self.model.named_parameters()), list[list[str]]()
        for names in group_parameters(self.model, self.model.group_matcher()).values():
            own = [f"model.{name}" for name in names]
            if found and all(parameters[name].ndim < 2 for name in names):
                found[-1] += own
            else:
                found.append(own)
        return found

    def forward(self, images: Tensor) -> list[Tensor]:
        maps: list[Tensor] = self.model.forward_intermediates(
            images, indices=list(self.indices), norm=self.plain, output_fmt="NCHW", intermediates_only=True
        )
        return maps

    def renamed(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See `Backbone.renamed`. The names are timm's, or those from which timm's own readers translate.

        So are DINOv2's. Positions of another number of patches are interpolated, as timm does it.
        """
        with torch.device("meta"):
            full = created(self.name)
        given, expected = in_names_of_timm(dict(state), full), full.state_dict()
        translate = getattr(sys.modules[type(full).__module__], "checkpoint_filter_fn", None)
        if translate is not None and _shapes(given) != _shapes(expected):
            with suppress(Exception):  # of what is no file for this encoder; its names will not fit
                given = dict(translate(dict(given), full))
        unused = expected.keys() - self.own_names.keys()
        return {self.own_names.get(name, name): tensor for name, tensor in given.items() if name not in unused}


def encoder(name: str, output_stride: int, bands: int = 3) -> TimmEncoder:
    """The encoder of timm that is called `name` after its `timm/`; a ViT has the stride of its patches in any case.

    Raises StppError for an unknown one, and for one without such an output stride.
    """
    return TimmEncoder(name.removeprefix("timm/"), output_stride, bands)


def published(name: str) -> dict[str, Tensor]:
    """The weights that timm has for an encoder, as timm names them. Raises StppError where they can't be fetched."""
    bare = name.removeprefix("timm/")
    try:
        state: dict[str, Tensor] = created(bare, pretrained=True).state_dict()
    except StppError:
        raise
    except Exception as error:  # of a dozen kinds, by way of several packages
        raise StppError(
            f"could not fetch the weights of {name} by timm: {type(error).__name__}: {error}. Fetch them by `stpp "
            f"weights {name} FILE` on a machine with network access and set `network.weights` to the path of that file "
            "here, or to none to train from scratch"
        ) from error
    return state


def created(name: str, *, pretrained: bool = False, **how: Any) -> Any:
    """The network of that name, by timm. Raises StppError for an unknown one, and for what it does not take."""
    import timm

    bare, _, tag = name.partition(".")
    if bare not in (known := timm.list_models()):
        raise StppError(f"network.backbone: timm {timm.__version__} has no encoder {name}{_near(bare, known)}")
    tagged = [known.partition(".")[2] for known in timm.list_pretrained(f"{bare}.*")]
    if tag and tag not in tagged:
        raise StppError(f"network.backbone: timm {timm.__version__} has no weights {tag} of {bare}{_near(tag, tagged)}")
    try:
        model = timm.create_model(name, pretrained=pretrained, **how)
        if next(model.parameters()).is_meta and dict(model.named_buffers()).keys() - model.state_dict().keys():
            # Values that no checkpoint has would never come.
            with torch.device("cpu"):
                model = timm.create_model(name, pretrained=pretrained, **how)
    except (TypeError, AssertionError, NotImplementedError) as error:
        if "output_stride" in how:
            raise StppError(_without_stride(name, how["output_stride"], 32)) from error
        if "dynamic_img_size" in how:
            raise StppError(
                f"network.backbone: {name} takes images of one size alone; choose another encoder, such as "
                "timm/vit_small_patch14_dinov2"
            ) from error
        raise
    return model


def _shapes(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def _near(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
    return f"; did you mean {' or '.join(near)}?" if near else ""


def _without_stride(name: str, asked: int, own: int) -> str:
    return (
        f"network.output_stride: timm does not dilate {name} to an output stride of {asked}; set "
        f"`output_stride: {own}`, or choose another encoder"
    )


def _plain(module: nn.Module) -> nn.Module:
    """What computes the same, with batch norms that are torch's own, padding that no size of the image decides, and
    depthwise convolutions that are ours."""
    kind = type(module).__name__
    if kind == "BatchNormAct2d":
        return NormThenActivation(module)
    if kind == "Conv2dSame":
        return PaddedConv2d(module)  # type: ignore[arg-type]
    if type(module) is nn.Conv2d and _is_depthwise(module) and module.padding_mode == "zeros":
        return DepthwiseConv2d.of(module)
    return module


def _is_depthwise(convolution: nn.Conv2d) -> bool:
    """Whether each channel is computed from one channel alone, and no two from the same."""
    return 1 < convolution.groups == convolution.in_channels == convolution.out_channels


class NormThenActivation(nn.Sequential):
    """timm's batch norm with an activation in it as two modules: the batch norm of a team of processes replaces the
    first one, and would lose the second."""

    def __init__(self, both: Any) -> None:
        norm = nn.BatchNorm2d(both.num_features, both.eps, both.momentum, both.affine, both.track_running_stats)
        norm.load_state_dict(both.state_dict(), assign=True)
        super().__init__(OrderedDict(norm=norm, drop=both.drop, act=both.act))


class PaddedConv2d(nn.Conv2d):
    """TensorFlow's "same" padding, of images whose sides are multiples of all strides: it is one for all of them."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        nn.Module.__init__(self)
        self.__dict__.update(convolution.__dict__)
        sums = [
            max((kernel - 1) * rate + 1 - step, 0)
            for kernel, rate, step in zip(self.kernel_size, self.dilation, self.stride)
        ]
        self.padded = (sums[1] // 2, sums[1] - sums[1] // 2, sums[0] // 2, sums[0] - sums[0] // 2)

    def forward(self, input: Tensor) -> Tensor:
        padded, how = F.pad(input, self.padded), (self.stride, (0, 0), self.dilation)
        if _is_depthwise(self):
            return depthwise(padded, self.weight, self.bias, *how)
        return F.conv2d(padded, self.weight, self.bias, *how, self.groups)
