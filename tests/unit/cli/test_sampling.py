"""The options of sampling as the contract's messages."""

import pytest
import typer

from palimpsest.cli.sampling import Constraints, sampling


def test_options_that_are_not_given_leave_their_fields_unset():
    message = sampling(0.0, 0, None, 0.0, None, Constraints())
    assert not message.ListFields()
    assert not any(Constraints().fields().values())


def test_penalties_and_biases_become_fields():
    options = Constraints(repetition_penalty=1.2, presence_penalty=0.0, logit_bias=["5=-1.5", "7=100"])
    message = sampling(0.0, 0, None, 0.0, None, options)
    assert message.repetition_penalty == 1.2
    assert message.HasField("presence_penalty")
    assert not message.HasField("frequency_penalty")
    assert dict(message.logit_bias) == {5: -1.5, 7: 100.0}


@pytest.mark.parametrize(
    "given", ["fox", "5", "5=", "=1", "5=nan", "-1=2", "5=1e3", "99999999999=1", "5=1=2", "٣=1"]
)
def test_a_bias_that_is_not_a_token_id_and_a_number_is_refused(given):
    with pytest.raises(typer.BadParameter, match="not a token id"):
        Constraints(logit_bias=[given]).biases()


def test_a_text_has_one_form(tmp_path):
    schema = tmp_path / "schema.json"
    schema.write_text("{}")
    assert Constraints(json_schema=schema).fields()["structured"].json_schema == "{}"
    assert Constraints(choice=["a", "b"]).fields()["structured"].choice.texts == ["a", "b"]
    with pytest.raises(typer.BadParameter, match="--json-schema, --regex exclude each other"):
        Constraints(json_schema=schema, regex="a").fields()
