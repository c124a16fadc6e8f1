"""Who may ask: keys in a file of hashes, changed without a restart, and no server that is open by mistake."""

from __future__ import annotations

import contextlib
import hashlib
import logging
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertsmith.cli.keys import keys as keys_verb
from bertsmith.errors import BertsmithError, DataError, UsageError
from bertsmith.serve import problems
from bertsmith.serve.keys import KeyFile, RequireKey, add_key, check_open, parse_keys, read_keys, remove_key
from bertsmith.serve.settings import ServeSettings
from tests.serve.asgi_call import Reply, call, well

MAKE = "\n  Make one: bertsmith keys add NAME --file FILE"


class Clock:
    """A clock that is moved by hand."""

    now = 0.0

    def __call__(self) -> float:
        """Give the time it was moved to."""
        return self.now


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys.toml"


def asked(
    keys: KeyFile | None, path: str = "/classify", *, method: str = "POST", admin: bool = True, **headers: str
) -> Reply:
    app = RequireKey(well, keys=keys, answer=problems.answer, admin=admin)
    return call(app, path, method=method, headers={name.replace("_", "-"): value for name, value in headers.items()})


def test_the_file_holds_the_hash_and_not_the_key(file):
    """A key is told once: the file has its sha256, and the key's characters nowhere."""
    secret = add_key(file, "shop")
    assert secret.removeprefix("bertsmith_") not in file.read_text()
    (key,) = read_keys(file)
    assert (key.name, key.admin, key.sha256) == ("shop", False, hashlib.sha256(secret.encode()).hexdigest())


def test_keys_have_256_random_bits(file):
    """Behind the prefix stand 43 characters of base64, and no two keys are equal."""
    made = {add_key(file, f"k{number}") for number in range(5)}
    assert len(made) == 5
    assert {len(each.removeprefix("bertsmith_")) for each in made} == {43}


@pytest.mark.parametrize(
    ("header", "form"), [("Authorization", "Bearer {}"), ("Authorization", "bearer  {}"), ("X-API-Key", "{}")]
)
def test_a_known_key_is_let_in(file, header, form):
    """Both headers take a key, and the log learns whose it is."""
    add_key(file, "other")
    secret = add_key(file, "shop")
    app = RequireKey(well, keys=KeyFile(file), answer=problems.answer)
    reply = call(app, headers={header: form.format(secret)})
    assert (reply.status, reply.scope["bertsmith"]) == (200, {"key": "shop"})


def test_without_a_key_nobody_is_let_in(file):
    """No key and a wrong key are 401 with a challenge, in the words of the route that was asked."""
    secret = add_key(file, "shop")
    keys = KeyFile(file)
    none = asked(keys)
    assert (none.status, none.headers["www-authenticate"]) == (401, 'Bearer realm="bertsmith"')
    assert none.json == {
        "type": "urn:bertsmith:key-needed",
        "title": "Key needed",
        "status": 401,
        "detail": "this server wants an API key: send the header 'Authorization: Bearer KEY'.",
    }
    wrong = asked(keys, X_API_Key=secret[:-1])
    assert (wrong.status, wrong.json["detail"]) == (
        401, "the API key is not known here: it may have been removed, or be mistyped.",
    )  # fmt: skip
    assert asked(keys, "/v2/models/m/infer").json == {"error": none.json["detail"]}
    for header in ("Basic " + secret, "Bearer", "Bearer \xff\xfe", secret, ""):
        assert asked(keys, Authorization=header).status == 401


def test_health_is_read_without_a_key_and_nothing_else(file):
    """Whether the server is well is told to everyone; an open path is open for reading only."""
    add_key(file, "shop")
    keys = KeyFile(file)
    assert asked(keys, "/health/ready", method="GET").status == 200
    for path, method in (("/health/ready", "POST"), ("/health/ready/", "GET"), ("//health/ready", "GET"), ("/metrics", "GET"),
                         ("/stats", "GET"), ("/openapi.json", "GET"), ("/", "POST"), ("/admin/reload", "POST")):  # fmt: skip
        assert asked(keys, path, method=method).status == 401, path


