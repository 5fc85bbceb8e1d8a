"""Tables of a report set out for the terminal. What they show is `score_tables`."""

from nowcast.verification.report_contents import Report, on_one_line
from nowcast.verification.report_facts import reading
from nowcast.verification.score_tables import difference_tables, score_tables
from nowcast.verification.table_cells import ScoreTable

LONGEST_NAME = 28
LONGEST_PAIR = 40
LONGEST_LINE = 100


def format_table(report: Report) -> str:
    """Mean scores over lead times as aligned text, the best of each column marked with `*`.

    Blocks of at most about 100 characters: balanced errors and CSI; plain errors and HSS; errors in
    mm/h and FSS where they are there; paired differences where there are any. Of the intervals,
    that of B-MSE + B-MAE stands under it.
    """
    main, *others = score_tables(report)
    blocks = [
        _block(main, LONGEST_NAME, interval=True),
        *(_block(one, LONGEST_NAME) for one in others),
        *(_block(one, LONGEST_PAIR, interval=True) for one in difference_tables(report)[:1]),
    ]
    lines = [line for block in blocks for line in [*block, ""]]
    return "\n".join([*lines, *_footer(report)])


def _block(table: ScoreTable, longest: int, *, interval: bool = False) -> list[str]:
    """A table as aligned lines.

    Args:
        table: what to set out.
        longest: width of names.
        interval: show the interval of the first column below it.
    """
    rows: list[list[str]] = [["", *(f"{heading} " for heading in table["columns"])]]
    for row in table["rows"]:
        cells = row["cells"]
        texts = [cell["text"] + ("*" if cell["best"] else " ") for cell in cells]
        rows.append([on_one_line(row["name"], longest), *texts])
        below = [[cell["p_value"] for cell in cells]]
        if interval:
            below.insert(0, [cells[0]["interval"], *("" for _ in cells[1:])])
        rows += [["", *(f"{text} " for text in line)] for line in below if any(line)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        " ".join(
            text.ljust(width) if index == 0 else text.rjust(width)
            for index, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return [on_one_line(table["title"], LONGEST_LINE), *lines, *table["notes"]]


def _footer(report: Report) -> list[str]:
    settings = report["settings"]
    clips = sorted({method["clips"] for method in report["methods"].values()})
    what = [
        f"{name} {on_one_line(str(settings[name]), LONGEST_NAME)}"
        for name in ("protocol", "split", "region", "store")
        if settings.get(name) is not None
    ]
    what.append(f"clips {' or '.join(f'{count:,}' for count in clips)}")
    averaged, *others = reading(report)
    notes = [on_one_line(note, LONGEST_LINE) for note in others]
    return [f"{averaged}; * best", *notes, "; ".join(what)]
