# SPDX-License-Identifier: Apache-2.0
# what: a copied disk: pv1 is pv0 byte for byte, so one PV UUID has two identities
# disks: 4 4
# refuse: * EEXIST two devices carry one PV UUID; any of them alone is readable (`without`)
# losses: pv0; pv1
make() {
    group 128k /dev/vda
    create -L 1M -n lin "$VG"
    fill lin
    down
    cat /dev/vda >/dev/vdb
}
look() { [ -z "$LOST" ] || { up; seen lin; }; }
