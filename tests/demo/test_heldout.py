"""The demo model's contract over HTTP: media of another generator, 16 clients at once."""

from tests.demo.heldout import measure

PER_KIND = 6


async def test_the_demo_answers_right_and_alike_in_a_crowd(demo_server: str) -> None:
    """At least 90 % right over all kinds and 80 % in each; the same answers alone."""
    result = await measure(demo_server, PER_KIND, concurrency=16, seed=2026, alone=15)
    assert result["overall"] >= 0.9, result["wrong"]
    assert min(result["kinds"].values()) >= 0.8, result["wrong"]
    assert result["num_different_alone"] == 0
