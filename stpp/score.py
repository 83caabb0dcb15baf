"""The stage that scores how stable the K checkpoints' masks of each unlabeled image are."""

from stpp.masks import MaskStore
from stpp.stability import score_table, write_score_table
from stpp.stage import Runtime, Stage


def run(stage: Stage, runtime: Runtime) -> None:
    """Compare the mask stores of `stage`; writes `scores.csv`."""
    stores = [MaskStore(path) for path in stage.inputs("masks")]
    table = score_table(stores, stage.settings["definition"])
    with stage.writing("scores.csv") as path:
        write_score_table(table, path)
    stage.finish(images=len(table))
