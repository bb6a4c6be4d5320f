"""The native launchers are compiled before the first test: no test is charged with it."""

from contextlib import suppress

import pytest

from launchers import VARIANTS, built


def pytest_collection_finish(session: pytest.Session) -> None:
    names = {str(callspec.id) for item in session.items if (callspec := getattr(item, "callspec", None))}
    for kind, variant in VARIANTS.items():
        if any(kind in name for name in names):
            with suppress(pytest.skip.Exception):
                built(variant)
