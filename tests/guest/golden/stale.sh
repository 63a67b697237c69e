# SPDX-License-Identifier: Apache-2.0
# what: raid1 and raid10 of which pv1 missed writes and is back; the events in their rmeta differ, and only the other legs may be read
# disks: 5 5 5 5
make() {
    group 128k /dev/vda /dev/vdb /dev/vdc /dev/vdd
    create --type raid1 -m 1 -L 2M -n one "$VG" /dev/vda /dev/vdb
    create --type raid10 -i 2 -m 1 -I 16k -L 1M -n ten "$VG"
    for lv in one ten; do synced $lv; done
    fill one ten
    down
    hide /dev/vdb
    up --activationmode degraded
    put one missed 100 3000; put ten late 40 1500
    down
    lvm_conf
}
look() { up; for lv in one ten; do synced $lv; seen $lv; done; }
