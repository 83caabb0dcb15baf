"""Weights into a network: a whole network's, or a backbone's in the names that it was published with."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from stpp.common.errors import Problems, StppError
from stpp.common.registry import ENCODERS, component, modules
from stpp.models.network import SegmentationNetwork

WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model", "teacher", "student")
"""Keys under which other projects keep a state dict, beside what they say about the training: averages first, as in
timm, and in a checkpoint of self-distillation the teacher, which is what its authors evaluate."""
AROUND = ("module.", "_orig_mod.", "model.", "net.")
"""What DataParallel, torch.compile and modules around a network, as in Lightning, put before all names."""
PARTS = ("backbone.", "encoder.", "teacher.", "encoder_q.", "base_encoder.", "student.")
"""What the names of an encoder begin with where the file has other tensors, too: a head, or a second network."""
MOST_READINGS = 64
"""A file whose names have more prefixes than that is not looked at any further."""


def load_weights(net: SegmentationNetwork, content: Any, source: str) -> str:
    """Copies `content` into `net` by name, completely or not at all, and returns a sentence that says what was loaded.

    Raises what `matched` raises, and leaves `net` unchanged then.
    """
    target, state, said = matched(net, content, source)
    target.load_state_dict({**target.state_dict(), **state})
    return said


def matched(net: SegmentationNetwork, content: Any, source: str) -> tuple[nn.Module, dict[str, Tensor], str]:
    """The part of `net` that the weights in `content` are for, what of them goes there, and a sentence that says so.

    `content` is a state dict, or a mapping with one as one of its `WRAPPERS`. Its names are read as they are, and in
    all `readings` without prefixes:

    - `backbone.*` and `classifier.*`: a whole network's, every entry of which must fit
    - else: a backbone's in the names that it was published with, `renamed` by it; what it has no use for, such as
      ImageNet's classifier, is left out, the network's classifier stays as it is

    The first reading that fits is taken. Counters of seen batches (`num_batches_tracked`) may be missing, as in old
    files; they steer nothing here. `source` names the weights in messages. Raises StppError listing every name that is
    missing, unexpected or of another shape (as `name: shape -> expected shape`) in the reading that has the fewest of
    them. The tensors of `net` may be on the meta device.
    """
    state = _state_of(content, source)
    problems: list[str] | None = None
    for reading in readings(state):
        is_whole = _is_whole(reading)
        of: nn.Module = net if is_whole else net.backbone
        named, note = for_bands(net, dict(reading) if is_whole else net.backbone.renamed(reading))
        wrong = _mismatches(of.state_dict(), named)
        if problems is None or len(wrong) < len(problems):
            whole, target, wanted, adapted, problems = is_whole, of, named, note, wrong
        if not wrong:
            break
    if problems:
        what = "the network" if whole else "the backbone"
        raise Problems(
            f"weights {source} do not fit {what} (choose the network, and the number of classes, "
            "that they were made for)",
            problems,
        )
    if whole:
        return target, wanted, f"Loaded the whole network, {len(wanted)} tensors, from {source}."
    ignored = len(state) - len(wanted)
    ending = f", without {ignored} others, such as ImageNet's classifier" if ignored else ""
    return target, wanted, f"Loaded the backbone, {len(wanted)} tensors, from {source}{ending}.{adapted}"


def for_bands(net: SegmentationNetwork, state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], str]:
    """Weights of a backbone for images of other bands than RGB, and a sentence that says so, or "".

    Where the backbone has a convolution of as many inputs as there are bands, and `state` one of 3, a band that is red,
    green or blue takes its weights, and every other one the mean of the three; all are multiplied by 3 / bands, so that
    features stay as large as they were (as in timm, which takes the three in turn).
    """
    colours, own = net.backbone.colours, net.backbone.state_dict()
    found = dict(state)
    first = next((name for name, tensor in own.items() if tensor.ndim == 4 and tensor.shape[1] == len(colours)), None)
    given = None if first is None else state.get(first)
    if first is None or given is None or len(colours) == 3 or given.shape[1] != 3 or given.ndim != 4:
        return found, ""
    mean = given.mean(dim=1)
    bands = [mean if colour is None else given[:, colour] for colour in colours]
    found[first] = torch.stack(bands, dim=1) * (3 / len(colours))
    known = sum(colour is not None for colour in colours)
    whose = f"{known} of them red, green and blue, the others their mean" if known else "each the mean of the three"
    return found, f" Its first convolution takes {len(colours)} bands instead of 3: {whose}."


def readings(state: Mapping[str, Tensor]) -> Iterator[Mapping[str, Tensor]]:
    """What the names of `state` may mean: the same tensors, then those without one prefix, without two, and so on.

    A prefix of `AROUND` stands before all names; of `PARTS`, before those of a part, which alone are kept. The names of
    a whole network are read as they are.
    """
    found = [state]
    for reading in found:  # it grows
        yield reading
        if _is_whole(reading) or len(found) > MOST_READINGS:
            continue
        around = (without_prefix(reading, prefix) for prefix in AROUND)
        found += [bare for bare in around if bare is not reading]
        parts = ({name: each for name, each in reading.items() if name.startswith(prefix)} for prefix in PARTS)
        found += [without_prefix(part, prefix) for prefix, part in zip(PARTS, parts) if part]


def _is_whole(state: Mapping[str, Tensor]) -> bool:
    """Whether the names are those of a network of this package, and not of an encoder."""
    return {"backbone", "classifier"} <= {name.partition(".")[0] for name in state}


def without_prefix(state: Mapping[str, Tensor], prefix: str = "module.") -> Mapping[str, Tensor]:
    """The same tensors without a prefix that stands before all names, as DataParallel's `module.` does."""
    if not all(name.startswith(prefix) for name in state):
        return state
    return {name.removeprefix(prefix): tensor for name, tensor in state.items()}


