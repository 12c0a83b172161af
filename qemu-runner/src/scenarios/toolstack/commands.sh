# Every command of xl that an administrator has for a guest, in an order in which one could use them.
check info shows "^xen_major" xl info
check info-numa shows "^numa_info" xl info -n
check list shows "^Domain-0 *0 " xl list
check cpupool-list shows "^Pool-0" xl cpupool-list
check uptime shows "^Domain-0" xl uptime

check create xl create /etc/xen/guest.cfg
check up guest-wait
check list-guest shows "^guest .* 128 " xl list guest
check domid shows "^[1-9][0-9]*$" xl domid guest
check list-long shows '"name": "guest"' xl list -l guest
check xenstore shows "^guest$" xenstore-read "/local/domain/$(xl domid guest)/name"

check vcpu-list shows "^guest  *[0-9]*  *0 " xl vcpu-list guest
check vcpu-pin xl vcpu-pin guest 0 0
# Of a single CPU, which is all that there is, xl says so.
check vcpu-pinned shows " \(0\|all\) / all *$" xl vcpu-list guest
check vcpu-unpin xl vcpu-pin guest 0 all
check vcpu-unpinned shows " all / all *$" xl vcpu-list guest

check weight xl sched-credit2 -d guest -w 512
check weight-shown shows "^guest  *[0-9]*  *512" xl sched-credit2 -d guest
check weight-of-all shows "^Domain-0" xl sched-credit2

(sleep 3; guest-send 'echo typed-$((6*7))') &
timeout 20 xl console guest < /dev/console > /tmp/console 2>&1
check console shows "typed-42" cat /tmp/console
check console-log guest-wait typed-42

# Of a guest on Arm, xl cannot set the memory: each release of it fails an assertion of its own before it asks anybody.
set_memory() {
    if [ "$(uname -m)" = aarch64 ]; then
        xenstore-write "/local/domain/$(xl domid guest)/memory/target" $(($1 * 1024))
    else
        xl mem-set guest "$1"
    fi
}
check mem-set set_memory 120
check less-memory within 30 has_memory 120
check mem-set-back set_memory 128
check more-memory within 30 has_memory 128

check pause xl pause guest
check paused within 5 paused
check unpause xl unpause guest
check unpaused within 5 running
check answers guest-send 'echo again-$((6*8))'
check answered guest-wait again-48

check sysrq xl sysrq guest s
check sysrq-seen guest-wait "Emergency Sync"

before=$(number guest)
check reboot xl reboot guest
check up-after-reboot guest-wait
check other-number-after-reboot [ "$(number guest)" -ne "$before" ]

before=$(number guest)
check reboot-by-guest guest-send reboot
check up-after-reboot-by-guest guest-wait
check other-number-after-reboot-by-guest [ "$(number guest)" -ne "$before" ]

check shutdown timeout 60 xl shutdown -w guest
check gone-after-shutdown within 30 is_gone

check create-paused xl create -p /etc/xen/guest.cfg
check is-paused paused
check start xl unpause guest
check started guest-wait
check destroy xl destroy guest
check gone-after-destroy is_gone
check list-after-all hides "^guest" xl list

check dmesg shows "(XEN)" xl dmesg
check debug-keys xl debug-keys h
check debug-keys-seen within 10 shows "key '" xl dmesg
check xentop shows "Domain-0" xentop -b -i 1
verdict
