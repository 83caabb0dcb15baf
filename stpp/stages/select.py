"""The stage that splits the unlabeled images, or their pixels, into reliable and unreliable ones."""

from stpp.runtime.stage import Runtime, Stage
from stpp.scoring.selection import select_random, select_reliable
from stpp.store.idlist import write_list
from stpp.store.scores import read_score_table


def run(stage: Stage, runtime: Runtime) -> None:
    """Split images by score, or at random as a control, or pixels by the checkpoints' agreement or by confidence.

    Of images it writes `reliable.txt` and `unreliable.txt`, of pixels `masks.h5`.
    """
    if stage.settings["by"] in ("agreement", "confidence"):
        split_pixels(stage)
    else:
        split_images(stage)


def split_images(stage: Stage) -> None:
    """Write the lists of the reliable and of the unreliable images."""
    settings = stage.settings
    if settings["by"] == "score":
        table = read_score_table(stage.input("scores"))
        reliable, unreliable = select_reliable(table["id"].tolist(), table["score"].tolist(), settings["share"])
    else:
        ids = [row.id for row in stage.rows("unlabeled")]
        reliable, unreliable = select_random(ids, settings["share"], settings["seed"])
    for name, part in (("reliable.txt", reliable), ("unreliable.txt", unreliable)):
        with stage.writing(name) as path:
            write_list(part, path)
    stage.finish(reliable=len(reliable), unreliable=len(unreliable))


def split_pixels(stage: Stage) -> None:
    """Write the pseudo-labels with 255 for all pixels but the reliable ones."""
    # Here, because lists are split without HDF5, which takes a while to import.
    from stpp.stages.pixels import agreeing, confident, keep_reliable
    from stpp.store.masks import MaskStore

    labels = MaskStore(stage.input("labels"))
    if stage.settings["by"] == "agreement":
        reliable = agreeing([MaskStore(path) for path in stage.inputs("masks")])
    else:
        reliable = confident(labels, stage.settings["confidence"])
    with stage.writing("masks.h5") as path:
        kept = keep_reliable(labels, reliable, stage.recipe["identity"], path)
    left = MaskStore(stage.folder / "masks.h5").class_pixels
    if lost := [name for name, before, after in zip(labels.classes, labels.class_pixels, left) if before > after == 0]:
        stage.warn(f"{stage.folder.name}: no pixel of the class {', '.join(lost)} is reliable")
    stage.finish(images=len(labels), reliable_pixels=kept, pixels=sum(labels.class_pixels))
