"""English as the field writes it: phrases that have crept in before, and must not again.

The list is short on purpose. Each entry was a habit here, and the right column says what to write instead.
"""

import re
from pathlib import Path

import pytest

from tests.docs.commands import ROOT

# A phrase to avoid, and what to write.
PHRASES = {
    r"\bwho(ever)? has none\b": "reject missing ...",
    r"\bis told so\b": "answer ..., reject ...",
    r"\bmay come in\b": "admission control",
    r"\bso many\b": "this many, up to N",
    r"\bstands? (in|beside|under|among|there)\b": "is in, is beside; see ...",
    r"\bNothing, while\b": "Raise ... if",
    r"^ *[a-z_]+: Of (the|its|a) ": "name: the thing itself",
    r"\bwhat costs nothing\b": "methods that cost nothing",
    r"\bgoes? on as (it|they) (was|were)\b": "continues",
    r"\bis there for\b": "accepts",
    r"\bWho (has|gives|wants|asks)\b": "a clause that names the subject",
    r"\b[Ww]hoever\b": "a client that, anyone who",
    r"\bnobody told\b": "without labels",
    r"\bis said (so|plainly)\b": "the message says",
    r"\bmay have so\b": "may have this many",
    r"\bin its place is\b": "replaces",
    r"\bby as much as\b": "by the reach of",
}
FOLDERS = ("service", "training", "clients/python/src", "docs")
ENDINGS = {".py", ".md", ".html", ".js"}
# They tell of the past in the words of their time.
LEFT_OUT = ("docs/changelog.md", "docs/decisions/")


def pages() -> list[Path]:
    found = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.suffix in ENDINGS]
    names = {path: path.relative_to(ROOT).as_posix() for path in [ROOT / "README.md", *found]}
    return sorted(path for path, name in names.items() if not name.startswith((*LEFT_OUT, "service/help/")))


@pytest.mark.parametrize("phrase", PHRASES)
def test_a_phrase_that_is_not_english_of_the_field_stays_away(phrase: str) -> None:
    pattern = re.compile(phrase, re.MULTILINE)
    found = [
        f"{page.relative_to(ROOT)}:{text.count(chr(10), 0, match.start()) + 1}: {match.group().strip()}"
        for page in pages()
        for text in [page.read_text("utf-8")]
        for match in pattern.finditer(text)
    ]

    assert found == [], f"write instead: {PHRASES[phrase]}"
