"""The stages of methods: what their files in `stpp/methods` put together.

Pure: no files, no torch.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from stpp import disk
from stpp.methods import Method
from stpp.plan.graph import CodeOf, Recipe, Stage
from stpp.registry import DECODERS, ENCODERS, METHODS, modules
from stpp.settings.config import Config
from stpp.settings.training import Augmentation, Training


class Phase(NamedTuple):
    """One training of a student: the role of the labels that were made for it, these, the student, and its name.

    The name is that of the student's evaluations. It does not depend on how many phases follow, so that experiments
    with more and with fewer of them share these stages.
    """

    role: str
    labels: str
    student: str
    name: str


class MethodGraph:
    """The stages of one experiment with one seed, added to those that are already known."""

    def __init__(
        self,
        config: Config,
        seed: int,
        index: Mapping[str, Any],
        weights: Mapping[str, str],
        code_of: CodeOf,
        stages: dict[str, Stage],
    ) -> None:
        self.config = config
        self.seed = seed
        self.fingerprints = {subset: entry["fingerprint"] for subset, entry in index["subsets"].items()}
        self.manifests = {subset: entry["sha256"] for subset, entry in index["subsets"].items()}
        self.classes = list(index["classes"])
        self.palette = index["palette"]
        self.weights = weights
        self.code_of = code_of
        self.stages = stages
        names = {ENCODERS: config.network.backbone, DECODERS: config.network.architecture}
        self.network = tuple(modules(folder)[name] for folder, name in names.items())
        data = config.data
        self.encoding = {
            "classes": len(self.classes),
            "ignore_value": data.ignore_value,
            "label_map": {str(raw): label for raw, label in data.label_map.items()} if data.label_map else None,
            "palette_map": data.palette_map,
        }

    # --- what the files of methods put together -----------------------------------------------------------------------

    def teacher(self) -> tuple[dict[str, str], str]:
        """The beginning of a run, a teacher and its evaluations by role; and the folder of the teacher."""
        teacher = self.train_teacher()
        return {"teacher": teacher, **self.evaluations("teacher", "teacher", teacher)}, teacher

    def phases(self, run: dict[str, str], phases: list[Phase], *, weak_only: bool = False) -> dict[str, str]:
        """`run` with these phases, with the further ones that the configuration asks for, and their evaluations.

        In a further phase, the last student labels all unlabeled images anew.
        """
        phases = list(phases)
        for number in range(len(phases) + 1, len(phases) + 1 + self.config.training.further_phases):
            labels = self.label(f"phase{number - 1}", self.relabeler(phases[-1].student), None)
            student = self.train_student(f"student-phase{number}", [labels], weak_only)
            phases.append(Phase(f"labels{number}", labels, student, f"phase{number}"))
        for number, phase in enumerate(phases, 1):
            role = "student" if number == len(phases) else f"phase{number}"
            run |= {phase.role: phase.labels, **self.label_quality(phase.role, [phase.labels]), role: phase.student}
            run |= self.evaluations(role, phase.name, phase.student)
        return run

    def only_phase(self, teacher: str, *, weak_only: bool = False) -> Phase:
        """Self-training on the teacher's labels of all images."""
        labels = self.label("teacher", self.labeler(teacher), None)
        return Phase("labels", labels, self.train_student("student", [labels], weak_only), "student")

    def two_phases(self, teacher: str, select: str, run: dict[str, str]) -> list[Phase]:
        """Self-training on the teacher's labels of the images that `select` lists; then on all. `run` gets `select`.

        In the second phase, the student of the first one labels the others.
        """
        run["select"] = select
        labels = self.label("teacher-reliable", self.labeler(teacher), f"{select}/{disk.RELIABLE}")
        return self.phases_on(labels, "phase1-unreliable", f"{select}/{disk.UNRELIABLE}")

    def two_phases_of_pixels(self, teacher: str, run: dict[str, str]) -> list[Phase]:
        """Self-training on the reliable pixels of the teacher's labels; then on all, of which the student of the first
        phase labels the others. What selects the pixels is added to `run`.
        """
        labels = run["select"] = self.select_pixels(teacher, self.labeler(teacher), run)
        run |= self.label_quality("labels", [run["labels"]])
        # What the first store leaves out is what the second one says.
        return self.phases_on(labels, "phase1", None)

    def phases_on(self, labels: str, slug: str, unreliable: str | None) -> list[Phase]:
        """Two phases: on `labels`, then on them and the first student's labels of the `unreliable` images, or of all.

        `slug` names the latter stage. With `labeling.reliable: student` they are on its labels of all images alone.
        """
        phase1 = self.train_student("student-phase1", [labels], False)
        if self.config.labeling.reliable == "student":
            labels2 = self.label("phase1", self.relabeler(phase1), None)
            student = self.train_student("student-phase2", [labels2], False)
        else:
            labels2 = self.label(slug, self.relabeler(phase1), unreliable)
            student = self.train_student("student-phase2", [labels, labels2], False)
        return [Phase("labels1", labels, phase1, "phase1"), Phase("labels2", labels2, student, "student")]

    def online(self, method: Method) -> dict[str, str]:
        """One training with labeled and unlabeled images in every step, and its evaluations."""
        settings = getattr(self.config.methods, method.target).model_dump() if method.settings else {}
        student = self.config.augmentation.student
        trained = self.train(
            "student",
            method.target,
            1,
            self.config.training.student,
            {"labeled": student.labeled, "unlabeled": student.unlabeled},
            [],
            ["unlabeled"],
            method=(method.name, settings),
        )
        return {"student": trained, **self.evaluations("student", method.target, trained)}

    def labeler(self, teacher: str) -> str:
        """The checkpoint of the teacher that labels."""
        return f"{teacher}/{disk.checkpoint(self.config.labeling.teacher)}"

    def relabeler(self, student: str) -> str:
        """The checkpoint of a student that labels for the next phase."""
        return f"{student}/{disk.checkpoint(self.config.labeling.student)}"

    def evaluated(self, network: str) -> str:
        """The checkpoint of a network that is evaluated."""
        return f"{network}/{disk.checkpoint(self.config.evaluation.checkpoint)}"

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

    def train_supervised(self) -> str:
        """The upper bound: like a student's, but on the true masks of all images, with weak augmentation."""
        training = self.config.training.student.model_copy(update={"labeled_repeat": 1})
        augmentation = {"labeled": self.config.augmentation.student.labeled}
        return self.train("student", "supervised", 1, training, augmentation, [], ["truth"])

    def train(
        self,
        role: str,
        slug: str,
        checkpoints: int,
        training: Training,
        augmentation: Mapping[str, Augmentation],
        labels: list[str],
        more: Sequence[str] = (),
        method: tuple[str, Mapping[str, Any]] | None = None,
    ) -> str:
        """Training of a teacher or a student; without a val set there is no `best`. `more` are further subsets.

        `method` is the name and the settings of the method whose step it takes; None means a step on masks alone.
        """
        validates = "val" in self.fingerprints and training.validate_every > 0
        subsets = ["labeled", *(["val"] if validates else []), *(["unlabeled"] if labels else []), *more]
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
            **({"method": {method[0]: dict(method[1])}} if method else {}),
        }
        outputs = disk.training_outputs(checkpoints, validates)
        files = {"weights": self.weights["path"]} if self.weights["path"] else {}
        network = f"{self.config.network.architecture}-{self.config.network.backbone}"
        variant = f"{slug}-{'val' if validates else 'noval'}-{network}"
        inputs: dict[str, str | list[str]] = {"labels": [f"{store}/{disk.MASKS}" for store in labels]} if labels else {}
        components = (*self.network, *([modules(METHODS)[method[0]]] if method else []))
        return self.add("train", variant, settings, subsets, inputs, files, components, outputs)

    def all_checkpoint_masks(self, teacher: str, run: dict[str, str]) -> list[str]:
        """`checkpoint_masks` of all K checkpoints, which are added to `run`."""
        masks = [self.checkpoint_masks(teacher, k) for k in range(1, self.config.selection.checkpoints + 1)]
        run |= {f"masks{k}": store for k, store in enumerate(masks, 1)}
        return masks

    def checkpoint_masks(self, teacher: str, k: int) -> str:
        """Masks of all unlabeled images by checkpoint k of the teacher; the last checkpoint is `last`."""
        which = "last" if k == self.config.selection.checkpoints else k
        return self.predict(f"masks-checkpoint{k}", f"{teacher}/{disk.checkpoint(which)}", None, None)

    def label(self, slug: str, checkpoint: str, images: str | None, confidence: bool = False) -> str:
        """Pseudo-labels with test-time augmentation, of the listed unlabeled images or of all."""
        tta = {"scales": self.config.labeling.scales, "flip": self.config.labeling.flip}
        return self.predict(f"labels-{slug}", checkpoint, images, tta, confidence)

    def predict(
        self, slug: str, checkpoint: str, images: str | None, tta: Mapping[str, Any] | None, confidence: bool = False
    ) -> str:
        """Masks of unlabeled images by one checkpoint, with the confidence of each pixel if asked for."""
        settings = {"tta": tta, "prediction": self.prediction()} | ({"confidence": True} if confidence else {})
        inputs: dict[str, str | list[str]] = {"checkpoint": checkpoint}
        if images:
            inputs["images"] = images
        return self.add("predict", slug, settings, ["unlabeled"], inputs, components=self.network)

    def score(self, masks: Sequence[str]) -> str:
        """Stability of the K masks of each unlabeled image."""
        settings = {"definition": self.config.selection.score}
        inputs: dict[str, str | list[str]] = {"masks": [f"{store}/{disk.MASKS}" for store in masks]}
        return self.add("score", f"k{len(masks)}", settings, [], inputs)

    def select_stable(self, teacher: str, run: dict[str, str]) -> str:
        """The reliable images are the most stable ones; the masks and the score are added to `run`."""
        masks = self.all_checkpoint_masks(teacher, run)
        score = run["score"] = self.score(masks)
        settings = {"by": "score", "share": self.config.selection.share}
        select = self.select("stable", settings, [], {"scores": f"{score}/{disk.SCORES}"})
        run |= self.label_quality("stability", [masks[-1]], select)
        return select

    def select_pixels(self, teacher: str, labeler: str, run: dict[str, str]) -> str:
        """The teacher's labels of all images, their reliable pixels alone; masks that decide are added to `run`."""
        selection = self.config.selection
        if selection.pixels == "agreement":
            labels = run["labels"] = self.label("teacher", labeler, None)
            stores = [f"{store}/{disk.MASKS}" for store in self.all_checkpoint_masks(teacher, run)]
            inputs: dict[str, str | list[str]] = {"labels": f"{labels}/{disk.MASKS}", "masks": stores}
            return self.add("pixels", "agreement", {"by": "agreement"}, [], inputs)
        labels = run["labels"] = self.label("teacher-confidence", labeler, None, confidence=True)
        settings = {"by": "confidence", "confidence": selection.confidence}
        slug = f"confidence-{selection.confidence:g}"
        return self.add("pixels", slug, settings, [], {"labels": f"{labels}/{disk.MASKS}"})

    def select_random(self) -> str:
        """The control: the images of phase 1 are drawn at random."""
        settings = {"by": "random", "share": self.config.selection.share, "seed": self.seed}
        return self.select("random", settings, ["unlabeled"], {})

    def select(
        self, slug: str, settings: Mapping[str, Any], subsets: Sequence[str], inputs: Mapping[str, str | list[str]]
    ) -> str:
        """Reliable and unreliable list."""
        slug = f"{slug}-{self.config.selection.share:g}"
        return self.add("select", slug, settings, subsets, inputs)

    def evaluations(self, role: str, name: str, train: str) -> dict[str, str]:
        """Evaluation on val and on test, where there is one, of the model that has this role in the run."""
        settings = {"encoding": self.encoding, "prediction": self.prediction()}
        inputs: dict[str, str | list[str]] = {
            "checkpoint": f"{train}/{disk.checkpoint(self.config.evaluation.checkpoint)}"
        }
        return {
            f"{role}-{subset}": self.add(
                "evaluate", f"{name}-{subset}", settings, [subset], inputs, components=self.network
            )
            for subset in ("val", "test")
            if subset in self.fingerprints
        }

    def label_quality(self, role: str, stores: Sequence[str], select: str | None = None) -> dict[str, str]:
        """Quality of masks of unlabeled images, for those that happen to have a true mask; reported, never used."""
        if "truth" not in self.fingerprints:
            return {}
        settings = {"encoding": self.encoding}
        inputs: dict[str, str | list[str]] = {"masks": [f"{store}/{disk.MASKS}" for store in stores]}
        if select:
            inputs["reliable"] = f"{select}/{disk.RELIABLE}"
        name = f"{role}-truth"
        return {name: self.add("evaluate", name, settings, ["truth"], inputs)}

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
        artifacts: dict[str, str | list[str]] = {
            "checkpoint": f"{last}/{disk.checkpoint(self.config.evaluation.checkpoint)}"
        }
        for name in ("masks", "labels"):
            stores = [folder for role, folder in run.items() if role.startswith(name) and folder.startswith("predict/")]
            artifacts[name] = [f"{folder}/{disk.MASKS}" for folder in stores]
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
        files: Mapping[str, str] | None = None,
        components: tuple[str, ...] = (),
        outputs: Mapping[str, str] | None = None,
    ) -> str:
        """Make a stage known; returns its folder. `outputs` are those of a training, which tell trainings apart."""
        data = {subset: self.fingerprints[subset] for subset in subsets}
        manifests = {subset: self.manifests[subset] for subset in subsets}
        name, code = f"{slug}-seed{self.seed}", self.code_of(kind, components)
        writes = tuple((outputs or disk.outputs(kind)).values())
        stage = Stage(kind, name, settings, data, inputs, writes, code, files or {}, manifests, components)
        return self.stages.setdefault(stage.folder, stage).folder
