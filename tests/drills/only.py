"""Tests that `make drills` runs, and `make test` does not."""

import os

import pytest

in_drills = pytest.mark.skipif(
    os.environ.get("GOALSVC_TEST_DRILLS") != "all", reason="takes most of a minute: run by make drills"
)
