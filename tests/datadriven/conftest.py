"""`--rewrite` writes the expected output anew."""

import os

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rewrite", action="store_true", help="write the expected output of scenarios anew")


@pytest.fixture
def rewrite(request: pytest.FixtureRequest) -> bool:
    """Also by DWD_REWRITE=1, for runs that do not start in this folder."""
    return bool(request.config.getoption("--rewrite", default=False)) or os.environ.get("DWD_REWRITE") == "1"
