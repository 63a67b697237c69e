# SPDX-License-Identifier: Apache-2.0
# what: a PV that is gone (its image is not here, the metadata name it): what lies elsewhere may be read with --partial, the rest is EIO
# disks: 5 5 5
# drop: pv2
# refuse: half EIO its second segment lies on the missing PV; the first 512 KiB are on pv0
# refuse: gone EIO it lies on the PV that is missing
make() {
    group 128k /dev/vda /dev/vdb /dev/vdc
    create -L 1M -n whole "$VG" /dev/vda /dev/vdb
    create -L 512k -n half "$VG" /dev/vda
    lvm lvextend -qq -L 1M "$VG/half" /dev/vdc
    create -L 512k -n gone "$VG" /dev/vdc
    create --type raid1 -m 1 -L 1M -n legs "$VG" /dev/vdb /dev/vdc
    synced legs
    fill whole half gone legs
    down
}
look() { up --activationmode degraded; seen whole; seen legs; }
