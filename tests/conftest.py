"""What holds for all tests."""

import pytest
from hypothesis import settings

from tests.jitter import Jitter

# Timings never decide a test. All else as it is, also where Hypothesis finds that it runs in CI.
settings.register_profile("untimed", settings(), deadline=None)
settings.load_profile("untimed")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--jitter", metavar="SEED", help="event loops hear of everything late, at random")


def pytest_configure(config: pytest.Config) -> None:
    if (seed := config.getoption("jitter")) is not None:
        config.pluginmanager.register(Jitter(seed))
