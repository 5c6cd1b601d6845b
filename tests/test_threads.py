import os
import sys
import threading

import pytest

from genmed.ground.threads import NICENESS, run_aside


@pytest.mark.skipif(sys.platform != "linux", reason="priorities of threads are Linux's")
def test_work_aside_gives_way_and_leaves_its_caller_as_it_was() -> None:
    def own_niceness() -> tuple[int, int]:
        number = threading.get_native_id()
        return number, os.getpriority(os.PRIO_PROCESS, number)

    before = own_niceness()
    number, niceness = run_aside(own_niceness).result(timeout=60)
    assert number != before[0]
    assert niceness == NICENESS
    assert own_niceness() == before


def test_work_aside_that_fails_is_told_where_its_result_is_asked_for() -> None:
    def fail() -> None:
        raise ValueError("no such digest")

    with pytest.raises(ValueError, match="no such digest"):
        run_aside(fail).result(timeout=60)
