"""Models, health and metrics."""

import openai
import pytest


def test_models_are_listed_and_looked_up(ask, tiny):
    listed = {model.id: model for model in ask.models.list()}
    assert listed[tiny].object == "model"
    found = ask.models.retrieve(tiny)
    assert found.id == tiny
    assert found.created > 1_700_000_000
    assert found.max_model_len == 2048


def test_a_model_that_is_not_there_is_named(ask):
    for name in ("absent", "Some/Repository"):
        with pytest.raises(openai.NotFoundError) as caught:
            ask.models.retrieve(name.replace("/", "%2F"))
        assert caught.value.code == "model_not_found"
        assert caught.value.param == "model"


def test_health_says_whether_the_room_behind_answers(http):
    assert http.get("/health").json() == {"status": "ok"}


def test_metrics_count_requests_by_route_and_status(http):
    def count(status: str, endpoint: str) -> float:
        line = f'palimpsest_http_requests_total{{endpoint="{endpoint}",status="{status}"}} '
        return sum(
            float(each.removeprefix(line))
            for each in http.get("/metrics").text.splitlines()
            if each.startswith(line)
        )

    before = count("200", "/v1/models"), count("404", "none")
    http.get("/v1/models")
    http.get("/v1/nothing-of-the-kind")
    assert (count("200", "/v1/models"), count("404", "none")) == (before[0] + 1, before[1] + 1)


def test_what_is_not_there_is_an_error_in_the_same_form(http):
    answer = http.get("/v1/nothing")
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "not_found"
    assert http.get("/v1/completions").status_code in (404, 405)


def test_a_request_has_the_id_that_it_asks_for(http):
    assert http.get("/health", headers={"x-request-id": "mine-1"}).headers["x-request-id"] == "mine-1"
    assert http.get("/health", headers={"x-request-id": "no space"}).headers["x-request-id"] != "no space"
