"""What a law's runs were trained on, and where a run at hand differs."""

from dataclasses import fields, replace

import pytest

from scalestop.errors import InputError
from scalestop.laws import LawInfo, ParametricLaw, Provenance, differences, get_law

LADDER = Provenance(
    text="python-stdlib",
    text_hash="fd506d727b52571e9c2c",
    tokenizer="bytes",
    vocab_size=256,
    context=128,
    optimizer="AdamW",
    schedule="up over 10 %, down over 50 %",
)


def law_of(provenance):
    info = LawInfo("mine", "total", "a test", provenance=provenance)
    return ParametricLaw(info, E=1.5, A=400.0, B=900.0, alpha=0.35, beta=0.3)


def test_the_same_runs_differ_in_nothing():
    assert differences(law_of(LADDER), LADDER) == []


@pytest.mark.parametrize(
    ("changes", "lines"),
    [
        ({"context": 2048}, ["context: 2,048 here, 128 behind the law"]),
        (
            {"vocab_size": 50257, "tokenizer": "gpt2"},
            [
                "tokenizer: gpt2 here, bytes behind the law; a loss per token is another quantity there",
                "vocabulary: 50,257 here, 256 behind the law; a loss per token is another quantity there",
            ],
        ),
        ({"optimizer": "SGD"}, ["optimizer: SGD here, AdamW behind the law"]),
        # one hash is one text, whatever it is called
        ({"text": "the standard library"}, []),
        ({"text": "c4", "text_hash": "00"}, ["text: c4 here, python-stdlib behind the law"]),
        ({"text_hash": "00112233445566"}, ["text (sha256): 001122334455 here, fd506d727b52 behind the law"]),
        ({"text": "c4", "text_hash": None}, ["text: c4 here, python-stdlib behind the law"]),
        # what the run does not state, or the law does not, is not compared
        ({"schedule": None}, []),
        ({"batch_rule": "D^0.6"}, []),
    ],
)
def test_each_difference_is_a_line(changes, lines):
    assert differences(law_of(LADDER), replace(LADDER, **changes)) == lines


@pytest.mark.parametrize("field", [field.name for field in fields(Provenance)])
def test_no_field_is_forgotten(field):
    """Changed alone, each one makes one line."""
    before, after = (1, 2) if field in ("vocab_size", "context") else ("one", "two")
    assert len(differences(Provenance(**{field: before}), Provenance(**{field: after}))) == 1
    assert len(Provenance(**{field: before}).rows()) == 1


def test_the_embedded_law_says_what_it_was_fitted_to():
    found = get_law("stdlib-bytes").info.provenance
    assert (found.tokenizer, found.vocab_size, found.context) == ("bytes", 256, 128)
    assert found.text_hash[:8] in " ".join(get_law("stdlib-bytes").info.notes)
    assert None not in (found.optimizer, found.learning_rate, found.schedule, found.batch_rule, found.model)


def test_nothing_known_is_nothing_said():
    assert differences(get_law("besiroglu"), LADDER) == []
    assert differences(law_of(LADDER), None) == differences(None, LADDER) == []


def test_what_is_stated_is_read_back():
    assert Provenance.from_dict(LADDER.stated) == LADDER
    assert "batch_rule" not in LADDER.stated
    assert ("vocabulary", "256") in LADDER.rows()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "x: expected a JSON object; got list"),
        ({"color": "red"}, "x: unknown field(s) color; known are text, text_hash, tokenizer, vocab_size, context, "),
        ({"vocab_size": 0}, "x: vocab_size: a positive whole number; got 0"),
        ({"vocab_size": True}, "x: vocab_size: a positive whole number; got True"),
        ({"context": 1.5}, "x: context: a positive whole number; got 1.5"),
        ({"text": 5}, "x: text: a text; got 5"),
        ({"optimizer": ""}, "x: optimizer: a text; got ''"),
    ],
)
def test_errors(data, message):
    with pytest.raises(InputError) as error:
        Provenance.from_dict(data, where="x")
    assert str(error.value).startswith(message)
