"""The commands of the documents on migration, one after the other, on a host that is made for them.

It has a root directory of its own with the services that the documents name, and stand-ins for svc and
systemctl, which start and stop the real servers.
"""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import peers
import private_network

DOCS = Path(__file__).parents[2] / "docs"
BLOCK = re.compile(r"^## ([^\n]+)\n|^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)

ROOT = """\
set -eu
ip link set lo up
ip address add 192.0.2.1/24 dev lo
root=$1
mount -t tmpfs none "$root"
for entry in /*; do
    if [ -L "$entry" ]; then cp -P "$entry" "$root$entry"
    elif [ -d "$entry" ]; then mkdir "$root$entry"; mount --rbind "$entry" "$root$entry"
    fi
done
for folder in etc opt var; do
    mkdir -p "$root/layers/$folder" "$root/layers/work-$folder" "$root/$folder"
    layers="lowerdir=/$folder,upperdir=$root/layers/$folder,workdir=$root/layers/work-$folder"
    mount -t overlay overlay -o "$layers" "$root/$folder"
done
mount -t tmpfs none "$root/run"
mount -t proc proc "$root/proc"
mkdir -p "$root/stand-ins" "$root/service" "$root/opt/ucspid/bin" "$root/etc/ucspid"
exec chroot "$root" /bin/bash -s <"$2"
"""
"""Makes the root directory from the host's, with layers over what is changed; in namespaces of its own."""

BEGIN = """\
set -euo pipefail
cd /
PATH=/stand-ins:$PATH
program() { cat >"$1"; chmod 755 "$1"; }
useradd_() { echo "$1:x:$2:$2::/:/bin/sh" >>/etc/passwd; echo "$1:x:$2:" >>/etc/group; }
who() { exec 3<>"/dev/tcp/127.0.0.1/$1"; IFS= read -r line <&3; exec 3>&-; echo "$line"; }
is() { said=$(who "$1"); case $said in "$2"*) ;; *) echo "port $1: $said, not $2" >&2; exit 1;; esac; }
useradd_ ucspid 12345
program /opt/ucspid/bin/ucspid <<END
#!/bin/sh
exec PYTHON -m ucspid "\\$@"
END
program /stand-ins/listens <<'END'
#!/bin/bash
# Waits until somebody listens on a port.
until grep -qi ":$(printf %04X "$1") 0*:0000 0A" /proc/net/tcp /proc/net/tcp6; do sleep 0.02; done
END
program /stand-ins/systemctl <<'END'
#!/bin/bash
case $* in
"enable --now ucspid")
    mkfifo /run/ready
    setsid /opt/ucspid/bin/ucspid run --ready-fd 9 9>/run/ready >>/run/ucspid.log 2>&1 &
    echo $! >/run/ucspid.pid
    read -r _ </run/ready || true
    rm /run/ready ;;
"enable --now "*)
    setsid "/stand-ins/$3" >>/run/other.log 2>&1 &
    echo $! >"/run/$3.pid"
    listens "$(cat "/stand-ins/$3.port")" ;;
"disable --now "*) kill "$(cat "/run/$3.pid")"; tail --pid="$(cat "/run/$3.pid")" -f /dev/null ;;
*) echo "systemctl $*: unknown"; exit 1 ;;
esac
END
"""
"""What every document finds: a host with the user ucspid and ucspid installed."""

TCPSERVER = """\
useradd_ qmaild 64011
useradd_ vpopmail 64012
mkdir -p /var/qmail/bin /var/qmail/control
for name in smtpd pop3d; do program /var/qmail/bin/qmail-$name <<'END'
#!/bin/sh
read -r parent </proc/$PPID/comm
echo "$parent"
END
done
echo 20 >/var/qmail/control/concurrencyincoming
echo mail.example.org >/var/qmail/control/me
printf '127.:allow,RELAYCLIENT=""\\n192.0.2.:deny\\n:allow\\n' | tcprules /etc/tcp.smtp.cdb /etc/tcp.smtp.tmp
for name in smtpd pop3d; do mkdir /service/qmail-$name; done
program /service/qmail-smtpd/run <<'END'
#!/bin/sh
QMAILDUID=`id -u qmaild`
NOFILESGID=`id -g qmaild`
MAXSMTPD=`cat /var/qmail/control/concurrencyincoming`
LOCAL=`head -1 /var/qmail/control/me`
if [ -z "$QMAILDUID" -o -z "$NOFILESGID" -o -z "$MAXSMTPD" -o -z "$LOCAL" ]; then
    echo QMAILDUID, NOFILESGID, MAXSMTPD, or LOCAL is unset in
    echo /var/qmail/supervise/qmail-smtpd/run
    exit 1
fi
exec tcpserver -v -HR -l "$LOCAL" -x /etc/tcp.smtp.cdb -c "$MAXSMTPD" \\
    -u "$QMAILDUID" -g "$NOFILESGID" 0 smtp /var/qmail/bin/qmail-smtpd 2>&1
END
program /service/qmail-pop3d/run <<'END'
#!/bin/sh
exec env GREETING=hello tcpserver -HRl0 -u 64012 -g 64012 0 110 /var/qmail/bin/qmail-pop3d Maildir 2>&1
END
program /stand-ins/svc <<'END'
#!/bin/bash
for service in "${@:2}"; do
    name=${service##*/}
    case $1 in
    -u) (cd "$service" && exec setsid ./run) >>/run/svc.log 2>&1 & echo $! >"/run/$name.pid" ;;
    -d) kill "$(cat "/run/$name.pid")"; tail --pid="$(cat "/run/$name.pid")" -f /dev/null ;;
    esac
done
[ "$1" = -d ] || { listens 25; listens 110; }
END
svc -u /service/qmail-smtpd /service/qmail-pop3d
is 25 tcpserver
"""

XINETD = """\
program /opt/answer <<'END'
#!/bin/sh
read -r parent </proc/$PPID/comm
echo "$parent"
END
mkdir -p /etc/xinetd.d
cat >/etc/xinetd.conf <<'END'
defaults
{
    instances = 60
    log_on_success = HOST PID
}
includedir /etc/xinetd.d
END
cat >/etc/xinetd.d/finger <<'END'
service finger
{
    socket_type = stream
    wait        = no
    user        = nobody
    server      = /opt/answer
    only_from   = 127.0.0.0 192.0.2.0
}
END
echo 'ALL: 192.0.2.0/255.255.255.128' >/etc/hosts.allow
echo 'ALL: ALL EXCEPT 127.' >/etc/hosts.deny
echo 79 >/stand-ins/xinetd.port
program /stand-ins/xinetd <<'END'
#!/bin/sh
exec XINETD -dontfork -f /etc/xinetd.conf -pidfile /run/xinetd.own
END
systemctl enable --now xinetd
is 79 xinetd
"""

SYSTEMD = """\
program /opt/answer <<'END'
#!/bin/sh
read -r parent </proc/$PPID/comm
echo "$parent"
END
mkdir -p /etc/systemd/system
printf '[Socket]\\nListenStream=79\\nAccept=yes\\n' >/etc/systemd/system/finger.socket
printf '[Service]\\nExecStart=-/opt/answer\\nUser=nobody\\nStandardInput=socket\\n' \\
    >/etc/systemd/system/finger@.service
echo 79 >/stand-ins/finger.socket.port
program /stand-ins/finger.socket <<'END'
#!/bin/sh
exec systemd-socket-activate -l 79 --accept --inetd /opt/answer
END
systemctl enable --now finger.socket
is 79 systemd-socket
"""


def script(page: str, setup: str, checks: dict[str, str]) -> str:
    """Return the commands of a page with what makes its host before them, and checks behind sections."""
    text, section = BEGIN + setup, ""
    lines = [text]
    for found in BLOCK.finditer((DOCS / page).read_text()):
        if found[1] is not None:
            lines.append(checks.pop(section, ""))
            section = found[1]
        else:
            lines.append(f"echo '# {section}'\n{found[2]}")
    lines.append(checks.pop(section, ""))
    assert not checks, f"{page} has no sections {checks}"
    made = "\n".join([*lines, "echo all done"])
    return made.replace("PYTHON", shlex.quote(sys.executable)).replace("XINETD", peers.require("xinetd"))


@pytest.mark.parametrize(
    ("page", "setup", "port", "other", "beside"),
    [
        (
            "migrate-from-tcpserver.md",
            TCPSERVER,
            25,
            "tcpserver",
            {"Run it beside tcpserver": "is 2525 ucspid"},
        ),
        ("migrate-from-xinetd-and-inetd.md", XINETD, 79, "xinetd", {"Run it beside": "is 10079 ucspid"}),
        ("migrate-from-systemd-sockets.md", SYSTEMD, 79, "systemd-socket", {}),
    ],
)
def test_every_command(
    tmp_path: Path, page: str, setup: str, port: int, other: str, beside: dict[str, str]
) -> None:
    if (reason := private_network.why_not()) is not None:
        pytest.skip(reason)
    for peer in ("tcprulescheck", "systemd-socket-activate"):
        peers.require(peer)
    commands = tmp_path / "commands"
    checks = {name: f"{check}\nis {port} {other}" for name, check in beside.items()}
    checks |= {"Import": f"is {port} {other}", "Switch": f"is {port} ucspid", "Go back": f"is {port} {other}"}
    commands.write_text(script(page, setup, checks))
    (tmp_path / "root").mkdir()
    namespaces = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child"]
    done = subprocess.run(
        [*namespaces, "sh", "-c", ROOT, "sh", str(tmp_path / "root"), str(commands)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=50,
        env={**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"},
    )
    assert done.returncode == 0, done.stdout
    assert done.stdout.endswith("all done\n")
