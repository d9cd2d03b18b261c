"""What may not be kept is not kept, wherever it stands; what is harmless stays."""

from __future__ import annotations

import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.evidence.answers import Asked
from bridge.evidence.differences.file import NAME
from bridge.evidence.differences.found import Sample, Shown
from bridge.evidence.differences.hiding import CannotHide, Hider
from bridge.evidence.differences.secrets import (
    MASK,
    Secrets,
    is_secret_name,
    of_headers,
    of_text,
)
from bridge.evidence.differences.store import Evidence
from tests.evidence.differences.notes import answer, difference, kept, note

SECRET = "hu5h-Hush/0+="
NONE = Secrets([])


@pytest.mark.parametrize(
    ("header", "shown"),
    [
        (("Cookie", "sid=abc; lang=de"), "sid=●●●; lang=●●●"),
        (("cookie", 'a="b"; bare; c='), "a=●●●; ●●●; c="),
        (
            ("Set-Cookie", "sid=abc=d; Path=/x; HttpOnly; SameSite=Lax"),
            "sid=●●●; Path=/x; HttpOnly; SameSite=Lax",
        ),
        (("Set-Cookie", "sid=; Max-Age=0"), "sid=; Max-Age=0"),
        (("Set-Cookie", "bridge_share=k1.abcdef; Path=/"), "bridge_share=●●●; Path=/"),
        (("Authorization", "Basic dXNlcjpwYXNz"), "Basic ●●●"),
        (("PROXY-AUTHORIZATION", "abc"), "●●●"),
        (("Authorization", 'Digest username="u", response="r"'), "Digest ●●●"),
        (("X-Api-Key", "abc"), "●●●"),
        (("Location", "/in?PHPSESSID=abc&page=2"), "/in?PHPSESSID=●●●&page=2"),
        (
            ("Referer", "https://u:p@example.org/?token=abc#x"),
            "https://●●●@example.org/?token=●●●#x",
        ),
        (("Accept-Language", "de"), "de"),
    ],
)
def test_values_of_headers_that_carry_secrets_go_and_names_stay(
    header: tuple[str, str], shown: str
) -> None:
    assert of_headers([header]) == [(header[0], shown)]


@pytest.mark.parametrize(
    "name",
    [
        "password",
        "user_passwd",
        "new-password",
        "PHPSESSID",
        "jsessionid",
        "sid",
        "token",
        "csrfToken",
        "access_token",
        "api_key",
        "apikey",
        "APIKey",
        "key",
        "X-Amz-Signature",
        "%70assword",
        "login[pass]",
        "code",
        "_wpnonce",
        "client_secret",
        "otp",
        "auth",
        "a.sig",
    ],
)
def test_names_of_secrets_are_known(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "page",
        "q",
        "author",
        "passenger",
        "compass",
        "keyword",
        "monkey",
        "zipcode",
        "design",
        "side",
        "inside",
        "t",
        "id",
        "sort",
        "signal",
        "pinned",
        "hotpot",
        "s",
        "%",
    ],
)
def test_names_of_other_things_are_no_secrets(name: str) -> None:
    assert not is_secret_name(name)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/a?token=x", "/a?token=●●●"),
        ("/a;jsessionid=0A&b=1", "/a;jsessionid=●●●&b=1"),
        ('<a href="/x?a=1&amp;sid=77&amp;b=2">', '<a href="/x?a=1&amp;sid=●●●&amp;b=2">'),
        ("#access_token=x&state=1", "#access_token=●●●&state=1"),
        ("a token=x of words", "a token=x of words"),
        ("//user:secret@host/", "//●●●@host/"),
    ],
)
def test_secrets_in_urls_are_found_in_any_text(text: str, shown: str) -> None:
    assert of_text(text) == shown


@pytest.mark.parametrize(
    ("place", "text", "shown"),
    [
        ("cookie sid", "0123abcd", "●●●"),
        ("cookie sid", "sid=0123abcd; Path=/", "sid=●●●; Path=/"),
        ("cookie sid", "", ""),
        ("cookie sid; Path", "/admin", "/admin"),
        ("header Authorization", "Basic abc", "Basic ●●●"),
        ("header Set-Cookie", "sid=1; Path=/", "sid=●●●; Path=/"),
        ("html > body > a @href", "/?sid=1", "/?sid=●●●"),
        ("html > body > p", "cookie of the day", "cookie of the day"),
    ],
)
def test_excerpts_show_attributes_of_cookies_and_not_their_values(
    place: str, text: str, shown: str
) -> None:
    assert NONE.out_of_excerpt(place, text) == shown


@given(st.text(max_size=300))
def test_what_is_masked_once_is_masked(text: str) -> None:
    assert of_text(of_text(text)) == of_text(text)


@given(
    st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=12, max_size=40),
    st.sampled_from(["{}", "x{}y", "<input value='{}'>", "/?a={}&b", '{{"t": "{}"}}', "{0}{0}"]),
)
def test_the_value_of_a_cookie_is_masked_wherever_it_stands(value: str, around: str) -> None:
    secrets = Secrets([[("Cookie", f"sid={value}")]])

    assert value not in secrets.out_of(around.format(value))


def test_a_value_is_found_however_it_is_written() -> None:
    secrets = Secrets([[("Set-Cookie", "t=a%2Fb%3D%26c%2Bdef; Path=/")]])

    for form in ("a%2Fb%3D%26c%2Bdef", "a/b=&c+def", "a/b=&amp;c+def"):
        assert secrets.out_of(f"<{form}>") == "<●●●>"


