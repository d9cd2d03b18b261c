"""The raw target is what is forwarded; the canonical path is one form to decide on."""

from __future__ import annotations

import contextlib
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bridge.errors import VisitorError
from bridge.proxy.request.target import _canonical, parse_target

RAW = st.text(st.characters(min_codepoint=0x21, max_codepoint=0xFF, exclude_characters="\x7f"))
PATHS = st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), max_size=5).map(
    lambda parts: "/" + "/".join(parts)
)
ESCAPED = st.lists(
    st.sampled_from(
        ["/", "a", ".", "%2F", "%2e", "%41", "%c3%a9", "%00", "%", ";", "\\", "é", "%5c"]
    )
).map(lambda parts: "/" + "".join(parts))


class TestOriginForm:
    @given(RAW)
    def test_the_raw_target_is_never_changed(self, rest: str) -> None:
        target = parse_target("GET", f"/{rest}")
        assert target.raw == f"/{rest}"
        assert target.query == target.raw.partition("?")[2]

    @given(PATHS)
    @example("/")
    @example("/caf\xe9/\U0001f600")
    def test_a_canonical_path_is_its_own_canonical_path(self, path: str) -> None:
        """Quoting and reading it again changes nothing."""
        first = parse_target("GET", quote(path)).path
        if first is not None:
            assert first == path
            assert parse_target("GET", quote(first)).path == first

    @given(ESCAPED)
    def test_there_is_a_path_or_a_word_why_not(self, raw: str) -> None:
        target = parse_target("GET", raw.encode().decode("latin-1"))
        assert (target.path is None) == bool(target.oddity)

    @given(ESCAPED)
    def test_a_canonical_path_has_nothing_that_two_programs_read_differently(
        self, raw: str
    ) -> None:
        path = parse_target("GET", raw.encode().decode("latin-1")).path
        if path is not None:
            assert path.startswith("/")
            assert "//" not in path
            assert "\\" not in path
            assert not {".", ".."} & set(path.split("/"))
            assert all(ord(c) >= 0x20 and ord(c) != 0x7F for c in path)

    @given(st.from_regex(r"(/[A-Za-z0-9._~;=%-]{0,6}){1,4}/?", fullmatch=True))
    def test_the_short_way_for_plain_paths_agrees_with_the_long_one(self, raw: str) -> None:
        target = parse_target("GET", raw)
        assert (target.path, target.oddity) == _canonical(raw)

    @pytest.mark.parametrize(
        ("raw", "oddity"),
        [
            ("/a%2Fb", "%2F in the path"),
            ("/a%5cb", "%5C in the path"),
            ("/a%00", "%00 in the path"),
            ("/a%zz", "a % that is no escape"),
            ("/%e9", "path is not UTF-8"),
            ("/\xe9", "path is not UTF-8"),
            ("/a\\b", "backslash or control character in the path"),
            ("/a%0ab", "backslash or control character in the path"),
            ("//a", "// in the path"),
            ("/a//b", "// in the path"),
            ("/a//", "// in the path"),
            ("/a/../b", "dot segment in the path"),
            ("/a/%2e%2E/b", "dot segment in the path"),
            ("/a/.", "dot segment in the path"),
            ("/a#b", "a # in the target"),
            ("/a%1f", "backslash or control character in the path"),
        ],
    )
    def test_what_could_be_read_in_two_ways_has_no_canonical_path(
        self, raw: str, oddity: str
    ) -> None:
        target = parse_target("GET", raw)
        assert (target.path, target.oddity, target.raw) == (None, oddity, raw)

    @pytest.mark.parametrize(
        ("raw", "path"),
        [
            ("/", "/"),
            ("/a/", "/a/"),
            ("/%61%62", "/ab"),
            ("/a%2541", "/a%41"),
            ("/a%20b+c", "/a b+c"),
            ("/caf%C3%A9", "/café"),
            ("/caf\xc3\xa9", "/café"),
            ("/a;b=c", "/a;b=c"),
            ("/.hidden/..x", "/.hidden/..x"),
            ("/a?b//../c", "/a"),
            ("/http:/a/b", "/http:/a/b"),
            ("/%20", "/ "),
        ],
    )
    def test_a_path_is_decoded_once(self, raw: str, path: str) -> None:
        assert parse_target("GET", raw).path == path


class TestOtherForms:
    @pytest.mark.parametrize(
        ("raw", "authority", "origin"),
        [
            ("http://a.example/b?c", "a.example", "/b?c"),
            ("HTTPS://A.example:8443", "A.example:8443", "/"),
            ("http://a.example?b=/c", "a.example", "/?b=/c"),
            ("http://a.example//b", "a.example", "//b"),
        ],
    )
    def test_absolute_form_is_taken_apart(self, raw: str, authority: str, origin: str) -> None:
        target = parse_target("GET", raw)
        assert (target.authority, target.raw) == (authority, origin)

    def test_the_whole_server_is_for_options(self) -> None:
        for raw in ("*", "http://a.example"):
            target = parse_target("OPTIONS", raw)
            assert (target.raw, target.path) == ("*", None)

    @pytest.mark.parametrize(
        "raw",
        [
            "",
            "*",
            "a",
            "?a",
            "a.example:80",
            "http://",
            "http:///a",
            "http://u@a.example/",
            "ftp://a/",
        ],
    )
    def test_anything_else_is_a_400(self, raw: str) -> None:
        with pytest.raises(VisitorError) as caught:
            parse_target("GET", raw)
        assert caught.value.status == 400

    @pytest.mark.parametrize("raw", ["/a b", "/a\tb", "/a\r\nb", "/\0", "/\x7f"])
    def test_a_space_or_a_control_character_is_a_400(self, raw: str) -> None:
        with pytest.raises(VisitorError) as caught:
            parse_target("GET", raw)
        assert caught.value.status == 400

    @pytest.mark.parametrize("raw", ["a.example:443", "/", "*", "http://a.example/"])
    def test_connect_is_a_405(self, raw: str) -> None:
        with pytest.raises(VisitorError) as caught:
            parse_target("CONNECT", raw)
        assert caught.value.status == 405

    @given(st.text(max_size=60))
    def test_any_text_is_a_target_or_a_visitors_error(self, raw: str) -> None:
        """Never another exception. (A server gives Latin-1.)"""
        text = raw.encode("utf-8", "surrogatepass").decode("latin-1")
        for method in ("GET", "OPTIONS"):
            with contextlib.suppress(VisitorError):
                parse_target(method, text)
