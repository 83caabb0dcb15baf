"""The configuration: every setting with its default, range, unit and meaning.

This module knows nobody: it is imported at every start of the workflow, so it imports neither torch nor numpy. The
reference in `docs/config.md` and the JSON schema are generated from it.
"""

import re
from pathlib import PurePosixPath
from posixpath import expanduser
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

Method = Literal["suponly", "plain", "st", "random", "st++", "pixel", "supervised"]
Checkpoint = Literal["last", "best"]
Precision = Literal["fp32", "bf16"]
Probability = Annotated[float, Field(ge=0, le=1)]


def setting(default: Any, description: str, unit: str | None = None, **limits: Any) -> Any:
    """A pydantic field with a description, and a unit where it has one."""
    return Field(default, description=description, json_schema_extra={"unit": unit} if unit else None, **limits)


def _one_line(text: str) -> str:
    """Refuses what cannot stand in a list of names."""
    if found := re.search("[\0\n\r]", text):
        raise ValueError(f"{text!r} has {found[0]!a} in it; expected one line of text: rename it")
    return text


def _path_of_workflow(text: str) -> str:
    """Refuses paths that Snakemake or a command takes for something else; spells the others in one way."""
    text = str(PurePosixPath(re.sub("^//+", "/", expanduser(text))))
    if found := re.search("[{}<>]", text):
        raise ValueError(f"{text!r} has {found[0]} in it, which Snakemake takes for a variable; choose a path without")
    if text == "." or text.startswith("-") or re.match(r"\w+:/", text):
        raise ValueError(f"{text!r} is taken for something else than a file or folder; choose a path like 'my/name'")
    return text


Line = Annotated[str, AfterValidator(_one_line)]
WorkflowPath = Annotated[Line, AfterValidator(_path_of_workflow)]


