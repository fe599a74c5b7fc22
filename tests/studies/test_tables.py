import numpy as np
import pytest
from scipy import stats

from stackwise.errors import DataError, KnobError
from stackwise.files import read_json, write_json
from stackwise.report import compare_tables
from stackwise.report.sections import section
from stackwise.studies.tables import (
    critical_difference,
    friedman,
    groups_alike,
    ranks_on,
    read_sources,
    summary,
)

QUICK = {"methods": ["linear", "mlp", "gradient-boosting"], "seeds": 2, "threads": 1,
         "knobs": {"mlp": {"max_epochs": 3}, "gradient-boosting": {"max_trees": 10}}}  # fmt: skip


def test_ranks_follow_the_direction_of_the_metric_and_ties_share():
    assert ranks_on({"a": 1.0, "b": 3.0, "c": 3.0}, "min") == {"a": 1.0, "b": 2.5, "c": 2.5}
    assert ranks_on({"a": 1.0, "b": 3.0, "c": 3.0}, "max") == {"a": 3.0, "b": 1.5, "c": 1.5}


def test_the_critical_difference_is_that_of_demsar():
    # table 5a of Demsar (2006): q_0.05 is 2.343 for 3 and 2.728 for 5 methods
    assert critical_difference(3, 10) == pytest.approx(2.343 * np.sqrt(3 * 4 / 60), abs=1e-3)
    assert critical_difference(5, 30) == pytest.approx(2.728 * np.sqrt(5 * 6 / 180), abs=1e-3)
    assert critical_difference(1, 10) is None


def test_methods_that_always_keep_their_order_are_told_apart():
    always = np.tile([1.0, 2.0, 3.0], (12, 1))
    assert friedman(always) < 1e-4
    assert friedman(always) == pytest.approx(stats.friedmanchisquare(*always.T).pvalue)
    rows = summary(["a", "b", "c"], always)
    assert [(row["rank"], row["low"], row["high"]) for row in rows] == [
        (1, 1, 1), (2, 2, 2), (3, 3, 3),
    ]  # fmt: skip
    assert [row["wins"] for row in rows] == [12, 0, 0]


def test_a_bar_joins_what_is_closer_than_the_critical_difference():
    rows = [{"rank": value} for value in (1.0, 1.5, 2.4, 4.0)]
    assert groups_alike(rows, 1.0) == [(1.0, 1.5), (1.5, 2.4)]
    assert groups_alike(rows, 0.2) == []


def test_a_benchmark_goes_on_behind_a_kill_at_the_end_of_a_table_and_redoes_a_damaged_one(tmp_path):
    for name in "ab":
        rows = "".join(f"{x},{3 * x + x % 5}\n" for x in range(60))
        (tmp_path / f"{name}.csv").write_text("x,y\n" + rows)
    sources = [f"{tmp_path / name}.csv:y" for name in "ab"]
    settings = QUICK | {"methods": ["linear"], "seeds": 1, "knobs": {}}
    out = tmp_path / "bench"
    first = compare_tables(sources, out=out, **settings)
    for name in (".lock", ".report-x1.part.html"):
        (out / "a" / name).touch()
    (out / "b" / "study.json").write_text('{"winner"')
    assert list(first.studies) == ["a"]
    again = compare_tables(sources, out=out, resume=True, **settings)
    assert list(again.studies) == ["a", "b"]
    assert again.record["failures"] == {}
    assert not [path for path in out.rglob(".*") if path.is_file()]


def test_sources_are_read_from_words_and_from_a_list(tmp_path):
    (tmp_path / "a.csv").write_text("x,y\n1,2\n")
    words = [f"{tmp_path / 'a.csv'}:y", "iris"]
    assert [(s.name, s.target) for s in read_sources(words, None, {})] == [
        ("a", "y"), ("iris", None),
    ]  # fmt: skip
    listed = tmp_path / "tables.toml"
    listed.write_text('[[table]]\nsource = "a.csv"\ntarget = "y"\nmax_rows = 50\n')
    (only,) = read_sources([str(listed)], None, {"metric": "mae"})
    assert only.source == str(tmp_path / "a.csv")
    assert only.options == {"metric": "mae", "max_rows": 50}


