"""Weights into a network: a whole network's, or a backbone's from ImageNet in torchvision's names."""

from collections.abc import Mapping

from torch import Tensor

from stpp.errors import Problems, StppError
from stpp.models.network import SegmentationNetwork


def load_weights(net: SegmentationNetwork, state: Mapping[str, Tensor], source: str) -> str:
    """Copies `state` into `net` by name, completely or not at all, and returns a sentence that says what was loaded.

    `state` is recognised by its names, after a `module.` (DataParallel's) before all of them is dropped:

    - `backbone.*` present: a whole network's (`backbone.*`, `classifier.*`), every entry of which must fit
    - else: a backbone's in torchvision's names; ImageNet's classifier in it is left out, the network's stays as it is

    Counters of seen batches (`num_batches_tracked`) may be missing, as in old files; they steer nothing here.
    `source` names the weights in messages. Raises StppError listing every name that is missing, unexpected or of
    another shape (as `name: shape -> expected shape`), and leaves `net` unchanged then.
    """
    _refuse_what_is_no_state(state, source)
    state = without_prefix(state)
    whole = any(name.startswith("backbone.") for name in state)
    target = net if whole else net.backbone
    left_out = () if whole else net.backbone.imagenet_only

    own = target.state_dict()
    wanted = {name: tensor for name, tensor in state.items() if not name.startswith(left_out)}
    if problems := _mismatches(own, wanted):
        what = "the network" if whole else "the backbone"
        raise Problems(
            f"weights {source} do not fit {what} (choose the network, and the number of classes, "
            "that they were made for)",
            problems,
        )
    target.load_state_dict({**own, **wanted})

    if whole:
        return f"Loaded the whole network, {len(wanted)} tensors, from {source}."
    ignored = len(state) - len(wanted)
    ending = f", without {ignored} of ImageNet's classifier" if ignored else ""
    return f"Loaded the backbone, {len(wanted)} tensors, from {source}{ending}."


def without_prefix(state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The same tensors without the `module.` that DataParallel puts before all names."""
    if not all(name.startswith("module.") for name in state):
        return state
    return {name.removeprefix("module."): tensor for name, tensor in state.items()}


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


def _refuse_what_is_no_state(state: Mapping[str, object], source: str) -> None:
    others = [name for name, value in state.items() if not isinstance(value, Tensor)]
    if others or not state:
        found = f"the entry {others[0]!r} is a {type(state[others[0]]).__name__}" if others else "it is empty"
        raise StppError(f"weights {source} are no state dict: {found}; expected only named tensors")


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
