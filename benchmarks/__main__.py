"""`python -m benchmarks [NAME ...]`: run benchmarks, print a table, write build/bench.json.

Each row is printed and written as soon as it is there. Exit code 1 when a target is missed or a benchmark
breaks or takes longer than LIMIT, 2 when a name is unknown.
"""

import argparse
import ast
import importlib
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Generator, Sequence
from dataclasses import asdict, fields
from multiprocessing.connection import Connection
from pathlib import Path

from benchmarks.result import Result

FOLDER = Path(__file__).resolve().parent
OUT = FOLDER.parent / "build" / "bench.json"
LIMIT = 420.0
"""Seconds that one benchmark may take."""
COLUMNS = tuple(field.name for field in fields(Result))
WIDTHS = {"name": 56, "unit": 10, "peer": 33}
WIDTH = 10


class Broken(Exception):
    """A benchmark that did not come to its end; the words say why."""


def discover(folder: Path) -> list[str]:
    """Names of the modules in `folder` that define `run` at their top, found without importing them."""
    return sorted(
        path.stem
        for path in folder.glob("*.py")
        if any(
            isinstance(node, ast.FunctionDef) and node.name == "run"
            for node in ast.parse(path.read_text()).body
        )
    )


def run_module(module: str, out: Connection) -> None:
    """Send one benchmark's results one by one, in the process that calls this; at the end what broke it."""
    try:
        for result in importlib.import_module(module).run():
            out.send(result)
    except Exception as error:  # to be told by whoever started us
        cause = f"\n{error.__cause__}" if error.__cause__ else ""
        out.send(f"{type(error).__name__}: {error}{cause}")
    else:
        out.send(None)


def measure(module: str, limit: float = LIMIT) -> Generator[Result]:
    """One benchmark's results from a fresh process, as they come. Raises Broken."""
    fresh = multiprocessing.get_context("spawn")
    entry = importlib.import_module("benchmarks.__main__").run_module  # a spawned process knows no __main__
    ours, theirs = fresh.Pipe(duplex=False)
    process = fresh.Process(target=entry, args=(module, theirs))
    process.start()
    theirs.close()
    end = time.monotonic() + limit
    try:
        while True:
            if not ours.poll(max(0.0, end - time.monotonic())):
                raise Broken(f"took longer than {limit:.0f} s")
            try:
                said: Result | str | None = ours.recv()
            except EOFError:
                process.join()
                raise Broken(f"its process ended with exit code {process.exitcode}") from None
            if said is None:
                process.join(5)
                return
            if isinstance(said, str):
                raise Broken(said)
            yield said
    finally:
        process.terminate()
        process.join()


def cell(value: object) -> str:
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "NO"
        case float() | int():
            return f"{value:.4g}"
        case _:
            return str(value)


def line(cells: Sequence[str]) -> str:
    """One row of the table."""
    widths = (WIDTHS.get(column, WIDTH) for column in COLUMNS)
    return "  ".join(word.ljust(width) for word, width in zip(cells, widths, strict=True)).rstrip()


def run_all(package: str, names: Sequence[str], out: Path) -> int:
    """Run the named benchmarks of `package`, print and write what they find; the exit code."""
    results: list[Result] = []
    broken = []
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text("[]\n")
    print(line(COLUMNS), flush=True)
    for name in names:
        began = time.monotonic()
        print(f"running {name}, load average {os.getloadavg()[0]:.1f}", file=sys.stderr, flush=True)
        try:
            for result in measure(f"{package}.{name}"):
                results.append(result)
                print(line([cell(value) for value in asdict(result).values()]), flush=True)
                out.write_text(json.dumps([asdict(one) for one in results], indent=1) + "\n")
        except Broken as error:  # must not hide what the others measure
            broken.append(name)
            print(f"{name} broke: {error}", file=sys.stderr)
        print(f"{name} took {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    missed = [result.name for result in results if not result.ok]
    if missed:
        print(f"missed: {', '.join(missed)}", file=sys.stderr)
    if broken:
        print(f"broken: {', '.join(broken)}", file=sys.stderr)
    return 1 if missed or broken else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    known = discover(FOLDER)
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure against peers.")
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"of {', '.join(known) or 'none'}; default all"
    )
    asked: list[str] = parser.parse_args(arguments).names
    unknown = [name for name in asked if name not in known]
    if unknown:
        print(f"no benchmark {', '.join(unknown)}; there are: {', '.join(known) or 'none'}", file=sys.stderr)
        return 2
    return run_all("benchmarks", asked or known, OUT)


if __name__ == "__main__":
    sys.exit(main())
