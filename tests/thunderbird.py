"""Thunderbird as one of the programs that keep copies (copy_clients.py): without a screen, with an account that is kept for
offline use, told what to do through Marionette, its remote control (a protocol of lines of JSON with their length)."""
import json
import os
import shutil
import signal
import socket
import subprocess
import time

import pytest

from platform_under_test import PASSWORD

SECONDS = 120
TRIES = 15
PREFS = {
    "mail.accountmanager.accounts": "account1",
    "mail.accountmanager.defaultaccount": "account1",
    "mail.account.account1.server": "server1",
    "mail.account.account1.identities": "id1",
    "mail.server.server1.type": "imap",
    "mail.server.server1.hostname": "127.0.0.1",
    "mail.server.server1.name": "test",
    "mail.server.server1.authMethod": 3,  # a password in the clear
    "mail.server.server1.socketType": 0,
    "mail.server.server1.offline_download": True,
    "mail.server.server1.autosync_offline_stores": True,
    "mail.server.server1.using_subscription": False,
    "mail.server.server1.login_at_startup": False,
    "mail.server.server1.check_new_mail": False,
    "mail.server.server1.cleanup_inbox_on_exit": False,
    "mail.identity.id1.valid": True,
    "mail.identity.id1.fullName": "User",
    "mail.provider.suppress_dialog_on_startup": True,
    "mail.shell.checkDefaultClient": False,
    "mail.spotlight.firstRunDone": True,
    "mail.rights.version": 1,
    "mailnews.start_page.enabled": False,
    "datareporting.policy.bypassNotification": True,
    "datareporting.healthreport.uploadEnabled": False,
    "app.update.enabled": False,
    "app.donation.eoy.version.viewed": 9999,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "extensions.update.enabled": False,
    "marionette.enabled": True,
}

COMMON = """
const done = arguments[arguments.length - 1];
const { MailServices } = ChromeUtils.importESModule("resource:///modules/MailServices.sys.mjs");
const server = MailServices.accounts.accounts.map(a => a.incomingServer).find(s => s.type == "imap");
const root = server.rootFolder;
function listened(start) {
  return new Promise(resolve => {
    try {
      start({ OnStartRunningUrl() {}, OnStopRunningUrl(url, code) { resolve(code); },
              QueryInterface: ChromeUtils.generateQI(["nsIUrlListener"]) });
    } catch (error) { resolve(String(error)); }
  });
}
"""

LOGIN = COMMON + """
(async () => {
  const login = Cc["@mozilla.org/login-manager/loginInfo;1"].createInstance(Ci.nsILoginInfo);
  login.init("imap://127.0.0.1", null, "imap://127.0.0.1", arguments[0], arguments[1], "", "");
  await Services.logins.addLoginAsync(login);
  done(true);
})().catch(error => done(String(error)));
"""

SYNC = COMMON + """
(async () => {
  const [port] = arguments, codes = {};
  server.closeCachedConnections();
  server.port = port;
  // The list of folders first; then each folder's messages, then their bytes.
  const imapServer = server.QueryInterface(Ci.nsIImapIncomingServer);
  const inboxBefore = root.getFolderWithFlags(Ci.nsMsgFolderFlags.Inbox);
  if (!inboxBefore) server.performExpand(null);
  else root.updateFolder(null);
  for (let i = 0; i < 100 && !root.getFolderWithFlags(Ci.nsMsgFolderFlags.Inbox); i++)
    await new Promise(r => setTimeout(r, 100));
  await new Promise(r => setTimeout(r, 1500));
  for (const folder of root.descendants) {
    if (folder.flags & (Ci.nsMsgFolderFlags.ImapNoselect | Ci.nsMsgFolderFlags.Virtual)) continue;
    const imap = folder.QueryInterface(Ci.nsIMsgImapMailFolder);
    codes[folder.URI] = [await listened(l => imap.updateFolderWithListener(null, l))];
    if (codes[folder.URI][0] == 0)
      codes[folder.URI].push(await listened(l => folder.downloadAllForOffline(l, null)));
  }
  done(codes);
})().catch(error => done(String(error)));
"""

