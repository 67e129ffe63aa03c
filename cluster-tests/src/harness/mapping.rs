//! A shared writable mapping of a file, for tests of mmap. It is gone with its value.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// A mapping (PROT_READ | PROT_WRITE, MAP_SHARED) of the first bytes of a file.
pub struct SharedMapping {
    address: *mut libc::c_void,
    length: usize,
}

// SAFETY: the mapping belongs to this value alone; its address is the same in every thread.
unsafe impl Send for SharedMapping {}

impl SharedMapping {
    /// Maps `length` bytes from the start of the file.
    pub fn of(file: &File, length: usize) -> io::Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory of this process.
        let address =
            unsafe { libc::mmap(std::ptr::null_mut(), length, protection, libc::MAP_SHARED, file.as_raw_fd(), 0) };
        if address == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(Self { address, length }) }
    }

    /// The mapped bytes. Other processes may change them at any time; a test that looks at bytes which
    /// only it writes is not disturbed by that.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: mapped, readable and writable for as long as self lives, and borrowed with it.
        unsafe { std::slice::from_raw_parts_mut(self.address.cast(), self.length) }
    }

    /// msync(MS_SYNC) of all of it.
    pub fn sync(&self) -> io::Result<()> {
        // SAFETY: address and length are those of the mapping.
        let result = unsafe { libc::msync(self.address, self.length, libc::MS_SYNC) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

impl Drop for SharedMapping {
    fn drop(&mut self) {
        // SAFETY: address and length are those of the mapping, and nothing borrows it any more.
        unsafe { libc::munmap(self.address, self.length) };
    }
}
