"""What lies where on disk: the names of all files and folders of results.

It stands on the ground, beside `files`, because rooms that do not know each other use the same names: the plan and the
rules say what a stage writes, stages and report write and read it, and commands look for it. A name cannot change the
bytes of a result, so this module is no part of a stage's code.

    RESULTS/data/                 what is known of the images
    RESULTS/logs/                 what jobs say
    RESULTS/weights/              initial weights of encoders
    RESULTS/stages/KIND/NAME/     one stage: its recipe, its artifacts, and its record once they are whole
    RESULTS/NAME/                 what people look at: files of one configuration
    RESULTS/runs/NAME/            links to the stages of one configuration
"""

STAGES, DATA, LOGS, WEIGHTS, LINKS = "stages", "data", "logs", "weights", "runs"
COMMON = (DATA, LOGS, LINKS, STAGES, WEIGHTS)
"""The folders of results that no configuration can be called."""
TENSORBOARD = "tensorboard"
"""In the logs."""
LOCKS = ".locks"
"""In the folder of stages: marks of those who are at work."""
INSPECTED, CHECKED = "cache.json", "checked.json"
"""What is known of images, in the data, and of files with weights, beside these."""
CONFIG = "config.json"
"""The configuration, in its folder."""
EXPERIMENTS, COMPARISON = "experiments", "comparison"
"""In the links of a configuration: those to the stages of each run, and to the stages that compare all runs."""

# Every stage.
RECIPE, RECORD = "recipe.json", "stage.json"
"""What decides its result; and, written last, what it is that is done."""
UNFINISHED = "unfinished"
"""A folder in that of a stage: its saved work until it is done."""
PARTS = "parts"
"""A folder in that of a stage whose work has several parts: those that are done, until all are."""
PROGRESS = "progress.json"
TRAINING_STATE = "training.pt"
"""In the unfinished work."""

# Artifacts.
BEST, LAST = "best.pt", "last.pt"
HISTORY = "metrics.csv"
"""Losses and validation of each epoch of a training."""
MAPS = "maps.h5"
"""What a frozen encoder has made of images."""
MASKS = "masks.h5"
SCORES = "scores.csv"
RELIABLE, UNRELIABLE = "reliable.txt", "unreliable.txt"
METRICS, IMAGES = "metrics.json", "images.csv"
"""Of an evaluation, as a whole (of a table, too) and of each image."""
VERDICT, MODEL, CARD = "verdict.json", "model.pt", "model-card.md"
"""Which network to use and why, that network, and its card."""
LENGTH = "length.json"
"""How much longer trainings take than the configuration says."""
OUTLOOK = "outlook.json"
"""Whether unlabeled images will probably pay, and why."""
TABLE, TABLE_TEXT, RUNS = "table.csv", "table.txt", "runs.csv"
GATHERED = "stages.json"
"""What the table has read of all stages, for the report."""
REPORT = "report.html"

OUTPUTS = {
    "length": {"length": LENGTH},
    "encode": {"maps": MAPS},
    "predict": {"masks": MASKS},
    "score": {"scores": SCORES},
    "select": {"reliable": RELIABLE, "unreliable": UNRELIABLE},
    "pixels": {"masks": MASKS},
    "evaluate": {"metrics": METRICS, "images": IMAGES},
    "outlook": {"outlook": OUTLOOK},
    "verdict": {"verdict": VERDICT, "model": MODEL, "card": CARD},
    "table": {"table": TABLE, "runs": RUNS, "text": TABLE_TEXT, "metrics": METRICS, "gathered": GATHERED},
    "chart": {"data": "data.csv", "png": "chart.png", "svg": "chart.svg"},
    "report": {"page": REPORT},
}
"""The artifacts of each kind of stage by name, but for trainings, which differ in their checkpoints."""


def outputs(kind: str) -> dict[str, str]:
    """The files that a stage of this kind writes, by name; the record is the last."""
    return {**OUTPUTS[kind], "record": RECORD}


def training_outputs(checkpoints: int, validates: bool) -> dict[str, str]:
    """The files that a training writes, by name: so many `checkpoints`, the last of them `last`; the best network where
    it `validates`; the record is the last.
    """
    earlier = {f"checkpoint_{k}": checkpoint(k) for k in range(1, checkpoints)}
    best = {"best": BEST} if validates else {}
    return {**earlier, **best, "last": LAST, "history": HISTORY, "record": RECORD}


def checkpoint(which: str | int) -> str:
    """The file of a checkpoint: `best`, `last`, or number k of a training, from 1."""
    return f"checkpoint-{which}.pt" if isinstance(which, int) else f"{which}.pt"


def part_of_store(shard: int | str, shards: int | str) -> str:
    """The file, in a stage's folder, of the masks or maps of one job of several, number 0 to `shards` - 1."""
    return f"{PARTS}/{shard}-of-{shards}.h5"
