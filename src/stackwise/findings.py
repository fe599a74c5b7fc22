"""What a probe found: tables, figures and a few numbers that sum them up."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stackwise import spreadsheets
from stackwise.files import read_file, read_json, replacing, write_json
from stackwise.places import inside

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


@dataclass
class Findings:
    """The result of a probe.

    Attributes:
        tables: a data frame for each measurement, by name.
        figures: a matplotlib figure for each picture, by name. Not kept by `load`.
        summary: single numbers and short texts that JSON can hold.
    """

    tables: "dict[str, pd.DataFrame]" = field(default_factory=dict)
    figures: "dict[str, Figure]" = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)

    def save(self, folder: Path | str) -> list[Path]:
        """Write `<table>.csv`, `figures/<figure>.png` and `findings.json`; return the files."""
        folder = Path(folder)
        written = []
        for name, table in self.tables.items():
            with replacing(folder / f"{name}.csv") as beside:
                spreadsheets.written(table, index=True).to_csv(beside)
            written.append(folder / f"{name}.csv")
        for name, figure in self.figures.items():
            with replacing(folder / "figures" / f"{name}.png") as beside:
                figure.savefig(beside, dpi=130, bbox_inches="tight", format="png")
            written.append(folder / "figures" / f"{name}.png")
        record = {
            "format": 1,
            "tables": list(self.tables),
            "figures": list(self.figures),
            "summary": self.summary,
        }
        write_json(folder / "findings.json", record)
        return [folder / "findings.json", *written]

    @classmethod
    def load(cls, folder: Path | str) -> "Findings":
        """Read the tables and the summary back from `folder`."""
        import pandas as pd

        folder = Path(folder)
        record = read_json(folder / "findings.json", {"tables": [str], "summary": dict}, newest=1)
        tables = {
            name: spreadsheets.read(
                read_file(
                    inside(folder, f"{name}.csv"), lambda path: pd.read_csv(path, index_col=0)
                ),
                index=True,
            )
            for name in record["tables"]
        }
        return cls(tables=tables, summary=record["summary"])

    def __repr__(self) -> str:
        lines = [f"Findings with tables {', '.join(self.tables) or 'none'}"]
        lines += [f"  {name}: {value}" for name, value in self.summary.items()]
        return "\n".join(lines)
