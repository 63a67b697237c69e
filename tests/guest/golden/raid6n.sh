# SPDX-License-Identifier: Apache-2.0
# what: raid6 with Q on the last PV: n_6, ls_6, la_6, rs_6, ra_6, over 5 PVs
# disks: 6 6 6 6 6
# losses: pv0; pv4; pv0 pv1; pv2 pv4
make() {
    group 128k /dev/vda /dev/vdb /dev/vdc /dev/vdd /dev/vde
    for turn in n ls la rs ra; do
        create --type raid6_${turn}_6 -i 3 -I 8k -l 6 -n $turn "$VG"
        synced $turn; fill $turn
    done
    down
}
look() { up --activationmode degraded; for turn in n ls la rs ra; do seen $turn; done; }
