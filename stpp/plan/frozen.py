"""The stages that keep what a frozen encoder makes of images: the settings that decide it.

Neither a seed nor a decoder nor the length of a training is among them, so all experiments share these stages that have
the same encoder, images and views. Pure: no files, no torch.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from stpp.common import disk
from stpp.common.description import NetworkDescription
from stpp.common.registry import DECODERS, ENCODERS, constant, module_of
from stpp.settings.config import Config
from stpp.settings.training import Augmentation, Training

WHOLE = 1.0
"""The scale at which validation, evaluation and the masks for stability scores see an image."""


Inputs = dict[str, str | list[str]]


def view_maps(
    graph: Any,
    kind: str,
    subsets: Sequence[str],
    training: Training,
    augmentation: Mapping[str, Augmentation],
    seen: Sequence[str] = (),
) -> Inputs:
    """Among the inputs of a training: the maps of the images of a `kind`, labeled or unlabeled, in drawn views.

    `seen` are the names of a method's own views, which share a draw. Their stages are added to the `StageGraph`.
    Nothing where no maps are kept, or there are no such images.
    """
    config: Config = graph.config
    if not config.features.views or not subsets:
        return {}
    settings = {
        **_encoder(graph, training.precision),
        "views": config.features.views,
        "crop": training.crop,
        "base_size": training.base_size,
        "augmentation": {kind: augmentation[kind].model_dump()},
        **({"seen": list(seen)} if seen else {}),
    }
    return {f"{kind}_maps": [_encode(graph, subset, "views", settings) for subset in subsets]}


def whole_maps(graph: Any, subset: str) -> Inputs:
    """Among the inputs of what predicts a subset: the maps of its whole images; nothing where none are kept.

    Of unlabeled images there are those at the scales and flips of the labeling, too.
    """
    config: Config = graph.config
    if not config.features.views:
        return {}
    labeled = subset == "unlabeled"
    settings = {
        **_whole(graph),
        "scales": sorted({WHOLE, *(config.labeling.scales if labeled else [])}),
        "flip": labeled and config.labeling.flip,
    }
    return {"maps": _encode(graph, subset, "whole", settings)}


def whole_maps_kept(graphs: Sequence[Any]) -> list[str]:
    """The maps of whole images that these runs read, where every network sees them so; else none."""
    if not all(graph.config.features.views for graph in graphs):
        return []
    if any(_whole(graph) != _whole(graphs[0]) for graph in graphs):
        return []
    kept = [folder for graph in graphs for folder, role in graph.maps.items() if role.endswith("-whole")]
    return [f"{folder}/{disk.MAPS}" for folder in dict.fromkeys(kept)]


def _whole(graph: Any) -> dict[str, Any]:
    """How the encoder sees a whole image: what decides its maps at scale 1."""
    prediction = graph.config.prediction
    return {**_encoder(graph, prediction.precision), "long_side": prediction.long_side}


def _encoder(graph: Any, precision: str) -> dict[str, Any]:
    network: NetworkDescription = graph.config.network
    described = network.model_dump(include={"backbone", "output_stride"}) | {"weights": graph.weights["identity"]}
    return {"network": described, "maps": maps_read(network), "precision": precision, **graph.bands}


def _encode(graph: Any, subset: str, slug: str, settings: Mapping[str, Any]) -> str:
    """The maps of the images of a subset, whose stage is noted among those of the run."""
    files = {"weights": graph.weights["path"]} if graph.weights["path"] else {}
    variant = graph.config.network.backbone.replace("/", "-")
    role, components = f"{subset}-{slug}", graph.network[:1]
    folder: str = graph.add("encode", role, settings, [subset], {}, variant, files, components, of_seed=False)
    graph.maps[folder] = role
    return f"{folder}/{disk.MAPS}"


def maps_read(network: NetworkDescription) -> list[int]:
    """The numbers of those maps of the encoder that the decoder reads."""
    count = constant(module_of(ENCODERS, network.backbone), "MAPS", 2)
    reads = constant(module_of(DECODERS, network.architecture), "READS", tuple(range(count)))
    if isinstance(reads, str):  # the setting that says how many, the last ones
        reads = range(-getattr(network, reads), 0)
    return sorted({number % count for number in reads})
