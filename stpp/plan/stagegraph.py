"""The stages that methods are made of: what each reads, and the settings that decide it.

Pure: no files, no torch.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from stpp.common import disk
from stpp.common.labels import encoding_of
from stpp.common.registry import METHODS, module_of
from stpp.methods import method, step_of
from stpp.plan.code import network_modules
from stpp.plan.frozen import view_maps, whole_maps
from stpp.plan.graph import CodeOf, Recipe, Stage
from stpp.plan.parts import Part, RunRecord, networks, of_kind, score
from stpp.settings.config import Config
from stpp.settings.training import Augmentation, Training

Parts = dict[str, Part]
"""The stages of one run by the names that people see, in the order of the method."""

PEER = 2**32
"""Added to the seed of a run for the networks that are to differ from its others: more than any seed."""


class StageGraph:
    """The stages of one experiment with one seed, added to those that are already known."""

    def __init__(
        self,
        config: Config,
        seed: int,
        index: Mapping[str, Any],
        weights: Mapping[str, str],
        code_of: CodeOf,
        stages: dict[str, Stage],
        length: str = "",
    ) -> None:
        """`length` is the folder of the stage that finds how long trainings take; "": as long as `config` says."""
        self.config = config
        self.seed = seed
        self.fingerprints = {subset: entry["fingerprint"] for subset, entry in index["subsets"].items()}
        self.manifests = {subset: entry["sha256"] for subset, entry in index["subsets"].items()}
        self.counts = {subset: entry["count"] for subset, entry in index["subsets"].items()}
        self.readers = {subset: tuple(entry.get("readers", ())) for subset, entry in index["subsets"].items()}
        self.classes = list(index["classes"])
        self.palette = index["palette"]
        self.warnings = tuple(index.get("warnings", ()))
        self.weights = weights
        self.code_of = code_of
        self.stages = stages
        self.length = length
        self.maps: dict[str, str] = {}
        self.network = network_modules(config.network)
        self.bands = {"bands": index["bands"]} if "bands" in index else {}
        self.encoding = encoding_of(config.data.model_dump(), len(self.classes))

    @property
    def soft(self) -> bool:
        """Whether students learn how sure the labels are."""
        loss = self.config.training.student.loss
        return loss is not None and loss.soft

    def evaluated(self, network: str) -> str:
        """The checkpoint of a network that is evaluated."""
        return f"{network}/{disk.checkpoint(self.config.evaluation.checkpoint)}"

    def train_teacher(self, *, peer: bool = False) -> str:
        """The teacher: labeled images, and unlabeled ones where it is trained online; K checkpoints.

        A `peer` of it draws other random numbers and keeps one checkpoint.
        """
        checkpoints = 1 if peer else self.config.selection.checkpoints
        training = self.config.training.teacher
        augmentation = {"labeled": self.config.augmentation.teacher.labeled}
        if training.online:
            augmentation["unlabeled"] = self.config.augmentation.student.unlabeled
        slug, seed = ("peer", self.seed + PEER) if peer else ("teacher", self.seed)
        return self.train("teacher", slug, checkpoints, training, augmentation, [], step=training.online, seed=seed)

    def train_part(self, slug: str) -> str:
        """A teacher on a part of the labeled images, which is not validated and keeps its last checkpoint alone."""
        training = self.config.training.teacher.model_copy(update={"validate_every": 0})
        augmentation = {"labeled": self.config.augmentation.teacher.labeled}
        return self.train("teacher", slug, 1, training, augmentation, [])

    def train_student(
        self,
        slug: str,
        labels: list[str],
        weak_only: bool,
        step: str | None = None,
        start: str | None = None,
        checkpoints: int = 1,
        training: Training | None = None,
    ) -> str:
        """A student: labeled and pseudo-labeled images, in the step of a method.

        `training` is `training.student`, and `step` and the checkpoint `start` are those of it, where none are given.
        """
        training = training or self.config.training.student
        step = step or training.online
        augmentation = {
            "labeled": self.config.augmentation.student.labeled,
            "unlabeled": self.config.augmentation.student.unlabeled,
        }
        if weak_only:
            off = {"operations": None, "jitter": None, "grayscale": None, "blur": None, "cutout": None}
            augmentation["unlabeled"] = augmentation["unlabeled"].model_copy(update=off)
        if start is None and training.start == "teacher":
            start = self.labeling(self.train_teacher(), "teacher")
        return self.train("student", slug, checkpoints, training, augmentation, labels, step=step, start=start)

    def train(
        self,
        role: str,
        slug: str,
        checkpoints: int,
        training: Training,
        augmentation: Mapping[str, Augmentation],
        labels: list[str],
        more: Sequence[str] = (),
        step: str | None = None,
        start: str | None = None,
        seed: int | None = None,
    ) -> str:
        """Training of a teacher or a student; without a val set there is no `best`. `more` are further subsets.

        `step` is the method whose step it takes; None means a step on masks alone. `start` is the
        checkpoint whose weights it begins with. `seed` is that of its random numbers, by default that of the run.
        """
        validates = "val" in self.fingerprints and training.validate_every > 0
        unlabeled = ["unlabeled"] if labels or (step and method(step).online) else []
        subsets = ["labeled", *(["val"] if validates else []), *unlabeled, *more]
        settings = self.of_training(role, checkpoints, training, augmentation, validates)
        settings |= {} if seed is None else {"seed": seed}
        settings |= {"method": {step: self.own_settings(step)}} if step else {}
        outputs = disk.training_outputs(checkpoints, validates)
        files = {"weights": self.weights["path"]} if self.weights["path"] and not start else {}
        network = f"{self.config.network.architecture}-{self.config.network.backbone}".replace("/", "-")
        counted = [f"k{checkpoints}"] if checkpoints > 1 else []
        variant = "-".join([*counted, "val" if validates else "noval", network])
        inputs: dict[str, str | list[str]] = {"labels": [f"{store}/{disk.MASKS}" for store in labels]} if labels else {}
        if start:
            inputs["start"] = start
        if self.length:
            inputs["length"] = f"{self.length}/{disk.LENGTH}"
        own = step_of(settings)
        inputs |= view_maps(self, "labeled", ["labeled", *more], training, augmentation)
        inputs |= view_maps(self, "unlabeled", unlabeled, training, augmentation, own[0].views(own[1]) if own else ())
        inputs |= whole_maps(self, "val") if validates else {}
        components = (*self.network, *([module_of(METHODS, step)] if step else []))
        return self.add("train", slug, settings, subsets, inputs, variant, files, components, outputs)

    def of_training(
        self, role: str, checkpoints: int, training: Training, augmentation: Mapping[str, Augmentation], validates: bool
    ) -> dict[str, Any]:
        """The settings of a training's stage, with the seed of the run."""
        return {
            "role": role,
            "seed": self.seed,
            "checkpoints": checkpoints,
            "classes": self.classes,
            "encoding": self.encoding,
            **self.bands,
            "network": self.config.network.model_dump() | {"weights": self.weights["identity"]},
            # What it starts from is an input, and the method has an entry of its own.
            "training": {
                **training.model_dump(exclude={"online", "start"}),
                "epochs": training.rounds,
                **({} if validates else {"validate_every": 0}),
            },
            "augmentation": {kind: value.model_dump() for kind, value in augmentation.items()},
            "prediction": self.prediction() if validates else None,
        }

    def own_settings(self, name: str) -> dict[str, Any]:
        """The settings of the method of that name that are its own."""
        section = getattr(self.config.methods, method(name).target, None)
        return section.model_dump() if section else {}

    def all_checkpoint_masks(self, teacher: str, run: Parts, confidence: bool = False) -> list[str]:
        """`checkpoint_masks` of all K checkpoints, which are added to `run`."""
        several = self.config.selection.checkpoints
        masks = [self.checkpoint_masks(teacher, k, several, confidence) for k in range(1, several + 1)]
        run |= {f"masks{k}": Part(store, "masks") for k, store in enumerate(masks, 1)}
        return masks

    def checkpoint_masks(self, network: str, k: int, several: int, confidence: bool = False) -> str:
        """Masks of all unlabeled images by checkpoint k of `several` of a network; the last one is `last`.

        With `confidence` that of each pixel is written, too.
        """
        settings = {"tta": None, "prediction": self.prediction()} | ({"confidence": True} if confidence else {})
        which = "last" if k == several else k
        inputs = {"checkpoint": f"{network}/{disk.checkpoint(which)}", **whole_maps(self, "unlabeled")}
        role = f"masks-checkpoint{k}{'-confidence' if confidence else ''}"
        return self.add("predict", role, settings, ["unlabeled"], inputs, components=self.network)

    def label(
        self,
        labeler: Literal["teacher", "student"],
        network: str,
        slug: str,
        images: str | None = None,
        confidence: bool = False,
        plain: bool = False,
    ) -> str:
        """Pseudo-labels by a network, of the listed unlabeled images or of all.

        With test-time augmentation, unless `plain`. With `confidence`, or for a student that learns `soft` labels, that
        of each pixel is written, too. Unless `plain`, they are the pixels that `labeling.kept` asks for.
        """
        confidence = confidence or self.soft
        kept, share = self.config.labeling.kept, self.config.labeling.share
        selects = kept != "all" and not plain
        tta = None if plain else {"scales": self.config.labeling.scales, "flip": self.config.labeling.flip}
        settings: dict[str, Any] = {"tta": tta, "prediction": self.prediction()}
        settings |= {"confidence": True} if confidence or selects else {}
        inputs = {"checkpoint": self.labeling(network, labeler), **whole_maps(self, "unlabeled")}
        if images:
            inputs["images"] = images
        role = f"labels-{slug}"
        folder = self.add("predict", role, settings, ["unlabeled"], inputs, components=self.network, labeler=labeler)
        return self.surest_pixels(folder, f"{slug}-{kept}", kept, share, confidence, labeler) if selects else folder

    def labeling(self, network: str, role: Literal["teacher", "student"]) -> str:
        """The checkpoint of a teacher or a student that labels."""
        return f"{network}/{disk.checkpoint(getattr(self.config.labeling, role))}"

    def score(self, masks: Sequence[str]) -> str:
        """Stability of the K masks of each unlabeled image."""
        settings = {"definition": self.config.selection.score} | self.asked("stability")
        inputs: dict[str, str | list[str]] = {"masks": [f"{store}/{disk.MASKS}" for store in masks]}
        return self.add("score", "", settings, [], inputs, f"k{len(masks)}")

    def select_stable(self, teacher: str, run: Parts) -> str:
        """The reliable images are the most stable ones; the masks and the score are added to `run`."""
        selection = self.config.selection
        masks = self.all_checkpoint_masks(teacher, run, selection.stability == "soft")
        score = self.score(masks)
        run["score"] = Part(score, "score")
        asked = self.asked("constant", "balanced")
        settings = {"by": "score", "share": selection.share, **asked}
        subsets: list[str] = []
        inputs: dict[str, str | list[str]] = {"scores": f"{score}/{disk.SCORES}"}
        if asked:
            inputs["masks"] = f"{masks[-1]}/{disk.MASKS}"
        if "constant" in asked:
            subsets, settings["encoding"] = ["labeled"], self.encoding
        select = self.select("stable", settings, subsets, inputs)
        last = f"masks{len(masks)}"
        run |= self.quality(last, run[last], "stability", select)
        return select

    def select_pixels(self, teacher: str, run: Parts) -> str:
        """The teacher's labels of all images, their reliable pixels alone; masks that decide are added to `run`."""
        selection = self.config.selection
        keep = {"keep_confidence": True} if self.soft else {}
        if selection.pixels == "agreement":
            labels = self.label("teacher", teacher, "teacher")
            run["labels"] = Part(labels, "labels", "before the selection of pixels")
            stores = [f"{store}/{disk.MASKS}" for store in self.all_checkpoint_masks(teacher, run)]
            inputs: dict[str, str | list[str]] = {"labels": f"{labels}/{disk.MASKS}", "masks": stores}
            return self.add("pixels", "agreement", {"by": "agreement", **keep}, [], inputs)
        labels = self.label("teacher", teacher, "teacher-confidence", confidence=True)
        run["labels"] = Part(labels, "labels", "before the selection of pixels")
        if selection.pixels != "confidence":
            return self.surest_pixels(labels, selection.pixels, selection.pixels, selection.share, self.soft)
        settings = {"by": "confidence", "confidence": selection.confidence, **keep}
        return self.add(
            "pixels", "confidence", settings, [], {"labels": f"{labels}/{disk.MASKS}"}, f"{selection.confidence:g}"
        )

    def surest_pixels(
        self, labels: str, slug: str, by: str, share: float, confidence: bool = True, labeler: str = ""
    ) -> str:
        """Of the labels, the surest `share` of the pixels: of each class, or `by` "aligned" as often as it should be.

        With `confidence` they keep it.
        """
        settings = {"by": by, "share": share} | ({"keep_confidence": True} if confidence else {})
        subsets = []
        if by == "aligned":
            settings |= {"seed": self.seed, "encoding": self.encoding}
            subsets = ["labeled"]
        inputs = {"labels": f"{labels}/{disk.MASKS}"}
        return self.add("pixels", slug, settings, subsets, inputs, f"{share:g}", labeler=labeler)

    def select_random(self) -> str:
        """The control: the images of phase 1 are drawn at random."""
        settings = {"by": "random", "share": self.config.selection.share, "seed": self.seed}
        return self.select("random", settings, ["unlabeled"], {})

    def select(
        self, slug: str, settings: Mapping[str, Any], subsets: Sequence[str], inputs: Mapping[str, str | list[str]]
    ) -> str:
        """Reliable and unreliable list."""
        return self.add("select", slug, settings, subsets, inputs, f"{self.config.selection.share:g}")

    def evaluations(self, name: str, network: Part, slug: str) -> Parts:
        """Evaluation on val and on test, where there is one, of the network that has this name in the run."""
        return {
            f"{name}-{subset}": Part(
                self.measure(subset, slug, self.evaluated(network.folder)),
                "evaluation",
                phase=network.phase,
                of=name,
                subset=subset,
            )
            for subset in ("val", "test")
            if subset in self.fingerprints
        }

    def measure(self, subset: str, slug: str, checkpoint: str) -> str:
        """Evaluation of one checkpoint on val or test."""
        settings = {"encoding": self.encoding, "prediction": self.prediction()}
        inputs = {"checkpoint": checkpoint, **whole_maps(self, subset)}
        return self.add("evaluate", f"{slug}-{subset}", settings, [subset], inputs, components=self.network)

    def calibration(self, network: str, slug: str) -> str:
        """How right the predictions of a network are on test, by class and confidence."""
        settings = {"tta": None, "prediction": self.prediction(), "confidence": True}
        read = {"checkpoint": f"{network}/{disk.LAST}", **whole_maps(self, "test")}
        masks = self.add("predict", f"{slug}-test", settings, ["test"], read, components=self.network)
        inputs: dict[str, str | list[str]] = {"masks": [f"{masks}/{disk.MASKS}"]}
        settings = {"encoding": self.encoding, "confidence": True}
        return self.add("evaluate", f"{slug}-confidence", settings, ["test"], inputs)

    def quality(self, name: str, masks: Part, slug: str = "", select: str | None = None) -> Parts:
        """Quality of masks of unlabeled images, for those that happen to have a true mask; reported, never used.

        `name` is that of the masks in the run, `slug` what their evaluation is called, if not so.
        """
        if "truth" not in self.fingerprints:
            return {}
        settings = {"encoding": self.encoding}
        inputs: dict[str, str | list[str]] = {"masks": [f"{masks.folder}/{disk.MASKS}"]}
        if select:
            inputs["reliable"] = f"{select}/{disk.RELIABLE}"
        told = f"{slug or name}-truth"
        folder = self.add("evaluate", told, settings, ["truth"], inputs)
        return {told: Part(folder, "evaluation", phase=masks.phase, of=name, subset="truth")}

    def pictures(self, run: RunRecord) -> tuple[Recipe, dict[str, str | list[str]]]:
        """What the report needs to draw masks of a run: settings, and artifacts by name.

        `masks` are those of the K `checkpoints`, of unlabeled images, and `labels` the pseudo-labels; `teacher` is the
        network whose checkpoints were compared, where images to label next are wanted.
        """
        settings = {"classes": self.classes, "palette": self.palette, "encoding": self.encoding}
        settings |= {**self.bands, "prediction": self.prediction()}
        artifacts: dict[str, str | list[str]] = {}
        if score(run) and self.config.report.next:
            artifacts["teacher"] = f"{networks(run)['teacher']}/{disk.LAST}"
        masks = of_kind(run, "masks").values()
        artifacts["masks"] = [f"{folder}/{disk.MASKS}" for folder in masks]
        artifacts["checkpoints"] = [str(self.stages[folder].inputs["checkpoint"]) for folder in masks]
        artifacts["labels"] = [f"{folder}/{disk.MASKS}" for folder in of_kind(run, "labels").values()]
        return settings, artifacts

    def asked(self, *names: str) -> dict[str, Any]:
        """Of these settings of the selection those that are not at their defaults."""
        return self.config.selection.model_dump(include=set(names), exclude_defaults=True)

    def prediction(self) -> dict[str, Any]:
        """How a network is applied to an image; without tiles there is no overlap."""
        settings = self.config.prediction.model_dump()
        return settings if settings["tile"] else settings | {"overlap": None}

    def add(
        self,
        kind: str,
        role: str,
        settings: Mapping[str, Any],
        subsets: Sequence[str],
        inputs: Mapping[str, str | list[str]],
        variant: str = "",
        files: Mapping[str, str] | None = None,
        components: tuple[str, ...] = (),
        outputs: Mapping[str, str] | None = None,
        labeler: str = "",
        of_seed: bool = True,
    ) -> str:
        """Make a stage known; returns its folder, whose name has the `role`, a `variant` of it and the seed.

        `outputs` are those of a training, which tell trainings apart. A stage that is not `of_seed` has none.
        """
        data = {subset: self.fingerprints[subset] for subset in subsets}
        manifests = {subset: self.manifests[subset] for subset in subsets}
        name = "-".join(part for part in (role, variant, f"seed{self.seed}" * of_seed) if part)
        writes = tuple((outputs or disk.outputs(kind)).values())
        components = (*components, *dict.fromkeys(reader for subset in subsets for reader in self.readers[subset]))
        told = (role, self.seed if of_seed else None, labeler, self.palette)
        code = self.code_of(kind, components)
        stage = Stage(kind, name, settings, data, inputs, writes, code, files or {}, manifests, components, *told)
        return self.stages.setdefault(stage.folder, stage).folder