class Section(BaseModel):
    """Common behaviour of all sections: unknown keys are refused, values are not coerced."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


# --- data -------------------------------------------------------------------------------------------------------------


class Split(Section):
    """A random part of a pool of images."""

    count: int | None = setting(None, "How many images; give this or `fraction`.", "images", ge=1)
    fraction: float | None = setting(None, "Which share of the pool; give this or `count`.", gt=0, lt=1)
    seed: int = setting(0, "Seed of the draw; independent of the seeds of the training.", ge=0)

    @model_validator(mode="after")
    def _one_size(self) -> Self:
        if (self.count is None) == (self.fraction is None):
            raise ValueError("give exactly one of count and fraction")
        return self


class Partition(Split):
    """Which part of the images with masks counts as labeled; the rest becomes unlabeled."""

    cover_classes: bool = setting(False, "Draw so that every class of the pool occurs in the labeled part.")


class DemoScenes(Section):
    """Size of the procedural demo set."""

    labeled: int = setting(36, "Labeled scenes.", "images", ge=1)
    unlabeled: int = setting(400, "Unlabeled scenes.", "images", ge=1)
    val: int = setting(100, "Validation scenes.", "images", ge=0)
    test: int = setting(200, "Held-out test scenes.", "images", ge=0)
    seed: int = setting(0, "Seed of the scenes.", ge=0)


class Data(Section):
    """Where the images are and how their masks are encoded."""

    layout: Literal["lists", "voc", "cityscapes", "folder", "demo"] = setting(
        "lists",
        "How the data lie on disk: the authors' list files, VOC, Cityscapes, plain folders, or the generated demo.",
    )
    root: Line = setting(..., "Folder that all paths of lists are relative to.", min_length=1)
    labeled: Line | None = setting(None, "List of labeled images: `image mask` a line, relative to `root`.")
    unlabeled: Line | None = setting(None, "List of unlabeled images; a second column is allowed and never trained on.")
    val: Line | None = setting(None, "List of validation images, or none.")
    test: Line | None = setting(None, "List of test images, used for nothing but the final numbers, or none.")
    images: Line = setting("images", "Layout `folder`: sub-folder of `root` with the images.")
    masks: Line = setting("masks", "Layout `folder`: sub-folder with the masks; an image without a mask is unlabeled.")
    partition: Partition | None = setting(None, "Split the images with masks into labeled and unlabeled at random.")
    val_split: Split | None = setting(None, "Split a validation set off the labeled images, before `partition`.")
    classes: list[Line] | None = setting(
        None, "Class names in label order; or `classes_file`.", min_length=2, max_length=255
    )
    classes_file: Line | None = setting(None, "Text file with one class name a line.")
    ignore_value: int | None = setting(255, "Mask value that means: leave this pixel out; or none.", ge=0, le=65535)
    label_map: dict[int, int | Literal["ignore"]] | None = setting(
        None, "Mask value -> class index or `ignore`, for masks whose values are not 0, 1, 2, ..."
    )
    palette_map: dict[str, int | Literal["ignore"]] | None = setting(
        None, "Colour `#rrggbb` -> class index or `ignore`, for masks stored as RGB."
    )
    colors: list[str] | None = setting(None, "Colours `#rrggbb` of the classes in pictures; default: VOC's.")
    demo: DemoScenes = setting(DemoScenes(), "Layout `demo`: how many scenes are generated under `root`.")

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.layout == "lists" and self.labeled is None:
            raise ValueError("layout lists needs `labeled: a list file`")
        if self.layout == "lists" and self.unlabeled is None and self.partition is None:
            raise ValueError("layout lists needs `unlabeled: a list file`, or a `partition` of the labeled list")
        if self.layout in ("lists", "folder") and self.classes is None and self.classes_file is None:
            raise ValueError(f"layout {self.layout} needs `classes` (names) or `classes_file`")
        if self.classes is not None and len(set(self.classes)) != len(self.classes):
            raise ValueError("class names must differ from each other")
        if self.val is not None and self.val_split is not None:
            raise ValueError("give `val` or `val_split`, not both")
        for color in [*(self.palette_map or {}), *(self.colors or [])]:
            digits = color.removeprefix("#")
            if len(digits) != 6 or len(color) != 7 or not all(d in "0123456789abcdefABCDEF" for d in digits):
                raise ValueError(f"{color!r} is no colour; write it as '#rrggbb', for example '#80ff00'")
        return self


# --- network ----------------------------------------------------------------------------------------------------------


class Network(Section):
    """The segmentation network of teacher and students."""

    architecture: Literal["deeplabv3plus", "pspnet", "deeplabv2"] = setting("deeplabv3plus", "Segmentation head.")
    backbone: Literal["resnet18", "resnet34", "resnet50", "resnet101", "mobilenet_v2", "tiny"] = setting(
        "resnet50", "Feature extractor; `tiny` is for demos and tests."
    )
    output_stride: Literal[8, 16] = setting(8, "Input size over size of the last feature map.", "px/px")
    weights: WorkflowPath = setting(
        "torchvision",
        "`none`; `torchvision` (ImageNet, fetched once by a job on the submit host); or the path of a weights file.",
        min_length=1,
    )
    rates: list[Annotated[int, Field(ge=1)]] | None = setting(
        None, "Dilation rates of the head; default: the paper's (12, 24, 36 or 6, 12, 18, 24).", "px"
    )
    head_channels: int | None = setting(
        None, "Channels of a head branch; default: the paper's share of the backbone's.", ge=1
    )
    decoder_channels: int = setting(256, "DeepLabv3+: channels of the decoder.", ge=1)
    low_level_channels: int = setting(48, "DeepLabv3+: channels of the low-level features.", ge=1)
    dropout: float = setting(1.0, "Factor on the paper's dropout rates; 0 switches dropout off.", ge=0, le=1.9)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.backbone == "tiny" and self.weights == "torchvision":
            raise ValueError("backbone tiny has no torchvision weights; set `weights: none`")
        branches = {"deeplabv3plus": 3, "deeplabv2": 4, "pspnet": 0}[self.architecture]
        if self.rates is not None and len(self.rates) != branches:
            raise ValueError(f"{self.architecture} takes {branches} rates, but got {len(self.rates)}")
        return self


# --- training ---------------------------------------------------------------------------------------------------------


class Training(Section):
    """How a network is trained; the defaults are the paper's for Pascal VOC."""

    epochs: int = setting(80, "Length of the training.", "epochs", ge=1)
    batch_size: int = setting(16, "Images a step, over all devices.", "images", ge=2)
    crop: int = setting(321, "Side of the square crop.", "px", ge=8)
    base_size: int = setting(400, "Long side of an image at scale 1 of the random rescale.", "px", ge=8)
    learning_rate: float = setting(0.001, "Learning rate of the backbone at batch 16; linear in the batch.", gt=0)
    head_multiplier: float = setting(10.0, "Learning rate of the head over the backbone's (DeepLabv2: 1).", gt=0)
    momentum: float = setting(0.9, "Momentum of SGD.", ge=0, lt=1)
    weight_decay: float = setting(1e-4, "Weight decay of SGD, on all parameters.", ge=0)
    poly_power: float = setting(0.9, "Learning rate (1 - iteration / total) ** power.", ge=0)
    warmup_iterations: int = setting(0, "Linear warm-up of the learning rate.", "iterations", ge=0)
    labeled_repeat: int | None = setting(
        None,
        "How often an epoch sees each labeled image; default, the paper's: teacher 2 below 200 labeled images, else 1; "
        "student ceil(pseudo-labeled / labeled).",
        "times",
        ge=1,
    )
    validate_every: int = setting(1, "Measure val mIoU after so many epochs, and after the last; 0: never.", ge=0)
    precision: Precision = setting("fp32", "Arithmetic of the network; bf16 is faster where the hardware has it.")


