# SPDX-License-Identifier: Apache-2.0
# what: cut while pvmove ran: both LVs go through a mirror whose log is in memory only, so the source is the truth
# disks: 20 20 20
make() {
    group 128k /dev/vda /dev/vdb /dev/vdc
    for disk in b c; do pattern "junk$disk" 0 38912 | dd of=/dev/vd$disk bs=1M seek=1 iflag=fullblock conv=fsync 2>/dev/null; done
    create -L 12M -n moved "$VG" /dev/vda
    create -i 2 -I 16k -L 4M -n partly "$VG" /dev/vda /dev/vdb
    fill moved partly
    # The mirror copies one region at a time and begins only when it is asked: dm's throttle is a percentage.
    echo 1 >/sys/module/dm_mirror/parameters/raid1_resync_throttle
    lvm pvmove -qq -b --atomic /dev/vda /dev/vdc || true
    sleep 2
    lvm lvs -a -o lv_name,lv_attr,copy_percent,devices "$VG"
    lvm lvs -a --noheadings -o lv_name "$VG" | grep -q pvmove0
    sync
}
look() { lvm_conf; up; seen moved; seen partly; }
