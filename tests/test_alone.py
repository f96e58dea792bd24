"""Whoever is marked `alone` is."""

import threading
import time
from pathlib import Path

from tests.alone import _place as place


def test_others_share_the_room_and_one_has_it_alone(tmp_path: Path) -> None:
    inside: list[bool] = []
    seen: list[list[bool]] = []
    guard = threading.Lock()

    def stay(alone: bool) -> None:
        with place(tmp_path, alone):
            with guard:
                inside.append(alone)
                seen.append(list(inside))
            time.sleep(0.05)
            with guard:
                inside.remove(alone)

    threads = [threading.Thread(target=stay, args=(number % 3 == 0,)) for number in range(9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(who == [True] for who in seen if True in who) and len(seen) == 9
    assert any(len(who) > 1 for who in seen)
