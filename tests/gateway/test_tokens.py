"""Tokens, sessions and limits, as pure decisions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limpet.errors import UnreadableError
from limpet.gateway.access import sessions, tokens
from limpet.gateway.access.limits import MOST_CLIENTS, Budget, Rates
from limpet.gateway.access.sessions import Sessions


def test_a_new_token_is_known_by_its_hash_alone() -> None:
    secret, token = tokens.new("anna")
    other, _ = tokens.new("anna")
    line = f"{token.name} {token.sha256}"
    assert secret not in line
    known = tokens.parse(f"# people\n\n{line}\n".encode(), "api-tokens")
    assert tokens.name_of(known, secret) == "anna"
    assert {tokens.name_of(known, wrong) for wrong in ("", other, secret[:-1], secret + "x", "é" * 43)} == {""}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("anna", ":2: a line has a name and a SHA-256"),
        ("anna " + "a" * 63, ":2:"),
        ("anna " + "A" * 64, ":2:"),
        ("../anna " + "a" * 64, ":2:"),
        ("anna " + "a" * 64 + " more", ":2:"),
        ("ännä " + "a" * 64, "not ASCII"),
    ],
)
def test_a_wrong_line_is_named(line: str, words: str) -> None:
    with pytest.raises(UnreadableError) as error:
        tokens.parse(f"# first\n{line}\n".encode(), "api-tokens")
    assert "api-tokens" in str(error.value)
    assert words in str(error.value)


@given(st.binary())
def test_any_file_is_read_or_refused(data: bytes) -> None:
    try:
        found = tokens.parse(data, "f")
    except UnreadableError:
        return
    assert all(tokens.NAME.fullmatch(token.name) for token in found)


def test_too_many_tokens_are_refused() -> None:
    line = "n " + "0" * 64 + "\n"
    assert len(tokens.parse((line * tokens.MOST).encode(), "f")) == tokens.MOST
    with pytest.raises(UnreadableError, match="maximum"):
        tokens.parse((line * (tokens.MOST + 1)).encode(), "f")


def test_a_session_ends_with_its_time_by_logout_or_when_too_many_begin() -> None:
    known = Sessions()
    first = known.begin("anna", 0.0)
    assert known.name_of(first, sessions.SECONDS - 1) == "anna"
    assert known.name_of(first, sessions.SECONDS) == ""
    assert known.name_of(first[:-1], 0.0) == ""
    known.end(first)
    assert known.name_of(first, 0.0) == ""
    second = known.begin("anna", 0.0)
    others = [known.begin("ben", 0.0) for _ in range(sessions.MOST)]
    assert known.name_of(second, 0.0) == ""
    assert known.name_of(others[0], 0.0) == "ben"


def test_each_client_has_its_own_rate() -> None:
    rates = Rates(2.0, 3)
    assert [rates.allows("a", 10.0) for _ in range(4)] == [True, True, True, False]
    assert rates.allows("b", 10.0)
    assert rates.allows("a", 10.5)
    assert not rates.allows("a", 10.5)


def test_clients_seen_last_longest_ago_are_forgotten() -> None:
    rates = Rates(1.0, 1)
    rates.allows("first", 1.0)
    for number in range(MOST_CLIENTS):
        rates.allows(str(number), 1.0)
    assert rates.allows("first", 1.0)
    assert not rates.allows(str(MOST_CLIENTS - 1), 1.0)


def test_bytes_that_are_given_back_can_be_taken_again() -> None:
    budget = Budget(16)
    assert budget.take("anna", 12, near=True)
    assert not budget.take("ben", 5, near=True)
    budget.give("anna", 12)
    assert budget.take("ben", 12, near=True)


@pytest.mark.parametrize(("near", "most"), [(True, 12), (False, 4)])
def test_a_client_gets_no_more_than_its_share_of_bytes_and_others_get_the_rest(*, near: bool, most: int) -> None:
    budget = Budget(16)
    assert budget.take("anna", most, near=near)
    assert not budget.take("anna", 1, near=near)
    assert budget.take("ben", 4, near=False)
