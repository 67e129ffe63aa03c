//! Commands to a running layer: one line over a Unix socket, one line back.
//!
//! `drop SEED` → `ok KEPT_OPERATIONS LOST_OPERATIONS KEPT_BYTES LOST_BYTES`; `volatile` →
//! `ok OPERATIONS BYTES`; anything else, or a failure → `error REASON`.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::layer::{Layer, Loss};

/// Longest wait for an answer.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Answers commands on the socket, one after another, for as long as the process lives.
pub fn serve(socket: &Path, layers: Vec<Arc<Layer>>) -> io::Result<()> {
    let listener = UnixListener::bind(socket)?;
    std::thread::Builder::new().name("control".into()).spawn(move || {
        for stream in listener.incoming().flatten() {
            // A client that went away does not matter to the next one.
            let _ = serve_one(&stream, &layers);
        }
    })?;
    Ok(())
}

fn serve_one(stream: &UnixStream, layers: &[Arc<Layer>]) -> io::Result<()> {
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    let answer = match line.split_whitespace().collect::<Vec<_>>()[..] {
        ["drop", seed] => match seed.parse().map_err(io::Error::other).and_then(|s| Layer::lose_power(layers, s)) {
            Ok(l) => format!("ok {} {} {} {}", l.operations_kept, l.operations_lost, l.bytes_kept, l.bytes_lost),
            Err(error) => format!("error {error}"),
        },
        ["volatile"] => {
            let volatile = layers.iter().map(|layer| layer.volatile());
            let (operations, bytes) = volatile.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
            format!("ok {operations} {bytes}")
        }
        _ => "error the commands are: drop SEED, volatile".to_owned(),
    };
    (&*stream).write_all(format!("{answer}\n").as_bytes())
}

/// The other end: commands a layer that runs in another process.
#[derive(Clone, Debug)]
pub struct Control {
    socket: PathBuf,
}

impl Control {
    /// Talks to the socket; nothing is sent yet.
    pub fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    /// Power goes. Everything that uses the folders should be dead: it gets EIO from now on.
    pub fn lose_power(&self, seed: u64) -> io::Result<Loss> {
        match self.command(&format!("drop {seed}"))?[..] {
            [operations_kept, operations_lost, bytes_kept, bytes_lost] => Ok(Loss {
                operations_kept: operations_kept as usize,
                operations_lost: operations_lost as usize,
                bytes_kept,
                bytes_lost,
            }),
            _ => Err(io::Error::other("the amnesia layer gave a strange answer")),
        }
    }

    /// What a power loss would take at most: operations on names, bytes.
    pub fn volatile(&self) -> io::Result<(u64, u64)> {
        match self.command("volatile")?[..] {
            [operations, bytes] => Ok((operations, bytes)),
            _ => Err(io::Error::other("the amnesia layer gave a strange answer")),
        }
    }

    fn command(&self, command: &str) -> io::Result<Vec<u64>> {
        let mut stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.write_all(format!("{command}\n").as_bytes())?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line)?;
        let Some(numbers) = line.strip_prefix("ok") else {
            return Err(io::Error::other(format!("the amnesia layer refuses `{command}`: {}", line.trim())));
        };
        numbers.split_whitespace().map(|number| number.parse().map_err(io::Error::other)).collect()
    }
}
