# SPDX-License-Identifier: Apache-2.0
# what: raid5 and raid6 of which pv1 missed writes and is back: its blocks must come from parity
# disks: 5 5 5 5 5
make() {
    group 128k /dev/vda /dev/vdb /dev/vdc /dev/vdd /dev/vde
    create --type raid5 -i 2 -I 16k -L 1M -n five "$VG" /dev/vda /dev/vdb /dev/vdc
    create --type raid6 -i 3 -I 8k -l 6 -n six "$VG"
    for lv in five six; do synced $lv; done
    fill five six
    down
    hide /dev/vdb
    up --activationmode degraded
    put five missed 100 1500; put six late 40 1200
    down
    lvm_conf
}
look() { up; for lv in five six; do synced $lv; seen $lv; done; }