def published_weights(backbone: str) -> dict[str, Tensor]:
    """The weights of `backbone` that its authors, or torchvision, published, for `load_weights`.

    Taken from a cache or else from the network. Raises StppError where there is no such backbone, no such weights, or
    they can't be fetched.
    """
    try:
        encoder = component(ENCODERS, backbone)
    except KeyError:
        raise StppError(f"there is no backbone {backbone}; expected one of {', '.join(modules(ENCODERS))}") from None
    return getattr(encoder, "published", torchvision_weights)(backbone)


def torchvision_weights(backbone: str) -> dict[str, Tensor]:
    """The ImageNet weights (IMAGENET1K_V1) of `backbone` by torchvision, for `load_weights`.

    Taken from torch's download cache or else from the network. Raises StppError where there are none, or they can't be
    fetched.
    """
    if backbone == "tiny":
        raise StppError("backbone tiny has no ImageNet weights: train it from scratch, or choose another backbone")
    from torchvision.models import get_model_weights

    weights = get_model_weights(backbone)["IMAGENET1K_V1"]
    try:
        state: dict[str, Tensor] = weights.get_state_dict(check_hash=True, progress=False, weights_only=True)
    except (OSError, RuntimeError) as error:  # no network, no disk; or a truncated download
        raise StppError(
            f"could not fetch the ImageNet weights of {backbone} from {weights.url}: {error}. Download that file on a "
            "machine with network access and set `network.weights` to its path here, or to none to train from scratch"
        ) from error
    return state


def _state_of(content: Any, source: str) -> Mapping[str, Tensor]:
    """The state dict in what a file holds: all of it, or one of its `WRAPPERS`. Raises StppError if there is none."""
    if isinstance(content, Mapping):
        content = next((content[key] for key in WRAPPERS if isinstance(content.get(key), Mapping)), content)
    if not isinstance(content, Mapping):
        found = f"they are a {type(content).__name__}"
    elif others := [name for name, value in content.items() if not isinstance(value, Tensor)]:
        found = f"the entry {others[0]!r} is a {type(content[others[0]]).__name__}"
    elif not content:
        found = "it is empty"
    else:
        return content
    raise StppError(
        f"weights {source} are no state dict: {found}; expected named tensors alone, or these as one of "
        f"{', '.join(WRAPPERS)}"
    )


def _mismatches(own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> list[str]:
    """Sentences for what of `given` does not fit `own`, in the network's order; then what it has no place for."""
    problems = []
    for name, tensor in own.items():
        expected = tuple(tensor.shape)
        if name not in given:
            if not name.endswith(".num_batches_tracked"):
                problems.append(f"{name}: missing -> {expected}")
        elif given[name].shape != tensor.shape:
            problems.append(f"{name}: {tuple(given[name].shape)} -> {expected}")
    return problems + [f"{name}: {tuple(given[name].shape)} -> unexpected" for name in given if name not in own]
