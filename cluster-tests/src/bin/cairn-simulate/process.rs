//! What the operating system gives to a simulated process: time and random numbers, from the seed. The
//! functions of libc that ask for them are replaced in this program (madsim does the same), so that
//! libraries, hash maps and identifiers follow the seed, too. Outside of a simulation they are the
//! kernel's.
//!
//! One thread simulates; no other thread asks for either.

use std::cell::{Cell, RefCell};

use libc::{c_int, c_uint, c_void, clockid_t, size_t, ssize_t, timespec};
use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};

/// Wall-clock time at which simulations begin, in seconds since 1970.
const EPOCH_SECONDS: u64 = 1_800_000_000;
/// Monotonic time at which they begin, in seconds.
const BOOT_SECONDS: u64 = 100_000;
const SECOND: u64 = 1_000_000_000;

/// The clocks of the machine that runs now.
#[derive(Clone, Copy)]
struct Clocks {
    /// Its time at the moment `began`, in nanoseconds.
    local: u64,
    /// How far its wall clock is off, in nanoseconds.
    wall_offset: i64,
    /// The runtime's time then; None: time stands still.
    began: Option<std::time::Instant>,
}

thread_local! {
    static CLOCKS: Cell<Option<Clocks>> = const { Cell::new(None) };
    static MACHINE: Cell<usize> = const { Cell::new(0) };
    static ASKING: Cell<bool> = const { Cell::new(false) };
    static RANDOM: RefCell<Option<StdRng>> = const { RefCell::new(None) };
}

/// From now on random numbers of this thread come from the seed.
pub(crate) fn seed_random(seed: u64) {
    RANDOM.with(|random| *random.borrow_mut() = Some(StdRng::seed_from_u64(seed)));
}

/// The number of the machine that runs now, for people.
pub(crate) fn machine() -> usize {
    MACHINE.with(Cell::get)
}

/// This machine runs from now on.
pub(crate) fn set_machine(machine: usize) {
    MACHINE.with(|now| now.set(machine));
}

/// From now on the clocks of this thread show this machine's time (nanoseconds since its boot, and how
/// far its wall clock is off).
pub(crate) fn set_time(local: u64, wall_offset: i64) {
    CLOCKS.with(|clocks| clocks.set(Some(Clocks { local, wall_offset, began: None })));
}

/// The same while its runtime runs and moves on by itself; `local` was its time at `began`.
pub(crate) fn set_running_time(local: u64, wall_offset: i64, began: tokio::time::Instant) {
    let began = Some(began.into_std());
    CLOCKS.with(|clocks| clocks.set(Some(Clocks { local, wall_offset, began })));
}

/// Nanoseconds since the boot of the machine that runs now, and since 1970 by its wall clock.
pub(crate) fn now() -> Option<(u64, u64)> {
    let clocks = CLOCKS.with(Cell::get)?;
    let mut local = clocks.local;
    if let Some(began) = clocks.began
        && !ASKING.with(|asking| asking.replace(true))
    {
        if tokio::runtime::Handle::try_current().is_ok() {
            let passed = tokio::time::Instant::now().into_std().saturating_duration_since(began);
            local += passed.as_nanos() as u64;
        }
        ASKING.with(|asking| asking.set(false));
    }
    let wall = (EPOCH_SECONDS * SECOND + local).saturating_add_signed(clocks.wall_offset);
    Some((BOOT_SECONDS * SECOND + local, wall))
}

/// Replaces libc's function.
///
/// # Safety
///
/// `buffer` must be valid for writes of `length` bytes, as getrandom(2) demands.
#[unsafe(no_mangle)]
unsafe extern "C" fn getrandom(buffer: *mut c_void, length: size_t, flags: c_uint) -> ssize_t {
    let seeded = RANDOM.try_with(|random| {
        let mut random = random.borrow_mut();
        let Some(random) = random.as_mut() else { return false };
        if length > 0 {
            // SAFETY: the caller promises that the buffer is valid for so many bytes.
            let bytes = unsafe { std::slice::from_raw_parts_mut(buffer.cast::<u8>(), length) };
            random.fill_bytes(bytes);
        }
        true
    });
    if seeded == Ok(true) {
        return length as ssize_t;
    }
    // SAFETY: handed on as it came.
    unsafe { libc::syscall(libc::SYS_getrandom, buffer, length, flags) as ssize_t }
}

/// Replaces libc's function.
///
/// # Safety
///
/// `time` must be valid for a write, as clock_gettime(2) demands.
#[unsafe(no_mangle)]
unsafe extern "C" fn clock_gettime(clock: clockid_t, time: *mut timespec) -> c_int {
    let is_wall = clock == libc::CLOCK_REALTIME || clock == libc::CLOCK_REALTIME_COARSE;
    let is_cpu = clock == libc::CLOCK_PROCESS_CPUTIME_ID || clock == libc::CLOCK_THREAD_CPUTIME_ID;
    let simulated = if is_cpu { None } else { CLOCKS.try_with(|_| ()).ok().and_then(|()| now()) };
    let Some((monotonic, wall)) = simulated else {
        // SAFETY: handed on as it came.
        return unsafe { libc::syscall(libc::SYS_clock_gettime, clock, time) as c_int };
    };
    let nanos = if is_wall { wall } else { monotonic };
    // SAFETY: the caller promises that it may be written to.
    unsafe { *time = timespec { tv_sec: (nanos / SECOND) as i64, tv_nsec: (nanos % SECOND) as i64 } };
    0
}
