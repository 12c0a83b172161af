# What the scripts beside this one share: each check prints what it did, and the last line counts them.
passed=0
failed=0

# check NAME COMMAND...: the command has to succeed.
check() {
    name=$1
    shift
    "$@" > /tmp/output 2>&1
    status=$?
    if [ $status -eq 0 ]; then
        passed=$((passed + 1))
        echo "ok $name"
    else
        failed=$((failed + 1))
        echo "FAILED $name: status $status"
        sed 's/^/    /' /tmp/output
    fi
}

# Runs a command, and keeps what it prints.
prints() {
    "$@" > /tmp/shown 2>&1
    end=$?
    cat /tmp/shown
    return $end
}

# shows TEXT COMMAND...: the command succeeds and prints the text.
shows() {
    text=$1
    shift
    prints "$@" || return
    grep -q -e "$text" /tmp/shown
}

# hides TEXT COMMAND...: the command succeeds and does not print the text.
hides() {
    text=$1
    shift
    prints "$@" || return
    ! grep -q -e "$text" /tmp/shown
}

# within SECONDS COMMAND...: the command succeeds before so much time is over.
within() {
    last=$(($(date +%s) + $1))
    shift
    until "$@"; do
        [ "$(date +%s)" -lt $last ] || return 1
        sleep 1
    done
}

# A domain's flags, number, memory, as `xl list` has them.
state() { xl list "$1" | awk 'NR == 2 { print $5 }'; }
number() { xl list "$1" | awk 'NR == 2 { print $2 }'; }
memory() { xl list "$1" | awk 'NR == 2 { print $3 }'; }
paused() { case $(state guest) in *p*) true ;; *) false ;; esac; }
running() { ! paused; }
has_memory() { [ "$(memory guest)" -eq "$1" ]; }
is_gone() { ! xl domid guest 2>/dev/null; }

verdict() {
    echo "$passed passed, $failed failed"
    [ $failed -eq 0 ]
}
