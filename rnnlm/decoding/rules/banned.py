"""Texts that hold none of some strings, however they are cut into tokens (Aho & Corasick 1975)."""

from collections.abc import Sequence

import numpy as np

from rnnlm.decoding.rules.automaton import DEAD, AutomatonRule, ByteAutomaton, TokenTable, always_open
from rnnlm.decoding.rules.token_text import TokenTexts
from rnnlm.errors import ConfigError

ROOT = 1


def banned_rule(banned: Sequence[str], texts: TokenTexts, max_tokens: int) -> AutomatonRule:
    """The rule that the text of all tokens holds none of `banned`, not even within a word."""
    if any(not one for one in banned):
        raise ConfigError("decoding.banned: the empty text is in every text; leave it out")
    table = TokenTable(without(banned), texts)
    return AutomatonRule(table, always_open(table), max_tokens)


def without(banned: Sequence[str]) -> ByteAutomaton:
    """Accepts every text that holds none of `banned`. A state is the longest beginning of one of them that the text
    ends with."""
    children: list[dict[int, int]] = [{}, {}]
    dead = {DEAD}
    for text in banned:
        state = ROOT
        for byte in text.encode():
            if byte not in children[state]:
                children[state][byte] = len(children)
                children.append({})
            state = children[state][byte]
        dead.add(state)
    transitions = np.zeros((len(children), 256), dtype=np.int32)
    shorter = [ROOT] * len(children)  # the state of the longest proper ending of what a state stands for
    transitions[ROOT] = ROOT
    todo = [ROOT]
    for state in todo:  # grows on the way, the short ones first
        if state != ROOT:
            transitions[state] = transitions[shorter[state]]
            if shorter[state] in dead:
                dead.add(state)
        for byte, child in children[state].items():
            shorter[child] = ROOT if state == ROOT else int(transitions[shorter[state], byte])
            transitions[state, byte] = child
            todo.append(child)
    gone = np.isin(np.arange(len(children)), list(dead))
    transitions[gone[transitions]] = DEAD
    transitions[gone] = DEAD
    return ByteAutomaton(transitions, ROOT, ~gone)
