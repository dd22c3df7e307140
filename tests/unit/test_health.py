"""What a health page says of checks that are well, not well, and well in a way worth a word."""

from shared.http import Health


def test_a_problem_makes_a_process_not_ready_and_a_word_does_not() -> None:
    problems: dict[str, str | None] = {"nats": None, "partition 0": None}
    words: dict[str, str | None] = {"partition 0": None}
    health = Health()
    for name in problems:
        health.check(name, lambda name=name: problems[name])
    health.tell("partition 0", lambda: words["partition 0"])
    assert health.report() == (True, {"nats": "ok", "partition 0": "ok"})
    words["partition 0"] = "standby"
    assert health.report() == (True, {"nats": "ok", "partition 0": "standby"})
    problems["partition 0"] = "reading the logs"
    assert health.report() == (False, {"nats": "ok", "partition 0": "reading the logs"})