class TrainingOfRoles(Section):
    """Training of the teacher and of the students; YAML anchors (`&name`, `<<: *name`) save repetition."""

    teacher: Training = setting(Training(), "Training of the teacher, on labeled images alone.")
    student: Training = setting(Training(), "Training of every student, on labeled and pseudo-labeled images.")
    further_phases: int = setting(
        0,
        "Phases after those of the method: in each, the last student labels all unlabeled images anew, and a new one "
        "is trained on them.",
        ge=0,
        le=20,
    )


# --- augmentation -----------------------------------------------------------------------------------------------------


def _range(low: float, high: float, default: list[float] | None, description: str, unit: str | None = None) -> Any:
    """A field of two ordered numbers within [low, high]."""
    limits = {"min_length": 2, "max_length": 2}
    return setting(default, f"{description} Two numbers in [{low:g}, {high:g}], the smaller first.", unit, **limits)


def _check_range(values: list[float] | None, low: float, high: float, name: str) -> None:
    if values is not None and not low <= values[0] <= values[1] <= high:
        raise ValueError(f"{name} must be two numbers in [{low:g}, {high:g}], the smaller first, but got {values}")


class Jitter(Section):
    """Colour jitter, torchvision's."""

    p: Probability = setting(0.8, "Probability.")
    brightness: float = setting(0.5, "Brightness factor in [1 - x, 1 + x].", ge=0)
    contrast: float = setting(0.5, "Contrast factor in [1 - x, 1 + x].", ge=0)
    saturation: float = setting(0.5, "Saturation factor in [1 - x, 1 + x].", ge=0)
    hue: float = setting(0.25, "Hue shift in [-x, x].", "turns", ge=0, le=0.5)


class Grayscale(Section):
    """Random grayscale."""

    p: Probability = setting(0.2, "Probability.")


class Blur(Section):
    """Gaussian blur."""

    p: Probability = setting(0.5, "Probability.")
    sigma: list[float] = _range(0, 50, [0.1, 2.0], "Standard deviation, drawn uniformly.", "px")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        _check_range(self.sigma, 0, 50, "sigma")
        return self


