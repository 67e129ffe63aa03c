//! The scripts. What they print on ext4 is what they must print on a mount. User 4001 and 4002 have a group
//! of their own each; 4010 and 4011 are groups.

/// Each with what it is about.
pub(crate) const ALL: &[(&str, &str)] = &[
    ("users, groups and the mask", USERS_AND_GROUPS),
    ("default lists", DEFAULTS),
    ("umask without a default list", UMASK),
    ("default lists that are minimal, masked or closed", DEFAULT_SHAPES),
    ("chmod", CHMOD),
    ("minimal lists and removal", REMOVAL),
    ("bytes and names of the attributes", ATTRIBUTES),
    ("what is refused", REFUSED),
    ("setgid", SETGID),
    ("directories", DIRECTORIES),
    ("which entry counts", ALGORITHM),
    ("programs", PROGRAMS),
    ("copies", COPIES),
    ("what writes and owners change", WRITES),
    ("long lists", LONG),
];

const USERS_AND_GROUPS: &str = r#"
echo text > f; chmod 640 f
as 4001:4001 cat f
setfacl -m u:4001:rw,g:4010:r f
getfacl -n f; stat -c '%A %a' f; ls -l f | cut -c1-11
as 4001:4001 cat f
as 4001:4001 sh -c 'echo more >> f'
as 4002:4002 cat f
as 4002:4002,4010 cat f
as 4002:4010 sh -c 'echo more >> f'
setfacl -m m::r f
getfacl -n f; stat -c '%A %a' f
as 4001:4001 sh -c 'echo masked >> f'
as 4001:4001 cat f
setfacl -m m::- f
as 4001:4001 cat f
setfacl -x u:4001 f
getfacl -n f
setfacl -m o::r f
as 4001:4001 cat f
setfacl -n -m g:4010:rwx f; getfacl -n f; stat -c %a f
"#;

const DEFAULTS: &str = r#"
mkdir d; setfacl -m d:u:4001:rwx,d:g:4010:rx,d:o::- d
getfacl -n d; stat -c '%A %a' d
umask 077
touch d/f; mkdir d/s; mkfifo d/p; mknod d/z c 1 5; ln -s f d/l; python3 -c 'open("d/py","x")' || true
mkdir -m 700 d/m; install -m 604 /dev/null d/i
for n in f s p z m i; do getfacl -n d/$n; stat -c '%n %A %a' d/$n; done
stat -c '%n %A' d/l
getfattr -h -d -m - d/l
mkdir d/s/t; touch d/s/t/deep; getfacl -n d/s/t d/s/t/deep
chmod 777 d
as 4001:4001 sh -c 'touch d/s/theirs; umask 0; mkdir d/s/dir; cat d/s/theirs'
getfacl -n d/s/theirs d/s/dir
as 4002:4002,4010 ls d/s
as 4002:4002 ls d/s
setfacl -k d; getfacl -n d
umask 027; touch d/after; mkdir d/afterdir; stat -c '%n %A' d/after d/afterdir
getfacl -n d/s
"#;

const UMASK: &str = r#"
for mask in 000 022 027 077 777; do
    umask $mask
    touch f$mask; mkdir d$mask; mkfifo p$mask; mknod z$mask c 1 3; mkdir -m 1777 m$mask; ln -s x l$mask
    stat -c '%n %A %a' f$mask d$mask p$mask z$mask m$mask l$mask
done
"#;

const DEFAULT_SHAPES: &str = r#"
mkdir a b c d
setfacl -d -m u::rwx,g::rx,o::- a
setfacl -d -m u::rwx,g::rwx,m::r,o::r b
setfacl -d -m u::-,g::-,o::-,u:4001:rwx c
setfacl -d -m u::rwx,u:4001:rwx,g::-,m::rwx,o::rwx d
umask 077
for n in a b c d; do
    getfacl -n $n
    touch $n/f; mkdir $n/s; mkdir -m 000 $n/zero; mkfifo -m 666 $n/p
    for made in f s zero p; do getfacl -n $n/$made; stat -c '%n %A %a' $n/$made; done
done
"#;

const CHMOD: &str = r#"
touch f; setfacl -m u:4001:rwx,g::r,m::r f
for mode in g+w 000 777 4755 1640 u=rwx,g=,o=; do chmod $mode f; getfacl -n f; stat -c '%A %a' f; done
as 4001:4001 cat f
mkdir d; setfacl -m u:4001:rwx,d:u:4001:rwx d
chmod 2700 d; getfacl -n d; stat -c '%A' d
touch d/f; getfacl -n d/f
touch plain; setfacl -m m::rw plain; getfacl -n plain; chmod 651 plain; getfacl -n plain
"#;

