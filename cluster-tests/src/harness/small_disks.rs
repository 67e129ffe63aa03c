//! Small file systems under the data folders of servers, so that disks fill up soon. Unmounted when the test
//! ends, however it ends.

use std::ffi::CString;
use std::fs;
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

/// Mounted file systems in memory.
pub(super) struct SmallDisks {
    folders: Vec<PathBuf>,
}

impl SmallDisks {
    /// Mounts one of `mib` MiB on each of the folders `data/NAME`.
    pub(super) fn mount(data: &Path, names: &[String], mib: u32) -> Self {
        let mut disks = Self { folders: Vec::new() };
        for name in names {
            let folder = data.join(name);
            fs::create_dir_all(&folder).expect("data folder");
            let options = CString::new(format!("size={mib}m,mode=0700")).expect("no zero byte");
            mount("cairn-small-disk", &folder, "tmpfs", MountFlags::empty(), options.as_c_str())
                .expect("mounted tests run as root");
            disks.folders.push(folder);
        }
        disks
    }
}

impl Drop for SmallDisks {
    fn drop(&mut self) {
        for folder in &self.folders {
            if let Err(error) = unmount(folder, UnmountFlags::DETACH) {
                eprintln!("cannot unmount {}: {error}", folder.display());
            }
        }
    }
}
