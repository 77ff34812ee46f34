"""The servers that are measured: each started on loopback in a folder of its own, and ended by its process id."""
import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import time

HERE = os.path.dirname(os.path.abspath(__file__))
PASSWORD = "swordfish"
DOMAIN = "example.com"
MAIL_UID = 5000  # Dovecot gives up root for this one; it needs no entry in passwd


class Failure(Exception):
    """What a person should read; ends the run."""


def free_ports(count):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [s.getsockname()[1] for s in sockets]


def run(*command, **more):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, **more)
    if done.returncode:
        raise Failure(f"{' '.join(map(str, command))}: {(done.stderr or done.stdout).strip()[-2000:]}")
    return done.stdout


def wait_port(port, what, process=None, log=None, limit=60):
    end = time.time() + limit
    while time.time() < end:
        if process and process.poll() is not None:
            break
        try:
            with socket.create_connection(("127.0.0.1", port), 1) as s:
                s.settimeout(5)
                if s.recv(1):
                    return
        except OSError:
            time.sleep(0.05)
    tail = open(log, errors="replace").read()[-2000:] if log and os.path.exists(log) else ""
    raise Failure(f"{what} does not answer on port {port}\n{tail}")


def end_process(process, limit=30):
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(limit)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def family(root):
    """The process and all below it."""
    children = {}
    for p in filter(str.isdigit, os.listdir("/proc")):
        try:
            parent = int(open(f"/proc/{p}/stat").read().rsplit(")", 1)[1].split()[1])
            children.setdefault(parent, []).append(int(p))
        except OSError:
            pass
    found, todo = [], [root]
    while todo:
        p = todo.pop()
        found.append(p)
        todo += children.get(p, [])
    return found


def memory(root):
    """PSS of a process and all below it in KiB: all of it, and what is anonymous (not pages of files)."""
    pss = anon = 0
    for p in family(root):
        try:
            rows = dict(re.findall(r"^(\w+): +(\d+) kB", open(f"/proc/{p}/smaps_rollup").read(), re.M))
            pss += int(rows["Pss"])
            anon += int(rows["Pss_Anon"])
        except (OSError, KeyError):
            pass
    return pss, anon


def certificate(folder):
    """A certificate of its own for 127.0.0.1, as files: (certificate, key)."""
    cert, key = f"{folder}-cert.pem", f"{folder}-key.pem"
    run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30",
        "-subj", "/CN=mail.example.com", "-keyout", key, "-out", cert)
    return cert, key


class Server:
    """name, what it speaks (ports), and a folder that is gone with it."""
    process = None
    lmtp = smtp = imap = imaps = None

    def stop(self):
        if self.process:
            end_process(self.process)
            self.process = None

    def __enter__(self):
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_):
        self.stop()


class Sternpost(Server):
    name = "Sternpost"

    def __init__(self, folder, program):
        self.folder, self.program = folder, program
        self.conf = f"{folder}/sternpost.conf"
        self.log = f"{folder}.log"
        self.accounts = set()

    def start(self):
        self.smtp, self.lmtp, self.imap, self.imaps = free_ports(4)
        run(self.program, "init", self.folder, "--hostname", "mail.example.com", "--pop3", "0")
        cert, key = certificate(self.folder)
        text = open(self.conf).read()
        for name in ("smtp", "lmtp", "imap"):
            text = re.sub(rf"^{name} = .*", f"{name} = 127.0.0.1:{getattr(self, name)}", text, flags=re.M)
        # The load comes from one address; everything else is as init leaves it.
        text = text.replace("[listen]\n", f"[listen]\nimaps = 127.0.0.1:{self.imaps}\n", 1)
        text = text.replace("[unit a]", f"[tls]\ncert = {cert}\nkey = {key}\n\n[limits]\nconnections = 12000\n"
                            "connections_per_peer = 12000\n\n[unit a]", 1)
        open(self.conf, "w").write(text)
        self.serve()

    def serve(self):
        self.process = subprocess.Popen([self.program, "-c", self.conf, "serve"], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=open(self.log, "ab"))
        wait_port(self.imap, "sternpost", self.process, self.log, 120)

    def cli(self, *args, **more):
        return run(self.program, "-c", self.conf, *args, **more)

    def add_users(self, count):
        for i in range(1, count + 1):
            if i not in self.accounts:
                self.cli("account", "add", f"user{i}@{DOMAIN}", input=PASSWORD + "\n")
                self.accounts.add(i)

    def fill(self, user, maildir):
        self.add_users(user)
        self.cli("import", "maildir", maildir, "--account", f"user{user}@{DOMAIN}")


