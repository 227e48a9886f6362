"""What every test starts from: logging as nobody configured it, and quiet below warnings."""

from __future__ import annotations

import logging

import pytest
import structlog


@pytest.fixture(autouse=True)
def _quiet_logs() -> None:
    """Whatever a test before this one did to structlog, which is global, ends here."""
    structlog.reset_defaults()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