@pytest.mark.parametrize(
    ("path", "method"), [("/admin/reload", "POST"), ("/feedback", "GET"), ("/feedback/7", "DELETE")]
)
def test_what_changes_or_reads_all_needs_an_admin_key(file, path, method):
    """A key that may ask may not reload models or read what others wrote; an admin key may."""
    plain, admin = add_key(file, "shop"), add_key(file, "boss", admin=True)
    keys = KeyFile(file)
    refused = asked(keys, path, method=method, X_API_Key=plain)
    assert (refused.status, refused.json["detail"]) == (403, "this needs a key that was made with --admin.")
    assert asked(keys, path, method=method, X_API_Key=admin).status == 200
    assert asked(keys, "/feedback", method="POST", X_API_Key=plain).status == 200


def test_without_keys_admin_is_open_only_where_that_was_said():
    """A server that everyone may ask is not one that everyone may reload."""
    assert asked(None, "/admin/reload").status == 200
    assert asked(None, "/classify", admin=False).status == 200
    assert asked(None, "/admin/reload", admin=False).status == 403


def test_keys_change_without_a_restart(file):
    """Within a second of a change, a new key is let in and a removed one is not."""
    clock = Clock()
    old = add_key(file, "old")
    keys = KeyFile(file, clock=clock)
    new = add_key(file, "new")
    assert keys.find(new) is None
    clock.now = 1.0
    assert keys.find(new) is not None
    remove_key(file, "old")
    assert keys.find(old) is not None
    clock.now = 2.0
    assert keys.find(old) is None
    remove_key(file, "new")
    clock.now = 3.0
    assert keys.find(new) is None


@pytest.mark.parametrize("breaks", ["gone", "rubbish", "bytes"])
def test_a_broken_file_changes_nothing_and_is_logged(file, breaks, caplog):
    """A file that cannot be read leaves the keys as they were, says so once, and is taken again once it is whole."""
    clock = Clock()
    secret = add_key(file, "shop")
    whole = file.read_bytes()
    keys = KeyFile(file, clock=clock)
    if breaks == "gone":
        file.unlink()
    else:
        file.write_bytes(b"[[key" if breaks == "rubbish" else b"\xff\xfe")
    with caplog.at_level(logging.ERROR):
        for clock.now in (1.0, 2.0):
            assert keys.find(secret) is not None
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith(f"the keys stay as they were: {file}: ")
    file.write_bytes(whole.replace(b"shop", b"till"))
    clock.now = 3.0
    found = keys.find(secret)
    assert found is not None
    assert found.name == "till"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[key", "keys.toml: not readable as TOML: "),
        ("a = 1", "keys.toml: must hold tables [[key]] and nothing else." + MAKE),
        ("key = 3", "keys.toml: must hold tables [[key]] and nothing else." + MAKE),
        ("key = [3]", "keys.toml: key 1 must have 'name' and 'sha256', and perhaps 'created' and 'admin'."),
        ("[[key]]\nsha256 = ''", "keys.toml: key 1: 'name' must be 1 to 64 letters, digits, '.', '_' and '-'. Got None instead."),
        ("[[key]]\nname = 'a'\nsha256 = 'bertsmith_x'", "keys.toml: key 1: 'sha256' must be 64 hexadecimal digits in lower case.\n"
         "  A key itself never stands in the file. Make one: bertsmith keys add NAME --file FILE"),
        (f"[[key]]\nname = 'a'\nsha256 = '{'0' * 64}'\nadmin = 'yes'", "keys.toml: key 1: 'admin' must be true or false. Got 'yes' instead."),
        (f"[[key]]\nname = 'a'\nsha256 = '{'0' * 64}'\n" * 2, "keys.toml: key 2 has the name 'a', which another one has too."),
    ],
)  # fmt: skip
def test_a_wrong_file_is_said_to_be_so(text, said):
    """Each fault of a file is named with its place."""
    with pytest.raises(DataError) as caught:
        parse_keys(text, source="keys.toml")
    assert str(caught.value) == said or (text == "[[key" and str(caught.value).startswith(said))


