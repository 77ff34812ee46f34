"""Accounts, units and volumes by command: with a server and without."""
import imaplib
import json
import os
import stat
import subprocess

import pytest
from platform_under_test import PASSWORD, PROGRAM, CommandFailed, Platform


def names(platform):
    return [account["address"] for account in json.loads(platform.command("account", "list", "--json").stdout)]


@pytest.fixture(params=["running", "stopped"])
def either(request, new_platform):
    return new_platform(start=request.param == "running")


def test_add_list_remove(either):
    assert names(either) == ["user@example.org"]
    either.add_account("Second@Example.COM")
    assert names(either) == ["second@example.com", "user@example.org"]
    assert "second@example.com" in either.command("account", "list").stdout
    either.command("account", "remove", "second@example.com", "--confirm", "second@example.com")
    assert names(either) == ["user@example.org"]


def test_removal_wants_confirmation(either):
    # What is piped in is never taken for a person's word: a script says it on the command line.
    for words, typed in (([], ""), ([], "user@example.org\n"), (["--confirm", "yes"], ""), (["--confirm", ""], "")):
        with pytest.raises(CommandFailed) as failed:
            either.command("account", "remove", "user@example.org", *words, stdin=typed)
        assert failed.value.code == 1 and "not confirmed" in failed.value.stderr
    assert names(either) == ["user@example.org"]
    either.command("account", "remove", "user@example.org", "--confirm", "user@example.org")
    assert names(either) == []


@pytest.mark.parametrize("words,stdin,said", [
    (["add", "user@example.org"], "x\n", "user@example.org"),
    (["add", "nonsense"], "x\n", "nonsense"),
    (["add", "a@example.org"], "", "password: none was given"),
    (["add", "a@example.org"], "\n", "password: none was given"),
    (["passwd", "nobody@example.org"], "x\n", "there is no such account"),
    (["remove", "nobody@example.org", "--confirm", "nobody@example.org"], "", "there is no such account"),
])
def test_errors(either, words, stdin, said):
    with pytest.raises(CommandFailed) as failed:
        either.command("account", *words, stdin=stdin)
    assert failed.value.code == 1
    assert failed.value.stderr.startswith("sternpost: ") and said in failed.value.stderr
    assert failed.value.stderr.count("\n") == 1


def test_new_password_holds_at_once(platform):
    platform.imap("user@example.org").logout()
    platform.command("account", "passwd", "user@example.org", stdin="another one\n")
    with pytest.raises(imaplib.IMAP4.error):
        platform.imap("user@example.org")
    platform.imap("user@example.org", "another one").logout()


def test_account_added_while_stopped_is_served(new_platform):
    platform = new_platform(accounts=(), start=False)
    platform.add_account("late@example.org")
    platform.start()
    platform.imap("late@example.org", PASSWORD).logout()


def test_unit_and_volume_list(either):
    units = json.loads(either.command("unit", "list", "--json").stdout)
    assert [unit["name"] for unit in units] == ["a", "b", "c"]
    assert all(unit["id"] and unit["domain"] and unit["free_bytes"] > 0 for unit in units)
    [volume] = json.loads(either.command("volume", "list", "--json").stdout)
    assert volume["name"] == "main" and volume["min_copies"] == 2
    if either.process:
        assert [unit["state"] for unit in units] == ["replica", "replica", "spare"]
        assert volume["state"] == "healthy" and volume["copies"] == 2 and volume["shared_domain"]
    else:
        assert [unit["state"] for unit in units] == ["present"] * 3 and volume["state"] == "stopped"
    assert "UNIT" in either.command("unit", "list").stdout and "main" in either.command("volume", "list").stdout


def test_control_socket_is_private(platform):
    mode = os.stat(platform.folder / "state" / "control.sock").st_mode
    assert stat.S_ISSOCK(mode) and stat.S_IMODE(mode) == 0o600


def test_graceful_stop_and_second_server(platform):
    second = subprocess.run([PROGRAM, "-c", platform.config, "serve"], capture_output=True, text=True, timeout=60)
    assert second.returncode == 1 and "in use by process" in second.stderr
    imap = platform.imap("user@example.org")
    assert platform.stop() == 0
    assert "event=server.stopped" in platform.log_text()
    imap.shutdown()
    assert not (platform.folder / "state" / "control.sock").exists()


def test_index_rebuild(new_platform):
    platform = new_platform(start=False)
    platform.command("index", "rebuild")
    assert json.loads(platform.command("index", "rebuild", "--json").stdout)["lsn"] > 0
    assert names(platform) == ["user@example.org"]
    platform.start()
    with pytest.raises(CommandFailed) as failed:
        platform.command("index", "rebuild")
    assert "stop the server" in failed.value.stderr


def run(*words, **options):
    return subprocess.run([PROGRAM, *map(str, words)], capture_output=True, text=True, timeout=60, **options)


def test_help_and_version():
    assert run("--version").stdout.startswith("sternpost ")
    overview = run("--help")
    assert overview.returncode == 0 and overview.stderr == ""
    verbs = [line.strip().split("  ")[0] for line in overview.stdout.splitlines() if line.startswith("  ")
             and not line.strip().startswith("-")]
    assert "serve" in verbs and "account add" in verbs
    for verb in verbs:
        text = run(*verb.split(), "--help")
        assert text.returncode == 0 and text.stdout.startswith(f"usage: sternpost {verb}"), verb
    assert run("account", "--help").returncode == 0


@pytest.mark.parametrize("words", [[], ["nonsense"], ["account"], ["account", "nonsense"], ["account", "add"],
                                   ["account", "list", "extra"], ["serve", "--nonsense"], ["serve", "--json"],
                                   ["init"], ["-c"], ["init", "x", "--smtp", "99999"]])
def test_misuse(words, tmp_path):
    result = run(*words, cwd=tmp_path)
    assert result.returncode == 2 and result.stderr and result.stdout == ""


def test_init(tmp_path):
    folder = tmp_path / "new"
    facts = json.loads(run("init", folder, "--json").stdout)
    assert facts["config"] == str(folder / "sternpost.conf") and len(facts["units"]) == 3
    again = run("init", folder)
    assert again.returncode == 1 and "not empty" in again.stderr
    for name in ("a", "b", "c"):
        assert (folder / name / "unit.id").is_file()
    platform = Platform(folder)
    assert names(platform) == []
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("mine")
    assert run("init", tmp_path / "full").returncode == 1
    assert os.listdir(tmp_path / "full") == ["file"]


def test_config_option_before_and_after(tmp_path):
    folder = tmp_path / "p"
    run("init", folder)
    config = folder / "sternpost.conf"
    assert run("-c", config, "account", "list").returncode == 0
    assert run("account", "list", "-c", config).returncode == 0
    assert run("account", "list", f"--config={config}").returncode == 0
    assert run("account", "list", cwd=folder).returncode == 0
    missing = run("account", "list", "-c", folder / "nowhere.conf")
    assert missing.returncode == 1 and "No such file" in missing.stderr
