# Xen's own tests of its interfaces, as far as Debian ships them with this release.
for program in test-resource test-paging-mempool test-tsx test-cpu-policy test-xenstore; do
    if command -v $program > /dev/null; then
        check $program timeout 120 $program
        cat /tmp/output
    fi
done
verdict
