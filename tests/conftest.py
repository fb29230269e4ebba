"""What every test has: the peers it asks for are there; a failed one shows what peers and services said."""

from collections.abc import Generator
from pathlib import Path

import pytest

from tests.peers.process import tail
from tests.peers.requirement import hold


def pytest_runtest_setup(item: pytest.Item) -> None:
    hold(item)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the end of each log under the test's `tmp_path` to the report of its failure."""
    report = yield
    folder = getattr(item, "funcargs", {}).get("tmp_path")
    if report.failed and isinstance(folder, Path):
        report.sections += [
            (f"{log.relative_to(folder)} (last lines)", tail(log)) for log in sorted(folder.rglob("*.log"))
        ]
    return report
