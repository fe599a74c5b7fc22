"""Figures in a page: text stays text, marks say their values, two figures share no name."""

import re
import xml.etree.ElementTree as ET

import pytest

from stackwise.figures import COLOURS, INK, drawing, legend_below, new_figure, says, svg


@pytest.fixture
def figure():
    with drawing():
        figure, axes = new_figure(height=200)
        (line,) = axes.plot([1, 2, 3], [1.0, 4.0, 2.0], "o", label="tabm & <friends>")
        says(line, ["one", "two <b>", "three"])
        (bar,) = axes.barh(1.0, 2.0, color=COLOURS[1])
        says(bar, "a bar\nof two")
        axes.set_xlabel("epoch")
    return figure


def test_text_is_text_and_titles_stand_on_the_marks(figure):
    root = ET.fromstring(svg(figure, "what it is", name="one"))
    assert "epoch" in [text.text for text in root.iter("text")]
    points = [use.find("title") for use in root.iter("use")]
    assert [title.text for title in points if title is not None] == ["one", "two <b>", "three"]
    assert "a bar of two" in [title.text for title in root.iter("title")]
    assert (root.get("role"), root.get("aria-label")) == ("img", "what it is")
    assert root.get("viewBox") == "0 0 340 200"
    assert root.get("width") is None


def test_colours_follow_the_page_in_svg_and_stand_in_files(figure, tmp_path):
    text = svg(figure, "", name="one")
    assert "var(--c0)" in text and "var(--c1)" in text
    assert COLOURS[0] not in text and INK not in text and "font-family" not in text
    figure.savefig(tmp_path / "figure.png", dpi=144)
    assert (tmp_path / "figure.png").read_bytes()[:4] == b"\x89PNG"


def test_two_figures_of_a_page_have_no_identifier_in_common(figure):
    one, two = (svg(figure, "", name=name) for name in ("one", "two"))
    ids = [set(re.findall(r' id="([^"]+)"', text)) for text in (one, two)]
    assert ids[0] and not ids[0] & ids[1]
    for text, own in zip((one, two), ids, strict=True):
        assert set(re.findall(r"url\(#([^)]+)\)|href=\"#([^\"]+)\"", text)) <= {
            pair for name in own for pair in ((name, ""), ("", name))
        }
    assert one == svg(figure, "", name="one")  # nothing drawn by chance


def test_a_legend_makes_room_for_itself():
    with drawing():
        figure, axes = new_figure(height=200)
        for place in range(9):
            axes.plot([0, 1], [place, place], label=f"a method with a long name {place}")
        legend_below(figure, axes)
    assert figure.get_figheight() * 72 > 200 + 9 * 10
    figure.draw_without_rendering()
    assert axes.get_window_extent().height > 120
