"""The stage that splits the unlabeled images into reliable and unreliable ones."""

from stpp import disk
from stpp.runtime.job import Job, Runtime
from stpp.scoring.selection import select_random, select_reliable
from stpp.store.idlist import write_list
from stpp.store.scores import read_score_table


def run(job: Job, runtime: Runtime) -> None:
    """Split the images by score, or at random as a control; writes `reliable.txt` and `unreliable.txt`."""
    settings = job.settings
    if settings["by"] == "score":
        table = read_score_table(job.input("scores"))
        reliable, unreliable = select_reliable(table["id"].tolist(), table["score"].tolist(), settings["share"])
    else:
        ids = [row.id for row in job.rows("unlabeled")]
        reliable, unreliable = select_random(ids, settings["share"], settings["seed"])
    for name, part in ((disk.RELIABLE, reliable), (disk.UNRELIABLE, unreliable)):
        with job.writing(name) as path:
            write_list(part, path)
    job.finish(reliable=len(reliable), unreliable=len(unreliable))
