"""What a proxy must get right, line by line, and the tests that prove each line in both shells.

A line without a test fails here, and so does a name that is no test any more. Tests that take
one of this folder's bridges run once for each shell; those of the pure core are of both.
"""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[2]
HERE = "proxy/shells"
BOTH = frozenset(("bridge", "trusting", "backends", "reference"))
"""Fixtures that exist once for each shell."""

CORRECTNESS = {
    "1 hop-by-hop fields, and those that Connection names, both ways": """
        hop_by_hop::a_visitors_hop_by_hop_field_stops_here
        hop_by_hop::a_hop_by_hop_field_of_legacy_stops_here
        hop_by_hop::what_connection_names_in_a_request_stops_here
        hop_by_hop::what_connection_names_in_an_answer_stops_here
        hop_by_hop::two_connection_fields_both_count
        hop_by_hop::te_trailers_is_said_again""",
    "2 framing that two parsers could read differently: 400 and close": """
        framing::a_request_that_two_parsers_could_read_differently_gets_a_400_and_is_closed
        framing::what_follows_a_refused_request_is_not_answered
        hostile::a_coding_that_only_looks_like_chunked_is_a_400
        hostile::a_length_with_white_space_of_another_character_set_is_a_400
        smuggling::both_backends_see_the_same
        differential::what_attackers_send""",
    "3 a chunked request is framed; a body of another length is an error, and no reuse": """
        framing::a_chunked_request_reaches_legacy_properly_framed
        framing::a_body_that_ends_early_is_an_error_and_never_a_whole_request
        framing::bad_chunking_in_the_middle_is_an_error_and_never_a_whole_request
        framing::bytes_after_the_announced_length_are_the_next_request
        framing::what_legacy_sends_beyond_its_length_reaches_nobody
        framing::what_legacy_sends_after_the_last_chunk_reaches_nobody
        hostile::a_chunk_size_that_somebody_could_read_otherwise_is_an_error
        hostile::a_chunked_answer_of_http_1_0_ends_its_connection""",
    "4 HEAD, 1xx, 204, 205, 304 carry no body; HEAD and 304 keep their length": """
        no_body::the_answer_to_head_keeps_its_length
        no_body::a_body_sent_with_the_answer_to_head_reaches_nobody
        no_body::a_304_keeps_its_length_and_its_validators
        no_body::a_204_has_neither_body_nor_length
        no_body::a_205_is_empty_whatever_came_with_it
        interim::an_interim_answer_of_legacy_is_not_the_final_one""",
    "5 legacy cut in the middle of a body is a cut for the visitor": """
        truncated_response::legacy_cut_in_the_middle_of_a_body_is_a_cut_for_the_visitor
        truncated_response::a_reset_by_legacy_is_a_cut_for_the_visitor
        truncated_response::garbage_between_chunks_is_a_cut_for_the_visitor
        differential::what_legacy_answers""",
    "6 refused or garbage 502, timeout 504, a visitor who left, abort after the first byte": """
        bad_gateway::garbage_from_legacy_is_a_502
        bad_gateway::a_refused_connection_is_a_502
        timeouts::a_connection_that_is_never_accepted_is_a_504
        timeouts::a_legacy_that_does_not_answer_is_a_504
        timeouts::a_body_that_stalls_is_cut_short
        visitor_left::a_visitor_who_leaves_an_upload_is_no_failure_of_legacy""",
    "7 Expect: a final answer without the body is passed on; 1xx is never final": """
        interim::a_visitor_who_expects_100_gets_it_and_then_the_answer
        interim::legacys_100_reaches_the_visitor_once
        interim::a_final_answer_without_the_body_is_passed_on
        interim::early_hints_are_passed_on
        hostile::a_request_is_not_sent_again_after_an_interim_answer""",
    "8 repeated headers, Set-Cookie, two Cookie lines, empty values": """
        header_fidelity::headers_of_an_answer_keep_order_count_and_spelling
        header_fidelity::set_cookie_is_never_merged
        header_fidelity::repeated_headers_of_a_request_keep_their_order
        cookies::two_cookie_lines_are_joined_as_browsers_would""",
    "9 ranges, validators, encodings untouched": """
        real_nginx::a_range_is_answered_with_a_206
        real_nginx::a_range_that_cannot_be_is_answered_with_a_416
        real_nginx::if_range_decides_between_a_part_and_the_whole
        real_nginx::a_validator_works
        real_nginx::a_compressed_body_stays_compressed
        real_nginx::an_answer_is_that_of_nginx""",
    "9 trailers untouched, where the shell can": """
        framing::a_chunked_answer_means_the_same_wherever_the_network_cuts_it
        hostile::trailers_of_legacy_reach_the_visitor_or_nobody""",
    "10 the raw target byte for byte": """
        raw_target::a_target_reaches_legacy_byte_for_byte
        raw_target::the_prefix_of_a_backend_is_put_in_front_and_nothing_else_changes
        differential::what_browsers_send""",
    "11 OPTIONS *, GET *, GET admin, CONNECT, absolute-form, hosts off the list": """
        raw_target::options_for_the_whole_server_goes_to_legacy
        raw_target::a_target_of_no_form_is_a_400
        raw_target::connect_is_refused
        raw_target::absolute_form_never_changes_where_a_request_goes
        hosts::a_host_that_is_not_ours_is_a_421""",
    "12 X-Forwarded-*, Forwarded, Via, Max-Forwards, loops": """
        forwarded::legacy_is_told_who_asks
        forwarded::what_a_visitor_invents_is_dropped
        forwarded::a_trusted_proxy_is_believed
        forwarded::what_a_visitor_told_a_trusted_proxy_is_not_believed
        loops::via_is_not_added
        loops::via_is_added_where_the_backend_asks_for_it
        loops::options_with_no_forwards_left_is_answered_here
        loops::trace_with_no_forwards_left_is_refused
        loops::a_backend_that_is_the_bridge_itself_is_a_508""",
    "13 streaming, bounded memory, stalled visitors, early answers": """
        streaming::server_sent_events_arrive_one_by_one
        streaming::a_large_download_does_not_fill_the_memory
        streaming::a_large_upload_does_not_fill_the_memory
        streaming::a_stalled_visitor_stops_reading_from_legacy
        streaming::an_early_answer_arrives_while_the_visitor_goes_on_sending""",
    "14 Upgrade: tunnelled by the engine, a status under plain WSGI": """
        upgrade::a_websocket_is_tunnelled
        upgrade::a_websocket_that_legacy_refuses_gets_its_answer
        upgrade::a_websocket_is_a_501_at_once
        upgrade::another_upgrade_is_ignored
        proxy/engine/test_hostile_bytes.py::what_was_sent_before_the_101_goes_through_it
        proxy/engine/test_hostile_bytes.py::only_a_get_without_a_body_asks_for_one""",
    "15 Location and cookies rewritten; no backend name leaks": """
        location::a_location_is_the_visitors
        location::a_cookie_belongs_to_the_visitors_host
        error_pages::a_page_says_nothing_about_what_is_behind""",
    "16 reloads under load": """
        acceptance/test_reload_under_load.py::many_reloads_under_load_fail_no_request_and_mix_no_tables
        acceptance/test_engine_life.py::three_reloads_under_load_fail_no_request_and_replace_no_worker""",
}  # fmt: skip

