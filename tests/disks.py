"""Disks for tests: images with an ext4 file system, loop-mounted. They need root and loop devices."""
import os
import random
import subprocess

import pytest


class Disk:
    """An image with an ext4 file system, loop-mounted."""

    def __init__(self, path, mount, size_mb):
        self.path, self.mount = path, mount
        with open(path, "wb") as file:
            file.truncate(size_mb << 20)
        self.mkfs()
        os.mkdir(mount)
        subprocess.run(["mount", "-o", "loop", str(path), str(mount)], check=True)

    def mkfs(self):
        # Without a discard: what a disk was told to forget (TRIM; for an image, a punched hole) nobody brings back.
        subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", "-E", "nodiscard", str(self.path)], check=True)

    def umount(self):
        if os.path.ismount(self.mount):
            subprocess.run(["umount", str(self.mount)], check=True)

    def let_go(self):
        """Lazily: a test that failed may have left its server on it."""
        if os.path.ismount(self.mount):
            subprocess.run(["umount", "-l", str(self.mount)], check=True)

    def overwrite(self, start, size, seed):
        with open(self.path, "r+b") as file:
            file.seek(start)
            file.write(random.Random(seed).randbytes(size))


def make_disks(folder, names, size_mb):
    """One for each name; skips the test where images cannot be mounted."""
    if os.geteuid() != 0:
        pytest.skip("mounting images needs root")
    made = []
    try:
        for name in names:
            made.append(Disk(folder / f"disk-{name}.img", folder / f"mount-{name}", size_mb))
    except (OSError, subprocess.CalledProcessError):
        for disk in made:
            disk.let_go()
        pytest.skip("images cannot be mounted here")
    return made


def move_units(platform, disks):
    """Puts the platform's units a, b, ... onto the disks, one on each."""
    config = platform.config.read_text()
    for unit, disk in zip("abc", disks):
        subprocess.run(["cp", "-a", str(platform.folder / unit), str(disk.mount / "unit")], check=True)
        subprocess.run(["rm", "-r", str(platform.folder / unit)], check=True)
        config = config.replace(f"path = {unit}\n", f"path = {disk.mount}/unit\n")
    platform.config.write_text(config)
