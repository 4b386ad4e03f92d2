"""The report of a run: its page, in one file that needs nothing else."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

from softmode.runs.files import staged
from softmode.runs.page import page_body, table_of
from softmode.runs.results import Table
from softmode.runs.run import Run

PAGE = "report.html"
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
.answer { font-size: 1.15rem; border-left: 4px solid #c00000; padding-left: 1rem }
table { border-collapse: collapse; margin: 1rem 0; font-size: .9rem }
th, td { padding: .2rem .7rem; border-bottom: 1px solid #ddd; text-align: left; vertical-align: top }
caption { text-align: left; font-weight: bold } figure { margin: 1.5rem 0 } img { max-width: 100% }
.note { color: #555; font-size: .85rem }
"""


def write_page(run: Run, figures: Sequence[Path]) -> Path:
    """Write the report of a finished run and return its path.

    It is DIR/report.html, or DIR/NAME.html of an experiment that only analysed the run.
    """
    images = {path.stem: path for path in figures if path.suffix == ".png"}
    made_by = run.identity["experiment"]
    config = Table(
        f"Config of softmode {made_by}",
        ("option", "value"),
        tuple((name, str(value)) for name, value in run.config.items()),
    )
    made = Table(
        "Made by", ("what", "version"), tuple((name, str(value)) for name, value in run.identity["versions"].items())
    )
    body = page_body(run.experiment.name, run.results, images) + table_of(config) + table_of(made)
    path = run.directory / (PAGE if made_by == run.experiment.name else f"{run.experiment.name}.html")
    with staged(path) as stage:
        # a path of the user's may hold bytes that are no text
        stage.write_text(_page(run.experiment.name, body), encoding="utf-8", errors="xmlcharrefreplace")
    return path


def _page(name: str, body: str) -> str:
    head = f'<meta charset="utf-8"><title>softmode {escape(name)}</title><style>{STYLE}</style>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>{body}</body></html>\n'
