"""Which URLs are within `updates.allow`: parts are compared, never texts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limpet.updates import address

ALLOW = ("https://good.example.com/models", "http://10.0.0.1:8080/", "https://[2001:db8::1]/a%20b/")


@pytest.mark.parametrize(
    "url",
    [
        "https://good.example.com/models",
        "https://good.example.com/models/",
        "https://good.example.com:443/models/motion-2.limpet",
        "HTTPS://GOOD.Example.COM/models/x?token=1&other=%2F",
        "https://good.example.com/%6Dodels/x",
        "https://good.example.com/models/a..b/.hidden",
        "https://good.example.com/models/@x:y",
        "http://10.0.0.1:8080/anything",
        "http://10.0.0.1:8080",
        "https://[2001:DB8:0::1]/a%20b/c",
    ],
)
def test_urls_below_an_allowed_one_are_allowed(url: str) -> None:
    assert address.is_allowed(address.parse(url), ALLOW)


@pytest.mark.parametrize(
    "url",
    [
        "https://good.example.com.evil.org/models/x",
        "https://evil.org/https://good.example.com/models/x",
        "https://evil.org/?https://good.example.com/models/x",
        "https://good.example.com@evil.org/models/x",
        "https://good.example.com:443@evil.org/models/x",
        "https://good.example.com\\@evil.org/models/x",
        "https://good.example.com\\.evil.org/models/x",
        "https://evil.org#@good.example.com/models/x",
        "https://good.example.com./models/x",
        "https://good.example.com/models/../secret",
        "https://good.example.com/models/./x",
        "https://good.example.com/models/%2e%2e/secret",
        "https://good.example.com/models/.%2E/secret",
        "https://good.example.com/models/..;/secret",
        "https://good.example.com/models/%252e%252e/secret",
        "https://good.example.com/models/..%2fsecret",
        "https://good.example.com/models%2f..%2fsecret",
        "https://good.example.com/models\\..\\secret",
        "https://good.example.com/models/%5c..%5csecret",
        "https://good.example.com/models/%00",
        "https://good.example.com/models/%zz",
        "https://good.example.com/models/%ff",
        "https://good.example.com/models2/x",
        "https://good.example.com/Models/x",
        "https://good.example.com//models/x",
        "https://good.example.com/",
        "http://good.example.com/models/x",
        "https://good.example.com:444/models/x",
        "https://good.example.com:0/models/x",
        "https://good.example.com:99999/models/x",
        "https://good.example.com:/models/x",
        "https:/good.example.com/models/x",
        "//good.example.com/models/x",
        "ftp://good.example.com/models/x",
        "file:///etc/passwd",
        " https://good.example.com/models/x",
        "https://good.example.com/models/x\n",
        "https://good.example.com/models/x\r\nHost: evil",
        "https://good.example.com/models/x#part",
        "https://g\u00f6od.example.com/models/x",
        "https://good.example.com/models/\u2025/x",
        "http://10.0.0.1.nip.io:8080/x",
        "http://0x0a000001:8080/x",
        "http://[::ffff:10.0.0.1]:8080/x",
        "https://[2001:db8::1%25eth0]/a%20b/c",
        "https://" + "a" * 300 + "/x",
        "https://good.example.com/models/" + "x" * 3000,
        "",
    ],
)
def test_attack_urls_that_look_like_an_allowed_one_are_refused(url: str) -> None:
    try:
        found = address.parse(url)
    except ValueError:
        return
    assert not address.is_allowed(found, ALLOW)


@pytest.mark.parametrize(
    "entry",
    ["", "*", "https://", "good.example.com", "https://good.example.com/models?x", "https://u@good.example.com"],
)
def test_an_entry_that_is_no_url_allows_nothing(entry: str) -> None:
    assert not address.is_allowed(address.parse("https://good.example.com/models/x"), [entry])


@given(st.text(max_size=60) | st.from_regex(r"https?://[a-z.@:\\/%#?;2eEfF5cC\[\]]{0,40}", fullmatch=True))
def test_what_is_parsed_means_the_same_when_it_is_parsed_again(url: str) -> None:
    try:
        found = address.parse(url)
    except ValueError:
        return
    assert address.parse(found.text) == found
    assert "@" not in found.text.partition("//")[2].partition("/")[0]


@pytest.mark.parametrize(
    ("location", "leads"),
    [
        ("/b", "https://h.example:443/b"),
        ("b", "https://h.example:443/a/b"),
        ("../b", "https://h.example:443/b"),
        ("?x=1", "https://h.example:443/a/x?x=1"),
        ("//other.example/b", "https://other.example:443/b"),
        ("https://other.example:8443/b#part", "https://other.example:8443/b"),
    ],
)
def test_redirects_lead_where_a_browser_would_go(location: str, leads: str) -> None:
    assert address.follow(address.parse("https://h.example/a/x"), location).text == leads


@pytest.mark.parametrize(
    "location",
    ["http://h.example/b", "ftp://h.example/b", "/\\evil.org", "\\\\evil.org/b", "/b\x00", "/\u00fc", "x" * 3000],
)
def test_redirects_that_lead_to_no_proper_place_are_refused(location: str) -> None:
    with pytest.raises(ValueError, match=r"redirect|URL|http"):
        address.follow(address.parse("https://h.example/a/x"), location)
