"""Cyrus beside the others: Debian's cyrus-imapd cannot be installed together with dovecot-imapd, so its packages are only
unpacked into the folder of the run, and its programs started from there."""
import glob
import os
import smtplib
import socket
import struct
import subprocess
import threading

from servers import DOMAIN, Failure, Server, free_ports, run, wait_port

# What cyrus-imapd has that a machine with Dovecot and Postfix may lack; what is missing beyond is named when it starts.
PACKAGES = ["cyrus-imapd", "cyrus-common"]
LIBRARIES = {"libical.so.3": "libical3", "libclamav.so.11": "libclamav11", "libxapian.so.30": "libxapian30", "libwrap.so.0": "libwrap0",
             "libpq.so.5": "libpq5", "libzephyr.so.4": "libzephyr4", "libpcre.so.3": "libpcre3", "libldap-2.5.so.0": "libldap-2.5-0",
             "libxml2.so.2": "libxml2", "libsqlite3.so.0": "libsqlite3-0"}


def unpack(folder):
    """Fetches and unpacks the packages; returns the folder of the programs and that of the libraries."""
    root = f"{folder}/cyrus-programs"
    os.makedirs(root)
    libraries = f"{root}/usr/lib/{os.uname().machine}-linux-gnu"

    def fetch(packages):
        run("apt-get", "download", *packages, cwd=root)
        for name in glob.glob(f"{root}/*.deb"):
            run("dpkg-deb", "-x", name, root)
            os.unlink(name)

    fetch(PACKAGES)
    for _ in range(3):  # a library may need another
        out = run("ldd", f"{root}/usr/lib/cyrus/bin/imapd", env=dict(os.environ, LD_LIBRARY_PATH=libraries))
        missing = [line.split()[0] for line in out.splitlines() if "not found" in line]
        if not missing:
            return f"{root}/usr/lib/cyrus/bin", libraries
        if not all(name in LIBRARIES for name in missing):
            break
        fetch([LIBRARIES[name] for name in missing])
    raise Failure(f"Cyrus: libraries are missing: {' '.join(missing)}")


class AnyPassword(threading.Thread):
    """Answers as saslauthd does, and takes every password: what its check costs is left out, as with Dovecot's static one."""

    def __init__(self, path):
        super().__init__(daemon=True)
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(path)
        os.chmod(path, 0o777)
        self.socket.listen(512)

    def run(self):
        while True:
            try:
                client, _ = self.socket.accept()
            except OSError:
                return
            with client, client.makefile("rb") as lines:
                for _ in range(4):  # login, password, service, realm
                    size = lines.read(2)
                    if len(size) == 2:
                        lines.read(struct.unpack(">H", size)[0])
                try:
                    client.sendall(struct.pack(">H", 2) + b"OK")
                except OSError:
                    pass

    def stop(self):
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()


class Cyrus(Server):
    name = "Cyrus"

    def __init__(self, folder, programs, libraries):
        self.folder, self.programs = folder, programs
        self.conf = f"{folder}/imapd.conf"
        self.env = dict(os.environ, LD_LIBRARY_PATH=libraries)
        self.passwords = None

    def start(self):
        self.lmtp, self.imap = free_ports(2)
        for sub in ("conf", "conf/db", "conf/socket", "conf/proc", "spool", "run"):
            os.makedirs(f"{self.folder}/{sub}")
        # Besides places, ports and accounts the defaults.
        open(self.conf, "w").write(f"""configdirectory: {self.folder}/conf
partition-default: {self.folder}/spool
defaultpartition: default
cyrus_user: nobody
cyrus_group: nogroup
admins: cyrus
defaultdomain: {DOMAIN}
servername: mail.example.com
virtdomains: userid
username_tolower: yes
autocreate_quota: 0
autocreate_post: yes
allowplaintext: yes
sasl_pwcheck_method: saslauthd
sasl_saslauthd_path: {self.folder}/run/mux
sasl_mech_list: PLAIN
lmtpsocket: {self.folder}/conf/socket/lmtp
idlesocket: {self.folder}/conf/socket/idle
notifysocket: {self.folder}/conf/socket/notify
""")
        command = lambda name, args="": f'cmd="{self.programs}/{name} -C {self.conf} {args}"'  # noqa: E731
        open(f"{self.folder}/cyrus.conf", "w").write(f"""START {{
  recover {command("ctl_cyrusdb", "-r")}
}}
SERVICES {{
  imap {command("imapd")} listen="127.0.0.1:{self.imap}" proto="tcp4" prefork=0 maxchild=4000
  lmtp {command("lmtpd", "-a")} listen="127.0.0.1:{self.lmtp}" proto="tcp4" prefork=0 maxchild=100
}}
DAEMON {{
  idled {command("idled")}
}}
EVENTS {{
}}
""")
        run("chown", "-R", "nobody:nogroup", self.folder)
        self.passwords = AnyPassword(f"{self.folder}/run/mux")
        self.passwords.start()
        self.process = subprocess.Popen([f"{self.programs}/master", "-C", self.conf, "-M", f"{self.folder}/cyrus.conf",
                                         "-p", f"{self.folder}/run/pid", "-L", f"{self.folder}/log"],
                                        env=self.env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_port(self.imap, self.name, self.process, f"{self.folder}/log")
        wait_port(self.lmtp, self.name, self.process, f"{self.folder}/log")

    def stop(self):
        super().stop()
        if self.passwords:
            self.passwords.stop()
            self.passwords = None

    def add_users(self, count):
        pass  # made at the first delivery or login

    def tool(self, name, *args):
        return run(f"{self.programs}/{name}", "-C", self.conf, *args, env=self.env)

    def fill(self, user, maildir):
        """The first message by LMTP, which makes the mailbox; the others as files beside it."""
        messages = [open(f"{maildir}/cur/{name}", "rb").read().replace(b"\n", b"\r\n") for name in sorted(os.listdir(f"{maildir}/cur"))]
        with smtplib.LMTP("127.0.0.1", self.lmtp) as client:
            client.sendmail("sender@peer.example", [f"user{user}@{DOMAIN}"], messages[0])
        spool = self.tool("mbpath", f"user/user{user}").strip()
        for i, text in enumerate(messages[1:], 2):
            with open(f"{spool}/{i}.", "wb") as message:
                message.write(text)
        run("chown", "-R", "nobody:nogroup", spool)
        self.tool("reconstruct", f"user/user{user}")
