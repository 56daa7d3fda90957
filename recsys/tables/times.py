"""Timestamps: how one file writes them, found from its cells, and how they become microseconds since 1970 in UTC."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import partial
from zoneinfo import available_timezones

import polars as pl

from recsys.config import DataConfig, nearest
from recsys.errors import ConfigError, DataError
from recsys.types import DAY

SNIFFED_ROWS = 10_000
TRIED_CELLS = 500  # distinct ones, on which formats are tried
FIRST_CELLS = 20  # of a batch, which tell how the others are likely written
# Whole numbers up to here, read as seconds, fall before March 1973: positions, or another unit than the rest.
LEAST_EPOCH = 1e8
# Upper bound of each unit's numbers, and how many microseconds it has: seconds, milli-, micro-, nanoseconds.
EPOCH_UNITS = ((1e11, 1e6), (1e14, 1e3), (1e17, 1.0), (float("inf"), 1e-3))
EPOCH, CALENDAR = date(1970, 1, 1), (date(1, 1, 2), date(9999, 12, 30))  # a day less at either end: time zones
PER_DAY = {"ms": 86_400_000, "us": 86_400_000_000, "ns": 86_400_000_000_000}

ISO = ("%Y-%m-%dT%H:%M:%S%.f%#z", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d")
# Numbers that are dates, by the bounds of the median: 20250131, 202501310800, 20250131080000.
COMPACT = (
    (19_700_101, 21_001_231, "%Y%m%d"),
    (197_001_010_000, 210_012_312_359, "%Y%m%d%H%M"),
    (19_700_101_000_000, 21_001_231_235_959, "%Y%m%d%H%M%S"),
)
DATES = (
    "%Y-%m-%d", "%Y/%m/%d", "%Y.%m.%d", "%Y%m%d", "%d %b %Y", "%d-%b-%Y", "%d/%b/%Y", "%d. %b %Y", "%b %d, %Y",
    "%b %d %Y", "%d %B %Y", "%d. %B %Y", "%B %d, %Y", "%d %b %y", "%d-%b-%y", "%a %d %b %Y", "%a, %d %b %Y",
    "%a %b %d %Y", "%Y-%j", "%G-W%V-%u",
)  # fmt: skip
CLOCKS = ("", " %H:%M:%S%.f", " %H:%M", " %I:%M:%S %p", " %I:%M %p", " %H%M%S", " %H%M")
# ISO as nearly every export writes it, tried first: polars reads these several times as fast as the formats above.
PLAIN = (
    *(f"%Y-%m-%d{mark}%H:%M:%S{fraction}{zone}" for mark in " T" for fraction in ("", ".%3f", ".%6f")
      for zone in ("", "Z", "+00:00", " UTC")),
    "%Y-%m-%d", "%Y-%m-%d %H:%M",
)  # fmt: skip
IN_UTC = ("Z", "+00:00", " UTC")
WHOLE = ("%a %b %d %H:%M:%S %Y", "%d/%b/%Y:%H:%M:%S")
DAY_FIRST = tuple(f"%d{mark}%m{mark}{year}" for mark in "/-." for year in ("%Y", "%y"))
MONTH_FIRST = tuple(f"%m{mark}%d{mark}{year}" for mark in "/-." for year in ("%Y", "%y"))


@dataclass(frozen=True)
class Reading:
    """How one file writes its timestamps.

    Attributes:
        unit: Microseconds that a number stands for; None where they are no plain numbers.
        formats: Otherwise, the formats of text, the first that fits a cell counts; empty for datetime columns.
    """

    unit: float | None = None
    formats: tuple[str, ...] = ()

    @property
    def day_or_month(self) -> bool:
        """Whether day and month stand side by side as numbers, before the year."""
        return any(form.startswith((*DAY_FIRST, *MONTH_FIRST)) for form in self.formats)


def in_calendar(column: str, dtype: pl.DataType) -> pl.Expr:
    """A column as it is; moments outside the years 1 to 9999, at which polars panics, at the near end of these."""
    if not isinstance(dtype, pl.Date | pl.Datetime):
        return pl.col(column)
    per_day = PER_DAY[dtype.time_unit] if isinstance(dtype, pl.Datetime) else 1
    ends = [max(-(2**63), min((end - EPOCH).days * per_day, 2**63 - 1)) for end in CALENDAR]
    return pl.col(column).to_physical().clip(*ends).cast(dtype)


def latest_moment() -> int:
    """The last moment that a log may hold, in microseconds: a day from now, for clocks that are wrong."""
    return int(datetime.now(UTC).timestamp() * 1_000_000) + DAY


def find_readings(parts: Mapping[str, pl.LazyFrame], column: str, data: DataConfig) -> dict[str, Reading]:
    """Find how each file writes its timestamps.

    A column of numbers has one unit, by the median of its first ten thousand. Where day and month cannot be told apart
    in the first cells, the whole column decides.

    Args:
        parts: The rows of each file.
        column: The column of timestamps, as the files call it.
        data: `timezone` and `day_first` are used.

    Raises:
        ConfigError: the time zone is unknown.
        DataError: numbers are too small to be times, or nothing tells day and month apart.
    """
    if data.timezone not in available_timezones():
        near = nearest(data.timezone, sorted(available_timezones()))
        raise ConfigError(f"data.timezone: unknown time zone {data.timezone!r}{near}")
    types = {file: part.collect_schema().get(column) for file, part in parts.items()}
    sniffed = {file: parts[file] for file, dtype in types.items() if dtype is not None and not dtype.is_temporal()}
    heads = pl.collect_all(
        [part.select(column).filter(pl.col(column).is_not_null()).head(SNIFFED_ROWS) for part in sniffed.values()],
        engine="streaming",
    )
    found: dict[str, Reading] = {file: Reading() for file in parts}
    known: list[Reading] = []
    for file, head in zip(sniffed, heads, strict=True):
        found[file] = _reading(head.to_series(), known, data.timezone)
        known = [*dict.fromkeys([found[file], *known])]
    if any(reading.day_or_month for reading in found.values()):
        return _with_order(found, parts, column, data.day_first)
    return found


def _reading(head: pl.Series, known: list[Reading], timezone: str) -> Reading:
    if not len(head) or head.dtype == pl.Boolean or head.dtype.is_nested():
        return Reading(formats=ISO)
    numbers = head.cast(pl.Float64, strict=False)
    if head.dtype == pl.String and numbers.null_count() * 2 >= len(head):
        return _of_texts(head, known, timezone)
    middle = float(numbers.fill_nan(None).abs().median() or 0)  # type: ignore[arg-type]
    for least, most, form in COMPACT:
        if least <= middle <= most and _hits(_digits(head), Reading(formats=(form,)), timezone).mean() > 0.9:  # type: ignore[operator]
            return Reading(formats=(form,))
    if middle < LEAST_EPOCH:
        raise DataError(
            f"timestamp: the middle one of the first {len(head)} is {middle:.0f}, too small for seconds since 1970: "
            f"write `clock: order` under data if these are positions, or give dates as 2025-01-31"
        )
    return Reading(unit=next(factor for bound, factor in EPOCH_UNITS if middle < bound))


def _digits(head: pl.Series) -> pl.Series:
    return head.cast(pl.Int64, strict=False).cast(pl.String) if head.dtype.is_numeric() else head


def _of_texts(head: pl.Series, known: list[Reading], timezone: str) -> Reading:
    cells = head.unique(maintain_order=True).head(TRIED_CELLS)
    iso = Reading(formats=ISO)
    for reading in (iso, *known):
        if reading.formats and _hits(cells, reading, timezone).all():
            return reading
    left = cells.filter(~_hits(cells, iso, timezone))
    mostly_iso = 2 * len(left) <= len(cells)
    dates = DATES if mostly_iso else (*DATES, *DAY_FIRST, *MONTH_FIRST)
    tried = [*(f"{day}{clock}{zone}" for day in dates for clock in CLOCKS for zone in ("", "%#z")), *WHOLE]
    formats: list[str] = []
    few = left.head(20)
    likely = [form for form, hits in _hits_by_format(few, tried, timezone).items() if hits.any()]
    while len(left) and likely:
        by_format = _hits_by_format(left, likely, timezone)
        best = max(likely, key=lambda form: int(by_format[form].sum()))
        if not by_format[best].any():
            break
        formats.append(best)
        left = left.filter(~by_format[best])
    return Reading(formats=(*(ISO if mostly_iso else ()), *formats)) if formats else iso


def _hits(cells: pl.Series, reading: Reading, timezone: str) -> pl.Series:
    """Which cells a reading takes for a moment from 1970 until now."""
    return _are_likely(_read(cells, reading, timezone))


def _hits_by_format(cells: pl.Series, formats: Sequence[str], timezone: str) -> dict[str, pl.Series]:
    """Which cells each of many formats takes for such a moment."""
    moments = _written(cells).select(_of_written(form, timezone).alias(form) for form in formats)
    return {form: _are_likely(moments[form]) for form in formats}


def _are_likely(moments: pl.Series) -> pl.Series:
    return ((moments >= 0) & (moments <= latest_moment())).fill_null(False)


def _read(cells: pl.Series, reading: Reading, timezone: str) -> pl.Series:
    frame = cells.alias("cell").to_frame()
    return frame.select(read_moment("cell", cells.dtype, reading, timezone)).to_series()


def _with_order(
    found: Mapping[str, Reading], parts: Mapping[str, pl.LazyFrame], column: str, day_first: bool | None
) -> dict[str, Reading]:
    """Settle whether the day or the month stands first, by every cell of the files in which that is open."""
    open_files = [file for file, reading in found.items() if reading.day_or_month]
    if day_first is None:
        text = pl.col(column).str.strip_chars()
        day, month = (
            text.str.extract(r"^(\d{1,2})([/.-])(\d{1,2})[/.-]\d", group).cast(pl.Int16) > 12 for group in (1, 3)
        )
        dotted = text.str.contains(r"^\d{1,2}\.\d{1,2}\.\d")
        counts = pl.concat(
            [parts[file].select(day=day.sum(), month=month.sum(), dotted=dotted.sum()) for file in open_files]
        )
        total = counts.sum().collect(engine="streaming").row(0, named=True)
        if total["day"] == total["month"] == 0 and not total["dotted"]:
            example = parts[open_files[0]].select(column).drop_nulls().head(1).collect().item()
            first, second = (int(number) for number in example.replace(".", "/").replace("-", "/").split("/")[:2])
            raise DataError(
                f"timestamp: {example!r} is day {first} of month {second} or day {second} of month {first}, and no "
                "cell of the column tells which: set `day_first: true` or `day_first: false` under data"
            )
        day_first = total["day"] >= total["month"]
    swapped = dict(zip((MONTH_FIRST, DAY_FIRST)[not day_first], (DAY_FIRST, MONTH_FIRST)[not day_first], strict=True))
    settled = dict(found)
    for file in open_files:
        formats = [swapped.get(form[:8], form[:8]) + form[8:] for form in found[file].formats]
        settled[file] = Reading(formats=tuple(dict.fromkeys(formats)))
    return settled


def read_moment(column: str, dtype: pl.DataType, reading: Reading, timezone: str) -> pl.Expr:
    """Read a column as microseconds since 1970 in UTC, as Int64; null where a cell is no time.

    Times with an offset or zone are converted, others are local in `timezone`: an hour that comes twice is the first of
    the two, one that is skipped is null.
    """
    if dtype.is_temporal():
        time = in_calendar(column, dtype)
        if not (isinstance(dtype, pl.Datetime) and dtype.time_zone):
            time = _localized(time.cast(pl.Datetime("us")), timezone)
        return time.dt.timestamp("us")
    if reading.unit is not None:
        numbers = pl.col(column).cast(pl.Float64, strict=False)
        return (numbers * reading.unit).round().cast(pl.Int64, strict=False)
    text = pl.col(column)
    if dtype != pl.String:
        text = (text.cast(pl.Int64, strict=False) if dtype.is_numeric() else text).cast(pl.String)
    return text.map_batches(
        partial(_read_texts, formats=reading.formats, timezone=timezone), return_dtype=pl.Int64, is_elementwise=True
    )


def _read_texts(cells: pl.Series, formats: Sequence[str], timezone: str) -> pl.Series:
    """Read each text by the first format that fits it; a plain format that fits most is tried on all of them first."""
    likely = _likely_format(cells, formats, timezone)
    if likely is None:
        return _by_formats(cells, formats, timezone)
    moments = _by_format(cells, likely, timezone)
    left = moments.is_null() & cells.is_not_null()
    if not left.any():
        return moments
    return moments.scatter(left.arg_true(), _by_formats(cells.filter(left), formats, timezone))


def _likely_format(cells: pl.Series, formats: Sequence[str], timezone: str) -> str | None:
    """A plain format that reads most of the first cells, each as the formats read it; None where there is none."""
    some = cells.head(FIRST_CELLS).drop_nulls()
    right = _by_formats(some, formats, timezone)
    for form in dict.fromkeys((*PLAIN, *formats)):
        moments = _by_format(some, form, timezone)
        if 2 * moments.count() > len(some) and bool((moments == right).fill_null(moments.is_null()).all()):
            return form
    return None


def _by_formats(cells: pl.Series, formats: Sequence[str], timezone: str) -> pl.Series:
    return _written(cells).select(pl.coalesce(_of_written(form, timezone) for form in formats)).to_series()


def _written(cells: pl.Series) -> pl.DataFrame:
    """Texts in the two ways in which formats expect them: `iso`, with a T before the hours, and `plain`, without."""
    text = pl.col("text").str.strip_chars()
    plain = (
        text.str.replace(r"^(\d{4}\D?\d{2}\D?\d{2}|\d{4}-\d{3}|\d{4}-W\d{2}-\d)[Tt]", "${1} ")
        .str.replace(r"(?i)\s*(utc|gmt|z)$", "+00:00")
        .str.replace(r"(:\d{2}),(\d+)", "${1}.${2}")
        .str.replace(r"^(\d{4}-\d{2}-\d{2} \d{2})([+-]\d{2}.*)?$", "${1}:00${2}")  # hours alone
    )
    return cells.alias("text").to_frame().select(iso=text.str.replace(" ", "T", literal=True), plain=plain)


def _of_written(form: str, timezone: str) -> pl.Expr:
    return _of_format(pl.col("iso" if form in ISO else "plain"), form, timezone)


def _by_format(cells: pl.Series, form: str, timezone: str) -> pl.Series:
    """Read texts as they stand by one format."""
    return cells.alias("text").to_frame().select(_of_format(pl.col("text"), form, timezone)).to_series()


def _of_format(text: pl.Expr, form: str, timezone: str) -> pl.Expr:
    if form.endswith("%#z"):
        return text.str.strptime(pl.Datetime("us", "UTC"), form, strict=False, cache=False).dt.timestamp("us")
    if form.endswith(IN_UTC):
        return text.str.strptime(pl.Datetime("us"), form, strict=False, cache=False).dt.timestamp("us")
    if "%H" in form or "%I" in form:
        time = text.str.strptime(pl.Datetime("us"), form, strict=False, cache=False)
        return _localized(time, timezone).dt.timestamp("us")
    day = text.str.strptime(pl.Date, form, strict=False).cast(pl.Datetime("us"))
    return _localized(day, timezone).dt.timestamp("us")


def _localized(time: pl.Expr, timezone: str) -> pl.Expr:
    return time.dt.replace_time_zone(timezone, ambiguous="earliest", non_existent="null")