const REMOVAL: &str = r#"
touch f; chmod 4640 f
setfacl -m u:4001:rw f; getfattr -m - f; stat -c '%a' f
setfacl -b f; getfattr -m - f; stat -c '%a' f; getfacl -n f
setfacl -m u:4001:rw,m::rwx f; setfattr -x system.posix_acl_access f; getfattr -m - f; stat -c '%a' f
setfattr -x system.posix_acl_access f; echo $?
setfacl -m u::r,g::w,o::x f; getfattr -m - f; stat -c '%a' f
mkdir d; setfacl -m u:4001:rwx,d:u:4001:rwx d; getfattr -m - d
setfacl -k d; getfattr -m - d; setfacl -k d; echo $?
setfacl -b d; getfattr -m - d; getfacl -n d
setfacl -m d:u:4001:rwx d; setfacl -b d; getfacl -n d
setfattr -n system.posix_acl_access -v 0x02000000 f; echo $?; stat -c '%a' f
setfacl -m u:4001:rw f; setfattr -n system.posix_acl_access -v 0x02000000 f; echo $?; getfacl -n f
setfacl -m u:4001:rw,g:4010:x f; setfacl --set u::rw,g::r,o::- f; getfacl -n f; getfattr -m - f
"#;

const ATTRIBUTES: &str = r#"
mkdir d; setfacl -m u:4001:rx,d:g:4010:rwx d; setfattr -n user.a -v 1 d
getfattr -m - d
getfattr -e hex -d -m 'posix' d
mkdir e; setfattr -n system.posix_acl_default -v 0x0200000001000700ffffffff04000500ffffffff20000500ffffffff e
getfacl -n e; getfattr -m - e
touch e/f; getfattr -m - e/f; getfacl -n e/f
setfattr -n system.posix_acl_other -v 1 e
"#;

const REFUSED: &str = r#"
touch f; mkdir d; ln -s f l; setfacl -m u:4001:r f
setfacl -d -m u:4001:r f
setfattr -n system.posix_acl_default -v 0x0200000001000700ffffffff04000500ffffffff20000500ffffffff f
setfattr -h -n system.posix_acl_access -v 0x0200000001000700ffffffff04000500ffffffff20000500ffffffff l
for value in 0x 0x01 0x0100000001000700ffffffff04000500ffffffff20000500ffffffff \
    0x0200000001000700ffffffff04000500ffffffff \
    0x0200000004000500ffffffff01000700ffffffff20000500ffffffff \
    0x0200000001000f00ffffffff04000500ffffffff20000500ffffffff \
    0x0200000001000700ffffffff02000700a10f000004000500ffffffff20000500ffffffff \
    0x0200000001000700ffffffff04000500ffffffff20000500ffffffff20000500ffffffff \
    0x0200000001000700ffffffff40000500ffffffff20000500ffffffff \
    0x0200000001000700ffffffff04000500ffffffff20000500ffffffff00; do
    setfattr -n system.posix_acl_access -v $value f; echo "$value $?"; getfacl -n f
done
as 4001:4001 setfacl -m u:4001:rwx f
as 4001:4001 setfacl -b f
as 4001:4001 setfacl -d -m u:4001:rwx d
as 4001:4001 chmod 777 f
setfacl -m u:4001:rwx nothing
getfacl -n f d
"#;

const SETGID: &str = r#"
for n in a b c; do touch $n; chown 4001:4010 $n; chmod 2775 $n; done
mkdir d; chown 4001:4010 d; chmod 2775 d
as 4001:4001 setfacl -m u:4002:rwx a; stat -c '%n %A' a
as 4001:4001,4010 setfacl -m u:4002:rwx b; stat -c '%n %A' b
setfacl -m u:4002:rwx c; stat -c '%n %A' c
as 4001:4001 setfacl -d -m u:4002:rwx d; stat -c '%n %A' d
as 4001:4001 mkdir d/s; as 4001:4001 touch d/f; stat -c '%n %A %u %g' d/s d/f; getfacl -n d/s d/f
as 4001:4001 setfacl -m u:4002:rwx d; stat -c '%n %A' d
as 4001:4010 setfacl -m u:4002:rwx d/s; stat -c '%n %A' d/s
chmod 2775 a; as 4001:4001 setfacl -b a; stat -c '%n %A' a
chmod 4775 b; as 4001:4001 setfacl -m u:4002:r b; stat -c '%n %A' b
"#;

