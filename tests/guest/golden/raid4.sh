# SPDX-License-Identifier: Apache-2.0
# what: raid4, and the raid5 whose parity never moves (raid5_n), over 3 PVs
# disks: 5 5 5
# losses: pv0; pv1; pv2
make() {
    group 128k /dev/vda /dev/vdb /dev/vdc
    create --type raid4 -i 2 -I 16k -L 1M -n four "$VG"
    create --type raid5_n -i 2 -I 4k -L 1M -n five_n "$VG"
    for lv in four five_n; do synced $lv; done
    fill four five_n
    down
}
look() { up --activationmode degraded; seen four; seen five_n; }