SECURITY = {
    "absolute-form and //host never change where a request goes": """
        raw_target::absolute_form_never_changes_where_a_request_goes
        hostile::a_path_that_two_programs_read_differently_is_legacys""",
    "headers that visitors must not send are dropped": """
        smuggled_headers::a_visitor_cannot_smuggle_it_to_legacy
        smuggled_headers::a_visitor_cannot_smuggle_it_to_a_handler
        hop_by_hop::a_visitor_cannot_remove_what_the_bridge_adds""",
    "redirect targets name no other host, and hold no line end": """
        hostile::a_location_of_legacy_is_legacys_own
        hostile::what_may_end_a_line_in_an_answer_is_a_502
        location::taking_the_prefix_away_does_not_make_another_host
        proxy/http/test_headers.py::taking_a_prefix_away_never_makes_another_host""",
    "X-Accel-Redirect and X-Sendfile are stripped unless configured": """
        smuggled_headers::an_internal_header_of_legacy_does_not_reach_the_visitor
        smuggled_headers::an_internal_header_passes_where_the_backend_is_configured_for_it""",
    "the operator's API listens elsewhere and takes a token": """
        acceptance/test_serve.py::the_public_port_has_nothing_of_the_operators
        test_operator.py::without_the_token_nothing_is_said
        test_operator.py::the_token_is_compared_in_constant_time""",
    "two who change shares at once do not undo each other": """
        acceptance/test_flip.py::two_flips_at_once_both_happen""",
    "a tester's choice of side is a signed cookie": """
        proxy/decision/test_decide.py::counts_for_nothing_when_expired_forged_or_broken
        acceptance/test_flip.py::a_forged_or_expired_preview_cookie_counts_for_nothing""",
    "a split route is kept out of shared caches": """
        split_routes::no_shared_cache_may_keep_either_side""",
    "PHP and Python read URLs differently": """
        hostile::a_path_that_two_programs_read_differently_is_legacys
        proxy/request/test_target.py::what_could_be_read_in_two_ways_has_no_canonical_path
        proxy/request/test_superglobals.py::a_query_and_cookies_are_read_as_php_reads_them
        proxy/routing/test_table.py::query_conditions_read_the_query_as_php_does""",
}

LINES = {**CORRECTNESS, **SECURITY}


@cache
def functions(file: str) -> dict[str, list[str]]:
    """The tests in a file, and the names of their parameters."""
    tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
    return {
        node.name: [argument.arg for argument in node.args.args]
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


def test_no_line_is_missing() -> None:
    assert {int(line.split()[0]) for line in CORRECTNESS} == set(range(1, 17))
    assert len(SECURITY) == 9


@pytest.mark.parametrize("line", LINES)
def test_every_line_has_its_tests(line: str) -> None:
    named = LINES[line].split()
    assert named, "a line without a test"
    for name in named:
        file, _, function = name.partition("::")
        if "/" not in file and not file.endswith(".py"):
            file = f"{HERE}/test_{file}.py"
        found = functions(file).get(f"test_{function}")
        assert found is not None, f"there is no test {name}"
        if file.startswith(HERE) and not BOTH.intersection(found):
            # Of one shell alone, because the other cannot: then it says what the other does.
            assert {"tunnelling", "threaded"}.intersection(found), f"{name} runs in one shell"
