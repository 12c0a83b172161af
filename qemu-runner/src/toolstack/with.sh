#!/bin/busybox sh
# with RELEASE COMMAND...: a command for which the toolstack is that of another release of Xen.
for release in @RELEASES@; do
    if [ "$1" = "$release" ] && [ $# -gt 1 ]; then
        shift
        export TOOLSTACK=$release
        exec "$@"
    fi
done
echo "usage: with RELEASE COMMAND...; there are: @RELEASES@" >&2
exit 2
