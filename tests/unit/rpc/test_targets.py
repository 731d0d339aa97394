import pytest

from palimpsest.rpc.channel import client_target, parse_targets


@pytest.mark.parametrize(
    ("text", "targets"),
    [
        ("h:1", {"": "h:1"}),
        ("h:1, decoding=h:2", {"": "h:1", "decoding": "h:2"}),
        ("ipv4:1.1.1.1:1,2.2.2.2:1", {"": "ipv4:1.1.1.1:1,2.2.2.2:1"}),
        ("h:1,codec=ipv4:1.1.1.1:1,2.2.2.2:1", {"": "h:1", "codec": "ipv4:1.1.1.1:1,2.2.2.2:1"}),
        ("unix:/tmp/x", {"": "unix:/tmp/x"}),
    ],
)
def test_targets(text, targets):
    assert parse_targets(text) == targets


@pytest.mark.parametrize("text", ["", "decoding=h:1", "h:1,decoding=", "h:1,codec=a:1,codec=b:1"])
def test_what_names_no_server_is_refused(text):
    with pytest.raises(ValueError, match=r"server|expected"):
        parse_targets(text)


@pytest.mark.parametrize(
    ("listen", "target"),
    [
        ("0.0.0.0:7", "127.0.0.1:7"),
        ("[::]:7", "[::1]:7"),
        ("127.0.0.1:7", "127.0.0.1:7"),
        ("unix:/x", "unix:/x"),
    ],
)
def test_the_address_on_this_machine_of_what_a_server_listens_on(listen, target):
    assert client_target(listen) == target
