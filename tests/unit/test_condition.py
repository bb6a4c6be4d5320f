"""How the event loop is, as a note: what is packed is read again, and nonsense is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ucspid.errors import WireError
from ucspid.ipc.condition import MAX_SERVICES, TROUBLES, Condition

U32 = st.integers(0, 2**32 - 1)


@given(U32, st.integers(1, MAX_SERVICES), U32, st.sampled_from(TROUBLES))
def test_it_is_read_as_it_was_packed(live: int, troubled: int, service: int, trouble: str) -> None:
    for condition in (Condition(live), Condition(live, troubled, service, trouble)):
        assert Condition.from_note(*condition.to_note()) == condition


def test_more_services_than_fit_are_as_many_as_fit() -> None:
    packed = Condition(1, MAX_SERVICES + 1, 7, "full").to_note()
    assert Condition.from_note(*packed).troubled == MAX_SERVICES


@pytest.mark.parametrize("token", [7, 1 << 32, 1 << 48 | len(TROUBLES) << 32])
def test_nonsense_is_refused(token: int) -> None:
    with pytest.raises(WireError):
        Condition.from_note(1, token)
