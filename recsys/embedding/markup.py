"""HTML in texts: tags, comments, scripts and entities, of which an encoder should see none."""

from __future__ import annotations

import html

import polars as pl

INLINE = (
    "a|abbr|b|bdi|bdo|big|cite|code|del|em|font|i|ins|kbd|mark|q|s|samp|small|span|strike|strong|sub|sup|tt|u|var|wbr"
)
BLOCK = (
    "address|article|aside|audio|blockquote|body|br|button|caption|center|col|colgroup|dd|div|dl|dt|embed|fieldset|"
    "figcaption|figure|footer|form|h[1-6]|head|header|hr|html|iframe|img|input|label|legend|li|link|main|meta|nav|noscript|"
    "object|ol|option|p|picture|pre|script|section|select|source|style|table|tbody|td|textarea|tfoot|th|thead|time|title|"
    "tr|ul|video"
)
ATTRIBUTES = r"""(?:\s(?:"[^"]*"|'[^']*'|[^'">])*)?"""
TAG = rf"(?i)</?(?:{INLINE}|{BLOCK})(?:\s[^>]*)?/?>"
ESCAPED_TAG = rf"(?i)&lt;/?(?:{INLINE}|{BLOCK})(?:\s|/|&gt;)"
ENTITY = r"&(?:#\d+|#[xX][0-9a-fA-F]+|[A-Za-z][A-Za-z0-9]*);"


def strip_markup(texts: pl.Series) -> pl.Series:
    """Remove HTML from texts that have any: known tags go, scripts, styles and comments with what they hold.

    Tags that begin a block or a line become a space, others nothing; entities become their characters. A `<` that
    begins no tag of HTML stays, as in `size < 3`.

    Args:
        texts: Strings; nulls stay.
    """
    tagged = texts.str.contains(TAG) | texts.str.contains(ESCAPED_TAG) | texts.str.contains("<!--", literal=True)
    marked = tagged | texts.str.contains(ENTITY)
    if not marked.fill_null(False).any():
        return texts
    escaped = pl.col("text").str.contains(ESCAPED_TAG)
    clean = (
        pl.when(escaped)
        .then(pl.col("text").str.replace_many({"&lt;": "<", "&gt;": ">", "&quot;": '"', "&amp;": "&"}))
        .otherwise("text")
    )
    clean = clean.str.replace_all(r"(?is)<(?:script|style)\b.*?</(?:script|style)\s*>", " ")
    clean = clean.str.replace_all(r"(?s)<!--.*?-->", " ")
    for names, instead in ((INLINE, ""), (BLOCK, " ")):
        clean = clean.str.replace_all(rf"(?i)</?(?:{names}){ATTRIBUTES}/?>", instead)
    clean = clean.str.replace_all(TAG, " ")  # what a quote that does not end left over
    frame = pl.DataFrame({"text": texts, "marked": marked.fill_null(False)})
    stripped = frame.filter("marked").select(clean).to_series()
    plain = pl.Series([html.unescape(text) for text in stripped], dtype=pl.String)
    return texts.clone().scatter(frame["marked"].arg_true(), plain)
