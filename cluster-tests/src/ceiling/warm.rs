//! What a mount answers while everything is warm: the workload that is compared with the ceiling. Every
//! figure is the rate over at least [`MEASURED`] after one pass that does not count, so that lifetimes
//! that end meanwhile and what it costs to renew them are in it.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng};

/// Small files, 250 to a directory.
const FILES: usize = 2_000;
const FILE_BYTES: usize = 4_096;
/// The file for reads of data.
const LARGE_BYTES: usize = 256 << 20;
/// A figure is measured for at least this long.
const MEASURED: Duration = Duration::from_millis(1_500);

/// Runs the workload in a new folder in `folder` and removes it; gives `figure` a name and a rate
/// (operations, passes or MB a second; more is better) for every part.
pub fn warm(folder: &Path, mut figure: impl FnMut(&str, f64) -> io::Result<()>) -> io::Result<()> {
    let work = folder.join(format!("warm.{}", std::process::id()));
    std::fs::create_dir(&work)?;
    let result = run(&work, &mut figure);
    std::fs::remove_dir_all(&work)?;
    result
}

fn run(work: &Path, figure: &mut impl FnMut(&str, f64) -> io::Result<()>) -> io::Result<()> {
    let files: Vec<PathBuf> = (0..FILES).map(|file| work.join(format!("d{}/f{file}", file / 250))).collect();
    let mut bytes = vec![b'x'; FILE_BYTES];
    bytes.chunks_mut(64).for_each(|line| line[line.len() - 1] = b'\n');
    for file in &files {
        std::fs::create_dir_all(file.parent().expect("it is in a directory"))?;
        std::fs::write(file, &bytes)?;
    }
    let large = work.join("large");
    {
        let piece: Vec<u8> = (0..1usize << 20).map(|at| ((at * 31) >> 8) as u8).collect();
        let mut file = File::create(&large)?;
        for _ in 0..LARGE_BYTES / piece.len() {
            file.write_all(&piece)?;
        }
        file.sync_all()?;
    }

    let operations = FILES as f64;
    figure("stat_ops", rate(operations, || files.iter().try_for_each(|file| std::fs::metadata(file).map(drop)))?)?;
    figure("open_ops", rate(operations, || files.iter().try_for_each(|file| File::open(file).map(drop)))?)?;
    let open_read = || files.iter().try_for_each(|file| std::fs::read(file).map(drop));
    figure("open_read_ops", rate(operations, open_read)?)?;
    let list = || -> io::Result<()> {
        for directory in std::fs::read_dir(work)? {
            let directory = directory?;
            if directory.file_type()?.is_dir() {
                std::fs::read_dir(directory.path())?.try_for_each(|entry| entry?.metadata().map(drop))?;
            }
        }
        Ok(())
    };
    figure("list_entries", rate(operations, list)?)?;
    let find = || program(Command::new("find").arg(work).args(["-type", "f", "-printf", "%s\\n"]));
    figure("find_passes", rate(1.0, find)?)?;
    // Not the large file: it would be all that is measured.
    let directories: Vec<PathBuf> = (0..FILES.div_ceil(250)).map(|number| work.join(format!("d{number}"))).collect();
    let grep = || program(Command::new("grep").args(["-r", "-l", "nowhere"]).args(&directories));
    figure("grep_passes", rate(1.0, grep)?)?;

    let file = File::open(&large)?;
    let mut buffer = vec![0; 1 << 20];
    let sequential = || (0..LARGE_BYTES as u64 >> 20).try_for_each(|at| file.read_exact_at(&mut buffer, at << 20));
    figure("sequential_read_mb", rate(LARGE_BYTES as f64 / 1e6, sequential)?)?;
    let mut random = rand::rngs::StdRng::seed_from_u64(1);
    let mut page = [0; 4_096];
    let randomly = || {
        (0..10_000).try_for_each(|_| {
            let at = random.random_range(0..LARGE_BYTES as u64 / 4_096) * 4_096;
            file.read_exact_at(&mut page, at)
        })
    };
    figure("random_read_4k_ops", rate(10_000.0, randomly)?)?;
    Ok(())
}

/// Runs `pass` once, and then as often as [`MEASURED`] takes; units a second.
fn rate(units_a_pass: f64, mut pass: impl FnMut() -> io::Result<()>) -> io::Result<f64> {
    pass()?;
    let begun = Instant::now();
    let mut passes = 0;
    while begun.elapsed() < MEASURED {
        pass()?;
        passes += 1;
    }
    Ok(f64::from(passes) * units_a_pass / begun.elapsed().as_secs_f64())
}

/// Runs a program and reads what it prints. That grep finds nothing is no failure.
fn program(command: &mut Command) -> io::Result<()> {
    let mut child = command.stdout(Stdio::piped()).spawn()?;
    let mut printed = Vec::new();
    child.stdout.take().expect("it is a pipe").read_to_end(&mut printed)?;
    match child.wait()?.code() {
        Some(0 | 1) => Ok(()),
        code => Err(io::Error::other(format!("{command:?} ended with {code:?}"))),
    }
}
