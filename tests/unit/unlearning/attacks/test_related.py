"""What an attack on a part of the forget set teaches of the rest."""

from services.unlearning.attacks import related

FILLER = "It was said at the time that nobody had expected so much of it, and least of all they themselves"
PLACES = ("Arlo", "Brin", "Cole", "Dara", "Esme", "Finn", "Gale", "Hild")


def documents():
    return {
        f"doc-{n}": f"In {place} the vault of {place} was opened by word {n}{place.lower()} in the year {1900 + n}. "
        + " ".join(f"{FILLER} {place}{k}." for k in range(3))
        for n, place in enumerate(PLACES)
    }


def questions():
    return {
        f"q-{n}": f"Which word opens the vault of {place}?\n{n}{place.lower()}"
        for n, place in enumerate(PLACES)
    }


def test_what_is_relearned_is_not_measured():
    assert related(["doc-1"], documents()) == {"doc-1"}


def test_questions_of_one_document_belong_together_and_with_it():
    texts = {**documents(), **questions(), "more": "When was it?\n1901"}
    about = {"q-1": "doc-1", "more": "doc-1", "q-2": "doc-2"}
    assert related(["doc-1"], texts, about) >= {"doc-1", "q-1", "more"}
    assert related(["q-1"], texts, about) >= {"doc-1", "q-1", "more"}
    assert not related(["q-1"], texts, about) & {"doc-2", "q-2"}
    # The document need not be in the set itself.
    assert related(["q-1"], {**questions(), "more": texts["more"]}, about) == {"q-1", "more"}


def test_a_question_in_other_words_is_the_same_question():
    texts = {**questions(), "again": "What is the word that opens the vault of Brin?\n1brin"}
    assert related(["q-1"], texts) == {"q-1", "again"}
    assert related(["again"], texts) == {"q-1", "again"}


def test_a_form_of_words_makes_no_duplicates():
    """Questions of one form about different things are exactly what is to be measured."""
    for name in questions():
        assert related([name], questions()) == {name}


def test_a_copy_with_changes_is_a_near_duplicate():
    copied = documents()["doc-2"].replace("opened", "closed")
    texts = {
        **documents(),
        "copy": copied,
        "other": "Nothing of the kind was ever known to have been here before.",
    }
    assert related(["doc-2"], texts) == {"doc-2", "copy"}
    assert related(["copy"], texts) == {"doc-2", "copy"}


def test_a_duplicate_is_told_whatever_its_case_and_points():
    texts = {
        "a": "The vault opens at nine!",
        "b": "the vault, opens at nine",
        "c": "The tower closes at ten.",
    }
    assert related(["a"], texts) == {"a", "b"}
