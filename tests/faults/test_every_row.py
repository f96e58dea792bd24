"""Each row of the fault table, F01 to F60, has its test: by its name, or by the table here."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parents[1]
ROWS = {f"F{number:02}" for number in range(1, 61)}
ELSEWHERE = {
    "F21": "server/media/test_decoders.py::test_a_lost_decoder_costs_its_own_request_only",
    "F24": "server/media/test_url_rows.py::test_slow_names_hold_up_nothing_else",
    "F25": "server/media/test_url_rows.py::test_urls",  # U63
    "F38": "server/http/test_table_h.py::test_who_does_not_read_is_dropped",
    "F40": "bench/test_bench.py::test_overload_refuses_at_once_and_goes_on_answering",
    "F44": "server/test_admission.py::test_one_key_leaves_room_for_the_others",
    "F46": "server/test_shutdown.py::test_what_is_under_way_is_finished",
    "F47": "server/test_shutdown.py::test_a_stream_that_does_not_end_is_told_of_the_end",
}
NOT_OFFERED = {
    "F50": "weights are not replaced in a running server: start another, move the traffic, drain",
    "F51": "the same; a server that cannot load its weights never becomes ready (F07)",
}


def functions_of(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and "test" in node.name:
            yield node.name


def named_rows() -> set[str]:
    """Rows that are part of a test's name, such as test_f10_… or test_f27_f60_…"""
    names = (name for file in TESTS.rglob("test_*.py") for name in functions_of(file))
    return {row.upper() for name in names for row in re.findall(r"_(f\d\d)(?=_)", name)}


def test_every_row_has_a_test() -> None:
    found = named_rows() | ELSEWHERE.keys() | NOT_OFFERED.keys()
    assert found == ROWS, found ^ ROWS


def test_what_is_elsewhere_is_there() -> None:
    for place in ELSEWHERE.values():
        file, _, name = place.partition("::")
        assert name in functions_of(TESTS / file), place
