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
    r"\bgoes? on (where|as|from)\b": "resumes, continues",
    r"\banew\b": "again, a new ...",
    r"\b([Ii]mages?|pictures?|those) learnt\b": "training images",
    r"\bthe most (are|there may be)\b": "the limit is",
    r"\bcomes? along\b": "is included, is shipped",
    r"\bfrom (where|which) on\b": "from which, the threshold of",
    r"\bfor ever\b": "indefinitely, until cancelled",
    r"\b(in|into) the place of\b": "replace",
    r"\bwithout a (sign|word) of\b": "without a heartbeat, without a report",
    r"\bbeside what\b": "compared with, with baselines",
    r"\bfilled up\b": "padded",
    r"\bkeeps? of (an?|images)\b": "a latent of",
    r"\bgiven? out\b": "returned",
    r"\bas it comes\b": "unprocessed",
    r"\bkept out of training\b": "held-out",
    r'"""(Of|Nothing)\b': "begin with a verb, or name the thing",
    r'"""Return (it|what it|that) ': "name what is returned",
}
FOLDERS = ("service", "training", "clients/python/src", "docs")
ENDINGS = {".py", ".md", ".html", ".js"}
# It tells of the past in the words of its time.
LEFT_OUT = ("docs/changelog.md",)


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
