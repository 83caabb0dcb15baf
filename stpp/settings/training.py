"""The settings of a training: the network, its optimisation, and the augmentation of its images."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from stpp.common.description import NetworkDescription
from stpp.common.registry import DECODERS, ENCODERS, constant, module_of
from stpp.settings import Precision, Probability, Section, WorkflowPath, setting

# --- network ----------------------------------------------------------------------------------------------------------


class Network(NetworkDescription):
    """The segmentation network of teacher and students."""

    weights: WorkflowPath = setting(
        "torchvision",
        "`none`; `torchvision` (ImageNet), or `timm` for encoders of timm's, fetched once by a job on the submit host; "
        "or the path of a weights file.",
        min_length=1,
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        encoder, decoder = module_of(ENCODERS, self.backbone), module_of(DECODERS, self.architecture)
        published = constant(encoder, "PUBLISHED", "torchvision")
        if self.weights in ("torchvision", "timm") and self.weights != published:
            raise ValueError(f"backbone {self.backbone} has no {self.weights} weights; set `weights: {published}`")
        if self.output_stride not in (strides := constant(encoder, "STRIDES", (8, 16))):
            raise ValueError(
                f"backbone {self.backbone} has no output_stride {self.output_stride}; set one of "
                f"{', '.join(map(str, strides))}"
            )
        if (maps := constant(encoder, "MAPS", 2)) < (needed := constant(decoder, "MAPS", 1)):
            raise ValueError(
                f"architecture {self.architecture} needs {needed} feature maps, but backbone {self.backbone} gives "
                f"{maps}; take an encoder of timm's, such as `timm/vit_small_patch14_dinov2`, or another architecture"
            )
        if self.linear_maps > maps:
            raise ValueError(f"linear_maps is {self.linear_maps}, but backbone {self.backbone} gives {maps} maps")
        rates = constant(decoder, "RATES")
        if self.rates is not None and len(self.rates) != rates:
            raise ValueError(f"{self.architecture} takes {rates} rates, but got {len(self.rates)}")
        return self


# --- optimisation -----------------------------------------------------------------------------------------------------


ROUNDS = 20
"""The parts of a training whose length is given in iterations: what stands for its epochs."""


class Ohem(Section):
    """Online hard example mining: of the pixels with labels, the hard ones count."""

    threshold: Probability = setting(0.7, "A pixel is hard if its true class has at most this probability.")
    kept: int = setting(
        50_000,
        "At least that many pixels of a batch count, for each of its images with labels; all if there are fewer.",
        "pixels",
        ge=1,
    )


class Loss(Section):
    """The loss of images with labels, where it is more than the mean cross-entropy of their pixels."""

    class_weights: Literal["median_frequency", "inverse_sqrt"] | dict[str, Annotated[float, Field(gt=0)]] | None = (
        setting(
            None,
            "Weights of the classes in the mean over pixels: by name, 1 for those that are not named; or computed from "
            "the labeled images. `median_frequency`: the median of f / f, with f the share of a class in the images "
            "that have it; `inverse_sqrt`: the root of the same, with f its share in all images.",
        )
    )
    pseudo_labeled: float = setting(
        1.0, "Weight of a pixel with a pseudo-label in the mean over pixels; that of one with a true label is 1.", ge=0
    )
    soft: bool = setting(
        False,
        "A pseudo-label has the probability that the labeling network gave it, instead of 1; all other classes share "
        "the rest equally.",
    )
    focal: float = setting(
        0.0, "Focal loss: exponent of 1 - p, by which the loss of a pixel is multiplied; 0: cross-entropy.", ge=0
    )
    dice: float = setting(0.0, "Weight of the Dice loss, the mean over the classes of a batch, which is added.", ge=0)


class Training(Section):
    """How a network is trained; the defaults are the paper's for Pascal VOC."""

    epochs: int = setting(80, "Length of the training.", "epochs", ge=1)
    iterations: int | None = setting(
        None,
        "Length of the training in place of `epochs`, independent of the number of images. A twentieth of the training "
        "then counts as an epoch, also for `validate_every` and for checkpoints; rounded up to a multiple of 20.",
        "iterations",
        ge=1,
    )
    batch_size: int = setting(16, "Images in a step, over all devices.", "images", ge=2)
    crop: int = setting(321, "Side of the square crop.", "px", ge=8)
    base_size: int = setting(400, "Long side of an image at scale 1 of the random rescale.", "px", ge=8)
    learning_rate: float = setting(0.001, "Learning rate of the backbone at batch 16; linear in the batch.", gt=0)
    head_multiplier: float = setting(10.0, "Learning rate of the head over the backbone's (DeepLabv2: 1).", gt=0)
    tune: Literal["all", "none"] | Annotated[int, Field(ge=1)] = setting(
        "all",
        "The part of the encoder that learns: all, nothing, or that many blocks at its end. The other part does not "
        "change, nor do the statistics of its batch norms.",
    )
    layer_decay: float = setting(
        1.0,
        "Learning rate of each block of the encoder over that of the next one; the last one has the backbone's.",
        gt=0,
        le=1,
    )
    optimizer: Literal["sgd", "adamw"] = setting("sgd", "SGD, or AdamW with betas 0.9 and 0.999.")
    momentum: float = setting(0.9, "Momentum of SGD.", ge=0, lt=1)
    weight_decay: float = setting(
        1e-4,
        "Weight decay: of SGD on all parameters; of AdamW, times the learning rate, on all but norms, biases, "
        "positions and tokens.",
        ge=0,
    )
    gradient_clip: float | None = setting(
        None,
        "Largest norm of the gradient over all parameters of the network; a longer gradient is scaled down to it. "
        "None: never.",
        gt=0,
    )
    schedule: Literal["poly", "cosine"] = setting(
        "poly", "How the learning rate falls to 0: as `poly_power` says, or by half a cosine wave."
    )
    poly_power: float = setting(0.9, "Learning rate (1 - iteration / total) ** power.", ge=0)
    warmup_iterations: int = setting(0, "Linear warm-up of the learning rate.", "iterations", ge=0)
    ema: float | None = setting(
        None,
        "The result is the moving average of the trained network, including the statistics of its batch norms. This is "
        "the share of the average that each step keeps; at first it is min(1 - 1 / (iteration + 1), this). None: the "
        "network itself.",
        ge=0,
        lt=1,
    )
    labeled_repeat: int | None = setting(
        None,
        "How often an epoch sees each labeled image; default, the paper's: teacher 2 below 200 labeled images, else 1; "
        "student ceil(pseudo-labeled / labeled).",
        "times",
        ge=1,
    )
    rare_images: Probability = setting(
        0.0,
        "Share of the labeled images below which a class is rare. Images with a rare class are seen more often than "
        "`labeled_repeat` says, by sqrt(share / f), with f the share of images that have it, rounded; 0: none is rare.",
    )
    validate_every: int = setting(1, "Measure val mIoU after so many epochs, and after the last; 0: never.", ge=0)
    precision: Precision = setting("fp32", "Arithmetic of the network; bf16 is faster where the hardware has it.")
    ohem: Ohem | None = setting(None, "Only hard pixels count in the loss of images with labels; none: all of them.")
    loss: Loss | None = setting(
        None,
        "Settings of the loss of images with labels; none: the mean cross-entropy of their pixels. Method `dmt` has a "
        "loss of its own.",
    )
    online: str | None = setting(
        None,
        "The method with unlabeled images in every step by which this role is trained, half of each batch being what "
        "it learns from otherwise; its settings are in `methods`. None: a step on images with labels alone.",
    )
    unlabeled_from: Probability = setting(
        0.0,
        "Share of a training with unlabeled images in every step after which their losses count; until then it learns "
        "from labels alone, while moving averages follow.",
    )
    start: Literal["scratch", "teacher"] = setting(
        "scratch",
        "What a student begins with: `network.weights` and a random head, or all weights of the teacher's checkpoint "
        "that labels (`labeling.teacher`). Of several networks, those after the first have random heads.",
    )

    @property
    def rounds(self) -> int:
        """How many epochs the training has."""
        return ROUNDS if self.iterations is not None else self.epochs