@pytest.mark.parametrize(
    ("text", "said"),
    [("[[table]\n", "no list of tables"), ("x = 1\n", r"no \[\[table\]\]"),
     ("[[table]]\ntarget='y'\n", "names no source")],
)  # fmt: skip
def test_a_broken_list_of_tables_says_what_is_wrong(tmp_path, text, said):
    (tmp_path / "tables.toml").write_text(text)
    with pytest.raises(DataError, match=said):
        read_sources([str(tmp_path / "tables.toml")], None, {})


def test_two_tables_of_one_name_and_one_table_alone_are_refused(tmp_path):
    with pytest.raises(DataError, match="two tables are called 'iris'"):
        compare_tables(["iris", "iris"], out=tmp_path / "b")
    with pytest.raises(KnobError, match="at least 2 tables"):
        compare_tables(["iris"], out=tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_a_table_that_cannot_be_read_stops_all_before_anything_is_fitted(tmp_path):
    with pytest.raises(DataError, match="table 'nothing'"):
        compare_tables(["iris", str(tmp_path / "nothing.csv")], out=tmp_path / "b", **QUICK)
    assert not (tmp_path / "b").exists()


def test_a_benchmark_ranks_methods_over_tables_and_has_a_page_for_each(tmp_path):
    out = tmp_path / "bench"
    bench = compare_tables(["heart", "hedonic", "wine"], out=out, **QUICK)
    record = bench.record
    assert sum(row["rank"] for row in record["methods"]) == pytest.approx(6)
    assert {row["table"] for row in record["scores"]} == {"heart", "hedonic", "wine"}
    page = (out / "report.html").read_text()
    for name in record["tables"]:
        assert f'href="{name}/report.html"' in page
        assert (out / name / "report.html").is_file()
    before = (out / "wine" / "study.json").stat().st_mtime_ns
    (out / "benchmark.json").unlink()
    again = compare_tables(["heart", "hedonic", "wine"], out=out, resume=True, **QUICK)
    assert again.record == record
    assert (out / "wine" / "study.json").stat().st_mtime_ns == before


def test_a_method_without_a_score_on_a_table_has_a_dash_there_and_no_rank(tmp_path):
    out, names = tmp_path / "bench", ["heart", "wine"]
    asked = QUICK | {"methods": ["linear", "mlp"], "seeds": 1, "knobs": {"mlp": {"max_epochs": 1}}}
    compare_tables(names, out=out, **asked)
    study = read_json(out / "wine" / "study.json")
    study["ranking"] = [row for row in study["ranking"] if row["method"] != "mlp"]  # it failed
    write_json(out / "wine" / "study.json", study)
    (out / "benchmark.json").unlink()
    record = compare_tables(names, out=out, resume=True, **asked).record
    assert record["left_out"] == ["mlp"]
    assert [row["method"] for row in record["methods"]] == ["linear"]
    cells = {row["table"]: row["cells"][-1]["value"] for row in section(out)["rows"]}
    assert cells["wine"] is None and cells["heart"] is not None
    page = (out / "report.html").read_text()
    assert page.count('<td class="n">–</td>') >= 1 and "mlp is not ranked" in page


def test_a_time_limit_is_shared_by_all_tables_and_runs(tmp_path):
    bench = compare_tables(
        ["heart", "wine"], out=tmp_path / "b", methods=["mlp"], seeds=2, threads=1, time_limit=10,
        knobs={"mlp": {"max_epochs": 100_000, "patience": None}},
    )  # fmt: skip
    for study in bench.studies.values():
        for run in study.runs:
            assert 0 < run.record["seconds"]["fit"] < 6  # of one run, and not of all four
            assert any("time limit ended training" in note for note in run.record["notes"])
    page = (tmp_path / "b" / "wine" / "report.html").read_text()
    assert "time limit ended training" in page
    assert read_json(tmp_path / "b" / "benchmark.json")["failures"] == {}
