"""What the files in `stpp/methods` put together: networks that are trained and evaluated, and phases of them.

Pure: no files, no torch.
"""

from collections.abc import Sequence
from typing import NamedTuple

from stpp.common import disk
from stpp.methods import Method
from stpp.plan.parts import Part
from stpp.plan.stagegraph import Parts, StageGraph


class Phase(NamedTuple):
    """One training of a student: the student, a slug, and the parts of the labels that were made for it, by name.

    The slug is that of the student's evaluations. It does not depend on how many phases follow, so that experiments
    with more and with fewer of them share these stages.
    """

    student: str
    slug: str
    labels: Parts


class MethodGraph(StageGraph):
    """The stages of one experiment with one seed, as methods ask for them."""

    def teacher(self) -> tuple[Parts, str]:
        """The beginning of a run, a teacher and its evaluations; and the folder of the teacher."""
        teacher = self.train_teacher()
        return self.trained("teacher", Part(teacher, "network", "teacher"), "teacher"), teacher

    def trained(self, name: str, network: Part, slug: str) -> Parts:
        """A network, as a part of this name, and its evaluations, whose stages' names begin with `slug`."""
        return {name: network, **self.evaluations(name, network, slug)}

    def phases(self, run: Parts, phases: list[Phase], *, weak_only: bool = False) -> Parts:
        """`run` with these phases, with the further ones that the configuration asks for, and their evaluations.

        In a further phase, the last student labels all unlabeled images anew.
        """
        phases = list(phases)
        for number in range(len(phases) + 1, len(phases) + 1 + self.config.training.further_phases):
            store = self.label("student", phases[-1].student, f"phase{number - 1}")
            student = self.train_student(f"student-phase{number}", [store], weak_only)
            made = Part(store, "labels", f"for phase {number}", number)
            phases.append(Phase(student, f"phase{number}", {f"labels{number}": made}))
        for number, phase in enumerate(phases, 1):
            last = number == len(phases)
            network = Part(phase.student, "network", "final student" if last else f"phase {number}", number)
            for name, labels in phase.labels.items():
                run |= {name: labels, **self.quality(name, labels)}
            run |= self.trained("student" if last else f"phase{number}", network, phase.slug)
        return run

    def only_phase(self, teacher: str, *, weak_only: bool = False) -> Phase:
        """Self-training on the teacher's labels of all images."""
        labels = self.label("teacher", teacher, "teacher")
        student = self.train_student("student", [labels], weak_only)
        return Phase(student, "student", {"labels": Part(labels, "labels", "for the only phase", 1)})

    def two_phases(self, teacher: str, select: str, run: Parts) -> list[Phase]:
        """Self-training on the teacher's labels of the images that `select` lists; then on all. `run` gets `select`.

        In the second phase, the student of the first one labels the others.
        """
        run["select"] = Part(select, "selection", phase=1)
        labels = self.label("teacher", teacher, "teacher-reliable", f"{select}/{disk.RELIABLE}")
        made = Part(labels, "labels", "for phase 1", 1)
        return self.phases_on(made, "phase1-unreliable", f"{select}/{disk.UNRELIABLE}")

    def two_phases_of_pixels(self, teacher: str, run: Parts) -> list[Phase]:
        """Self-training on the reliable pixels of the teacher's labels; then on all, of which the student of the first
        phase labels the others. What selects the pixels is added to `run`.
        """
        kept = Part(self.select_pixels(teacher, run), "selection", "for phase 1", 1)
        run |= {"select": kept, **self.quality("labels", run["labels"])}
        # What the first store leaves out is what the second one says.
        return self.phases_on(kept, "phase1", None)

    def phases_on(self, labels: Part, slug: str, unreliable: str | None) -> list[Phase]:
        """Two phases: on `labels`, then on them and the first student's labels of the `unreliable` images, or of all.

        `slug` names the latter stage. With `labeling.reliable: student` they are on its labels of all images alone.
        """
        phase1 = self.train_student("student-phase1", [labels.folder], False, training=self.config.training.of_phase1())
        if self.config.labeling.reliable == "student":
            labels2 = self.label("student", phase1, "phase1")
            student = self.train_student("student-phase2", [labels2], False)
        else:
            labels2 = self.label("student", phase1, slug, unreliable)
            student = self.train_student("student-phase2", [labels.folder, labels2], False)
        made = Part(labels2, "labels", "for phase 2", 2)
        return [Phase(phase1, "phase1", {"labels1": labels}), Phase(student, "student", {"labels2": made})]

    def online(self, method: Method) -> Parts:
        """One training with labeled and unlabeled images in every step, and further phases; with their evaluations."""
        begun = self.teacher()[0] if self.config.training.student.start == "teacher" else {}
        moments = self.config.evaluation.moments if "truth" in self.fingerprints else 0
        student = self.train_student(method.target, [], False, step=method.name, checkpoints=max(1, moments))
        run = self.phases(begun, [Phase(student, method.target, {})])
        for k in range(1, moments + 1):
            masks = Part(self.checkpoint_masks(student, k, moments), "masks", phase=1)
            run |= {f"masks{k}": masks, **self.quality(f"masks{k}", masks)}
        return run

    def mutual(self, method: Method, shares: Sequence[float]) -> Parts:
        """Two networks label for each other in turns: two teachers, and for each of the shares two phases.

        In a phase, one network labels all images, the surest `share` of each class is kept, and the other network goes
        on from its own weights, in the step of `method`. The first network is the last one to learn, and the result.
        """
        run, first = self.teacher()
        second = self.train_teacher(peer=True)
        run |= self.trained("peer", Part(second, "network", "second teacher"), "peer")
        labeler, learner, phases = first, second, []
        for number, share in enumerate([share for share in shares for _ in range(2)], 1):
            slug = f"{method.target}{number}"
            # The first to label and the first to learn are teachers; the first one learns in the second phase.
            labels = self.label("teacher" if number == 1 else "student", labeler, slug, confidence=True, plain=True)
            sure = self.surest_pixels(labels, slug, "share", share)
            start = self.labeling(learner, "teacher" if number < 3 else "student")
            trained = self.train_student(slug, [sure], True, step=method.name, start=start)
            made = Part(sure, "labels", f"for phase {number}", number)
            phases.append(Phase(trained, slug, {f"labels{number}": made}))
            labeler, learner = trained, labeler
        return self.phases(run, phases)

    def supervised(self) -> Parts:
        """The upper bound: trained like a student, but on the true masks of all images, with weak augmentation."""
        training = self.config.training.student.model_copy(update={"labeled_repeat": 1})
        augmentation = {"labeled": self.config.augmentation.student.labeled}
        network = self.train("student", "supervised", 1, training, augmentation, [], ["truth"])
        return self.trained("supervised", Part(network, "network", "supervised", 1), "supervised")
