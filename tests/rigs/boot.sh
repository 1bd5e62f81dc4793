#!/bin/sh
# Start a folder with a Debian in it as a machine of its own, with systemd as PID 1, or $RIG_INIT.
#
#   unshare --mount sh boot.sh root ROOTFS WORK NETWORK [BIND...]
#
# WORK is an empty folder, NETWORK the file of a network namespace or `none`, each BIND a folder that
# the machine sees at the same path, read-only. What is written inside goes to memory; everything
# made here belongs to namespaces, so it ends with PID 1, and PID 1 ends with whoever called this.
set -eu
stage=$1 rootfs=$2 work=$3 network=$4
root=$work/root

bind() {
    if [ -d "$1" ]; then mkdir -p "$root$1"; else touch "$root$1"; fi
    mount --rbind "$1" "$root$1"
}

enterable() { # a user of the machine may walk down to $1
    above=$(dirname "$1")
    while [ "$above" != / ]; do
        chmod a+rx "$root$above"
        above=$(dirname "$above")
    done
}

case $stage in
sweep) # remove the control groups of machines that ended; those of others hold processes and stay
    mount -t cgroup2 cgroup2 "$work"
    find "$work" -mindepth 1 -depth -type d -path '*/edgevid-rig-*' -exec rmdir {} + \
        2>/dev/null || true
    ;;
root)
    mount -t tmpfs -o mode=755 tmpfs "$work"
    mkdir "$work/upper" "$work/work" "$work/cgroup" "$root"
    mount -t overlay -o "lowerdir=$rootfs,upperdir=$work/upper,workdir=$work/work" overlay "$root"
    mount -t cgroup2 cgroup2 "$work/cgroup"
    if [ "$network" = none ]; then set -- --net "$@"; else set -- --net="$network" "$@"; fi
    enter=$1
    shift 2
    if [ "$network" = none ]; then
        exec unshare "$enter" --pid --uts --ipc --fork --kill-child sh "$0" cgroup "$@"
    fi
    exec nsenter "$enter" unshare --pid --uts --ipc --fork --kill-child sh "$0" cgroup "$@"
    ;;
cgroup)
    shift
    own=$(mktemp -d "$work/cgroup/edgevid-rig-XXXXXX")
    echo 0 >"$own/cgroup.procs" # 0 is whoever writes it
    exec unshare --cgroup sh "$0" init "$@"
    ;;
init)
    shift 4
    umount "$work/cgroup"
    hostname edgevid-rig
    mount -t proc proc "$root/proc"
    mount --bind "$root/proc/sys" "$root/proc/sys"
    mount -o remount,bind,ro "$root/proc/sys"
    mount -t sysfs -o ro sysfs "$root/sys"
    mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
    mount -t tmpfs -o mode=755 tmpfs "$root/run"
    mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
    mount -t tmpfs -o mode=755 tmpfs "$root/dev"
    for node in null zero full random urandom tty; do bind "/dev/$node"; done
    mkdir "$root/dev/pts" "$root/dev/shm"
    mount -t devpts -o newinstance,ptmxmode=666,mode=620 devpts "$root/dev/pts"
    ln -s pts/ptmx "$root/dev/ptmx"
    ln -s /proc/self/fd "$root/dev/fd"
    mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
    hidden= # by PrivateTmp, from services whose user is dynamic, for instance
    for folder in "$@"; do
        bind "$folder"
        mount -o remount,bind,ro "$root$folder"
        enterable "$folder"
        case $folder in /tmp/* | /var/tmp/*) hidden="$hidden $folder" ;; esac
    done
    if [ -n "$hidden" ]; then # so a checkout may lie there
        mkdir -p "$root/etc/systemd/system/service.d"
        printf '[Service]\nBindReadOnlyPaths=%s\n' "$hidden" \
            >"$root/etc/systemd/system/service.d/checkout.conf"
    fi
    cd "$root"
    pivot_root . mnt
    # A machine's mounts are shared; inside of a container systemd leaves that to its manager.
    exec env -i container=edgevid-rig PATH=/usr/sbin:/usr/bin:/sbin:/bin \
        sh -c "umount -l /mnt && mount --make-rshared / && exec $RIG_INIT"
    ;;
esac
