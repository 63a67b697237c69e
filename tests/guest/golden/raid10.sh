# SPDX-License-Identifier: Apache-2.0
# what: raid10, two copies over 4 PVs, stripes of 16 KiB
# disks: 5 5 5 5
# losses: pv0; pv1; pv1 pv2; pv0 pv3
make() {
    group 128k /dev/vda /dev/vdb /dev/vdc /dev/vdd
    create --type raid10 -i 2 -m 1 -I 16k -L 1M -n ten "$VG"
    synced ten; fill ten
    down
}
look() { up --activationmode degraded; seen ten; }
