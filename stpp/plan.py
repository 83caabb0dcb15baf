"""From experiments and data fingerprints to a graph of stages, each with its identity and its folder.

A stage's identity is a digest of exactly what decides its result: its settings, the fingerprints of the subsets that
it reads, the identities of the stages that it reads, and its code. Its folder is
`<results>/stages/<stage>/<slug>-<8 hex>`, so an artifact is a function of its path: nothing is overwritten, and
experiments that agree on a stage share it. This module is pure: no files, no torch.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from stpp.config import Augmentation, Config, Training
from stpp.identity import identity_of

Recipe = dict[str, Any]


@dataclass(frozen=True)
class Stage:
    """One node of the graph; all values are plain JSON.

    `data` maps subsets to fingerprints. `inputs` maps names to artifacts of other stages, as paths below
    `<results>/stages` (one, or a list). `files` are paths of files that are no artifacts, whose content `settings`
    already identifies. `outputs` are file names within the folder.
    """

    kind: str
    slug: str
    settings: Mapping[str, Any]
    data: Mapping[str, str]
    inputs: Mapping[str, str | list[str]]
    outputs: tuple[str, ...]
    code: str
    files: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def identity(self) -> str:
        """SHA-256 (hex) of everything that decides the result."""
        return identity_of(self._content())

    @property
    def folder(self) -> str:
        """Folder below `<results>/stages`."""
        return f"{self.kind}/{self.slug}-{self.identity[:8]}"

    def recipe(self) -> Recipe:
        """What the stage's command needs to know, as JSON."""
        return {"stage": self.kind, "identity": self.identity, **self._content()}

    def _content(self) -> Recipe:
        return {
            "stage": self.kind,
            "code": self.code,
            "settings": dict(self.settings),
            "data": dict(self.data),
            "inputs": dict(self.inputs),
            "files": dict(self.files),
            "outputs": list(self.outputs),
        }


@dataclass(frozen=True)
class Run:
    """One experiment with one seed: the folders of its stages by their roles."""

    experiment: str
    seed: int
    method: str
    stages: Mapping[str, str]


@dataclass(frozen=True)
class Plan:
    """All stages by folder, the runs, and the folders of the table and of the report."""

    name: str
    stages: Mapping[str, Stage]
    runs: Sequence[Run]
    table: str
    report: str


def expand(
    config: Config,
    resolve: Callable[[Config, str], Config],
    index_of: Callable[[Config], Mapping[str, Any]],
    weights_of: Callable[[Config], Mapping[str, str]],
    code_of: Callable[[str], str],
) -> Plan:
    """The graph of `config`.

    `resolve` applies the overrides of an experiment. `index_of` gives the recorded index of a configuration's data:
    `subsets` (with a `fingerprint` and a `count` each), `classes` and their `palette`. `weights_of` gives the
    `identity` and `path` of the initial weights. `code_of` gives the code identity of a stage.
    """
    stages: dict[str, Stage] = {}
    runs, graphs = [], []
    for experiment, seed in [(name, seed) for name in config.experiments for seed in config.seeds]:
        resolved = resolve(config, experiment)
        graph = _Graph(resolved, seed, index_of(resolved), weights_of(resolved), code_of, stages)
        method = config.experiments[experiment].method
        runs.append(Run(experiment, seed, method, graph.run(method)))
        graphs.append(graph)
    rows = [{"experiment": r.experiment, "seed": r.seed, "method": r.method, "stages": dict(r.stages)} for r in runs]
    settings = {"name": config.name, "runs": rows}
    ended = sorted({f"{folder}/stage.json" for run in runs for folder in run.stages.values()})
    outputs = ("table.csv", "runs.csv", "table.txt", "metrics.json", "stage.json")
    table = Stage("table", config.name, settings, {}, {"stages": ended}, outputs, code_of("table"))
    # The pictures are of one run: the first one with scores, else that of the last experiment.
    shown = next((i for i, run in enumerate(runs) if "score" in run.stages), len(runs) - len(config.seeds))
    pictures, artifacts = graphs[shown].pictures(runs[shown].stages)
    report = Stage(
        "report",
        config.name,
        settings
        | {"config": config.model_dump(mode="json", exclude={"results", "runtime"}, exclude_defaults=True)}
        | {"shown": shown, **pictures},
        graphs[shown].fingerprints,
        {"table": f"{table.folder}/metrics.json", "stages": ended, **artifacts},
        ("report.html", "stage.json"),
        code_of("report"),
    )
    stages |= {table.folder: table, report.folder: report}
    return Plan(config.name, stages, runs, table.folder, report.folder)


