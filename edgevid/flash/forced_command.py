"""The script that locks a device's login to signed requests; see `edgevid.flash.agent.locked`."""

from __future__ import annotations

import shlex
from pathlib import Path

from edgevid.errors import BadInput
from edgevid.flash import keys

USER = "edgevid-deploy"
"""The user who logs in; it owns nothing, and may run one command as root."""
_SCRIPT = """\
#!/bin/sh
# Creates a login that only accepts signed requests of edgevid. Run it on the device, as root:
#     ssh pi@DEVICE sudo sh < this-file
# Then deploy with --target {user}@DEVICE, and remove every other way to log in or to use sudo:
# whoever has one can do anything, with any key. To undo it, remove the three files and the user.
set -eu
agent={root}/current/agent.py
python=$(command -v python3)
[ "$(id -u)" = 0 ] || {{ echo "run this as root" >&2; exit 1; }}
[ -f "$agent" ] || {{ echo "flash this device first: $agent is missing" >&2; exit 1; }}
for program in sudo visudo sshd useradd; do
    PATH=$PATH:/usr/sbin:/sbin command -v $program >/dev/null ||
        {{ echo "$program is missing; install it first" >&2; exit 1; }}
done
PATH=$PATH:/usr/sbin:/sbin
command="$python -I $agent session --locked"
id {user} >/dev/null 2>&1 || useradd -r -M -d / -s /bin/sh {user}
usermod -p '*' {user}
umask 022
cat > /etc/ssh/edgevid_keys <<END
restrict,command="sudo -n $command" {login}
END
mkdir -p /etc/ssh/sshd_config.d
cat > /etc/ssh/sshd_config.d/edgevid.conf <<END
Match User {user}
    AuthorizedKeysFile /etc/ssh/edgevid_keys
    AuthenticationMethods publickey
END
echo "{user} ALL=(root) NOPASSWD: $command" > /etc/sudoers.d/{user}
chmod 0440 /etc/sudoers.d/{user}
visudo -cqf /etc/sudoers.d/{user}
mkdir -p /run/sshd
read_by=$(sshd -T -C user={user},host=localhost,addr=127.0.0.1 | grep '^authorizedkeysfile ')
[ "$read_by" = "authorizedkeysfile /etc/ssh/edgevid_keys" ] ||
    {{ echo "sshd does not read the folder sshd_config.d; add its lines to sshd_config" >&2
       exit 1; }}
if [ -d /run/systemd/system ]; then systemctl reload ssh 2>/dev/null || systemctl reload sshd
else kill -HUP $(pgrep -o -x sshd); fi
echo "locked: {user} can log in with {fingerprint}, and only carry out signed requests"
"""


def script(login: Path, root: str = "/opt/edgevid") -> str:
    """Write the script.

    Args:
        login: The public key of the SSH login.
        root: edgevid's folder on the device.

    Returns:
        A shell script for the device.

    Raises:
        BadInput: There is no public key at ``login``.
    """
    key = keys.load(login)
    if shlex.quote(key.public.replace(" ", "")) != key.public.replace(" ", ""):
        raise BadInput(f"{login} is not an SSH key; give the .pub file of the key you log in with")
    return _SCRIPT.format(user=USER, root=root, login=key.public, fingerprint=key.fingerprint)