HOLDINGS = COMMON + """
const found = [];
for (const folder of root.descendants) {
  if (folder.flags & Ci.nsMsgFolderFlags.ImapNoselect) continue;
  try {
    for (const header of folder.msgDatabase.enumerateMessages())
      found.push([folder.URI.replace(/^.*?:\\/\\/[^/]*\\//, ""), header.messageKey, header.subject, header.flags & Ci.nsMsgMessageFlags.Offline,
                  header.offlineMessageSize, header.storeToken]);
  } catch (error) {
    found.push([folder.URI, -1, String(error), 0, 0, ""]);
  }
}
done(found);
"""


class Marionette:
    def __init__(self, port, process):
        deadline = time.monotonic() + 60
        while True:
            try:
                self.socket = socket.create_connection(("127.0.0.1", port), timeout=SECONDS)
                break
            except OSError:
                assert process.poll() is None and time.monotonic() < deadline, "Thunderbird does not start"
                time.sleep(0.2)
        self.file, self.number = self.socket.makefile("rb"), 0
        self.read()  # its greeting
        self.command("WebDriver:NewSession", {})
        self.command("Marionette:SetContext", {"value": "chrome"})
        self.command("WebDriver:SetTimeouts", {"script": SECONDS * 1000})

    def read(self):
        length = b""
        while (byte := self.file.read(1)) != b":":
            assert byte, "Thunderbird is gone"
            length += byte
        return json.loads(self.file.read(int(length)))

    def command(self, name, parameters):
        self.number += 1
        data = json.dumps([0, self.number, name, parameters]).encode()
        self.socket.sendall(b"%d:%s" % (len(data), data))
        _, number, error, result = self.read()
        assert number == self.number and not error, error
        return result

    def script(self, text, *arguments):
        return self.command("WebDriver:ExecuteAsyncScript", {"script": text, "args": list(arguments)})["value"]


class Thunderbird:
    program = "thunderbird"

    def __init__(self, folder, address):
        if not shutil.which(self.program):
            pytest.skip("thunderbird is not installed")
        self.profile, self.output = folder / "thunderbird", ""
        self.profile.mkdir()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        prefs = PREFS | {"mail.server.server1.userName": address, "mail.identity.id1.useremail": address, "marionette.port": port,
                         "mail.server.server1.port": 1}
        (self.profile / "user.js").write_text("".join(f"user_pref({json.dumps(key)}, {json.dumps(value)});\n"
                                                      for key, value in prefs.items()))
        self.process = subprocess.Popen(
            ["thunderbird", "--headless", "--no-remote", "--profile", str(self.profile), "--marionette", "--remote-allow-system-access"],
            stdin=subprocess.DEVNULL, stdout=open(folder / "thunderbird.log", "wb"), stderr=subprocess.STDOUT,
            env=dict(os.environ, HOME=str(folder), MOZ_HEADLESS="1"), start_new_session=True)
        self.marionette = Marionette(port, self.process)
        assert self.marionette.script(LOGIN, address, PASSWORD) is True

    def sync(self, port):
        """It goes on by itself after it has said that it is done: so until nothing changes any more."""
        before = None
        for _ in range(TRIES):
            codes = self.marionette.script(SYNC, port)
            self.output = str(codes)
            if not isinstance(codes, dict) or any(code != [0, 0] for code in codes.values()):
                return False
            now = codes, self.holdings()
            if now == before and all(row[1] for row in now[1].values()):
                return True
            before = now
        return False

    def holdings(self):
        return {(box, uid): tuple(rest) for box, uid, *rest in self.marionette.script(HOLDINGS)}

    def close(self):
        os.killpg(self.process.pid, signal.SIGTERM)
        self.process.wait(timeout=30)
