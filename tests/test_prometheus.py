"""What a scrape gets is what Prometheus reads."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from bridge.prometheus import family, page

VALUES = st.floats(allow_nan=False) | st.integers(0, 2**40)
LABELS = st.fixed_dictionaries({"what": st.text(max_size=20), "a": st.text(max_size=5)})


@given(st.lists(st.tuples(LABELS, VALUES), max_size=5))
def test_prometheus_reads_every_label_and_value(
    samples: list[tuple[dict[str, str], float]],
) -> None:
    text = page(family("bridge_thing", "gauge", "Things", samples)).decode()

    (read,) = text_string_to_metric_families(text)

    assert (read.name, read.type, read.documentation) == (
        "bridge_thing",
        "gauge",
        "Things",
    )
    assert [(one.labels, one.value) for one in read.samples] == [
        (labels, float(value)) for labels, value in samples
    ]


def test_a_sample_without_labels_has_no_brackets() -> None:
    assert page(family("bridge_up", "counter", "It", [({}, 3)])) == (
        b"# HELP bridge_up It\n# TYPE bridge_up counter\nbridge_up 3\n"
    )
