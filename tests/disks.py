"""Disks for tests: images with a file system of their own, on loop devices. They need root and loop devices."""
import os
import random
import shutil
import subprocess

import pytest

# Without a discard: what a disk was told to forget (TRIM; for an image, a punched hole) nobody brings back.
MKFS = {
    "ext4": ("mkfs.ext4", "-q", "-F", "-m", "0", "-E", "nodiscard"),
    "xfs": ("mkfs.xfs", "-q", "-f", "-K"),
}


def run(*words):
    return subprocess.run([str(word) for word in words], check=True, capture_output=True, text=True).stdout


class Disk:
    """An image on a loop device, with a file system that is mounted."""

    def __init__(self, path, mount, size_mb, kind="ext4"):
        self.path, self.mount_point, self.kind = path, mount, kind
        self.device = self.mapped = None
        with open(path, "wb") as file:
            file.truncate(size_mb << 20)
        self.mkfs()
        os.mkdir(mount)
        self.mount()

    def mkfs(self):
        run(*MKFS[self.kind], self.path)

    def attach(self):
        if not self.device:
            self.device = run("losetup", "--find", "--show", self.path).strip()
            run("blockdev", "--setrw", self.device)  # one that was read-only stays so for the next image

    def detach(self):
        """At once, or when nobody uses it any more."""
        if self.mapped:
            subprocess.run(["dmsetup", "remove", "--deferred", self.mapped], check=False, capture_output=True)
        self.mapped = None
        if self.device:
            subprocess.run(["losetup", "-d", self.device], check=False, capture_output=True)
        self.device = None

    def mount(self):
        self.attach()
        # xfs refuses a second file system with one id, also where the first is only waiting for a server to let go.
        options = ("-o", "nouuid") if self.kind == "xfs" else ()
        run("mount", "-t", self.kind, *options, self.mapped or self.device, self.mount_point)

    def map(self):
        """Mounts it anew through a device mapper device, which can be told to fail."""
        run("umount", self.mount_point)
        name = f"sternpost-{os.getpid()}-{os.path.basename(self.device)}"
        run("dmsetup", "create", name, "--table", f"0 {os.path.getsize(self.path) // 512} linear {self.device} 0")
        self.mapped = f"/dev/mapper/{name}"
        self.mount()

    def fail(self):
        """All that it is asked ends in an error."""
        run("dmsetup", "suspend", "--noflush", "--nolockfs", self.mapped)
        run("dmsetup", "load", self.mapped, "--table", f"0 {os.path.getsize(self.path) // 512} error")
        run("dmsetup", "resume", self.mapped)

    def is_mounted(self):
        """os.path.ismount would ask the file system, which may be one that answers with errors."""
        with open("/proc/self/mountinfo") as mounts:
            return any(line.split()[4] == str(self.mount_point) for line in mounts)

    def umount(self):
        if self.is_mounted():
            run("umount", self.mount_point)
        self.detach()

    def umount_lazily(self):
        run("umount", "-l", self.mount_point)

    def let_go(self):
        """Lazily: a test that failed may have left its server on it."""
        while self.is_mounted():
            subprocess.run(["umount", "-l", str(self.mount_point)], check=False, capture_output=True)
        self.detach()

    def overwrite(self, start, size, seed):
        with open(self.path, "r+b") as file:
            file.seek(start)
            file.write(random.Random(seed).randbytes(size))

    def written_bytes(self):
        """That the device was given to write, so far."""
        with open(f"/sys/block/{os.path.basename(self.device)}/stat") as file:
            return int(file.read().split()[6]) * 512

    def fill(self):
        """Leaves no room; returns the file that takes it."""
        filler = self.mount_point / "filler"
        with open(filler, "wb", buffering=0) as file:
            for size in (1 << 20, 4096):
                try:
                    while True:
                        file.write(bytes(size))
                except OSError:
                    pass
        return filler


def needs_device_mapper():
    if not shutil.which("dmsetup") or subprocess.run(["dmsetup", "targets"], capture_output=True).returncode:
        pytest.skip("the kernel has no device mapper, or dmsetup is not installed")


def make_disks(folder, names, size_mb, kind="ext4"):
    """One for each name; skips the test where images cannot be mounted."""
    if os.geteuid() != 0:
        pytest.skip("mounting images needs root")
    if not shutil.which(MKFS[kind][0]):
        pytest.skip(f"{MKFS[kind][0]} is not installed")
    made = []
    try:
        for name in names:
            made.append(Disk(folder / f"disk-{name}.img", folder / f"mount-{name}", size_mb, kind))
    except (OSError, subprocess.CalledProcessError) as error:
        for disk in made:
            disk.let_go()
        pytest.skip(f"images cannot be mounted here: {getattr(error, 'stderr', None) or error}")
    return made


def move_units(platform, disks):
    """Puts the platform's units a, b, ... onto the disks, one on each."""
    config = platform.config.read_text()
    for unit, disk in zip("abc", disks):
        run("cp", "-a", platform.folder / unit, disk.mount_point / "unit")
        run("rm", "-r", platform.folder / unit)
        run("sync", "-f", disk.mount_point)
        config = config.replace(f"path = {unit}\n", f"path = {disk.mount_point}/unit\n")
    platform.config.write_text(config)
