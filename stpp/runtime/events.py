"""The metrics of a training as TensorBoard events, where the extra `tensorboard` is installed."""

import shutil
import time
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

SCALARS = {"loss": "loss", "learning_rate": "learning rate", "val_miou": "val mIoU"}
"""Columns of the history, and what TensorBoard shows them as."""


class Events:
    """Writes the rows of a training's history, one an epoch, to `folder`; does nothing without TensorBoard.

    It begins with the `history` so far in a new file, instead of those that earlier processes wrote: so a training that
    was stopped after an epoch was written, and repeats it, has each epoch once.
    """

    def __init__(self, folder: Path, history: Sequence[Mapping[str, Any]]) -> None:
        now = time.time()
        self._file = folder / f"events.out.tfevents.{now:.6f}"
        self._wanted = find_spec("tensorboard") is not None
        if self._wanted:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            self._write(wall_time=now, file_version="brain.Event:2")
        for row in history:
            self.add(row)

    def add(self, row: Mapping[str, Any]) -> None:
        """Write the row of one epoch, with all that its steps say; a missing val mIoU is left out."""
        if self._wanted:
            known = {*SCALARS, "epoch", "iterations"}
            tags = SCALARS | {column: column.replace("_", " ", 1) for column in row if column not in known}
            values = [
                {"tag": tag, "simple_value": row[column]} for column, tag in tags.items() if row[column] is not None
            ]
            self._write(wall_time=time.time(), step=row["epoch"], summary={"value": values})

    def _write(self, **event: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.summary.writer.record_writer import RecordWriter

        with self._file.open("ab") as file:
            RecordWriter(file).write(Event(**event).SerializeToString())
