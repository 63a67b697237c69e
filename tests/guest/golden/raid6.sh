# SPDX-License-Identifier: Apache-2.0
# what: raid6 in its turns zr, nr, nc, over 5 PVs
# disks: 5 5 5 5 5
# losses: pv0; pv4; pv0 pv1; pv1 pv3; pv3 pv4; pv0 pv4; pv2 pv4
make() {
    group 128k /dev/vda /dev/vdb /dev/vdc /dev/vdd /dev/vde
    for turn in zr nr nc; do
        create --type raid6_$turn -i 3 -I 8k -l 6 -n $turn "$VG"
        synced $turn; fill $turn
    done
    down
}
look() { up --activationmode degraded; for turn in zr nr nc; do seen $turn; done; }