@settings(deadline=None)
@given(st.text())
def test_no_text_breaks_the_reading_of_keys(text):
    """Whatever a file holds, it is read or refused in words."""
    with contextlib.suppress(DataError):
        assert all(len(key.sha256) == 64 for key in parse_keys(text, source="f"))


@settings(deadline=None, max_examples=10)
@given(
    st.lists(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", fullmatch=True), min_size=1, max_size=4, unique=True),
    st.booleans(),
)
def test_keys_that_were_written_are_read(tmp_path_factory, names, admin):
    """What `keys add` writes is what is read, in its order, and each key finds its own name."""
    file = tmp_path_factory.mktemp("keys") / "keys.toml"
    secrets = {name: add_key(file, name, admin=admin) for name in names}
    assert [(key.name, key.admin) for key in read_keys(file)] == [(name, admin) for name in names]
    keys = KeyFile(file)
    assert {name: found.name for name, secret in secrets.items() if (found := keys.find(secret))} == {
        name: name for name in names
    }


def serving(host: str, *, keys: bool = False, no_auth: bool = False) -> ServeSettings:
    return ServeSettings(
        runs=(Path("runs/a"),), host=host, api_key_file=Path("keys.toml") if keys else None, no_auth=no_auth
    )


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org"])
def test_a_public_address_is_never_open_by_mistake(host):
    """Where others can reach the server it wants keys, or --no-auth."""
    with pytest.raises(UsageError) as caught:
        check_open(serving(host))
    assert str(caught.value) == (
        f"'{host}' can be reached from other machines, and there are no API keys.\n"
        "  Make one (bertsmith keys add NAME --file FILE) and start with --api-key-file FILE, or let everyone in with --no-auth."
    )
    check_open(serving(host, keys=True))
    check_open(serving(host, no_auth=True))


def test_loopback_needs_no_keys_and_both_flags_contradict():
    """On this machine alone nothing is asked for; keys and --no-auth together are a mistake."""
    for host in ("127.0.0.1", "127.1.2.3", "::1", "localhost"):
        check_open(serving(host))
    with pytest.raises(UsageError) as caught:
        check_open(serving("127.0.0.1", keys=True, no_auth=True))
    assert str(caught.value) == "--api-key-file and --no-auth contradict each other.\n  Leave one of them out."


def test_the_verb_makes_lists_and_removes(file, capsys):
    """`keys add` prints the key, `keys list` names and days, `keys remove` takes one away."""
    assert keys_verb("add", "shop", file=file) == keys_verb("add", "boss", file=file, admin=True) == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert KeyFile(file).find(first) is not None
    keys_verb("list", file=file)
    day = read_keys(file)[0].created
    assert capsys.readouterr().out == f"shop  {day}\nboss  {day}  admin\n"
    keys_verb("remove", "shop", file=file)
    assert KeyFile(file).find(first) is None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("add", ""), "keys add takes the NAME of a key."),
        (("list", "a"), "keys list takes no name."),
        (("add", "a b"), "a key's name must be 1 to 64 letters, digits, '.', '_' and '-'. Got 'a b' instead."),
        (("add", "shop"), "{file}: there is a key 'shop' already.\n  Take another name; remove the old key once its owner has the new one."),
        (("remove", "x"), "{file}: there is no key 'x'. There is: shop."),
    ],
)  # fmt: skip
def test_the_verb_says_what_is_wrong(file, arguments, said):
    """Each wrong call is answered in one sentence."""
    add_key(file, "shop")
    with pytest.raises(BertsmithError) as caught:
        keys_verb(*arguments, file=file)
    assert str(caught.value) == said.format(file=file)


def test_a_server_does_not_start_without_any_key(file):
    """A missing file and one without keys are refused at the start."""
    with pytest.raises(UsageError) as caught:
        KeyFile(file)
    assert str(caught.value) == f"{file}: cannot be read: No such file or directory." + MAKE
    file.write_text("# none\n")
    with pytest.raises(UsageError) as caught:
        KeyFile(file)
    assert str(caught.value) == f"{file}: there is no key in it." + MAKE
