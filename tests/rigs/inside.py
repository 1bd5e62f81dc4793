"""The agent in a machine of `rigs.systemd`, asked from out here."""

from __future__ import annotations

from rigs.agent import Device


class Inside(Device):
    """A device whose folder is in a machine; its agent runs there."""

    def __init__(self, made, root, key, *user):
        super().__init__(made.root / root.lstrip("/"), key)
        self.machine, self.inside, self.user = made, root, user

    def session(self):
        enter = ["nsenter", f"--target={self.machine.pid}", "--mount", "--uts", "--ipc", "--net"]
        path = "PATH=/usr/sbin:/usr/bin:/sbin:/bin"
        home = "HOME=/home/pi" if self.user else "HOME=/root"
        before = (*enter, "--pid", "--cgroup", "--wd=/", "env", "-i", path, home, *self.user)
        made = super().session(before=before, python="python3")
        return _Rooted(made, self.inside)


class _Rooted:
    """The folder as it is called inside."""

    def __init__(self, manager, root):
        self.manager, self.root = manager, root

    def __enter__(self):
        session = self.manager.__enter__()
        session.root = self.root
        return session

    def __exit__(self, *details):
        return self.manager.__exit__(*details)
