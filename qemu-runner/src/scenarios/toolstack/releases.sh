# Toolstacks of two releases in one dom0: each sees, and may end, what the other one made.
check first with "$first" xl create /etc/xen/guest.cfg
check first-up guest-wait
check second-sees shows "^guest .* 128 " with "$second" xl list
check second-ends with "$second" xl destroy guest
check second with "$second" xl create /etc/xen/guest.cfg
check second-up guest-wait
check first-sees shows "^guest .* 128 " with "$first" xl list
check first-ends with "$first" xl shutdown -w guest
check gone hides "^guest" with "$second" xl list
verdict
