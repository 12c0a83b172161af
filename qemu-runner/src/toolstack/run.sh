#!/bin/busybox sh
# Stands for each program of the toolstacks: runs it in the root of its release.
release=${TOOLSTACK:-@DEFAULT@}
root=/toolstack/$release
program=${0##*/}
for dir in /usr/lib/xen-$release/bin /usr/bin; do
    if [ -x "$root$dir/$program" ]; then
        # The current folder stays the same if both roots have it.
        exec chroot "$root" /bin/busybox sh -c 'cd "$0" 2>/dev/null; exec "$@"' "$PWD" "$dir/$program" "$@"
    fi
done
echo "$program: the toolstack of Xen $release has no such program" >&2
exit 127
