"""A job: a table scored into a file. It is done in parts, so that a killed job continues, with the same bytes."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from bulk.errors import JobError
from bulk.scoring import ERROR
from bulk.summary.tally import Tally
from bulk.tables.files import File, compressed
from bulk.tables.outputs import encode, join, write_whole
from inferer.errors import shown

_STATE, _LOCK = "job.json", "lock"
_SUFFIX = ".unfinished"

Work = Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]  # scores batches and keeps their order


class Job:
    """The parts of one output. facts: everything that decides its bytes, by the names that people know.

    The parts lie in a folder beside the output; those of an address, in the folder of the process.

    Attributes: parts, rows, errors, tally: done so far, an earlier run's among them once the job is open. tally stays
    empty without `tally_of`, which makes that of a batch. Opening raises
    JobError where the earlier job had other facts or is still running.
    """

    def __init__(
        self,
        output: File,
        file_format: str,
        schema: pa.Schema,
        facts: dict[str, Any],
        tally_of: Callable[[pa.RecordBatch], Tally] | None = None,
    ) -> None:
        self.output = output
        self._tally_of = tally_of
        self.tally = Tally()
        self._format, self._schema = file_format, schema
        self._folder = (output.parent if isinstance(output, Path) else Path.cwd()) / (output.name + _SUFFIX)
        self._facts = facts if isinstance(output, Path) else {"output": str(output), **facts}
        self.parts = 0
        self.rows = 0
        self.errors = 0

    @contextmanager
    def opened(self) -> Iterator[Job]:
        """Hold the job's folder, with the parts of an earlier run in it."""
        with _said(self._folder):
            self._folder.mkdir(exist_ok=True)
            with (self._folder / _LOCK).open("w") as lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    raise JobError(f"{self.output}: another process is writing it") from None
                self._resume()
                yield self

    def _resume(self) -> None:
        state = self._folder / _STATE
        if not state.is_file():
            write_whole(state, json.dumps(self._facts, indent=2).encode())
            return
        try:
            old = json.loads(state.read_text(encoding="utf-8"))
        except ValueError:
            old = {}
        for name in {**old, **self._facts}:
            if old.get(name) != self._facts.get(name):
                change = f"{name} was {shown(old.get(name))} and is {shown(self._facts.get(name))}"
                remedy = f"delete {self._folder} to begin again"
                raise JobError(f"{self.output}: a job that was stopped here is another one: {change}; {remedy}")
        while self._part(self.parts).is_file():
            self._include(json.loads(self._count(self.parts).read_text(encoding="utf-8")))

    def _part(self, number: int) -> Path:
        return self._folder / f"part-{number:08d}"

    def _count(self, number: int) -> Path:
        return self._folder / f"rows-{number:08d}"

    def left(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Return the batches of the input that have no part yet."""
        return islice(batches, self.parts, None)

    def add(self, batch: pa.RecordBatch) -> None:
        """Write the next scored batch."""
        errors = batch.num_rows - batch.column(ERROR).null_count
        tally = None if self._tally_of is None else self._tally_of(batch).as_dict()
        count = {"rows": batch.num_rows, "errors": errors, "tally": tally}
        write_whole(self._count(self.parts), json.dumps(count).encode())  # before the part that it counts
        write_whole(self._part(self.parts), encode(batch, self._format))
        self._include(count)

    def _include(self, count: dict[str, Any]) -> None:
        self.parts, self.rows, self.errors = self.parts + 1, self.rows + count["rows"], self.errors + count["errors"]
        if count["tally"] is not None:
            self.tally.add(Tally(**count["tally"]))

    def finish(self) -> None:
        """Give the output its name, and delete the parts."""
        whole = self._folder / "whole"
        with whole.open("wb") as file:
            with compressed(file, self.output.suffix.lower()) as target:
                join([self._part(number) for number in range(self.parts)], target, self._format, self._schema)
            file.flush()
            os.fsync(file.fileno())
        if isinstance(self.output, Path):
            whole.replace(self.output)
        else:
            self.output.upload(whole)
        shutil.rmtree(self._folder)

    def run(
        self,
        batches: Iterator[pa.RecordBatch],
        score: Work,
        *,
        stop_on_error: bool,
    ) -> Iterator[int]:
        """Score what is left; yield the number of rows after each part.

        stop_on_error: raise JobError for the first row with an error; the parts before it stay.
        """
        for batch in score(self.left(batches)):
            if stop_on_error and (bad := first_error(batch)):
                raise JobError(
                    f"row {self.rows + bad[0]}: {bad[1]}; --on-error keep gives such rows an error and goes on"
                )
            self.add(batch)
            yield batch.num_rows


def first_error(batch: pa.RecordBatch) -> tuple[int, str] | None:
    """Return the first row of `batch` with an error, counted from 1, and the error."""
    errors = batch.column(ERROR).to_pylist()
    return next(((row, error) for row, error in enumerate(errors, start=1) if error is not None), None)


@contextmanager
def _said(folder: Path) -> Iterator[None]:
    """Raise errors of the file system as JobError."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        kept = "; what is scored is kept, and the same command continues" if full else ""
        raise JobError(f"{error.filename or folder}: cannot be written: {error.strerror}{kept}") from error
