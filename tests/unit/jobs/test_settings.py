"""Settings of jobs, as the environment gives them."""

import pytest
from pydantic import ValidationError

from palimpsest.settings import Settings


def test_time_limits_by_kind(monkeypatch):
    assert Settings().job_seconds == {}
    monkeypatch.setenv("PALIMPSEST_JOB_SECONDS", "models.register=7200, codec.create_context=60.5")
    assert Settings().job_seconds == {"models.register": 7200.0, "codec.create_context": 60.5}
    monkeypatch.setenv("PALIMPSEST_JOB_SECONDS", '{"models.register": 5}')
    assert Settings().job_seconds == {"models.register": 5.0}


@pytest.mark.parametrize(
    "text", ["models.register=0", "models.register=inf", "register=5", "a.b", "[1]", "a.b=x"]
)
def test_time_limits_that_are_none(monkeypatch, text):
    monkeypatch.setenv("PALIMPSEST_JOB_SECONDS", text)
    with pytest.raises(ValidationError):
        Settings()
