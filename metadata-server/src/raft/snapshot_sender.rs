//! Sends a snapshot to a member, file by file in pieces of at most 1 MiB, each with its hash. The
//! snapshot's files stay as long as this runs, whatever newer snapshot is made meanwhile.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft::StorageError;
use openraft::errors::{NetworkError, StreamingError};
use openraft::raft::SnapshotResponse;
use openraft::type_config::TypeConfigExt;
use uuid::Uuid;

use super::metrics;
use super::network::{Link, rpc_error};
use super::state_machine::SnapshotOf;
use super::types::{TypeConfig, Vote};
use super::wire::{RaftReply, RaftRequest, SNAPSHOT_PIECE_BYTES};

/// Longest wait for the receiver of a piece.
const PIECE_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest wait for the installation at the receiver: it syncs all files.
const INSTALL_TIMEOUT: Duration = Duration::from_secs(120);

type Failure = StreamingError<TypeConfig>;

struct SourceFile {
    path: PathBuf,
    name: String,
    bytes: u64,
}

/// Sends and has it installed.
pub(super) async fn send(
    link: &Link,
    vote: Vote,
    snapshot: SnapshotOf,
) -> Result<SnapshotResponse<TypeConfig>, Failure> {
    let folder = snapshot.snapshot.database();
    let files = blocking(move || list(&folder)).await?;
    let total: u64 = files.iter().map(|file| file.bytes).sum();
    let target = &link.target().name;
    tracing::info!(%target, meta = %snapshot.meta, files = files.len(), bytes = total, "sending a snapshot");
    let transfer = Uuid::new_v4().as_u128();
    let begin = RaftRequest::SnapshotBegin {
        transfer,
        meta: snapshot.meta,
        files: files.iter().map(|file| (file.name.clone(), file.bytes)).collect(),
    };
    ready(link, begin, Bytes::new()).await?;
    for (number, file) in files.into_iter().enumerate() {
        let bytes = file.bytes;
        let open = file.path.clone();
        let source = Arc::new(blocking(move || File::open(open)).await?);
        let mut offset = 0;
        while offset < bytes {
            let length = (bytes - offset).min(SNAPSHOT_PIECE_BYTES as u64) as usize;
            let from = source.clone();
            let (piece, hash) = blocking(move || {
                let mut piece = vec![0; length];
                from.read_exact_at(&mut piece, offset)?;
                let hash = *blake3::hash(&piece).as_bytes();
                Ok((Bytes::from(piece), hash))
            })
            .await?;
            let message = RaftRequest::SnapshotPiece { transfer, file: number as u32, offset, hash };
            ready(link, message, piece).await?;
            offset += length as u64;
        }
    }
    let install = RaftRequest::SnapshotInstall { transfer, vote };
    match link.send(install, Vec::new(), INSTALL_TIMEOUT).await.map_err(|error| rpc_error(&error))? {
        RaftReply::SnapshotInstalled(response) => {
            metrics::snapshot("sent");
            Ok(response)
        }
        other => unexpected(link, &other),
    }
}

async fn ready(link: &Link, message: RaftRequest, piece: Bytes) -> Result<(), Failure> {
    let payload = if piece.is_empty() { Vec::new() } else { vec![piece] };
    match link.send(message, payload, PIECE_TIMEOUT).await.map_err(|error| rpc_error(&error))? {
        RaftReply::Ready => Ok(()),
        other => unexpected(link, &other),
    }
}

fn unexpected<T>(link: &Link, reply: &RaftReply) -> Result<T, Failure> {
    let name = &link.target().name;
    Err(NetworkError::from_string(format!("{name} gave an answer to another question: {reply:?}")).into())
}

fn list(folder: &Path) -> io::Result<Vec<SourceFile>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        files.push(SourceFile { path: entry.path(), name, bytes: entry.metadata()?.len() });
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(files)
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> Result<T, Failure> {
    let result = cairn_common::blocking::run(work).await.map_err(io::Error::other).and_then(|result| result);
    result.map_err(|error| {
        let error = StorageError::<TypeConfig>::read_snapshot(None, TypeConfig::err_from_error(&error));
        StreamingError::StorageError(error)
    })
}
