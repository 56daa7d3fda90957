"""How files are found and scanned: lazily, cell by cell, each row with the file and row that it came from.

Text formats are read as text, so that a bad cell is refused later as that one row. A broken row (more cells
than columns, not UTF-8, not JSON) is marked here, with the reason, and takes no other row with it.
"""

from __future__ import annotations

import difflib
import logging
import re
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote

import polars as pl

from recsys.errors import ConfigError, DataError
from recsys.storage import remote

log = logging.getLogger(__name__)

# Names that no file of a shop has.
FILE, ROW, REFUSED, DROPPED = "__recsys_file", "__recsys_row", "__recsys_refused", "__recsys_dropped"
HEAD_ROWS = 1_000
EMPTY_PARTITION = "__HIVE_DEFAULT_PARTITION__"
OURS = "__recsys_"
MOST_SAID = 300  # characters of a library's message


@contextmanager
def reading(files: list[str]) -> Iterator[None]:
    """Turn what polars says of a broken file into a `DataError` that names the files."""
    try:
        yield
    except (pl.exceptions.ComputeError, pl.exceptions.NoDataError, OSError, EOFError, zipfile.BadZipFile) as error:
        said = str(error).strip().splitlines() or [type(error).__name__]
        raise DataError(f"{name_files(files)}: cannot be read: {said[0][:MOST_SAID]}") from error


def name_files(files: list[str]) -> str:
    """Name the first file and how many more there are."""
    return files[0] + (f" and {len(files) - 1} more" if len(files) > 1 else "") if files else "the table"


def own_columns(frame: pl.LazyFrame) -> list[str]:
    """List the columns that the files have, without those that reading adds."""
    return [name for name in frame.collect_schema() if not name.startswith(OURS)]


def find_files(paths: list[str], *endings: Sequence[str]) -> list[str]:
    """List every file that the paths name, in the order given, none twice.

    Args:
        paths: Files, globs, and folders, on disk or in an object store. Folders are searched to the bottom. A path that
            exists is that path, whatever brackets and stars its name has. Files and folders whose names begin with `.`
            or `_` are passed over, as half-written files and notebooks' copies are; folders `key=value` are partitions.
        endings: How the names of files in a folder end; those of the first group that finds any are taken.

    Raises:
        ConfigError: no path is given.
        DataError: a path names nothing, or a place on another machine.
    """
    if not paths:
        raise ConfigError("data: this source reads files; give `path:` a file, a folder, a glob or a list of them")
    elsewhere = [path for path in paths if re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", path) and not remote.is_remote(path)]
    if elsewhere:
        schemes = ", ".join(f"{scheme}://" for scheme in remote.SCHEMES[:3])
        raise DataError(
            f"{elsewhere[0]} is not on this machine: copy it here or mount it, and name that path; of other places "
            f"{schemes} can be read"
        )
    found = [
        file
        for path in paths
        for file in (remote.find_files(path, endings) if remote.is_remote(path) else _expand(Path(path), endings))
    ]
    return list(dict.fromkeys(found))


def _expand(path: Path, endings: Sequence[Sequence[str]]) -> list[str]:
    if path.is_file():
        return [str(path)]
    if path.is_dir():
        inside = [file for file in sorted(path.rglob("*")) if file.is_file()]
        shown = [file for file in inside if not _hidden(file.relative_to(path))]
        for some in endings:
            if files := [str(file) for file in shown if file.name.lower().endswith(tuple(some))]:
                _log_hidden(path, inside, shown, some)
                return files
        wanted = " or ".join(dict.fromkeys(ending for some in endings for ending in some[:1]))
        hidden = f" ({len(inside) - len(shown)} hidden ones aside)" if len(shown) < len(inside) else ""
        raise DataError(f"{path}: this folder holds no file that ends in {wanted}{hidden}")
    matches = sorted(str(file) for file in Path(path.anchor).glob(str(path.relative_to(path.anchor))) if file.is_file())
    matches = [file for file in matches if not _hidden(Path(Path(file).name))]
    if not matches:
        near = difflib.get_close_matches(path.name, [p.name for p in path.parent.glob("*")], n=1)
        raise DataError(f"{path} does not exist" + (f"; did you mean {path.parent / near[0]}?" if near else ""))
    return matches


def _hidden(path: Path) -> bool:
    return any(part.startswith((".", "_")) and "=" not in part for part in path.parts)


def _log_hidden(folder: Path, inside: Sequence[Path], shown: Sequence[Path], endings: Sequence[str]) -> None:
    left = [file for file in inside if file not in set(shown) and file.name.lower().endswith(tuple(endings))]
    if left:
        log.warning("%s: %d hidden files are passed over, such as %s", folder, len(left), left[0].relative_to(folder))


def gather(files: list[str], scan: Callable[[str], pl.LazyFrame]) -> dict[str, pl.LazyFrame]:
    """Scan each file, with the columns that its folders name, and FILE, REFUSED and DROPPED."""
    names = pl.Enum(files)  # an Enum keeps 20 million file names in a byte or two each
    blank = [pl.lit(None, pl.String).alias(DROPPED), pl.lit(None, pl.String).alias(REFUSED)]
    parts = {}
    for file in files:
        part = scan(file).with_columns(*_partitions(file))
        missing = [column for column in blank if column.meta.output_name() not in part.collect_schema()]
        parts[file] = part.with_columns(*missing, pl.lit(file, dtype=names).alias(FILE))
    return parts


def join(parts: Sequence[pl.LazyFrame]) -> pl.LazyFrame:
    """Put the rows of files one under the other; missing columns are null.

    Where two files hold a column as different types, numbers become the wider one, zoned times UTC, others text.
    """
    if len(parts) == 1:
        return parts[0]
    held: dict[str, set[pl.DataType]] = {}
    for part in parts:
        for name, dtype in part.collect_schema().items():
            held.setdefault(name, set()).add(dtype)
    cast: dict[str, pl.DataType] = {}
    for name, dtypes in held.items():
        dtypes.discard(pl.Null())
        if len(dtypes) < 2 or all(dtype.is_numeric() for dtype in dtypes):
            continue
        if all(isinstance(dtype, pl.Datetime) and dtype.time_zone for dtype in dtypes):
            cast[name] = pl.Datetime("us", "UTC")
        elif not any(dtype.is_nested() for dtype in dtypes):
            cast[name] = pl.String()
    aligned = [part.cast({name: cast[name] for name in part.collect_schema() if name in cast}) for part in parts]
    try:
        joined = pl.concat(aligned if cast else list(parts), how="diagonal_relaxed")
        joined.collect_schema()
    except pl.exceptions.PolarsError as error:
        raise DataError(f"the files of one table do not fit together: {str(error).splitlines()[0]}") from error
    return joined


def _partitions(file: str) -> list[pl.Expr]:
    """The columns that a path's folders name: `event=purchase/dt=2024-01-01/part-0.parquet` has `event` and `dt`."""
    pairs = [part.partition("=") for part in Path(file).parts[:-1] if re.fullmatch(r"[^=]+=[^=]*", part)]
    return [
        pl.lit(None if value == EMPTY_PARTITION else unquote(value), pl.String).alias(key) for key, _, value in pairs
    ]
