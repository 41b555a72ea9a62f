"""Evidence that a share has fallen: how seldom it is wrong, and how soon it is there."""

from __future__ import annotations

import math
import random

from limpet.learning.evidence import LONGEST, has_fallen, log_evidence, strongest

LEAST = 0.9


def test_a_false_alarm_is_as_rare_as_stated_however_often_one_looks() -> None:
    rare = random.Random(7)
    alarms, answers = 0, 0
    for _ in range(20):  # 20 sequences of 500 answers: 10,000 looks, at the share that is just enough
        sequence: list[bool] = []
        for _ in range(500):
            sequence.append(rare.random() < LEAST)
            answers += 1
            if not sequence[-1] and has_fallen(sequence, LEAST):
                alarms += 1
                break
    assert alarms <= 3 * answers / LONGEST + 3


def test_a_share_that_falls_is_found_after_many_good_answers() -> None:
    rare = random.Random(8)
    sequence = [rare.random() < 0.97 for _ in range(400)]
    assert not has_fallen(sequence, LEAST)
    bad = [rare.random() < 0.5 for _ in range(60)]
    found = next(count for count in range(60) if has_fallen([*sequence, *bad[:count]], LEAST))
    assert 8 <= found <= 40


def test_evidence_is_the_mixture_of_likelihood_ratios() -> None:
    right, wrong, steps = 20, 9, 20_000
    shares = [(n + 0.5) / steps * LEAST for n in range(steps)]
    ratios = [(q / LEAST) ** right * ((1 - q) / (1 - LEAST)) ** wrong for q in shares]
    assert math.isclose(log_evidence(right, wrong, LEAST), math.log(sum(ratios) / steps), rel_tol=1e-6)


def test_right_answers_alone_are_no_evidence_and_no_limit_breaks_it() -> None:
    assert strongest([True] * 500, 0.9) == -math.inf
    assert not has_fallen([], 0.5)
    assert not has_fallen([False, False], 1.0)
    assert has_fallen([False] * 20, 1.5)
    assert not has_fallen([False] * 20, -1.0)
