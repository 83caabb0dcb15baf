"""The stage that splits the unlabeled images into reliable and unreliable ones."""

from stpp.idlist import write_list
from stpp.selection import select_random, select_reliable
from stpp.stability import read_score_table
from stpp.stage import Runtime, Stage


def run(stage: Stage, runtime: Runtime) -> None:
    """Split by score, or at random as a control; writes `reliable.txt` and `unreliable.txt`."""
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
