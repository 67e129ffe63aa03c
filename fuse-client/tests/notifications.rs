//! What the kernel does with notifications, on a real mount: it may believe everything for an hour,
//! things change behind its back, and after a notification it must ask. Needs root, as mounting does.

mod support_kernel;

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use cairn_common::ids::InodeId;
use cairn_mount::fuse_adapter::notifier::Told;
use support_kernel::{Mounted, SOON};

fn size(mounted: &Mounted, name: &str) -> Option<u64> {
    match fs::metadata(mounted.path(name)) {
        Ok(metadata) => Some(metadata.len()),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => panic!("stat of {name}: {error}"),
    }
}

#[test]
fn attributes_are_asked_for_again() {
    let mounted = Mounted::new();
    mounted.shared.put("file", 10, b"12345");
    assert_eq!(size(&mounted, "file"), Some(5));
    mounted.shared.put("file", 10, b"123");
    assert_eq!(size(&mounted, "file"), Some(5), "the kernel believes for an hour");
    let asked = mounted.shared.asked("getattr");
    assert_eq!(mounted.notifier.attributes(InodeId(10)).unwrap(), Told::Known);
    assert_eq!(size(&mounted, "file"), Some(3));
    assert_eq!((mounted.shared.asked("lookup"), mounted.shared.asked("getattr")), (1, asked + 1));
    assert_eq!(mounted.notifier.attributes(InodeId(77)).unwrap(), Told::Unknown);
}

#[test]
fn names_are_asked_for_again_whether_present_or_absent() {
    let mounted = Mounted::new();
    assert!(mounted.notifier.has_epochs(), "this kernel is older than 6.16");
    mounted.shared.put("goes", 10, b"1");
    assert_eq!((size(&mounted, "goes"), size(&mounted, "comes")), (Some(1), None));
    mounted.shared.remove("goes");
    mounted.shared.put("comes", 11, b"22");
    assert_eq!((size(&mounted, "goes"), size(&mounted, "comes")), (Some(1), None), "the kernel believes for an hour");
    mounted.notifier.names().unwrap();
    assert_eq!((size(&mounted, "goes"), size(&mounted, "comes")), (None, Some(2)));
    // And it believes again what it was told after the notification.
    let asked = mounted.shared.asked("lookup");
    assert_eq!((size(&mounted, "goes"), size(&mounted, "comes")), (None, Some(2)));
    assert_eq!(mounted.shared.asked("lookup"), asked);
}

/// Why names are told by epoch: while a create waits for the servers, the directory's lock is held.
#[test]
fn names_are_told_while_a_create_in_the_directory_waits() {
    let mounted = Mounted::new();
    mounted.shared.put("goes", 10, b"1");
    assert_eq!(size(&mounted, "goes"), Some(1));
    mounted.shared.hold("create");
    std::thread::scope(|scope| {
        let create = scope.spawn(|| File::create(mounted.path("new")).map(|_| ()));
        mounted.shared.wait_until_held();
        mounted.shared.remove("goes");
        let begun = Instant::now();
        mounted.notifier.names().unwrap();
        assert!(begun.elapsed() < Duration::from_secs(1), "took {:?}", begun.elapsed());
        let ((done, is_done), fuser) = (mpsc::channel(), mounted.fuser.clone());
        scope.spawn(move || done.send(fuser.inval_entry(fuser::INodeNo::ROOT, "goes".as_ref())));
        let early = is_done.recv_timeout(Duration::from_millis(300));
        mounted.shared.release();
        create.join().unwrap().unwrap();
        assert!(early.is_err(), "INVAL_ENTRY did not wait: it could be used for names, which is cheaper");
        is_done.recv_timeout(SOON).expect("INVAL_ENTRY ends when the create does").unwrap();
    });
    assert_eq!(size(&mounted, "goes"), None);
}

#[test]
fn a_lookup_that_is_answered_late_brings_no_name_of_an_old_epoch() {
    let mounted = Mounted::new();
    for (present, name) in [(true, "present"), (false, "absent")] {
        if present {
            mounted.shared.put(name, 10, b"1");
        }
        mounted.shared.hold("lookup");
        std::thread::scope(|scope| {
            let look = scope.spawn(|| size(&mounted, name));
            mounted.shared.wait_until_held();
            if present {
                mounted.shared.remove(name);
            } else {
                mounted.shared.put(name, 11, b"22");
            }
            mounted.notifier.names().unwrap();
            mounted.shared.release();
            look.join().unwrap();
        });
        assert_eq!(size(&mounted, name), if present { None } else { Some(2) }, "{name}");
    }
}

