"""One self-contained page about studies, runs and probes.

The page holds its style and its pictures (SVG, with each mark's values as its tooltip), so that it
opens with no network and no script, and can be sent as one file. It knows no kind of data: what a
task shows of its own runs, the task lays out (`shows`).
"""

from stackwise.report.comparing import compare, compare_tables
from stackwise.report.numbers import number_text, seconds_text
from stackwise.report.page import build

__all__ = ["build", "compare", "compare_tables", "number_text", "seconds_text"]
