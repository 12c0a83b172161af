#!/bin/busybox sh
# guest-wait [TEXT [SECONDS [GUEST]]]: waits for a line with this text on the guest's console, and prints it. Lines before
# the one that it found last time do not count.
text=${1:-@UP@}
seconds=${2:-60}
guest=${3:-guest}
log=/var/log/xen/console/guest-$guest.log
seen=/run/guest-wait.$guest
[ -f "$seen" ] || echo 0 > "$seen"
from=$(cat "$seen")
end=$(($(date +%s) + seconds))
while true; do
    if found=$(tail -n +$((from + 1)) "$log" 2>/dev/null | tr -d '\r' | grep -n -m 1 -F -e "$text"); then
        echo $((from + ${found%%:*})) > "$seen"
        echo "${found#*:}"
        exit 0
    fi
    [ "$(date +%s)" -lt $end ] || break
    sleep 0.2
done
echo "guest-wait: $guest did not say '$text' within $seconds s; its console ends with:" >&2
tail -n 20 "$log" >&2
exit 1
