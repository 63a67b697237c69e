# SPDX-License-Identifier: Apache-2.0
# what: raid5 in its four turns of parity: ls (LVM's own), la, rs, ra, over 4 PVs
# disks: 5 5 5 5
# losses: pv0; pv1; pv2; pv3
make() {
    group 128k /dev/vda /dev/vdb /dev/vdc /dev/vdd
    for turn in ls la rs ra; do
        create --type raid5_$turn -i 3 -I 8k -l 6 -n $turn "$VG"
        synced $turn; fill $turn
    done
    down
}
look() { up --activationmode degraded; for turn in ls la rs ra; do seen $turn; done; }
