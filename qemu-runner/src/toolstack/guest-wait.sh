#!/bin/busybox sh
# guest-wait [TEXT [SECONDS [GUEST]]]: waits for a line with this text on the guest's console, and prints it. Lines before
# the one that it found last time do not count.
text=${1:-@UP@}
seconds=${2:-120}
guest=${3:-guest}
log=/var/log/xen/console/guest-$guest.log
seen=/run/guest-wait.$guest
from=0
[ ! -f "$seen" ] || read -r from < "$seen"
export text from
end=$(($(date +%s) + seconds))
while true; do
    # Prints the line's number and the line.
    if found=$(awk 'NR > ENVIRON["from"] && index($0, ENVIRON["text"]) { print NR, $0; found = 1; exit }
        END { exit !found }' "$log" 2>/dev/null); then
        echo "${found%% *}" > "$seen"
        echo "${found#* }" | tr -d '\r'
        exit 0
    fi
    [ "$(date +%s)" -lt $end ] || break
    sleep 1
done
echo "guest-wait: $guest did not say '$text' within $seconds s; its console ends with:" >&2
tail -n 20 "$log" >&2
exit 1
