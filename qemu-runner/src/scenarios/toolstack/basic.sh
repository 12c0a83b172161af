# A guest from its creation to its end.
check info shows "^xen_major" xl info
check create xl create /etc/xen/guest.cfg
check up guest-wait
check list shows "^guest .* 128 " xl list
check destroy xl destroy guest
check gone hides "^guest" xl list
verdict
