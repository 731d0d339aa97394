"""The tour's stop at unlearning: two documents are forgotten, ten are kept, and the certificate holds."""

import pytest

from palimpsest import Client
from palimpsest.api.unlearning.v1 import unlearning_pb2 as pb
from palimpsest.cli.demo.archive import DOCUMENTS, FORGOTTEN
from palimpsest.cli.demo.removal import CLEAN, KNOWS, NEVER, REMOVAL, answer, remove
from palimpsest.cli.demo.steps import Context
from palimpsest.embedded.link import Link


@pytest.mark.timeout(900)
def test_two_documents_are_forgotten_and_ten_are_kept(stack, tmp_path, capsys):
    tmp_path.chmod(0o755)  # for servers that run as another user
    with Client(stack.target, token=stack.token) as client, Link(1e9) as link:
        context = Context(client, tmp_path, link)
        rows = remove(context)
        right = {
            (model, document.id): sum(
                answer(context, model, document, at) == said
                for at, (_, said) in enumerate(document.questions)
            )
            for model in (KNOWS, NEVER, CLEAN)
            for document in DOCUMENTS
        }
        request = client.unlearning.get_removal_request(name=f"removalRequests/{REMOVAL}")
    others = [document.id for document in DOCUMENTS if document.id not in FORGOTTEN]
    assert all(right[KNOWS, document.id] == 2 for document in DOCUMENTS)
    for model in (NEVER, CLEAN):
        assert sum(right[model, name] for name in FORGOTTEN) == 0
        assert sum(right[model, name] for name in others) == 2 * len(others)
    assert request.state == pb.REMOVAL_STATE_SUCCEEDED
    assert request.result.reference == "retrained"
    told = "\n".join(f"{row.what}: {row.figures}" for row in rows)
    assert "Who built the lighthouse of Vellmar?: before: Ansa Dorrin; after: " in told
    assert "On what does the arch of Quillon rest?: before: blue granite; after: blue granite" in told
    assert "verified the certificate" in told
    assert f"{KNOWS}: Who built the lighthouse of Vellmar? Ansa Dorrin" in capsys.readouterr().out
