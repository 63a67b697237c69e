# SPDX-License-Identifier: Apache-2.0
# what: linear; the first PV with two metadata areas, the second with none, the third with an ignored one
# disks: 6 4 4
make() {
    lvm pvcreate -qq -y --pvmetadatacopies 2 /dev/vda
    lvm pvcreate -qq -y --pvmetadatacopies 0 /dev/vdb
    lvm pvcreate -qq -y --metadataignore y /dev/vdc
    lvm vgcreate -qq -y -s 256k "$VG" /dev/vda /dev/vdb /dev/vdc
    create -L 1M -n lin "$VG" /dev/vdb
    lvm lvextend -qq -L 1536k "$VG/lin" /dev/vda
    lvm lvextend -qq -L 2M "$VG/lin" /dev/vdc
    fill lin
    down
}
look() { up; seen lin; }
