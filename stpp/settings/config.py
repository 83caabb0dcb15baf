"""The configuration: every setting with its default, range, unit and meaning.

This module knows nobody: it is imported at every start of the workflow, so it imports neither torch nor numpy. The
reference in `docs/config.md` and the JSON schema are generated from it. `stpp.settings` has its larger sections.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeAlias

from pydantic import Field, create_model, field_validator, model_validator

from stpp.common import disk
from stpp.common.registry import LAYOUTS, constant, modules
from stpp.methods import method, methods, names
from stpp.settings import Checkpoint, Precision, Probability, Section, WorkflowPath, setting
from stpp.settings.data import Data
from stpp.settings.stored import Features
from stpp.settings.training import AugmentationOfRoles, Network, TrainingOfRoles

if TYPE_CHECKING:
    MethodName: TypeAlias = str
else:
    MethodName = Literal[names()]

# --- selection, inference ---------------------------------------------------------------------------------------------


class Selection(Section):
    """How reliable images, or pixels, are told from unreliable ones."""

    checkpoints: int = setting(3, "K: evenly spaced checkpoints of the teacher that are compared.", ge=2, le=20)
    score: Literal["sum", "mean", "all_pairs"] = setting(
        "mean",
        "Stability score: sum or mean of the mIoU of each earlier checkpoint's mask with the last one's (the same "
        "ranking), or the mean over all pairs of checkpoints.",
    )
    stability: Literal["miou", "foreground", "per_class", "soft"] = setting(
        "miou",
        "How two masks of an image are compared for the score. `miou`: by mean IoU, the paper's way, which is 1 for "
        "masks of one and the same class. `foreground`: the same without the first class, the background, and 0 where "
        "there is no other. `per_class`: each class by its IoU, less what is usual for this class over all images. "
        "`soft`: by mean IoU, in which a pixel of the intersection counts by the lower of its two confidences.",
    )
    constant: Literal["scored", "last"] = setting(
        "scored",
        "How images whose mask, by the last checkpoint, has one class are ranked: by their score, or after all "
        "others. Even then, their share of the reliable images may be that of such images among the labeled ones.",
    )
    balanced: bool = setting(
        False,
        "The images with the best scores for each class are reliable: so many that each predicted class has its share "
        "of them, the rarest one first.",
    )
    share: float = setting(
        0.5, "Share of the unlabeled images that counts as reliable; of their pixels with `pixels: share`.", gt=0, lt=1
    )
    pixels: Literal["agreement", "confidence", "share", "aligned"] = setting(
        "agreement",
        "Method `pixel`: the reliable pixels are those where the masks of all K checkpoints agree; those of high "
        "confidence; of each class the surest `share` of its pixels; or, `aligned`, the surest `share` of all pixels, "
        "in which each class is as frequent as in the labeled images, or has all its pixels where these are too few.",
    )
    confidence: Probability = setting(
        0.9,
        "With `pixels: confidence`: the least confidence of a reliable pixel, which is its highest class probability, "
        "averaged over the scales and flips of the labelling, and kept in steps of 1/255.",
    )


class Labeling(Section):
    """Pseudo-labelling with test-time augmentation."""

    scales: list[Annotated[float, Field(gt=0, le=8)]] = setting(
        [0.5, 0.75, 1.0, 1.5, 2.0], "Scales whose softmax maps are summed.", min_length=1, max_length=20
    )
    flip: bool = setting(True, "Sum over the mirrored image as well.")
    teacher: Checkpoint = setting("last", "Which checkpoint of the teacher labels; the authors: best on val.")
    student: Checkpoint = setting("last", "Which checkpoint of a student labels; the authors: best on val.")
    kept: Literal["all", "share", "aligned"] = setting(
        "all",
        "Which pixels of the pseudo-labels are kept: all, as in the paper; of each class the surest `share` of its "
        "pixels; or the surest `share` of all pixels, in which each class is as frequent as in the labeled images, or "
        "has all its pixels where these are too few. Methods with unlabeled images in every step, and `dmt`, have "
        "rules of their own.",
    )
    share: float = setting(0.5, "With `kept: share` or `aligned`: the share.", gt=0, le=1)
    reliable: Literal["teacher", "student"] = setting(
        "teacher",
        "Whose labels the reliable images or pixels have in phase 2: still the teacher's, as in the paper, or new ones "
        "by the student of phase 1.",
    )


class Prediction(Section):
    """How a network is applied to a whole image, wherever that is done."""

    precision: Precision = setting("fp32", "Arithmetic of the network.")
    long_side: int | None = setting(
        None,
        "Images are resized to this long side first, and masks have full size; none: as they are, the paper's.",
        "px",
        ge=8,
    )
    tile: int | None = setting(
        None, "Side of the overlapping tiles for large images; none: the whole image.", "px", ge=32
    )
    overlap: int = setting(64, "How far neighbouring tiles overlap.", "px", ge=0)

    @model_validator(mode="after")
    def _smaller(self) -> Self:
        if self.tile is not None and self.overlap >= self.tile:
            raise ValueError(f"overlap ({self.overlap} px) must be smaller than tile ({self.tile} px)")
        return self


class Evaluation(Section):
    """Which numbers are reported."""

    checkpoint: Checkpoint = setting("last", "Which checkpoint of a model is evaluated; the authors: best on val.")
    moments: int = setting(
        0,
        "At this many evenly spaced moments of the training of an online method, its labels of unlabeled images are "
        "compared with true ones, where there are some; the training keeps a checkpoint of each. 0: never.",
        ge=0,
        le=20,
    )


class ReportSettings(Section):
    """How much the report shows, so that it can be mailed."""

    size: float = setting(
        10.0, "Images and masks in the part `Images` take at most this much; unlabeled ones, a quarter.", "MB", gt=0
    )
    judged: int = setting(500, "Most images of the test or val set; those with the lowest mIoU come first.", ge=0)
    unlabeled: int = setting(60, "Most unlabeled images, evenly spread over the stability score.", ge=0)
    next: int = setting(
        8,
        "Most images to label next, as `stpp next` chooses them; 0: none, and the labeled images are not looked at.",
        ge=0,
        le=100,
    )


if TYPE_CHECKING:

    class Methods(Section):
        """A section for each method that has settings of its own."""

else:
    Methods = create_model(
        "Methods",
        __base__=Section,
        __doc__="What single methods ask for; a method's settings are part of its own stages alone.",
        **{
            method.target: (method.settings, setting(method.settings(), f"Method `{method.name}`: {method.summary}."))
            for method in methods()
            if method.settings
        },
    )


# --- how it runs; results differ by rounding at most ------------------------------------------------------------------


class Resources(Section):
    """What one job of a stage asks for."""

    threads: int = setting(1, "CPU threads of the network; results are reproducible for equal numbers.", ge=1)
    workers: int = setting(0, "Further processes that load data; 0: none.", ge=0, le=64)
    gpu: int = setting(
        1,
        "GPUs of the job: the scheduler is asked for them, or free ones of this machine are taken; 0, or none there: "
        "the CPU computes.",
        ge=0,
        le=1,
    )
    memory: int = setting(8000, "Main memory.", "MB", ge=100)
    minutes: int = setting(240, "Wall time.", "min", ge=1)


class PredictionResources(Resources):
    """What one prediction or evaluation asks for."""

    workers: int = setting(
        0,
        "Further cores of the job, on which threads read images. Without a scheduler that confines jobs to their "
        "cores, these threads use all cores of the machine anyway.",
        ge=0,
        le=64,
    )
    minutes: int = setting(120, "Wall time.", "min", ge=1)


class TrainingResources(Resources):
    """What one training asks for; `threads` and `workers` are those of each GPU."""

    gpu: int = setting(
        1,
        "GPUs of the job, as for predictions. Several share each batch, of at least as many images; the result is that "
        "of one GPU within a tolerance. With `device: cpu`, that many processes share it.",
        ge=0,
        le=64,
    )
    cache: int = setting(
        4000,
        "Decoded images that a training keeps in a nameless file in `$TMPDIR`, so that each is decoded once; a full "
        "disk does no harm. 0: none.",
        "MB",
        ge=0,
    )
    compile: bool = setting(
        False,
        "PyTorch compiles the network first, with a C++ compiler, in a minute or three, for faster steps; the last "
        "bits of the result differ.",
    )


class RuntimeSettings(Section):
    """Speed settings: results depend on them by rounding at most, and changing them runs nothing again."""

    device: Literal["auto", "cpu", "cuda"] = setting("auto", "Where networks run; auto: a GPU where there is one.")
    shards: int = setting(1, "Jobs for each prediction of unlabeled images and `encode` stage.", ge=1, le=1000)
    save_minutes: float = setting(
        5.0, "How often a stage saves its unfinished work, from which it resumes after a stop.", "min", gt=0
    )
    train: TrainingResources = setting(TrainingResources(), "Training of teacher and students.")
    predict: PredictionResources = setting(PredictionResources(), "Prediction, evaluation, and `encode` stages.")


# --- the whole --------------------------------------------------------------------------------------------------------

OVERRIDABLE = (
    "data",
    "network",
    "features",
    "training",
    "augmentation",
    "selection",
    "labeling",
    "prediction",
    "evaluation",
    "methods",
)


class Experiment(Section):
    """One row of the table: a method, and what differs from the base sections."""

    method: MethodName = setting(..., "; ".join(f"`{method.name}`: {method.summary}" for method in methods()) + ".")
    data: dict[str, Any] = setting({}, "Overrides of `data`.")
    network: dict[str, Any] = setting({}, "Overrides of `network`.")
    features: dict[str, Any] = setting({}, "Overrides of `features`.")
    training: dict[str, Any] = setting({}, "Overrides of `training`.")
    augmentation: dict[str, Any] = setting({}, "Overrides of `augmentation`.")
    selection: dict[str, Any] = setting({}, "Overrides of `selection`.")
    labeling: dict[str, Any] = setting({}, "Overrides of `labeling`.")
    prediction: dict[str, Any] = setting({}, "Overrides of `prediction`.")
    evaluation: dict[str, Any] = setting({}, "Overrides of `evaluation`.")
    methods: dict[str, Any] = setting({}, "Overrides of `methods`.")


SUPONLY_ITERATIONS, SUPONLY_COMPUTE = CONTROLS = ("suponly-iterations", "suponly-compute")
"""The experiments that `controls: fair` adds."""
RESERVED = disk.COMMON
"""The folders below `results` that are no configuration's, whose names none may have, nor in other letters' case."""
NAME = r"^[A-Za-z0-9][A-Za-z0-9_.+-]*$"


class Config(Section):
    """A data set, a base and the experiments on it."""

    name: str = setting(..., "Name of the folder below `results` that people look at.", pattern=NAME, max_length=80)
    results: WorkflowPath = setting("results", "Folder for everything that is computed.", min_length=1)
    seeds: list[Annotated[int, Field(ge=0, le=2**32 - 1)]] = setting(
        [0], "Every experiment runs once for each.", min_length=1
    )
    partitions: list[dict[str, Any]] = setting(
        [],
        "Overrides of `data`, such as other seeds of `data.partition` or other lists; every experiment runs once for "
        "each, and the table is over all of them. None: the data as they are.",
    )
    baseline: str | None = setting(
        None,
        "The experiment that is subtracted from the others in the table; default: `suponly-compute` with `controls: "
        "fair`; else, of those with the same data and network, the first `suponly`, or the first one.",
    )
    controls: Literal["none", "fair"] = setting(
        "none",
        "Experiments that are added. `fair`: `suponly-iterations` and `suponly-compute`, the labels alone for as many "
        "iterations as the longest training of an experiment with unlabeled images, and for as much computation as the "
        "most expensive one; the latter is the default of `baseline`. All lengths must be in iterations.",
    )
    folds: int = setting(
        0,
        "In place of a val set, if labels are few: each experiment runs once more for each of this many folds of the "
        "labeled images, without these, and the verdict compares networks on the images that they have not seen. 0: "
        "none.",
        ge=0,
        le=20,
    )
    outlook: bool = setting(
        False,
        "Say beforehand whether unlabeled images will probably pay, from four more teachers: two learn from one half "
        "of the labeled images each, two from one half of these. The target `outlook` makes nothing else.",
    )
    published: WorkflowPath | None = setting(
        None,
        "CSV file of published numbers that the table shows next to ours, with the columns of "
        "`experiments/paper/published.csv`; of its rows, those whose `config` is this `name`.",
    )
    data: Data = setting(..., "The data set.")
    network: Network = setting(Network(), "The network.")
    features: Features = setting(Features(), "What is kept of a frozen encoder.")
    training: TrainingOfRoles = setting(TrainingOfRoles(), "The training.")
    augmentation: AugmentationOfRoles = setting(AugmentationOfRoles(), "Weak and strong augmentation.")
    selection: Selection = setting(Selection(), "Reliable and unreliable images.")
    labeling: Labeling = setting(Labeling(), "Pseudo-labels.")
    prediction: Prediction = setting(Prediction(), "From network to mask.")
    evaluation: Evaluation = setting(Evaluation(), "The reported numbers.")
    methods: Methods = setting(Methods(), "The methods' own settings.")
    report: ReportSettings = setting(ReportSettings(), "The report; changes nothing else.")
    runtime: RuntimeSettings = setting(RuntimeSettings(), "How it runs; changes no result.")
    experiments: dict[Annotated[str, Field(pattern=NAME, max_length=80)], Experiment] = setting(
        ..., "The rows of the table.", min_length=1
    )

    @field_validator("name")
    @classmethod
    def _free(cls, name: str) -> str:
        if name.casefold() in RESERVED:
            raise ValueError(
                f"{name!r} is the name of a folder below `results` with other things in it; choose another name than "
                f"{', '.join(RESERVED)}"
            )
        return name

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"seeds must differ from each other, but got {self.seeds}")
        if any(partition in self.partitions[:i] for i, partition in enumerate(self.partitions)):
            raise ValueError("partitions must differ from each other, but two are equal")
        added = CONTROLS if self.controls == "fair" else ()
        if given := [name for name in added if name in self.experiments]:
            raise ValueError(
                f"`controls: fair` adds the experiments {' and '.join(CONTROLS)}, but {' and '.join(given)} is given, "
                "too; give it another name, or leave it out"
            )
        if self.folds == 1:
            raise ValueError("folds must be at least 2, or 0 for none: one fold would leave no labeled image")
        names = [*added, *self.experiments]
        if self.baseline is not None and self.baseline not in names:
            raise ValueError(f"baseline must be one of the experiments {', '.join(names)}, but is {self.baseline!r}")
        online = {method.name for method in methods() if method.online}
        for role in ("teacher", "student"):
            if (asked := getattr(self.training, role).online) is not None and asked not in online:
                raise ValueError(
                    f"training.{role}.online must be one of {', '.join(sorted(online))}, or null, but is {asked!r}"
                )
        if self.training.teacher.rounds < self.selection.checkpoints:
            raise ValueError(
                f"{self.selection.checkpoints} checkpoints (selection.checkpoints) cannot be saved in "
                f"{self.training.teacher.epochs} epochs (training.teacher.epochs); raise the epochs"
            )
        if self.training.student.rounds < self.evaluation.moments:
            raise ValueError(
                f"{self.evaluation.moments} checkpoints (evaluation.moments) cannot be saved in "
                f"{self.training.student.epochs} epochs (training.student.epochs); raise the epochs"
            )
        if not self._validates() and "best" in (
            self.labeling.teacher,
            self.labeling.student,
            self.evaluation.checkpoint,
        ):
            raise ValueError(
                "a `best` checkpoint is asked for (labeling.teacher, labeling.student or evaluation.checkpoint), but "
                "nothing would choose it; give a val set (data.val or data.val_split) and validate_every > 0, or take "
                "`last`"
            )
        return self

    @property
    def partition_numbers(self) -> Sequence[int]:
        """The numbers of the partitions, from 1; 0 alone where there are the data's own settings."""
        return range(1, len(self.partitions) + 1) if self.partitions else [0]

    def learns_from_unlabeled(self) -> bool:
        """Whether an experiment without overrides learns from unlabeled images, and not from their true masks."""
        chosen = [method(experiment.method) for experiment in self.experiments.values()]
        online = self.training.teacher.online is not None
        return any(not each.truth and (online or each.unlabeled != "none") for each in chosen)

    def _validates(self) -> bool:
        data = self.data
        has_val = bool(data.val or data.val_split or constant(modules(LAYOUTS)[data.layout], "VAL", False))
        has_val |= data.layout == "demo" and data.demo.val > 0
        return has_val and min(self.training.teacher.validate_every, self.training.student.validate_every) > 0
