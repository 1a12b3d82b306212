# Unpacks the archive $1 into $2 and makes the file $3 a file system of it.
# Runs under fakeroot, so that owners and permissions are those of the guest.
set -eu
umask 022
mkdir "$2"
tar --extract --file "$1" --directory "$2" --numeric-owner --same-permissions --exclude './dev/*'
rm "$1"
cd "$2"

# Nothing of this host, and nothing that only an installer needs.
rm -rf var/lib/apt/lists/* var/cache/apt/* var/cache/debconf/*-old var/log/* var/lib/dpkg/*-old
rm -f etc/resolv.conf etc/machine-id
printf '# no network\n' > etc/resolv.conf
printf '127.0.0.1\tlocalhost lampyr\n::1\tlocalhost ip6-localhost\n' > etc/hosts
printf 'lampyr\n' > etc/hostname
: > etc/machine-id

# The features are spelled out because every host's mkfs has other defaults.
# No checksums of metadata: they cost time in an emulated processor, and the
# disk is a file that the host checks.
features=none,has_journal,extent,huge_file,flex_bg,dir_nlink,extra_isize
features=$features,sparse_super,large_file,filetype,resize_inode,dir_index,ext_attr
mkfs.ext4 -q -F -L lampyr -d . -m 0 -b 4096 -I 256 -i 8192 -J size=16 \
    -O "$features" -E lazy_itable_init=1,lazy_journal_init=1,nodiscard "$3"