class Dovecot(Server):
    def __init__(self, folder, kind):
        self.folder, self.kind, self.name = folder, kind, f"Dovecot {kind}"
        self.location = {"Maildir": "maildir:~/Maildir", "mdbox": "mdbox:~/mdbox"}[kind]
        self.conf = f"{folder}/dovecot.conf"

    def start(self):
        self.lmtp, self.imap, self.imaps = free_ports(3)
        cert, key = certificate(self.folder)
        os.makedirs(f"{self.folder}/mail")
        os.chown(f"{self.folder}/mail", MAIL_UID, MAIL_UID)
        # Besides places, ports and accounts only limits differ from the defaults: one address makes all connections.
        with open(self.conf, "w") as file:
            file.write(f"""base_dir = {self.folder}/run
state_dir = {self.folder}/state
instance_name = bench-{self.kind}
protocols = imap lmtp
listen = 127.0.0.1
log_path = {self.folder}/log
ssl = yes
ssl_cert = <{cert}
ssl_key = <{key}
disable_plaintext_auth = no
auth_username_format = %Ln
mail_location = {self.location}
mail_max_userip_connections = 12000
first_valid_uid = {MAIL_UID}
passdb {{
  driver = static
  args = password={PASSWORD}
}}
userdb {{
  driver = static
  args = uid={MAIL_UID} gid={MAIL_UID} home={self.folder}/mail/%n allow_all_users=yes
}}
service imap-login {{
  inet_listener imap {{
    port = {self.imap}
  }}
  inet_listener imaps {{
    port = {self.imaps}
    ssl = yes
  }}
}}
service lmtp {{
  inet_listener lmtp {{
    address = 127.0.0.1
    port = {self.lmtp}
  }}
}}
service imap {{
  process_limit = 12000
}}
""")
        self.process = subprocess.Popen(["dovecot", "-F", "-c", self.conf], stdin=subprocess.DEVNULL)
        wait_port(self.imap, self.name, self.process, f"{self.folder}/log")
        wait_port(self.lmtp, self.name, self.process, f"{self.folder}/log")

    def add_users(self, count):
        pass  # any name, one password

    def fill(self, user, maildir):
        home = f"{self.folder}/mail/user{user}"
        copy = f"{home}/Maildir" if self.kind == "Maildir" else f"{self.folder}/import"
        shutil.copytree(maildir, copy, dirs_exist_ok=True)
        run("chown", "-R", f"{MAIL_UID}:{MAIL_UID}", home if self.kind == "Maildir" else copy)
        if self.kind == "mdbox":
            run("doveadm", "-c", self.conf, "import", "-u", f"user{user}", f"maildir:{copy}", "", "all")
            shutil.rmtree(copy)


