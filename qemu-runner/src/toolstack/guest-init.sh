#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /run /tmp /root /sbin /usr/bin /usr/sbin
/bin/busybox --install -s /bin
# Where the kernel looks for them when it is told to shut down.
ln -s /bin/busybox /sbin/poweroff
ln -s /bin/busybox /sbin/reboot
export PATH=/bin:/sbin:/usr/bin:/usr/sbin HOME=/root TERM=vt102
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts && mount -t devpts devpts /dev/pts
for module in /lib/drivers/*.ko; do insmod "$module"; done
hostname guest
trap 'poweroff -f' USR2
trap 'reboot -f' TERM
trap 'halt -f' USR1
echo "@UP@ Linux $(uname -r), $(nproc) vCPUs, $(awk '/^MemTotal/ { print $2 }' /proc/meminfo) KiB"
cd /root
while true; do
    setsid cttyhack sh -l < /dev/hvc0 > /dev/hvc0 2>&1 &
    wait $!
done