class Length(Section):
    """The length of a training; one of the two."""

    epochs: int | None = setting(None, "Length of the training.", "epochs", ge=1)
    iterations: int | None = setting(
        None, "Length in place of `epochs`, as that of `training.student`.", "iterations", ge=1
    )

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.epochs is None) == (self.iterations is None):
            raise ValueError("give either `epochs` or `iterations`")
        return self

    def of_training(self) -> dict[str, int | None]:
        """The same as settings of a training."""
        return {"iterations": self.iterations} | ({} if self.epochs is None else {"epochs": self.epochs})


class TrainingOfRoles(Section):
    """Training of the teacher and of the students; YAML anchors (`&name`, `<<: *name`) save repetition."""

    teacher: Training = setting(Training(), "Training of the teacher, on labeled images alone.")
    student: Training = setting(Training(), "Training of every student, on labeled and pseudo-labeled images.")
    phase1: Length | None = setting(
        None, "Length of phase 1, in methods with two phases; none: that of `training.student`."
    )
    length: Literal["given", "auto"] = setting(
        "given",
        "`auto`: all given lengths are multiplied by the factor that labels alone need. This is found by "
        "trainings of the teacher with the settings of the base and the first seed: once as long as given, 1.5 times, "
        "2.25 times and so on, until that brings less than a point of mIoU on val, or, where there is no val, on the "
        "half of the labeled images that they have not seen; up to 7.6 times.",
    )
    further_phases: int = setting(
        0,
        "Phases after those of the method: in each, the last student labels all unlabeled images anew, and a new one "
        "is trained on them.",
        ge=0,
        le=20,
    )

    @model_validator(mode="after")
    def _startable(self) -> Self:
        if self.teacher.start != "scratch":
            raise ValueError("teacher.start must be `scratch`: no network is trained before the teacher")
        return self

    def of_phase1(self) -> Training:
        """The training of the student of phase 1."""
        return self.student if self.phase1 is None else self.student.model_copy(update=self.phase1.of_training())


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