class _Graph:
    """The stages of one experiment with one seed, added to those that are already known."""

    def __init__(
        self,
        config: Config,
        seed: int,
        index: Mapping[str, Any],
        weights: Mapping[str, str],
        code_of: Callable[[str], str],
        stages: dict[str, Stage],
    ) -> None:
        self.config = config
        self.seed = seed
        self.fingerprints = {subset: entry["fingerprint"] for subset, entry in index["subsets"].items()}
        self.classes = list(index["classes"])
        self.palette = index["palette"]
        self.weights = weights
        self.code_of = code_of
        self.stages = stages
        data = config.data
        self.encoding = {
            "classes": len(self.classes),
            "ignore_value": data.ignore_value,
            "label_map": {str(raw): label for raw, label in data.label_map.items()} if data.label_map else None,
            "palette_map": data.palette_map,
        }

    def run(self, method: str) -> dict[str, str]:
        """The stages of `method`, by role; the order is the method's (ST++ Algorithms 1 and 2)."""
        teacher = self.train_teacher()
        run = {"teacher": teacher, **self.evaluations("teacher", teacher)}
        if method == "suponly":
            return run
        weak_only = method == "plain"
        labeler = f"{teacher}/{self.config.labeling.teacher}.pt"
        if method in ("plain", "st"):
            labels = self.label("teacher", labeler, None)
            student = self.train_student("student", [labels], weak_only)
            return {
                **run,
                "labels": labels,
                **self.label_quality("labels", [labels]),
                "student": student,
                **self.evaluations("student", student),
            }

        if method == "st++":
            masks = [self.checkpoint_masks(teacher, k) for k in range(1, self.config.selection.checkpoints + 1)]
            score = self.score(masks)
            select = self.select_stable(score)
            run |= {f"masks{k}": store for k, store in enumerate(masks, 1)}
            run |= {"score": score, "select": select, **self.label_quality("stability", [masks[-1]], select)}
        else:
            select = self.select_random()
            run |= {"select": select}
        labels1 = self.label("teacher-reliable", labeler, f"{select}/reliable.txt")
        phase1 = self.train_student("student-phase1", [labels1], weak_only)
        relabeler = f"{phase1}/{self.config.labeling.student}.pt"
        labels2 = self.label("phase1-unreliable", relabeler, f"{select}/unreliable.txt")
        student = self.train_student("student-phase2", [labels1, labels2], weak_only)
        return {
            **run,
            "labels1": labels1,
            **self.label_quality("labels1", [labels1]),
            "phase1": phase1,
            **self.evaluations("phase1", phase1),
            "labels2": labels2,
            **self.label_quality("labels2", [labels2]),
            "student": student,
            **self.evaluations("student", student),
        }

    # --- one method a stage -------------------------------------------------------------------------------------------

    def train_teacher(self) -> str:
        """The teacher: labeled images alone, K checkpoints."""
        checkpoints = self.config.selection.checkpoints
        training = self.config.training.teacher
        augmentation = {"labeled": self.config.augmentation.teacher.labeled}
        return self.train("teacher", f"teacher-k{checkpoints}", checkpoints, training, augmentation, [])

    def train_student(self, slug: str, labels: list[str], weak_only: bool) -> str:
        """A student: labeled and pseudo-labeled images, from scratch."""
        augmentation = {
            "labeled": self.config.augmentation.student.labeled,
            "unlabeled": self.config.augmentation.student.unlabeled,
        }
        if weak_only:
            off = {"jitter": None, "grayscale": None, "blur": None, "cutout": None}
            augmentation["unlabeled"] = augmentation["unlabeled"].model_copy(update=off)
        return self.train("student", slug, 1, self.config.training.student, augmentation, labels)

    def train(
        self,
        role: str,
        slug: str,
        checkpoints: int,
        training: Training,
        augmentation: Mapping[str, Augmentation],
        labels: list[str],
    ) -> str:
        """Training of a teacher or a student; without a val set there is no `best`."""
        validates = "val" in self.fingerprints and training.validate_every > 0
        subsets = ["labeled", *(["val"] if validates else []), *(["unlabeled"] if labels else [])]
        settings = {
            "role": role,
            "seed": self.seed,
            "checkpoints": checkpoints,
            "classes": self.classes,
            "encoding": self.encoding,
            "network": self.config.network.model_dump() | {"weights": self.weights["identity"]},
            "training": training.model_dump() | ({} if validates else {"validate_every": 0}),
            "augmentation": {kind: value.model_dump() for kind, value in augmentation.items()},
            "prediction": self.prediction() if validates else None,
        }
        earlier = [f"checkpoint-{k}.pt" for k in range(1, checkpoints)]
        outputs = (*earlier, *(["best.pt"] if validates else []), "last.pt", "metrics.csv", "stage.json")
        files = {"weights": self.weights["path"]} if self.weights["path"] else {}
        network = f"{self.config.network.architecture}-{self.config.network.backbone}"
        variant = f"{slug}-{'val' if validates else 'noval'}-{network}"
        inputs: dict[str, str | list[str]] = {"labels": [f"{store}/masks.h5" for store in labels]} if labels else {}
        return self.add("train", variant, settings, subsets, inputs, outputs, files)

    def checkpoint_masks(self, teacher: str, k: int) -> str:
        """Masks of all unlabeled images by checkpoint k of the teacher; the last checkpoint is `last`."""
        name = "last" if k == self.config.selection.checkpoints else f"checkpoint-{k}"
        return self.predict(f"masks-checkpoint{k}", f"{teacher}/{name}.pt", None, None)

    def label(self, slug: str, checkpoint: str, images: str | None) -> str:
        """Pseudo-labels with test-time augmentation, of the listed unlabeled images or of all."""
        tta = {"scales": self.config.labeling.scales, "flip": self.config.labeling.flip}
        return self.predict(f"labels-{slug}", checkpoint, images, tta)

    def predict(self, slug: str, checkpoint: str, images: str | None, tta: Mapping[str, Any] | None) -> str:
        """Masks of unlabeled images by one checkpoint."""
        settings = {"tta": tta, "prediction": self.prediction()}
        inputs: dict[str, str | list[str]] = {"checkpoint": checkpoint}
        if images:
            inputs["images"] = images
        return self.add("predict", slug, settings, ["unlabeled"], inputs, ("masks.h5", "stage.json"))

    def score(self, masks: Sequence[str]) -> str:
        """Stability of the K masks of each unlabeled image."""
        settings = {"definition": self.config.selection.score}
        inputs: dict[str, str | list[str]] = {"masks": [f"{store}/masks.h5" for store in masks]}
        return self.add("score", f"k{len(masks)}", settings, [], inputs, ("scores.csv", "stage.json"))

    def select_stable(self, score: str) -> str:
        """The reliable images are the most stable ones."""
        settings = {"by": "score", "share": self.config.selection.share}
        return self.select("stable", settings, [], {"scores": f"{score}/scores.csv"})

    def select_random(self) -> str:
        """The control: the images of phase 1 are drawn at random."""
        settings = {"by": "random", "share": self.config.selection.share, "seed": self.seed}
        return self.select("random", settings, ["unlabeled"], {})

    def select(
        self, slug: str, settings: Mapping[str, Any], subsets: Sequence[str], inputs: Mapping[str, str | list[str]]
    ) -> str:
        """Reliable and unreliable list."""
        slug = f"{slug}-{self.config.selection.share:g}"
        return self.add("select", slug, settings, subsets, inputs, ("reliable.txt", "unreliable.txt", "stage.json"))

    def evaluations(self, role: str, train: str) -> dict[str, str]:
        """Evaluation of a model on val and on test, where there is one."""
        settings = {"encoding": self.encoding, "prediction": self.prediction()}
        inputs: dict[str, str | list[str]] = {"checkpoint": f"{train}/{self.config.evaluation.checkpoint}.pt"}
        return {
            f"{role}-{subset}": self.add("evaluate", f"{role}-{subset}", settings, [subset], inputs, METRICS)
            for subset in ("val", "test")
            if subset in self.fingerprints
        }

    def label_quality(self, role: str, stores: Sequence[str], select: str | None = None) -> dict[str, str]:
        """Quality of masks of unlabeled images, for those that happen to have a true mask; reported, never used."""
        if "truth" not in self.fingerprints:
            return {}
        settings = {"encoding": self.encoding}
        inputs: dict[str, str | list[str]] = {"masks": [f"{store}/masks.h5" for store in stores]}
        if select:
            inputs["reliable"] = f"{select}/reliable.txt"
        name = f"{role}-truth"
        return {name: self.add("evaluate", name, settings, ["truth"], inputs, METRICS)}

    def pictures(self, run: Mapping[str, str]) -> tuple[Recipe, dict[str, str | list[str]]]:
        """What the report needs to draw masks of a run: settings, and artifacts by name.

        `checkpoint` is the one of the last network that is evaluated, `masks` those of the K checkpoints, `labels` the
        pseudo-labels.
        """
        settings = {
            "classes": self.classes,
            "palette": self.palette,
            "encoding": self.encoding,
            "prediction": self.prediction(),
        }
        *_, last = (folder for folder in run.values() if folder.startswith("train/"))
        artifacts: dict[str, str | list[str]] = {"checkpoint": f"{last}/{self.config.evaluation.checkpoint}.pt"}
        for name in ("masks", "labels"):
            stores = [folder for role, folder in run.items() if role.startswith(name) and folder.startswith("predict/")]
            artifacts[name] = [f"{folder}/masks.h5" for folder in stores]
        return settings, artifacts

    def prediction(self) -> dict[str, Any]:
        """How a network is applied to an image; without tiles there is no overlap."""
        settings = self.config.prediction.model_dump()
        return settings if settings["tile"] else settings | {"overlap": None}

    def add(
        self,
        kind: str,
        slug: str,
        settings: Mapping[str, Any],
        subsets: Sequence[str],
        inputs: Mapping[str, str | list[str]],
        outputs: tuple[str, ...],
        files: Mapping[str, str] | None = None,
    ) -> str:
        """Make a stage known; returns its folder."""
        data = {subset: self.fingerprints[subset] for subset in subsets}
        stage = Stage(kind, f"{slug}-seed{self.seed}", settings, data, inputs, outputs, self.code_of(kind), files or {})
        return self.stages.setdefault(stage.folder, stage).folder


METRICS = ("metrics.json", "images.csv", "stage.json")


def flat(inputs: Mapping[str, str | list[str]]) -> list[str]:
    """The paths of all artifacts that a stage reads, from its inputs by name."""
    return [path for paths in inputs.values() for path in ([paths] if isinstance(paths, str) else paths)]
