//! Who this server is: `identity.toml` in the data folder names cluster, node id and incarnation, and
//! `members.toml` the first members. Written once, by [`format`]; a folder without them refuses to
//! start, because a server that lost its log must not vote under its old id.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use cairn_common::durable_file::{self, DurableFileError};
use cairn_common::ids::{ClusterId, Incarnation, MetadataNodeId};
use cairn_common::protocol::admin::MetadataMember;
use serde::{Deserialize, Serialize};

const IDENTITY_FILE: &str = "identity.toml";
const MEMBERS_FILE: &str = "members.toml";

/// Cluster, number and life of this server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeIdentity {
    /// The cluster.
    pub cluster: ClusterId,
    /// Its number in the group, never reused.
    pub node: MetadataNodeId,
    /// This life of the data folder.
    pub incarnation: Incarnation,
}

/// Why a data folder cannot be formatted or used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The folder holds no identity: it is new, or was wiped.
    #[error(
        "{folder} is not formatted as a metadata server. A new cluster is made by `cairnctl cluster init` (or \
         `cairnctl dev up`). If this server lost its data, its old id must not be used again: run `cairnctl node \
         replace`, which gives it a new id and lets the group copy the state to it"
    )]
    NotFormatted {
        /// The folder.
        folder: PathBuf,
    },
    /// The folder has an identity already.
    #[error("{folder} is already formatted as metadata server {node}; formatting it again would lose its vote")]
    AlreadyFormatted {
        /// The folder.
        folder: PathBuf,
        /// Whose it is.
        node: MetadataNodeId,
    },
    /// The folder holds other things.
    #[error("{folder} is not empty and holds no identity: refusing to format it")]
    NotEmpty {
        /// The folder.
        folder: PathBuf,
    },
    /// A file does not say what it must.
    #[error("{file}: {reason}. If it cannot be restored, replace this server with `cairnctl node replace`")]
    Broken {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] DurableFileError),
    /// The folder cannot be read.
    #[error("{folder}: {source}")]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// The error.
        source: std::io::Error,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct IdentityText {
    version: u32,
    cluster: String,
    node: u64,
    incarnation: String,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct MembersText {
    #[serde(default)]
    member: Vec<MemberText>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct MemberText {
    node: u64,
    incarnation: String,
    name: String,
    address: SocketAddr,
}

/// Reads a list of first members (TOML, `[[member]]` tables).
pub fn read_members(file: &Path) -> Result<Vec<MetadataMember>, IdentityError> {
    let broken = |reason: String| IdentityError::Broken { file: file.to_owned(), reason };
    let text = durable_file::read_to_string(file)?;
    let parsed: MembersText = toml::from_str(&text).map_err(|e| broken(e.to_string()))?;
    let mut members = Vec::with_capacity(parsed.member.len());
    for text in parsed.member {
        members.push(MetadataMember {
            node: MetadataNodeId(text.node),
            incarnation: text.incarnation.parse().map_err(|e| broken(format!("member {}: {e}", text.node)))?,
            name: text.name,
            address: text.address,
        });
    }
    members.sort_by_key(|member| member.node);
    if let Some(pair) = members.windows(2).find(|pair| pair[0].node == pair[1].node) {
        return Err(broken(format!("node {} is listed twice", pair[0].node)));
    }
    Ok(members)
}

/// Formats an empty (or absent) folder, durably. `members` is empty for a server that joins later.
pub fn format(data: &Path, identity: &NodeIdentity, members: &[MetadataMember]) -> Result<(), IdentityError> {
    let unreadable = |source| IdentityError::Folder { folder: data.to_owned(), source };
    match load(data) {
        Ok((present, _)) => {
            return Err(IdentityError::AlreadyFormatted { folder: data.to_owned(), node: present.node });
        }
        Err(IdentityError::NotFormatted { .. }) => {}
        Err(error) => return Err(error),
    }
    if !members.is_empty() && !members.iter().any(|m| m.node == identity.node && m.incarnation == identity.incarnation)
    {
        return Err(IdentityError::Broken {
            file: data.join(MEMBERS_FILE),
            reason: format!("the member list does not name node {} with this incarnation", identity.node),
        });
    }
    durable_file::create_folder(data)?;
    let leftovers = std::fs::read_dir(data).map_err(unreadable)?;
    for entry in leftovers {
        let name = entry.map_err(unreadable)?.file_name();
        let ours = [IDENTITY_FILE, MEMBERS_FILE].iter().any(|file| name.to_string_lossy().starts_with(file));
        if !ours && name != "lost+found" {
            return Err(IdentityError::NotEmpty { folder: data.to_owned() });
        }
    }
    let members = MembersText {
        member: members
            .iter()
            .map(|m| MemberText {
                node: m.node.0,
                incarnation: m.incarnation.to_string(),
                name: m.name.clone(),
                address: m.address,
            })
            .collect(),
    };
    let identity = IdentityText {
        version: 1,
        cluster: identity.cluster.to_string(),
        node: identity.node.0,
        incarnation: identity.incarnation.to_string(),
    };
    // The identity comes last: a folder without it counts as not formatted.
    write(&data.join(MEMBERS_FILE), &members)?;
    write(&data.join(IDENTITY_FILE), &identity)
}

/// Who the folder belongs to, and the first members.
pub fn load(data: &Path) -> Result<(NodeIdentity, Vec<MetadataMember>), IdentityError> {
    let file = data.join(IDENTITY_FILE);
    let text = match durable_file::read_to_string(&file) {
        Ok(text) => text,
        Err(error) if error.is_not_found() => return Err(IdentityError::NotFormatted { folder: data.to_owned() }),
        Err(error) => return Err(error.into()),
    };
    let broken = |reason: String| IdentityError::Broken { file: file.clone(), reason };
    let parsed: IdentityText = toml::from_str(&text).map_err(|e| broken(e.to_string()))?;
    if parsed.version != 1 {
        return Err(broken(format!("version {} is unknown to this program", parsed.version)));
    }
    let identity = NodeIdentity {
        cluster: parsed.cluster.parse().map_err(|e| broken(format!("cluster: {e}")))?,
        node: MetadataNodeId(parsed.node),
        incarnation: parsed.incarnation.parse().map_err(|e| broken(format!("incarnation: {e}")))?,
    };
    let members = read_members(&data.join(MEMBERS_FILE))?;
    Ok((identity, members))
}

fn write<T: Serialize>(file: &Path, value: &T) -> Result<(), IdentityError> {
    let text = toml::to_string(value)
        .map_err(|e| IdentityError::Broken { file: file.to_owned(), reason: format!("cannot be written: {e}") })?;
    Ok(durable_file::write(file, text.as_bytes())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(node: u64) -> MetadataMember {
        MetadataMember {
            node: MetadataNodeId(node),
            incarnation: Incarnation(u128::from(node) + 7),
            name: format!("meta{node}"),
            address: SocketAddr::from(([127, 0, 0, 1], 7000 + node as u16)),
        }
    }

    #[test]
    fn formats_once_and_reads_back() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("meta2");
        let members = vec![member(1), member(2), member(3)];
        let identity =
            NodeIdentity { cluster: ClusterId(99), node: MetadataNodeId(2), incarnation: members[1].incarnation };
        assert!(matches!(load(&data), Err(IdentityError::NotFormatted { .. })));
        let message = load(&data).unwrap_err().to_string();
        assert!(message.contains("cairnctl node replace"), "{message}");
        format(&data, &identity, &members).unwrap();
        assert_eq!(load(&data).unwrap(), (identity, members.clone()));
        assert!(matches!(format(&data, &identity, &members), Err(IdentityError::AlreadyFormatted { .. })));
    }

    #[test]
    fn a_replacement_has_no_members_and_a_stranger_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let identity = NodeIdentity { cluster: ClusterId(99), node: MetadataNodeId(2), incarnation: Incarnation(1) };
        let data = folder.path().join("other");
        assert!(matches!(format(&data, &identity, &[member(2)]), Err(IdentityError::Broken { .. })));
        format(&data, &identity, &[]).unwrap();
        assert_eq!(load(&data).unwrap(), (identity, vec![]));
    }

    #[test]
    fn refuses_foreign_folders_and_broken_files() {
        let folder = tempfile::tempdir().unwrap();
        let identity = NodeIdentity { cluster: ClusterId(99), node: MetadataNodeId(2), incarnation: Incarnation(1) };
        std::fs::write(folder.path().join("letters.txt"), "dear").unwrap();
        assert!(matches!(format(folder.path(), &identity, &[]), Err(IdentityError::NotEmpty { .. })));
        std::fs::write(folder.path().join(IDENTITY_FILE), "version = 1\ncluster = 5").unwrap();
        assert!(matches!(load(folder.path()), Err(IdentityError::Broken { .. })));
    }
}
