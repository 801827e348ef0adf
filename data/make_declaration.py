"""Make the languages example: in which of twelve languages are three words of the Declaration of Human Rights?

    python data/make_declaration.py package/declaration

writes data/declaration.tsv: a line for each article in each language, with the language, the number of the article (0
is the preamble) and its text. README.md says where to get the folder.
"""

import html
import re
import sys
from pathlib import Path

OUTPUT = Path(__file__).with_name("declaration.tsv")
#: Languages that have many words in common, by the names of their files.
LANGUAGES = {
    "Asturian": "ast",
    "Catalan": "cat",
    "Danish": "dan",
    "French": "fra",
    "Galician": "glg",
    "Italian": "ita",
    "Norwegian (Bokmål)": "nob",
    "Norwegian (Nynorsk)": "nno",
    "Occitan": "oci_4",
    "Portuguese": "por_PT",
    "Spanish": "spa",
    "Swedish": "swe",
}
PARTS = re.compile(r"<(header|article)[^>]*>(.*?)</\1>", re.DOTALL)
HEADING = re.compile(r"<h2>.*?</h2>", re.DOTALL)
TAG = re.compile(r"<[^>]+>")


def articles(page: str) -> list[str]:
    """The text of the preamble and of each article, without its heading, on a line."""
    found = []
    for part in PARTS.finditer(page):
        text = TAG.sub(" ", HEADING.sub(" ", part[2]))
        found.append(" ".join(html.unescape(text).split()))
    return found


def main() -> None:
    folder = Path(sys.argv[1])
    lines = []
    for language, file in LANGUAGES.items():
        texts = articles((folder / f"{file}.html").read_text(encoding="utf-8"))
        if len(texts) != 31:
            raise SystemExit(f"{file}.html has {len(texts)} parts; there are a preamble and 30 articles.")
        lines += [f"{language}\t{number}\t{text}\n" for number, text in enumerate(texts)]
    OUTPUT.write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
