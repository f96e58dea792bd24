"""Permits are bounded, and come back once."""

import pytest

from server.admission import Admission
from server.errors import OverloadedError


def test_a_full_house_refuses_and_a_leaver_makes_room() -> None:
    admission = Admission(2)
    first = admission.admit()
    admission.admit()
    with pytest.raises(OverloadedError):
        admission.admit()
    first.release()
    admission.admit()
    assert (admission.num_inside, admission.num_refused) == (2, 1)


def test_releasing_twice_is_releasing_once() -> None:
    admission = Admission(1)
    permit = admission.admit()
    permit.release()
    permit.release()
    assert admission.num_inside == 0