class Operations(Section):
    """Random operations of AugSeg: identity, autocontrast, equalize, blur, contrast, brightness, colour, sharpness,
    posterize, solarize, hue; each with a random strength."""

    most: int = setting(3, "1 to this many of them, drawn with replacement.", ge=1, le=11)


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
    rare_crop: Probability = setting(
        0.0,
        "Probability that the crop is around a pixel of a class that is drawn from those of the mask, each equally "
        "likely, instead of anywhere.",
    )
    flip: Probability = setting(0.5, "Probability of a horizontal flip.")
    operations: Operations | None = setting(None, "Strong: random operations, before all others.")
    jitter: Jitter | None = setting(None, "Strong: colour jitter.")
    grayscale: Grayscale | None = setting(None, "Strong: grayscale.")
    blur: Blur | None = setting(None, "Strong: Gaussian blur.")
    cutout: CutOut | None = setting(None, "Strong: CutOut.")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        _check_range(self.scale, 0.05, 20, "scale")
        return self


class StrongAugmentation(Augmentation):
    """The same for unlabeled images in the students' training: strong, where nothing else is said."""

    jitter: Jitter | None = setting(Jitter(), "Strong: colour jitter.")
    grayscale: Grayscale | None = setting(Grayscale(), "Strong: grayscale.")
    blur: Blur | None = setting(Blur(), "Strong: Gaussian blur.")
    cutout: CutOut | None = setting(CutOut(), "Strong: CutOut.")


class TeacherAugmentation(Section):
    """Augmentation in the teacher's training."""

    labeled: Augmentation = setting(Augmentation(), "Labeled images; the paper: weak only.")


class StudentAugmentation(Section):
    """Augmentation in the students' training."""

    labeled: Augmentation = setting(Augmentation(), "Labeled images; the paper: weak only.")
    unlabeled: StrongAugmentation = setting(
        StrongAugmentation(),
        "Pseudo-labeled images, and the strong view of unlabeled ones, in the teacher's training too; the paper: weak "
        "and strong.",
    )


class AugmentationOfRoles(Section):
    """Weak and strong augmentation for each role and kind of image."""

    teacher: TeacherAugmentation = setting(TeacherAugmentation(), "In the teacher's training.")
    student: StudentAugmentation = setting(StudentAugmentation(), "In the students' training.")