/// The kernel counts names in a listing to the epoch in which it reads them.
#[test]
fn a_listing_that_is_answered_late_has_been_read_when_the_notifier_says_so() {
    let mounted = Mounted::new();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    mounted.shared.put("goes", 10, b"1");
    mounted.shared.hold("readdirplus");
    std::thread::scope(|scope| {
        scope.spawn(|| std::fs::read_dir(mounted.path("")).unwrap().count());
        mounted.shared.wait_until_held();
        mounted.shared.remove("goes");
        mounted.notifier.names().unwrap();
        let (done, is_done) = mpsc::channel();
        let (notifier, runtime) = (&mounted.notifier, &runtime);
        scope.spawn(move || done.send(runtime.block_on(notifier.listings_read(InodeId::ROOT))));
        assert!(is_done.recv_timeout(Duration::from_millis(300)).is_err(), "the listing has not even been answered");
        mounted.shared.release();
        is_done.recv_timeout(SOON).expect("the listing was read").unwrap();
    });
    mounted.notifier.names().unwrap();
    assert_eq!(size(&mounted, "goes"), None);
}

/// The kernel believes what a create brings, whatever it was told before it has read it.
#[test]
fn a_create_that_is_answered_late_has_been_read_when_the_notifier_says_so() {
    let mounted = Mounted::new();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let made = InodeId(1000);
    mounted.shared.hold("create");
    std::thread::scope(|scope| {
        let create = scope.spawn(|| File::create(mounted.path("new")).unwrap());
        mounted.shared.wait_until_held();
        mounted.shared.put("new", made.0, b"123");
        assert_eq!(mounted.notifier.attributes(made).unwrap(), Told::Unknown);
        let (done, is_done) = mpsc::channel();
        let (notifier, runtime) = (&mounted.notifier, &runtime);
        scope.spawn(move || done.send(runtime.block_on(notifier.listings_read(InodeId::ROOT))));
        assert!(is_done.recv_timeout(Duration::from_millis(300)).is_err(), "the create has not even been answered");
        mounted.shared.release();
        is_done.recv_timeout(SOON).expect("the answer was read").unwrap();
        let file = create.join().unwrap();
        assert_eq!(file.metadata().unwrap().len(), 0, "it was told too early");
        assert_eq!(mounted.notifier.attributes(made).unwrap(), Told::Known);
        assert_eq!(file.metadata().unwrap().len(), 3);
    });
    assert_eq!(size(&mounted, "new"), Some(3));
}

#[test]
fn attributes_that_are_answered_late_are_not_believed() {
    let mounted = Mounted::new();
    mounted.shared.put("file", 10, b"12345");
    let file = File::open(mounted.path("file")).unwrap();
    mounted.notifier.attributes(InodeId(10)).unwrap();
    mounted.shared.hold("getattr");
    std::thread::scope(|scope| {
        let look = scope.spawn(|| file.metadata().unwrap().len());
        mounted.shared.wait_until_held();
        mounted.shared.put("file", 10, b"123");
        mounted.notifier.attributes(InodeId(10)).unwrap();
        mounted.shared.release();
        assert_eq!(look.join().unwrap(), 5, "the call itself began before the change");
    });
    assert_eq!(file.metadata().unwrap().len(), 3);
}

#[tokio::test]
async fn pages_go_and_mapped_changes_come_before_they_do() {
    let mounted = Mounted::new();
    mounted.shared.put("file", 10, b"old");
    let file = File::options().read(true).write(true).open(mounted.path("file")).unwrap();
    let read = || {
        let mut bytes = [0; 3];
        file.read_exact_at(&mut bytes, 0).unwrap();
        bytes
    };
    assert_eq!(&read(), b"old");
    // Same size, same times: nothing but a notification tells the kernel.
    mounted.shared.put("file", 10, b"new");
    assert_eq!(&fs::read(mounted.path("file")).unwrap(), b"old", "the kernel keeps its pages over an open");
    mounted.notifier.pages(InodeId(10)).await.unwrap();
    assert_eq!(&read(), b"new");

    let mapping = Mapping::new(&file);
    mapping.set(0, b'N');
    assert_eq!(mounted.shared.contents("file"), b"new");
    mounted.notifier.pages(InodeId(10)).await.unwrap();
    assert_eq!(mounted.shared.contents("file"), b"New", "a mapped change is written back first");
    mounted.shared.put("file", 10, b"two");
    mounted.notifier.pages(InodeId(10)).await.unwrap();
    assert_eq!(mapping.get(0), b't', "a mapping reads the new page");
}

/// One page of a file, shared and writable.
struct Mapping {
    at: *mut u8,
}

impl Mapping {
    const LENGTH: usize = 4096;

    fn new(file: &File) -> Self {
        use std::os::fd::AsRawFd;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice; the result is checked.
        let at = unsafe {
            libc::mmap(std::ptr::null_mut(), Self::LENGTH, protection, libc::MAP_SHARED, file.as_raw_fd(), 0)
        };
        assert_ne!(at, libc::MAP_FAILED);
        Self { at: at.cast() }
    }

    fn set(&self, index: usize, byte: u8) {
        assert!(index < Self::LENGTH);
        // SAFETY: inside of the mapping, which lives as long as self.
        unsafe { self.at.add(index).write_volatile(byte) }
    }

    fn get(&self, index: usize) -> u8 {
        assert!(index < Self::LENGTH);
        // SAFETY: inside of the mapping, which lives as long as self.
        unsafe { self.at.add(index).read_volatile() }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped by `new` with this length, and used by nobody from here on.
        unsafe { libc::munmap(self.at.cast(), Self::LENGTH) };
    }
}
