"""`python -m benchmarks [NAME ...]`: run benchmarks, print a table, write build/bench.json.

Exit code 1 when a target is missed or a benchmark breaks, 2 when a name is unknown.
"""

import argparse
import ast
import importlib
import json
import multiprocessing
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, fields
from pathlib import Path

from benchmarks.result import Result

FOLDER = Path(__file__).resolve().parent
OUT = FOLDER.parent / "build" / "bench.json"
COLUMNS = tuple(field.name for field in fields(Result))


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


def run_module(module: str) -> list[Result]:
    """One benchmark's results, in the process that calls this."""
    results: list[Result] = importlib.import_module(module).run()
    return results


def measure(module: str) -> list[Result]:
    """One benchmark's results from a fresh process; whatever it raises comes out here."""
    fresh = multiprocessing.get_context("spawn")
    entry = importlib.import_module("benchmarks.__main__").run_module  # a spawned process knows no __main__
    with ProcessPoolExecutor(1, mp_context=fresh) as pool:
        results: list[Result] = pool.submit(entry, module).result()
        return results


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


def table(results: Iterable[Result]) -> str:
    """The results in columns."""
    rows = [COLUMNS, *(tuple(cell(value) for value in asdict(result).values()) for result in results)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
    return "\n".join(
        "  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def run_all(package: str, names: Sequence[str], out: Path) -> int:
    """Run the named benchmarks of `package`, print and write what they found; the exit code."""
    results: list[Result] = []
    broken = []
    for name in names:
        print(f"running {name} ...", file=sys.stderr, flush=True)
        try:
            results += measure(f"{package}.{name}")
        except Exception as error:  # one broken benchmark must not hide what the others measured
            broken.append(name)
            print(f"{name} broke: {type(error).__name__}: {error}", file=sys.stderr)
            if error.__cause__:
                print(error.__cause__, file=sys.stderr)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps([asdict(result) for result in results], indent=1) + "\n")
    print(table(results))
    missed = [result.name for result in results if not result.ok]
    if missed:
        print(f"missed: {', '.join(missed)}", file=sys.stderr)
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
