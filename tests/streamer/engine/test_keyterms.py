"""Tests of streamer/engine/keyterms.py: which tokens are favoured where, and by how much."""

from __future__ import annotations

import torch

from streamer.engine.keyterms import KeyTermBias, Strength, TermTrie, TokenContext, most_nodes
from tests.helpers.words import TOKENIZER

CPU = torch.device("cpu")
STRENGTH = Strength(begin=1.0, go_on=3.0)


def boosted(places: list[TokenContext]) -> list[dict[str, float]]:
    """For each place what was added, by the text of the token."""
    logits = torch.zeros(len(places), TOKENIZER.n_vocab)
    KeyTermBias(TOKENIZER, CPU, STRENGTH).boost(logits, places)
    return [{TOKENIZER.decode([int(i)]): float(row[i]) for i in row.nonzero()[:, 0]} for row in logits]


def place(text: str, *terms: str, language: str = "en") -> TokenContext:
    """After this text."""
    return TokenContext(terms, TOKENIZER.encode(text), language)


def first(text: str) -> str:
    """The first token of a text, as text."""
    return TOKENIZER.decode(TOKENIZER.encode(text)[:1])


def test_beginnings_are_favoured_everywhere() -> None:
    """With a space before them; in each spelling a user may mean."""
    (found,) = boosted([place(" he met", "Zorbak")])

    assert found == dict.fromkeys({first(" Zorbak"), first(" zorbak")}, 1.0)


def test_words_begin_without_a_space_only_where_words_may() -> None:
    """At the beginning of a text, after a mark, and in languages without spaces; not inside a word."""
    bare = {first("Zorbak"), first("zorbak")} - {first(" Zorbak"), first(" zorbak")}

    begin, mark, word, unspaced = boosted(
        [place("", "Zorbak"), place(" he (", "Zorbak"), place(" he", "Zorbak"), place(" he", "Zorbak", language="ja")]
    )

    assert [bare <= found.keys() for found in (begin, mark, word, unspaced)] == [True, True, False, True]


def test_a_begun_term_is_favoured_more() -> None:
    """Every token of it up to the last; after the last none."""
    tokens = TOKENIZER.encode(" Zorbak")
    assert len(tokens) > 1

    found = boosted([TokenContext(("Zorbak",), tokens[:n], "en") for n in range(1, len(tokens) + 1)])

    for n, token in enumerate(tokens[1:]):
        assert found[n][TOKENIZER.decode([token])] == 3.0
    assert set(found[-1].values()) == {1.0}


def test_rows_have_their_own_terms() -> None:
    """A row without any is left alone, whoever it is batched with."""
    found = boosted([place(" he"), place(" he", "Zorbak"), place(" he", "Quux")])

    assert found[0] == {}
    assert first(" Zorbak") in found[1]
    assert first(" Quux") in found[2]
    assert first(" Zorbak") not in found[2]


def test_blank_terms_say_nothing() -> None:
    """A list of spaces favours nothing, and breaks nothing."""
    trie = TermTrie(["  ", ""], TOKENIZER)

    assert (trie.beginning(bare=True), trie.continuing([1, 2]), trie.reach) == (frozenset(), [], 0)
    assert boosted([place(" he", " ")]) == [{}]


def test_the_tries_that_are_kept_are_bounded() -> None:
    """Lists that change all the time leave no memory behind, and the newest list is favoured all the same."""
    bias = KeyTermBias(TOKENIZER, CPU, STRENGTH, max_nodes=60)

    for n in range(40):
        logits = torch.zeros(1, TOKENIZER.n_vocab)
        bias.boost(logits, [place(" he", f"Zorbak{n}", "Quux")])
        assert logits[0, TOKENIZER.encode(f" Zorbak{n}")[0]] > 0
        assert bias.n_nodes <= 60


def test_a_pass_keeps_all_of_its_tries() -> None:
    """Lists that exceed the bound together are built once for all passes of a step, and dropped for the next one."""
    bias = KeyTermBias(TOKENIZER, CPU, STRENGTH, max_nodes=1)
    step, next_step = ([place(" he", f"{name}{n}") for n in range(3)] for name in ("Zorbak", "Quux"))

    bias.boost(torch.zeros(3, TOKENIZER.n_vocab), step)
    n_nodes = bias.n_nodes
    logits = torch.zeros(1, TOKENIZER.n_vocab)
    bias.boost(logits, step[1:2])

    assert bias.n_nodes == n_nodes == sum(TermTrie(each.terms, TOKENIZER).n_nodes for each in step)
    assert logits[0, TOKENIZER.encode(" Zorbak1")[0]] > 0
    bias.boost(torch.zeros(3, TOKENIZER.n_vocab), next_step)
    assert bias.n_nodes == sum(TermTrie(each.terms, TOKENIZER).n_nodes for each in next_step)


def test_an_engine_of_many_rows_keeps_more_tries() -> None:
    """250,000 nodes up to 8 rows, 2,000,000 for 64."""
    assert [most_nodes(n) for n in (1, 8, 64)] == [250_000, 250_000, 2_000_000]
