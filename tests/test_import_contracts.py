"""Each import contract of pyproject.toml breaks on a planted violation; the tree as it is keeps them all."""

import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
SETTINGS: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
CONTRACTS = [contract["name"] for contract in SETTINGS["contracts"]]

LAYERS = "layers: orchestrator, domains, media, foundation and protocols"
DOMAINS = "the five domains never import one another"
PURE = "protocols are pure: no I/O, no clock, nothing of ours"
CONFIG = "config imports nothing of ours"
PYEE = "pyee only where media meets aiortc"
FIVE = ("signaling", "mcu_bridge", "stream_relay", "analytics", "recordings")
PLANTED = [
    (LAYERS, "foundation", "media"),
    (LAYERS, "foundation", "protocols"),
    (LAYERS, "protocols", "foundation"),
    (LAYERS, "media", "signaling"),
    (LAYERS, "recordings", "orchestrator"),
    *((DOMAINS, importer, imported) for importer in FIVE for imported in FIVE if importer != imported),
    *(
        (PURE, "protocols", name)
        for contract in SETTINGS["contracts"]
        if contract["name"] == PURE
        for name in contract["forbidden_modules"]
    ),
    (PURE, "protocols", "redis.asyncio"),
    (CONFIG, "config", "foundation"),
    (CONFIG, "config", "media"),
    (CONFIG, "config", "protocols"),
    (PYEE, "signaling", "pyee"),
    (PYEE, "media", "pyee"),
    (PYEE, "foundation", "pyee.asyncio"),
]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the packages and of pyproject.toml."""
    copy = tmp_path_factory.mktemp("contracts")
    shutil.copy(ROOT / "pyproject.toml", copy)
    only_python = shutil.ignore_patterns("__pycache__", "*.yaml", "*.mako", "*.ttf", "*.otf")
    for package in SETTINGS["root_packages"]:
        shutil.copytree(ROOT / package, copy / package, ignore=only_python)
    return copy


@pytest.fixture
def planted(tree: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """The copy with one module more, which imports what its package must not."""
    importer, imported = request.param
    module = tree / importer / "planted_violation.py"
    module.write_text(f"import {imported}\n")
    yield tree
    module.unlink()


def lint(tree: Path) -> tuple[int, str]:
    """import-linter's exit code and words on the packages in `tree`."""
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache", "--config", "pyproject.toml"],
        cwd=tree,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_the_tree_as_it_stands_keeps_every_contract(tree: Path) -> None:
    code, words = lint(tree)
    assert code == 0, words
    assert f"Contracts: {len(CONTRACTS)} kept, 0 broken." in words


def test_no_contract_goes_without_a_planted_violation() -> None:
    assert {contract for contract, _, _ in PLANTED} == set(CONTRACTS)


@pytest.mark.parametrize(
    ("planted", "contract", "importer", "imported"),
    [((importer, imported), contract, importer, imported) for contract, importer, imported in PLANTED],
    indirect=["planted"],
    ids=[f"{importer}-imports-{imported}" for _, importer, imported in PLANTED],
)
def test_a_planted_import_breaks_its_contract(
    planted: Path, contract: str, importer: str, imported: str
) -> None:
    code, words = lint(planted)
    assert code == 1, words
    assert f"{contract} BROKEN" in words
    assert f"{importer}.planted_violation -> {imported.partition('.')[0]}" in words
