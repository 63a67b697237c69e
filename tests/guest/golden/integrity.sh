# SPDX-License-Identifier: Apache-2.0
# what: raid1 whose legs lie on dm-integrity: a type that swd does not map, beside a linear LV that it does
# disks: 24 24
# refuse: checked EOPNOTSUPP segment type integrity below raid1
make() {
    group 128k /dev/vda /dev/vdb
    create --type raid1 -m 1 --raidintegrity y -L 4M -n checked "$VG"
    create -L 1M -n lin "$VG"
    fill checked lin
    down
}
look() { up; seen checked; seen lin; }
