# SPDX-License-Identifier: Apache-2.0
# what: types that swd does not map: cache (dm-cache), writecache
# disks: 24 24
# refuse: cached EOPNOTSUPP segment type cache
# refuse: wcached EOPNOTSUPP segment type writecache
make() {
    group 128k /dev/vda /dev/vdb
    create -L 4M -n cached "$VG" /dev/vda
    create --type cache-pool -L 2M --poolmetadatasize 2M -n fast "$VG" /dev/vdb
    lvm lvconvert -qq -y --type cache --cachepool "$VG/fast" --cachemode writeback "$VG/cached"
    create -L 4M -n wcached "$VG" /dev/vda
    create -L 4M -n fast2 "$VG" /dev/vdb
    lvm lvchange -qq -an "$VG/fast2"
    lvm lvconvert -qq -y --type writecache --cachevol "$VG/fast2" "$VG/wcached"
    create -L 1M -n lin "$VG"
    fill cached wcached lin
    down
}
look() { up; seen cached; seen wcached; seen lin; }
