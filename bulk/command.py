"""The command `inferer predict INPUT --model BUNDLE --text-column NAME --output FILE`."""

from __future__ import annotations

import argparse
import math
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from tqdm import tqdm

from bulk.errors import JobError
from bulk.job import Job, Work
from bulk.scoring import CHOICES, ScoreOptions, output_schema
from bulk.summary.page import page
from bulk.summary.tally import NEEDED, tally_of
from bulk.tables.addresses import remote_file
from bulk.tables.batches import MOST_ROWS
from bulk.tables.files import COMPRESSED, FORMATS, PARQUET, File, format_of
from bulk.tables.inputs import Input, read_input
from bulk.tables.outputs import write_whole
from bulk.workers import scored
from inferer import __version__
from inferer.bundle.golden import ENFORCE, MODES
from inferer.bundle.manifest import NONE
from inferer.bundle.reader import PAIR_TRUNCATIONS, TRUNCATIONS
from inferer.cpu import available_cpus
from inferer.errors import InfererError
from inferer.model import ModelInferer
from training.data.location import is_address, redacted

_STOP, _KEEP = "stop", "keep"
_MOST_PROCESSES = 256


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="inferer predict",
        description="Score the rows of a table: all its columns, and those of the predictions, go into the output. "
        "A job that was stopped continues with the same command.",
    )
    add = parser.add_argument
    add("input", help="a file, folder, quoted glob or address: CSV, TSV, JSON Lines or Parquet; .gz, .bz2, .zst")
    add("--model", required=True, metavar="BUNDLE", help="a bundle's folder, or a PyTorch checkpoint to convert first")
    add("--text-column", required=True, metavar="NAME", help="the column with the texts")
    add("--text-pair-column", metavar="NAME", help="the column with the second texts, for a model that reads pairs")
    add(
        "--output",
        required=True,
        metavar="FILE",
        help="a file or an address; the ending decides the format: .csv.gz, …",
    )
    add("--overwrite", action="store_true", help="replace an output that exists")
    add("--summary", metavar="FILE.html", help="counts, scores, errors, examples and drift, for people")
    tables = parser.add_argument_group("the input, guessed unless given")
    tables.add_argument("--format", choices=FORMATS, help="by default by the ending")
    tables.add_argument("--delimiter", metavar="CHARACTER", help="between the columns of a CSV")
    tables.add_argument("--encoding", help="of a CSV, such as cp1252")
    tables.add_argument("--no-header", action="store_true", help="the columns of a CSV are column_1, column_2, …")
    predictions = parser.add_argument_group("the predictions")
    predictions.add_argument(
        "--columns", metavar="NAME,…", help=f"of {', '.join(CHOICES)} (default: label, score, num_tokens, truncated)"
    )
    predictions.add_argument("--prefix", default="predicted_", help="before label, score, labels and scores")
    predictions.add_argument(
        "--truncation",
        choices=tuple(dict.fromkeys((*TRUNCATIONS, *PAIR_TRUNCATIONS))),
        help="reading of long texts (default: the bundle's)",
    )
    predictions.add_argument("--threshold", type=float, help="multi-label: one threshold for every label")
    predictions.add_argument("--config", metavar="FILE.json", help="labels, problem_type, max_length, thresholds")
    predictions.add_argument("--fp32", action="store_true", help="run the fp32 model instead of the int8 one")
    predictions.add_argument("--golden-check", choices=MODES, default=ENFORCE, help=f"(default: {ENFORCE})")
    work = parser.add_argument_group("the work")
    work.add_argument("--processes", type=int, metavar="N", help="each with a model on one core (default: the CPUs)")
    work.add_argument("--spark", metavar="MASTER", help="score on Apache Spark: spark://HOST:7077, local[*], yarn, …")
    work.add_argument("--on-error", choices=(_KEEP, _STOP), default=_KEEP, help=f"for a bad row (default: {_KEEP})")
    longest = ScoreOptions.max_chars
    work.add_argument(
        "--max-text-chars", type=int, default=longest, metavar="N", help=f"more make a bad row (default: {longest})"
    )
    work.add_argument("--no-dedupe", action="store_true", help="compute equal texts each time, not once")
    work.add_argument("--quiet", action="store_true", help="no bar and no last line")
    args = parser.parse_args(argv)
    for name, least, most in (("processes", 1, _MOST_PROCESSES), ("max_text_chars", 1, 2**31 - 1)):
        value = getattr(args, name)
        if value is not None and not least <= value <= most:
            parser.error(f"--{name.replace('_', '-')} is {value}, expected a number from {least} to {most}")
    if args.spark and args.processes:
        parser.error("--processes is for this machine; Spark's own settings say how many cores a job has")
    if args.delimiter is not None:
        args.delimiter = {"\\t": "\t", "tab": "\t"}.get(args.delimiter, args.delimiter)
        if len(args.delimiter) != 1:
            parser.error(f"--delimiter is {args.delimiter!r}, expected one character, or tab")
    if args.columns is not None:
        args.columns = tuple(name.strip() for name in args.columns.split(","))
        if unknown := [name for name in args.columns if name not in CHOICES]:
            parser.error(f"--columns has {unknown[0]!r}, expected names of {', '.join(CHOICES)}")
        if args.summary and (absent := [name for name in NEEDED if name not in args.columns]):
            parser.error(f"--summary needs the column {absent[0]}; add it to --columns")
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code: 0, 1 when a row has an error, 2 for a job that ended early."""
    args = _arguments(argv)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        return _run(args)
    except InfererError as error:
        print(f"inferer: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("inferer: stopped; the same command continues", file=sys.stderr)
        return 130


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def _run(args: argparse.Namespace) -> int:
    output = _output(args.output, overwrite=args.overwrite)
    output_format = format_of(output)
    summary = None if args.summary is None else _summary(Path(args.summary), overwrite=args.overwrite)
    names = [name for name in (args.text_column, args.text_pair_column) if name is not None]
    table = read_input(args.input, names, args.format, args.delimiter, args.encoding, header=not args.no_header)
    for flag, target in (("output", output), ("summary", summary)):
        if target is not None and any(str(target) == str(file) or _same(target, file) for file in table.files):
            raise JobError(f"--{flag} {target}: is a file of the input")
    model_options = {"config": args.config, "quantize": not args.fp32, "golden_check": args.golden_check}
    model = ModelInferer(args.model, **model_options)  # finds every fault of the bundle and the options once
    options = ScoreOptions(
        args.text_column,
        args.columns,
        args.prefix,
        args.truncation,
        args.threshold,
        args.max_text_chars,
        not args.no_dedupe,
        args.text_pair_column,
    ).resolved(model)  # refuses wrong options before the work
    if summary is not None and model.activation == NONE:
        raise JobError("--summary shows scores from 0 to 1; the model gives other numbers")
    schema = output_schema(table.schema, options)
    facts = _facts(table, options, model) | ({} if summary is None else {"summary": True})
    job = Job(output, output_format, schema, facts, None if summary is None else partial(tally_of, options=options))
    bundle, reference = str(model.bundle.path), model.bundle.manifest.get("reference")
    del model
    processes = min(args.processes or available_cpus(), max(1, math.ceil(table.rows / MOST_ROWS)))
    if not args.quiet:
        several = f" in {len(table.files)} files" if len(table.files) > 1 else ""
        print(f"{redacted(args.input)}: {table.rows:,} rows{several}, {table.layout}", file=sys.stderr)
    with job.opened():
        begun, before = time.monotonic(), job.rows
        if before and not args.quiet:
            print(f"continues after {before:,} rows", file=sys.stderr)
        with tqdm(total=table.rows, initial=before, unit="row", unit_scale=True, disable=args.quiet or None) as bar:
            given: dict[str, Any] = {"bundle": bundle, "model_options": model_options, "options": options}
            work = _on_spark(args.spark, given) if args.spark else partial(scored, **given, processes=processes)
            for rows in job.run(table.batches(), work, stop_on_error=args.on_error == _STOP):
                bar.update(rows)
        job.finish()
        if summary is not None:
            head = {"input": redacted(args.input), "model": Path(args.model).name, "scored": f"{datetime.now(UTC):%F}"}
            write_whole(summary, page(job.tally, head, reference).encode())
    if not args.quiet:
        took = time.monotonic() - begun
        rate = f"{(job.rows - before) / took:,.0f} rows per second" if took and job.rows > before else "at once"
        print(f"{output}: {job.rows:,} rows, {job.errors:,} with an error ({took:.1f} s, {rate})", file=sys.stderr)
    return 1 if job.errors else 0


def _on_spark(master: str, given: dict[str, Any]) -> Work:
    try:
        from bulk import spark  # not at the top: most jobs run without Spark
    except ImportError as error:
        raise JobError(f"--spark needs pyspark ({error}): pip install .[spark]") from error
    return partial(spark.scored, spark=spark.session(master), **given)


def _output(given: str, *, overwrite: bool) -> File:
    """Return the place of the output. Raises JobError where it cannot be written or would replace a file."""
    output = remote_file(given) if is_address(given) else Path(given)
    if format_of(output) == PARQUET and output.suffix.lower() in COMPRESSED:
        raise JobError(f"--output {output}: Parquet is compressed inside; give a name that ends in .parquet")
    if isinstance(output, Path):
        if output.is_dir():
            raise JobError(f"--output {output}: is a folder; give a file in it")
        if not output.absolute().parent.is_dir():
            raise JobError(f"--output {output}: the folder {output.absolute().parent} does not exist")
    if output.exists() and not overwrite:
        raise JobError(f"--output {output}: exists; --overwrite replaces it")
    if not isinstance(output, Path):
        output.check_writable()
    return output


def _summary(path: Path, *, overwrite: bool) -> Path:
    """Return the place of the summary. Raises JobError where it cannot be written or would replace a file."""
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise JobError(f"--summary {path}: is a folder, or in none; give a file in a folder that exists")
    if path.exists() and not overwrite:
        raise JobError(f"--summary {path}: exists; --overwrite replaces it")
    return path


def _same(output: File, file: File) -> bool:
    return isinstance(output, Path) and isinstance(file, Path) and output.exists() and output.samefile(file)


def _facts(table: Input, options: ScoreOptions, model: ModelInferer) -> dict[str, Any]:
    """Return everything that decides the output's bytes."""
    reading = {"format": table.file_format, "layout": table.layout}
    predicted = {**asdict(options), "columns": list(options.columns or ())}
    predicted.pop("dedupe")  # equal texts have equal answers
    return {
        "version": __version__,
        "input": table.fingerprint(),
        **reading,
        "model": model.bundle.manifest["manifest_sha256"],
        "config": [list(model.labels), model.problem_type, model.max_length, model.thresholds],
        "scheme": model.scheme,
        **predicted,
    }
