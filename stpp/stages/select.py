"""The stage that splits the unlabeled images into reliable and unreliable ones."""

from stpp import disk
from stpp.runtime.stage import Runtime, Stage
from stpp.scoring.selection import select_random, select_reliable
from stpp.store.idlist import write_list
from stpp.store.scores import read_score_table


def run(stage: Stage, runtime: Runtime) -> None:
    """Split the images by score, or at random as a control; writes `reliable.txt` and `unreliable.txt`."""
    settings = stage.settings
    if settings["by"] == "score":
        table = read_score_table(stage.input("scores"))
        reliable, unreliable = select_reliable(table["id"].tolist(), table["score"].tolist(), settings["share"])
    else:
        ids = [row.id for row in stage.rows("unlabeled")]
        reliable, unreliable = select_random(ids, settings["share"], settings["seed"])
    for name, part in ((disk.RELIABLE, reliable), (disk.UNRELIABLE, unreliable)):
        with stage.writing(name) as path:
            write_list(part, path)
    stage.finish(reliable=len(reliable), unreliable=len(unreliable))