class Postfix(Server):
    """Accepts by SMTP and delivers by LMTP."""
    name = "Postfix into Dovecot"

    def __init__(self, folder, lmtp_port):
        self.folder, self.to = folder, lmtp_port
        self.etc, self.queue = f"{folder}/etc", f"{folder}/queue"
        self.running = False

    def start(self):
        self.smtp, = free_ports(1)
        for sub in ("etc", "queue", "data"):
            os.makedirs(f"{self.folder}/{sub}")
        shutil.chown(f"{self.folder}/data", "postfix")
        for name in ("dynamicmaps.cf", "postfix-files"):
            if os.path.exists(f"/etc/postfix/{name}"):
                shutil.copy(f"/etc/postfix/{name}", self.etc)
        services = []
        for line in open("/usr/share/postfix/master.cf.dist"):
            if re.match(r"smtp +inet", line):
                line = f"127.0.0.1:{self.smtp} inet n - n - - smtpd\n"
            if not re.match(r"(smtps|submissions?|maildrop|uucp|ifmail|bsmtp|scalemail-backend|mailman)\b|  *(flags=|user=)", line):
                services.append(re.sub(r"^([a-z]+ +(?:unix|unix-dgram|fifo) +\S+ +\S+ +)y", r"\1n", line))
        open(f"{self.etc}/master.cf", "w").writelines(services)
        open(f"{self.etc}/main.cf", "w").write(f"""compatibility_level = 3.6
config_directory = {self.etc}
queue_directory = {self.queue}
data_directory = {self.folder}/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
mail_owner = postfix
setgid_group = postdrop
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = mx.example.com
mydestination =
mynetworks = 127.0.0.0/8
alias_maps =
local_recipient_maps =
virtual_mailbox_domains = {DOMAIN}
virtual_mailbox_maps = static:yes
virtual_transport = lmtp:inet:127.0.0.1:{self.to}
maillog_file_prefixes = {self.folder}
maillog_file = {self.folder}/log
""")
        run("postfix", "-c", self.etc, "start")
        self.running = True
        wait_port(self.smtp, self.name, log=f"{self.folder}/log")

    def stop(self):
        if self.running:  # `postfix stop` ends the master process whose id its lock file holds
            subprocess.run(["postfix", "-c", self.etc, "stop"], capture_output=True)
            self.running = False

    def add_users(self, count):
        pass

    def waiting(self):
        """Messages in the queue."""
        return sum(len(files) for sub in ("maildrop", "incoming", "active", "deferred")
                   for _, _, files in os.walk(f"{self.queue}/{sub}"))

    def version(self):
        return run("postconf", "-dh", "mail_version").strip()


class Sink(Server):
    """Postfix's smtp-sink: answers, and stores nothing. What it takes is what the load can give."""

    def __init__(self, folder, lmtp):
        self.folder, self.is_lmtp = folder, lmtp
        self.name = "smtp-sink"

    def start(self):
        port, = free_ports(1)
        self.lmtp, self.smtp = (port, None) if self.is_lmtp else (None, port)
        self.process = subprocess.Popen(["smtp-sink", "-u", "nobody", *(["-L"] if self.is_lmtp else []), f"127.0.0.1:{port}", "1000"],
                                        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_port(port, self.name, self.process)

    def add_users(self, count):
        pass


@contextlib.contextmanager
def no_service_starts():
    """While packages are installed the system starts nothing. A policy that was there stays."""
    path = "/usr/sbin/policy-rc.d"
    ours = not os.path.exists(path)
    if ours:
        with open(path, "w") as file:
            file.write("#!/bin/sh\nexit 101\n")
        os.chmod(path, 0o755)
    try:
        yield
    finally:
        if ours:
            os.unlink(path)


def install():
    """Debian's postfix and dovecot, if they are missing."""
    wanted = ["postfix", "dovecot-imapd", "dovecot-lmtpd"]
    missing = [p for p in wanted if "install ok installed" not in
               subprocess.run(["dpkg-query", "-W", "-f", "${Status}", p], capture_output=True, text=True).stdout]
    if not missing:
        return
    print(f"bench: installing {' '.join(missing)}", flush=True)
    with no_service_starts():
        run("debconf-set-selections", input="postfix postfix/main_mailer_type select No configuration\n")
        env = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
        command = ("apt-get", "install", "-qq", "-y", "--no-install-recommends", *missing)
        try:
            run(*command, env=env)
        except Failure:
            run("apt-get", "-qq", "update", env=env)
            run(*command, env=env)


def versions():
    return {name: subprocess.run(["dpkg-query", "-W", "-f", "${Version}", name], capture_output=True, text=True).stdout
            for name in ("postfix", "dovecot-core", "cyrus-imapd")}
