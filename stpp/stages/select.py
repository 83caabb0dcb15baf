"""The stage that splits the unlabeled images into reliable and unreliable ones."""

from collections.abc import Sequence

from stpp.common import disk
from stpp.data.reading import mask_of
from stpp.runtime.job import Job, Runtime
from stpp.scoring.balance import class_pixels
from stpp.scoring.selection import Rearranged, balanced_first, constant_last, select_random, select_reliable
from stpp.store.idlist import write_list
from stpp.store.masks import MaskStore
from stpp.store.scores import read_score_table


def run(job: Job, runtime: Runtime) -> None:
    """Split the images by score, or at random as a control; writes `reliable.txt` and `unreliable.txt`."""
    settings = job.settings
    if settings["by"] == "score":
        table = read_score_table(job.input("scores"))
        ids, scores = table["id"].tolist(), table["score"].tolist()
        reliable, unreliable = select_reliable(ids, scores, settings["share"], rearrangements(job, ids))
    else:
        ids = [row.id for row in job.rows("unlabeled")]
        reliable, unreliable = select_random(ids, settings["share"], settings["seed"])
    for name, part in ((disk.RELIABLE, reliable), (disk.UNRELIABLE, unreliable)):
        with job.writing(name) as path:
            write_list(part, path)
    job.finish(reliable=len(reliable), unreliable=len(unreliable))


def rearrangements(job: Job, ids: Sequence[str]) -> list[Rearranged]:
    """What `job` asks for beside the score of the images `ids`."""
    settings = job.settings
    if "masks" not in job.recipe["inputs"]:
        return []
    store = MaskStore(job.input("masks"))
    predicted = class_pixels((store[id] for id in ids), len(store.classes)) > 0
    found = []
    if settings.get("constant") == "last":
        encoding = settings["encoding"]
        labeled = class_pixels((mask_of(row, encoding) for row in job.rows("labeled")), encoding["classes"]) > 0
        found.append(constant_last(predicted, labeled))
    if settings.get("balanced"):
        found.append(balanced_first(predicted))
    return found
