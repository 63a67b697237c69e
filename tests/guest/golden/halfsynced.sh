# SPDX-License-Identifier: Apache-2.0
# what: raid5 and raid6 cut while their first synchronisation ran: data are right, parity is not yet; raid1 likewise, its second leg not yet filled
# disks: 20 20 20 20 20
# losses: pv0
# refuse: five EIO without any one of pv0 pv1 pv2: parity is not complete, device-mapper does not start it
# refuse: six EIO without any one of its PVs: parity is not complete, device-mapper does not start it
# refuse: one EIO without pv3: its second leg was not yet filled (device-mapper would read junk from it)
make() {
    group 128k /dev/vda /dev/vdb /dev/vdc /dev/vdd /dev/vde
    # What lies below is not zero, so that a leg or a parity that was never written shows.
    for disk in a b c d e; do pattern "junk$disk" 0 38912 | dd of=/dev/vd$disk bs=1M seek=1 iflag=fullblock conv=fsync 2>/dev/null; done
    modprobe raid456
    echo 1 >/proc/sys/dev/raid/speed_limit_min; echo 16 >/proc/sys/dev/raid/speed_limit_max   # KiB a second
    create --type raid5 -i 2 -I 16k -L 12M -n five "$VG" /dev/vda /dev/vdb /dev/vdc
    create --type raid6 -i 3 -I 8k -L 12M -n six "$VG"
    create --type raid1 -m 1 -L 4M -n one "$VG" /dev/vdd /dev/vde
    put five five 0 9000; put six six 3000 9000; put one one 2000 4000
    sync
    lvm lvs -a -o lv_name,copy_percent,raid_sync_action "$VG"
    for lv in five six one; do ! lvm lvs --noheadings -o copy_percent "$VG/$lv" | grep '100\.00' || return 1; done
}
look() {
    if [ -z "$LOST" ]; then up; for lv in five six one; do seen $lv; done; return; fi
    for lv in five six; do
        lvm lvchange -qq -ay --activationmode degraded "$VG/$lv" || true
        [ ! -b "/dev/$VG/$lv" ] || { echo "$lv was started without $LOST"; return 1; }
    done
}
