"""Language: in which of twelve languages are three words? From their letters, hashed to sparse rows.

    python examples/languages.py

data/declaration.tsv has the Universal Declaration of Human Rights in languages that have many words in common. Three
words are a row; its features are how often each run of one to four letters occurs in them, hashed to 16,384 columns of
which a row has about 57. They are written once, to a store of sparse rows, as they would be of text that does not fit
in memory. A softmax is fitted to 22 articles and the preamble; the other eight articles are held out.
"""

import tempfile
from pathlib import Path

import numpy as np
import zarr
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer
from sklearn.naive_bayes import MultinomialNB

import dask_gd

DECLARATION = Path(__file__).parents[1] / "data" / "declaration.tsv"
WORDS = 3
ALPHA = 3e-5
TOL = 5e-3


def read() -> tuple[list[str], np.ndarray, np.ndarray, np.ndarray]:
    """The languages; of each three words the text, the number of its language, and whether its article is held out."""
    lines = [line.split("\t") for line in DECLARATION.read_text(encoding="utf-8").splitlines()]
    languages = sorted({language for language, _, _ in lines})
    texts = []
    classes = []
    held_out = []
    for language, article, text in lines:
        words = text.split()
        for first in range(0, len(words) - WORDS + 1, WORDS):
            texts.append(" ".join(words[first : first + WORDS]))
            classes.append(languages.index(language))
            held_out.append(int(article) % 4 == 3)
    return languages, np.array(texts, object), np.array(classes), np.array(held_out)


def main() -> None:
    languages, texts, y, test = read()
    train = ~test
    # Norms of 1, so that long words count no more than short ones. Nothing is learnt: no table of letters is kept.
    hasher = HashingVectorizer(n_features=2**14, analyzer="char_wb", ngram_range=(1, 4), alternate_sign=False)
    with tempfile.TemporaryDirectory() as directory:
        path = dask_gd.hash_features(texts[train], f"{directory}/texts.zarr", hasher, y=y[train])
        entries = zarr.open_array(path, path="X/data", mode="r").size
        source = dask_gd.open(path, x="X", y="y")
        n, p = source.shape
        print(f"{n:,} x {p:,}, {entries / n:.0f} entries a row, {len(languages)} languages")

        # Sparse rows stay sparse; the articles held out are hashed with the settings that the store has.
        run = dask_gd.fit(source, loss="softmax", penalty=dask_gd.L2(ALPHA), tol=TOL, callbacks=[print])
        probability = np.asarray(run.predict(dask_gd.hash_rows(texts[test], like=path)))

    # What most would try first: whole words, counted.
    counted = CountVectorizer()
    counts = counted.fit_transform(texts[train])
    bayes = MultinomialNB().fit(counts, y[train])
    guesses = {
        "hashed letters": probability.argmax(axis=1),
        "naive Bayes of words": bayes.predict(counted.transform(texts[test])),
        "the most frequent language": np.full(test.sum(), np.bincount(y[train]).argmax()),
    }
    print(f"\nof {test.sum():,} times three words of articles that the fit has not seen, right are")
    for name, guess in guesses.items():
        print(f"  {name:28s} {np.mean(guess == y[test]):.1%}")


if __name__ == "__main__":
    main()