def _sample(tmp_path: Path, evidence: Evidence) -> Sample:
    found = evidence.group(evidence.groups()[0].id)
    assert found is not None
    evidence.close()
    return found[1][0]


def _everything(sample: Sample, tmp_path: Path) -> bytes:
    """All that anybody could read of it, and the bytes of the files."""
    return repr(sample).encode() + b"".join(
        path.read_bytes() for path in tmp_path.iterdir() if path.is_file()
    )


def test_no_secret_of_a_request_or_an_answer_is_written(tmp_path: Path) -> None:
    page = answer(f"<a href='/?x=1&amp;PHPSESSID=q8w7e6r5t4'>{SECRET}</a> id-4711 q8w7e6r5t4")
    page = answer(page.body, [("Set-Cookie", f"s={SECRET}"), ("X-Shop", "id-4711")])
    evidence = Evidence(tmp_path, kept(hide=[r"id-\d+"]))
    evidence.note(
        note(
            "different",
            asked=Asked(
                "GET",
                "/id-4711?token=w9w9w9w9w9",
                "www.example.org",
                [("Cookie", "PHPSESSID=q8w7e6r5t4"), ("Authorization", "Bearer b5b5b5b5b5")],
            ),
            legacy=page,
            python=page,
            differences=[
                Shown("cookie s", "cookie s", "changed", SECRET, f"s={SECRET}; Path=/"),
                Shown("p#id-4711", "p#id-4711", "changed", "w9w9w9w9w9", "b5b5b5b5b5 id-4711"),
            ],
        )
    )

    sample = _sample(tmp_path, evidence)
    everything = _everything(sample, tmp_path)
    for secret in (SECRET, "q8w7e6r5t4", "w9w9w9w9w9", "b5b5b5b5b5", "id-4711"):
        assert secret.encode() not in everything, secret
    assert sample.legacy is not None
    assert sample.legacy.text == "<a href='/?x=1&amp;PHPSESSID=●●●'>●●●</a> ●●● ●●●"
    assert sample.asked.target == "/●●●?token=●●●"
    assert sample.asked.headers == [("Cookie", "PHPSESSID=●●●"), ("Authorization", "Bearer ●●●")]


SLOW = "(a|aa)+$"


def test_patterns_that_do_not_end_are_stopped_and_nothing_is_kept_of_the_texts(
    tmp_path: Path,
) -> None:
    text = "a" * 60 + "b"
    evidence = Evidence(tmp_path, kept(hide=[SLOW]))
    for number in range(20):
        places = [difference(f"p.{text}{number}")]
        evidence.note(note("different", legacy=answer(text), differences=places))

    sample = _sample(tmp_path, evidence)
    assert sample.legacy is not None
    assert sample.legacy.text == "●●●"
    assert "`hide` in routes.yaml did not end in time" in sample.legacy.left_out
    assert (sample.difference.place, sample.difference.legacy) == ("●●●", "●●●")
    assert sample.asked.target == "●●●"
    assert evidence.counts("r1", "d1")["project"].different == 20


def test_patterns_are_tried_again_after_a_while() -> None:
    now = [0.0]
    hider = Hider([SLOW, "secret"], seconds=0.5, clock=lambda: now[0])
    with pytest.raises(CannotHide):
        hider.hide(["a" * 5000 + "b"])
    with pytest.raises(CannotHide):
        hider.hide(["a secret"])
    now[0] = 100.0

    assert hider.hide(["a secret"]) == ["a ●●●"]


def test_a_pattern_that_matches_nothing_at_all_places_hides_nothing() -> None:
    assert Hider(["x*"]).hide(["axxb"]) == ["a●●●b"]


def test_short_texts_are_hidden_once() -> None:
    hider = Hider([r"\d+"])
    assert hider.hide_short(["a 1", "b", "a 1"]) == ["a ●●●", "b", "a ●●●"]
    hider._patterns = ("(",)  # from now on every call would fail

    assert hider.hide_short(["b", "a 1"]) == ["b", "a ●●●"]


def test_the_bytes_of_a_sample_are_no_bomb(tmp_path: Path) -> None:
    """What is read back is bounded, whoever has written it."""
    evidence = Evidence(tmp_path)
    evidence.note(note("different"))
    database = evidence._open(make=False)
    assert database is not None
    database.execute("UPDATE pages SET data = ?", (zlib.compress(b'{"' * 50_000_000, 1),))

    with pytest.raises(Exception, match=NAME):
        evidence.group(1)


@pytest.mark.parametrize(
    "name",
    ["Api-Key", "X-Access-Token", "Private-Token", "X-WP-Nonce", "X-Session-Id",
     "Cf-Access-Jwt-Assertion", "X-Amzn-Oidc-Data", "X-Auth"],
)  # fmt: skip
def test_a_header_with_the_name_of_a_secret_has_one_wherever_it_stands(name: str) -> None:
    value = "s3cr3tvalue12345"
    assert of_headers([(name, value)]) == [(name, MASK)]
    assert value not in Secrets([[(name, value)]]).out_of(f"<p>{value}</p>")


def test_headers_with_names_of_caches_stay() -> None:
    assert of_headers([("Surrogate-Key", "page-1")]) == [("Surrogate-Key", "page-1")]
