#!/bin/busybox sh
# Brings the toolstacks up as Debian's init script does; says only what went wrong.
complain() { echo "toolstack: $*"; }

mkdir -p /run/xen /run/xenstored /run/lock /var/lib/xen /var/lib/xenstored /var/log/xen/console /etc/xen/scripts
# What udev makes elsewhere, and the scripts for devices use.
[ -e /dev/fd ] || ln -s /proc/self/fd /dev/fd
n=0
for name in stdin stdout stderr; do
    [ -e /dev/$name ] || ln -s fd/$n /dev/$name
    n=$((n + 1))
done
for release in @RELEASES@; do
    root=/toolstack/$release
    for dir in dev proc sys run tmp root boot var/lib/xen var/lib/xenstored var/log/xen etc/xen; do
        mkdir -p /$dir $root/$dir
        mount --rbind /$dir $root/$dir || complain "cannot bind /$dir into $root"
    done
    mount --bind $root/etc/xen-scripts $root/etc/xen/scripts || complain "cannot bind the scripts of $release"
    chroot $root /bin/busybox --install -s /usr/bin
done

export XENSTORED_ROOTDIR=/run/xenstored
timeout 60 xenstored --pid-file /run/xenstored.pid || complain "xenstored ended with status $?"
tries=0
until timeout 5 xenstore-read -s / > /dev/null 2>&1; do
    tries=$((tries + 1))
    if [ $tries -ge 20 ]; then
        complain "xenstored does not answer"
        exit 1
    fi
    sleep 0.5
done
timeout 60 xen-init-dom0 > /run/xen-init-dom0.log 2>&1 || {
    complain "xen-init-dom0 ended with status $?:"
    cat /run/xen-init-dom0.log
}
timeout 60 xenconsoled --pid-file=/run/xenconsoled.pid --log=guest --log-dir=/var/log/xen/console ||
    complain "xenconsoled ended with status $?"