class CutOut(Section):
    """A random box is overwritten and left out of the loss."""

    p: Probability = setting(0.5, "Probability.")
    area: list[float] = _range(0, 1, [0.02, 0.4], "Area over the crop's, drawn uniformly.")
    ratio: list[float] = _range(0.01, 100, [0.3, 1 / 0.3], "Height over width, drawn uniformly.")
    fill: Literal["random"] | Annotated[int, Field(ge=0, le=255)] = setting(
        "random", "`random` values for each pixel and channel, or one number."
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        _check_range(self.area, 0, 1, "area")
        _check_range(self.ratio, 0.01, 100, "ratio")
        if self.area[0] * max(self.ratio[0], 1 / self.ratio[1]) > 1:
            raise ValueError(f"no box with area {self.area} and ratio {self.ratio} fits into the crop")
        return self


class Augmentation(Section):
    """What happens to the images of one kind in the training of one role; `null` switches a part off."""

    scale: list[float] | None = _range(0.05, 20, [0.5, 2.0], "Random rescale, of `base_size`.")
    flip: Probability = setting(0.5, "Probability of a horizontal flip.")
    jitter: Jitter | None = setting(None, "Strong: colour jitter.")
    grayscale: Grayscale | None = setting(None, "Strong: grayscale.")
    blur: Blur | None = setting(None, "Strong: Gaussian blur.")
    cutout: CutOut | None = setting(None, "Strong: CutOut.")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        _check_range(self.scale, 0.05, 20, "scale")
        return self


class TeacherAugmentation(Section):
    """Augmentation in the teacher's training."""

    labeled: Augmentation = setting(Augmentation(), "Labeled images; the paper: weak only.")


class StudentAugmentation(Section):
    """Augmentation in the students' training."""

    labeled: Augmentation = setting(Augmentation(), "Labeled images; the paper: weak only.")
    unlabeled: Augmentation = setting(
        Augmentation(jitter=Jitter(), grayscale=Grayscale(), blur=Blur(), cutout=CutOut()),
        "Pseudo-labeled images; the paper: weak and strong.",
    )


class AugmentationOfRoles(Section):
    """Weak and strong augmentation for each role and kind of image."""

    teacher: TeacherAugmentation = setting(TeacherAugmentation(), "In the teacher's training.")
    student: StudentAugmentation = setting(StudentAugmentation(), "In the students' training.")


# --- selection, inference ---------------------------------------------------------------------------------------------


class Selection(Section):
    """How reliable images, or pixels, are told from unreliable ones."""

    checkpoints: int = setting(3, "K: evenly spaced checkpoints of the teacher that are compared.", ge=2, le=20)
    score: Literal["sum", "mean", "all_pairs"] = setting(
        "mean",
        "Stability score: sum or mean of the mIoU of each earlier checkpoint's mask with the last one's (the same "
        "ranking), or the mean over all pairs of checkpoints.",
    )
    share: float = setting(0.5, "Share of the unlabeled images that counts as reliable.", gt=0, lt=1)
    pixels: Literal["agreement", "confidence"] = setting(
        "agreement",
        "Method `pixel`: reliable are the pixels in which the masks of all K checkpoints agree, or those of high "
        "confidence.",
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
        "Images are resized to this long side first, masks are of full size; none: as they are, the paper's.",
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


# --- how it runs; nothing here changes a result -----------------------------------------------------------------------


class Resources(Section):
    """What one job of a stage asks for."""

    threads: int = setting(1, "CPU threads of the network; results are reproducible for equal numbers.", ge=1)
    workers: int = setting(0, "Processes that load data beside it; 0: none.", ge=0, le=64)
    gpu: int = setting(
        1,
        "GPUs of the job: the scheduler is asked for them, or free ones of this machine are taken; 0, or none there: "
        "the CPU computes.",
        ge=0,
        le=1,
    )
    memory: int = setting(8000, "Main memory.", "MB", ge=100)
    minutes: int = setting(240, "Wall time.", "min", ge=1)


class TrainingResources(Resources):
    """What one training asks for; `threads` and `workers` are those of each GPU."""

    gpu: int = setting(
        1,
        "GPUs of the job, as for predictions. Several share each batch, of at least so many images; the result is that "
        "of one to a tolerance. With `device: cpu`, so many processes do.",
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


class Runtime(Section):
    """Speed settings: no result depends on them, so changing them runs nothing again."""

    device: Literal["auto", "cpu", "cuda"] = setting("auto", "Where networks run; auto: a GPU where there is one.")
    shards: int = setting(1, "Jobs over which the prediction of unlabeled images is spread.", ge=1, le=1000)
    save_minutes: float = setting(
        5.0, "How often a stage saves its unfinished work, from which it goes on when it was stopped.", "min", gt=0
    )
    train: TrainingResources = setting(TrainingResources(), "Training of teacher and students.")
    predict: Resources = setting(Resources(minutes=120), "Prediction of masks and evaluation.")


# --- the whole --------------------------------------------------------------------------------------------------------

OVERRIDABLE = ("data", "network", "training", "augmentation", "selection", "labeling", "prediction", "evaluation")


class Experiment(Section):
    """One row of the table: a method, and what differs from the base sections."""

    method: Method = setting(
        ...,
        "`suponly`: the teacher alone. `plain`: self-training without strong augmentation. `st`: with it. `random`: "
        "two phases, the first on a random part. `st++`: two phases, the first on the reliable part. `pixel`: two "
        "phases, the first on the reliable pixels of all images. `supervised`: one training like a student's on the "
        "labeled and the unlabeled images, all with their true masks and weak augmentation.",
    )
    data: dict[str, Any] = setting({}, "Overrides of `data`.")
    network: dict[str, Any] = setting({}, "Overrides of `network`.")
    training: dict[str, Any] = setting({}, "Overrides of `training`.")
    augmentation: dict[str, Any] = setting({}, "Overrides of `augmentation`.")
    selection: dict[str, Any] = setting({}, "Overrides of `selection`.")
    labeling: dict[str, Any] = setting({}, "Overrides of `labeling`.")
    prediction: dict[str, Any] = setting({}, "Overrides of `prediction`.")
    evaluation: dict[str, Any] = setting({}, "Overrides of `evaluation`.")


NAME = r"^[A-Za-z0-9][A-Za-z0-9_.+-]*$"


class Config(Section):
    """A data set, a base and the experiments on it."""

    name: str = setting(..., "Name of the folder below `results` that people look at.", pattern=NAME, max_length=80)
    results: WorkflowPath = setting("results", "Folder for everything that is computed.", min_length=1)
    seeds: list[Annotated[int, Field(ge=0, le=2**32 - 1)]] = setting(
        [0], "Every experiment runs once for each.", min_length=1
    )
    data: Data = setting(..., "The data set.")
    network: Network = setting(Network(), "The network.")
    training: TrainingOfRoles = setting(TrainingOfRoles(), "The training.")
    augmentation: AugmentationOfRoles = setting(AugmentationOfRoles(), "Weak and strong augmentation.")
    selection: Selection = setting(Selection(), "Reliable and unreliable images.")
    labeling: Labeling = setting(Labeling(), "Pseudo-labels.")
    prediction: Prediction = setting(Prediction(), "From network to mask.")
    evaluation: Evaluation = setting(Evaluation(), "The reported numbers.")
    runtime: Runtime = setting(Runtime(), "How it runs; changes no result.")
    experiments: dict[Annotated[str, Field(pattern=NAME, max_length=80)], Experiment] = setting(
        ..., "The rows of the table.", min_length=1
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"seeds must differ from each other, but got {self.seeds}")
        if self.training.teacher.epochs < self.selection.checkpoints:
            raise ValueError(
                f"{self.selection.checkpoints} checkpoints (selection.checkpoints) cannot be saved in "
                f"{self.training.teacher.epochs} epochs (training.teacher.epochs); raise the epochs"
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

    def _validates(self) -> bool:
        data = self.data
        has_val = bool(data.val or data.val_split or data.layout in ("voc", "cityscapes"))
        has_val |= data.layout == "demo" and data.demo.val > 0
        return has_val and min(self.training.teacher.validate_every, self.training.student.validate_every) > 0
