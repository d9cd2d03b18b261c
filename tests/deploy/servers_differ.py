"""What differs when the WSGI shell runs inside Apache (mod_wsgi) or under stock gunicorn, and why:
the tests of tests/proxy/shells that are not run there. Everything else of that folder is.

A name stands for all of a test's cases, or, with a part of its brackets, for some of them.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["DIFFERS", "why"]

_PARSES = "Apache reads requests itself: what is malformed it refuses or mends before we see it"
_OWN = "Apache writes its own Server and Date, and frames answers itself"
_CUT = "mod_wsgi ends an answer without a length that breaks off as if it were whole"
_HEAD = "mod_wsgi sends the head of an answer with the first byte of its body"
_READS = "mod_wsgi reads on for the rest of the body before it answers"
_HALF = "Apache answers with its own 500 for a body that ends early, and nobody took it for whole"
_NUMBERS = "metrics are `bridgectl serve`'s"
_OPTIONS = "it is about --handlers and places of `bridgectl serve`"
_COMMAS = (
    "gunicorn joins repeated Cookie lines with a comma, so a comma before NAME= counts as that"
)
_COOKIES = "Apache joins repeated request headers with a comma, and mod_wsgi keeps it so"

APACHE: dict[str, str] = {
    # requests
    "test_what_attackers_send[CL.TE]": _PARSES,
    "test_what_attackers_send[TE.CL]": _PARSES,
    "test_what_attackers_send[TE in a fold]": _PARSES,
    "test_what_attackers_send[a chunk size that overflows]": _PARSES,
    "test_what_attackers_send[a trailer without end]": _PARSES,
    "test_what_attackers_send[HTTP/0.9]": _PARSES,
    "test_what_attackers_send[transfer-encoding with content-length]": _PARSES,
    "test_what_attackers_send[chunked twice]": _PARSES,
    "test_what_attackers_send[a folded line]": _PARSES,
    "test_what_attackers_send[no version]": _PARSES,
    "test_what_attackers_send[another version]": _PARSES,
    "test_whatever_visitors_send_long": _PARSES,
    "test_both_backends_see_the_same[a folded line]": _PARSES,
    "test_both_backends_see_the_same[another version]": _PARSES,
    "test_both_backends_see_the_same_in_whatever_comes_long": _PARSES,
    "test_a_request_that_two_parsers_could_read_differently_gets_a_400_and_is_closed": _PARSES,
    "test_the_page_about_a_malformed_request_repeats_nothing_of_it": _PARSES,
    "test_tls_on_a_port_without_it_is_named_in_the_log": _PARSES,
    "test_the_answer_to_bad_chunking_says_that_the_connection_ends": _HALF,
    "test_a_chunk_that_cannot_become_right_is_refused_at_once[zz]": _PARSES,
    "test_a_chunk_that_cannot_become_right_is_refused_at_once[0\\r\\nX-Sum: 1\\n]": _HALF,
    "test_bad_chunking_in_the_middle_is_an_error_and_never_a_whole_request": _HALF,
    "test_a_chunk_size_that_somebody_could_read_otherwise_is_an_error[10000000000000002]": _PARSES,
    "test_what_follows_a_refused_request_is_not_answered": _PARSES,
    "test_a_head_that_is_too_large_is_a_431": _PARSES,
    "test_a_path_that_two_programs_read_differently_is_legacys[%00]": _PARSES,
    "test_a_path_that_two_programs_read_differently_is_legacys[#]": _PARSES,
    "test_a_target_reaches_legacy_byte_for_byte[%00]": _PARSES,
    "test_a_target_reaches_legacy_byte_for_byte[%zz]": _PARSES,
    "test_a_target_reaches_legacy_byte_for_byte[#]": _PARSES,
    "test_the_prefix_of_a_backend_is_put_in_front_and_nothing_else_changes[%00]": _PARSES,
    "test_absolute_form_never_changes_where_a_request_goes": _PARSES,
    "test_connect_is_refused": _PARSES,
    "test_options_for_the_whole_server_goes_to_legacy": _PARSES,
    "test_options_for_the_whole_server_has_no_prefix": _PARSES,
    "test_options_for_the_whole_server_in_absolute_form": _PARSES,
    "test_trace_with_no_forwards_left_is_refused": _PARSES,
    "test_max_forwards_is_counted_down[TRACE]": _PARSES,
    "test_any_other_status_gets_the_sites_default": _PARSES,
    "test_an_expectation_that_nobody_knows_is_a_417": _PARSES,
    "test_visitors_of_http_1_0_need_no_host": "Apache names itself to a visitor without a Host",
    "test_a_field_that_is_no_list_may_not_be_repeated": _PARSES,
    "test_repeated_headers_of_a_request_keep_their_order": _PARSES,
    "test_two_cookie_lines_are_joined_as_browsers_would": _COOKIES,
    "test_a_cookie_line_is_not_touched[a=1,b=2]": _COOKIES,
    'test_a_cookie_line_is_not_touched[a="x,y=z"]': _COOKIES,
    "test_a_handler_sees_the_same_cookies": _COOKIES,
    # bodies of requests
    "test_a_handler_never_takes_half_a_body_for_a_whole_one": _HALF,
    "test_a_body_that_ends_early_is_an_error_and_never_a_whole_request": _HALF,
    "test_a_final_answer_without_the_body_is_passed_on": _READS,
    "test_a_final_answer_without_the_body_says_that_the_connection_ends": _READS,
    "test_an_announced_body_that_is_too_large_is_a_413": _READS,
    "test_an_early_answer_to_a_declined_post_arrives": _READS,
    "test_an_early_answer_arrives_while_the_visitor_pauses": _READS,
    "test_a_legacy_that_takes_no_more_of_an_upload_is_a_504": _READS,
    "test_an_answer_can_stream_while_the_upload_still_runs": _READS,
    # answers
    "test_an_answer_is_that_of_nginx": _OWN,
    "test_headers_of_an_answer_keep_order_count_and_spelling": _OWN,
    "test_server_and_date_are_legacys_own": _OWN,
    "test_the_bridge_adds_no_server_and_one_date": _OWN,
    "test_everything_else_goes_through_unchanged": _OWN,
    "test_a_304_keeps_its_length_and_its_validators": _OWN,
    "test_what_legacy_answers[empty-HEAD]": _OWN,
    "test_what_legacy_answers[not modified, with a length": _OWN,
    "test_what_legacy_answers[reset-HEAD]": _OWN,
    "test_they_get_no_chunks": "Apache answers visitors of HTTP/1.0 with HTTP/1.1",
    "test_they_may_ask_to_keep_it": "Apache spells Keep-Alive so",
    "test_early_hints_are_passed_on": "WSGI has no interim answers",
    "test_a_connection_is_usable_after_a_refused_websocket": "Apache closes it",
    "test_what_legacy_answers[cut in a chunk-GET]": _CUT,
    "test_what_legacy_answers[cut between chunks-GET]": _CUT,
    "test_legacy_cut_in_the_middle_of_a_body_is_a_cut_for_the_visitor[chunked]": _CUT,
    "test_a_reset_by_legacy_is_a_cut_for_the_visitor": _CUT,
    "test_a_body_that_python_breaks_off_is_a_cut_for_the_visitor": _CUT,
    "test_server_sent_events_arrive_one_by_one": _HEAD,
    "test_pieces_of_a_body_with_a_length_arrive_as_they_come": _HEAD,
    "test_pieces_of_a_handler_arrive_as_they_come": _OWN,
    "test_the_generator_of_a_handler_is_closed_when_the_visitor_leaves": _OWN,
    "test_many_streams_leave_room_for_a_quick_request": _HEAD,
    # numbers and options
    "test_a_backend_that_fails_is_counted_by_its_stage": _NUMBERS,
    "test_the_operator_sees_which_server_is_left_alone_and_why": _NUMBERS,
    "test_a_handler_is_measured": _NUMBERS,
    "test_a_new_connection_is_measured": _NUMBERS,
    "test_a_request_to_legacy_is_measured_in_its_stages": _NUMBERS,
    "test_what_is_in_flight_and_who_waits_is_shown": _NUMBERS,
    "test_what_is_no_request_is_counted_and_logged": _NUMBERS,
    "test_who_is_refused_before_they_are_known_has_an_address": _PARSES,
    "test_the_route_goes_back_to_legacy_after_five_rounds": _NUMBERS,
    "test_a_loop_that_is_told_is_counted": _NUMBERS,
    "test_the_line_for_legacy_is_bounded_too": _OPTIONS,
    "test_when_every_handler_thread_is_stuck_legacy_answers": _OPTIONS,
}


_PAGE = "gunicorn refuses what it cannot parse itself, with its own page and nothing in our log"
_TARGET = "gunicorn refuses a target beyond ASCII"
_SERVER = "gunicorn writes its own Server and Date, before the others"
_SILENT = "gunicorn ends a connection whose request it did not read, and does not say so"
_HANGS_UP = "gunicorn reads on for a moment only, so a long upload is reset, and its answer with it"
_WAITS = "gunicorn waits for the end of a line that cannot become right"
_STATE = "what there is at a moment is `bridgectl serve`'s to show"

GUNICORN: dict[str, str] = {
    # requests
    "test_what_attackers_send[TE.TE, the second hidden]": "gunicorn says 501 to an unknown coding",
    "test_a_request_that_two_parsers_could_read_differently_gets_a_400_and_is_closed"
    "[an unknown coding]": "gunicorn says 501 to an unknown coding",
    "test_the_page_about_a_malformed_request_repeats_nothing_of_it": _PAGE,
    "test_an_expectation_that_nobody_knows_is_a_417": _PAGE,
    "test_tls_on_a_port_without_it_is_named_in_the_log": _PAGE,
    "test_what_is_no_request_is_counted_and_logged": _PAGE,
    "test_what_browsers_send[latin-1]": _TARGET,
    "test_a_target_reaches_legacy_byte_for_byte[xc3]": _TARGET,
    "test_a_target_reaches_legacy_byte_for_byte[xe9]": _TARGET,
    "test_a_target_reaches_legacy_byte_for_byte[xff]": _TARGET,
    "test_a_cookie_line_is_not_touched[a=1,b=2]": _COMMAS,
    'test_a_cookie_line_is_not_touched[a="x,y=z"]': _COMMAS,
    "test_a_handler_sees_the_same_cookies": _COMMAS,
    # bodies of requests
    "test_a_chunk_that_cannot_become_right_is_refused_at_once[5\\n]": _WAITS,
    "test_a_chunk_that_cannot_become_right_is_refused_at_once[hello]": _WAITS,
    "test_a_chunk_that_cannot_become_right_is_refused_at_once[zz]": _WAITS,
    "test_the_answer_to_bad_chunking_says_that_the_connection_ends": _SILENT,
    "test_a_final_answer_without_the_body_says_that_the_connection_ends": _SILENT,
    "test_an_upload_that_nobody_takes_loses_nothing_that_is_asked_next": _SILENT,
    "test_an_early_answer_arrives_while_the_visitor_goes_on_sending": _HANGS_UP,
    "test_an_early_answer_may_come_with_a_hang_up": _HANGS_UP,
    # answers
    "test_an_answer_is_that_of_nginx": _SERVER,
    "test_headers_of_an_answer_keep_order_count_and_spelling": _SERVER,
    "test_server_and_date_are_legacys_own": _SERVER,
    "test_the_bridge_adds_no_server_and_one_date": _SERVER,
    "test_everything_else_goes_through_unchanged": _SERVER,
    # numbers
    "test_the_operator_sees_which_server_is_left_alone_and_why": _STATE,
    "test_what_is_in_flight_and_who_waits_is_shown": _STATE,
    "test_the_route_goes_back_to_legacy_after_five_rounds": _STATE,
    "test_the_line_for_legacy_is_bounded_too": f"{_STATE}; a test of the pool waits for it there",
}

DIFFERS = {"mod_wsgi": APACHE, "gthread": GUNICORN}
"""By what the names of tests say for the server."""


def why(test: str, differs: Mapping[str, str]) -> str:
    """Why `test`, a name with its brackets, is not run there; empty when it is."""
    function, _, case = test.partition("[")
    for name, reason in differs.items():
        wanted, _, part = name.partition("[")
        if wanted == function and part.removesuffix("]") in case:
            return reason
    return ""
