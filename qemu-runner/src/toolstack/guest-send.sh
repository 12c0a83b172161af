#!/bin/busybox sh
# guest-send TEXT [GUEST]: types a line on the guest's console.
guest=${2:-guest}
domain=$(xl domid "$guest") || exit 1
terminal=$(xenstore-read "/local/domain/$domain/console/tty") || exit 1
printf '%s\r' "$1" > "$terminal"