const DIRECTORIES: &str = r#"
mkdir d; chmod 700 d; echo text > d/f; mkdir d/s; touch d/s/deep
as 4001:4001 cat d/f
setfacl -m u:4001:x d
as 4001:4001 cat d/f; as 4001:4001 ls d; as 4001:4001 touch d/new
setfacl -m u:4001:rx d
as 4001:4001 ls d; as 4001:4001 touch d/new; as 4001:4001 ls d/s
setfacl -m u:4001:rwx d
as 4001:4001 touch d/new; as 4001:4001 mv d/f d/g; as 4001:4001 rm -f d/new; as 4001:4001 mkdir d/theirs
as 4001:4001 ls d
as 4002:4002 stat -c %n d/g
chmod +t d; as 4001:4001 rm -f d/g; as 4001:4001 rmdir d/theirs
setfacl -x u:4001 d; as 4001:4001 ls d; as 4001:4001 cat d/s/deep
chmod 700 d/s; setfacl -m u:4001:rx d; setfacl -m g:4001:rx d/s; as 4001:4001 ls d/s
"#;

const ALGORITHM: &str = r#"
echo text > f; chown 4001:4010 f; setfacl --set u::-,u:4002:r,g::-,g:4011:r,g:4012:w,m::rw,o::r f
getfacl -n f
as 4001:4001 cat f
as 4002:4002 cat f
as 4002:4010 cat f
as 4003:4003 cat f
as 4003:4010 cat f
as 4003:4010,4011 cat f
as 4003:4003,4011 cat f
as 4003:4003,4012 cat f
as 4003:4003,4011,4012 sh -c 'cat f; echo w >> f; cat f >> f'
as 4003:4003,4011,4012 sh -c 'cat < f > /dev/null && exec 3<> f'
cat f
setfacl -m o::-,u:4003:- f; as 4003:4003,4011 cat f
setfacl -m m::- f; as 4002:4002 cat f; as 4003:4010 cat f; cat f
"#;

const PROGRAMS: &str = r#"
printf '#!/bin/sh\necho ran\n' > run; chmod 700 run
as 4001:4001 ./run
setfacl -m u:4001:x run; as 4001:4001 ./run
setfacl -m u:4001:rx run; as 4001:4001 ./run
cp /bin/true true; chmod 700 true; setfacl -m g:4010:x true; as 4001:4001,4010 ./true; as 4001:4001 ./true
chmod 600 run; setfacl -m u:4001:r run; ./run; as 4001:4001 ./run
as 4001:4001 test -r run; as 4001:4001 test -w run; as 4001:4001 test -x run
"#;

const COPIES: &str = r#"
mkdir -p tree/sub; echo 1 > tree/f; echo 2 > tree/sub/g; touch tree/plain
setfacl -m u:4001:rw,g:4010:r tree/f; setfacl -m u:4001:rwx,d:u:4001:rx,d:m::rx tree/sub; chmod 2770 tree/sub
setfacl -m g:4011:- tree/sub/g
cp -a tree cp; cp -p tree/f cpp; cp tree/f plain
rsync -rptA tree/ rs/; rsync -rpt tree/ without/
mkdir tar; tar --acls -cf - tree | tar --acls -C tar -xpf -
mv tree moved
all() { find "$1" | sort | xargs getfacl -n; }
for root in cp rs tar/tree moved; do (cd $root; echo $root; all . ; stat -c '%n %a' f plain sub sub/g); done
getfacl -n cpp plain; all without
getfacl -n -R moved > saved; setfacl -b -k -R moved; all moved; setfacl --restore=saved; all moved
getfacl -n cpp | setfacl --set-file=- plain; getfacl -n plain
"#;

const WRITES: &str = r#"
echo text > f; chmod 6775 f; setfacl -m u:4001:rwx f; stat -c %A f
as 4001:4001 sh -c 'printf more 1<> f'; stat -c %A f; getfacl -n f
chown 4002:4010 f; getfacl -n f; stat -c %A f
as 4002:4002 sh -c 'cat f; chmod 640 f'; getfacl -n f
as 4001:4001 truncate -s 1 f; chmod g+w f; as 4001:4001 truncate -s 1 f; stat -c '%s %A' f
ln f g; setfacl -m u:4003:r g; getfacl -n f; rm f; getfacl -n g
mkdir d; mv g d/; getfacl -n d/g; touch d/h; mv d/h d/g; getfacl -n d/g
"#;

const LONG: &str = r#"
touch f; mkdir d
entries=$(for id in $(seq 5000 5119); do printf 'u:%d:r,' $id; done)
setfacl -m "${entries%,}" f; echo $?; getfacl -n f | md5sum; getfacl -n f | wc -l
as 5000:4001 cat f; as 5119:4001 cat f; as 5120:4001 sh -c 'cat f && echo read'
setfacl -d -m "${entries%,}" d; touch d/f; mkdir d/s; getfacl -n d/f | md5sum; getfacl -n d/s | md5sum
setfacl -x u:5050 f; getfacl -n f | wc -l; setfacl -b f d d/f; getfacl -n f d d/f
"#;
