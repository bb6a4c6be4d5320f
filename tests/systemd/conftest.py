"""A container with the code under test and its unit, for each of Debian's releases."""

from collections.abc import Iterator

import pytest

from container import SUITES, Container, booted


@pytest.fixture(scope="session", params=[*SUITES])
def container(request: pytest.FixtureRequest) -> Iterator[Container]:
    with booted(request.param) as container:
        container.install()
        yield container
