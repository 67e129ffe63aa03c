//! `dev up` and `dev mount`: makes a local cluster or goes on with one, and mounts it. Everything is
//! done again without harm: what runs is left alone, what is missing is started.

use std::io::ErrorKind;
use std::net::UdpSocket;
use std::path::Path;
use std::time::{Duration, Instant};

use super::layout::{Layout, is_empty};
use super::mount_point::{self, is_mounted};
use super::process::{self, program, raise_file_limit, running};
use super::servers::{self, Folder};
use super::settings::{MountEntry, Settings, Sizes};
use super::{admin_client, ready};
use crate::error::{ControlError, Failure};
use crate::output;
use crate::progress::Progress;

/// Longest wait for the address of a server that has just been killed.
const PORT_WAIT: Duration = Duration::from_secs(10);

/// Starts what is not running of the cluster in `data`, which is made if it is new.
pub(crate) async fn up(data: &Path, mount: Option<&Path>, sizes: Sizes) -> Result<(), ControlError> {
    let mut progress = Progress::new();
    let existing = data.join("cluster.toml").exists();
    // Sizes are checked before anything is written.
    let fresh = if existing { None } else { Some(Settings::new(sizes)?) };
    let layout = Layout::create(data)?;
    let _lock = layout.lock()?;
    let mut settings = match fresh {
        // Another command may have made it while we waited for the lock.
        Some(_) if layout.cluster_file().exists() => Settings::load(&layout)?,
        Some(fresh) => {
            refuse_strangers(&layout)?;
            fresh
        }
        None => Settings::load(&layout)?,
    };
    settings.check(sizes, &layout)?;
    if let Some(path) = mount {
        settings.remember_mount(&mount_point::absolute(path)?)?;
    }
    settings.save(&layout)?;
    servers::prepare(&layout, &settings)?;
    raise_file_limit();

    progress.step(format!(
        "starting {} metadata and {} chunk servers in {}",
        settings.metadata.len(),
        settings.chunk.len(),
        layout.dir().display()
    ));
    let lost = start_servers(&layout, &mut settings)?;
    progress.step("waiting for a leader and the chunk servers");
    let client = admin_client(&layout, &settings)?;
    let mut failures = ready::cluster(&layout, &settings, &client, lost).await?;
    for entry in &settings.mount {
        progress.step(format!("mounting {}", entry.path.display()));
        if let Err(failure) = mount_one(&layout, entry).await {
            failures.push(failure);
        }
    }
    progress.finish();
    output::line(summary(&layout, &settings));
    if failures.is_empty() { Ok(()) } else { Err(ControlError::NotReady(failures)) }
}

/// One more mount of a running cluster.
pub(crate) async fn mount(data: &Path, path: &Path) -> Result<(), ControlError> {
    let layout = Layout::open(data)?;
    let _lock = layout.lock()?;
    let mut settings = Settings::load(&layout)?;
    let client = admin_client(&layout, &settings)?;
    client.status(std::time::Duration::from_secs(5)).await?;
    let path = mount_point::absolute(path)?;
    let name = settings.remember_mount(&path)?;
    settings.save(&layout)?;
    servers::prepare(&layout, &settings)?;
    raise_file_limit();
    let mut progress = Progress::new();
    progress.step(format!("mounting {}", path.display()));
    if let Some(entry) = settings.mount.iter().find(|entry| entry.name == name) {
        mount_one(&layout, entry).await.map_err(|failure| ControlError::NotReady(vec![failure]))?;
    }
    progress.finish();
    output::line(format!("{name} is at {}", path.display()));
    Ok(())
}

/// A folder with other things in it is not ours to use; folders of servers may be there already (disks
/// are mounted on them).
fn refuse_strangers(layout: &Layout) -> Result<(), ControlError> {
    for entry in std::fs::read_dir(layout.dir()).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let known = matches!(&*name, "run" | "log" | "config" | "pki" | "lost+found");
        let server = ["meta", "chunk"].iter().any(|kind| name.starts_with(kind)) && is_empty(&entry.path())?;
        if !(known || server) {
            return Err(ControlError::NotEmpty { path: layout.dir().to_owned() });
        }
    }
    Ok(())
}

/// Starts the servers that do not run. Returns those that cannot be started, with the reason.
fn start_servers(layout: &Layout, settings: &mut Settings) -> Result<Vec<Failure>, ControlError> {
    let (meta, chunk) = (program("cairn-meta")?, program("cairn-chunk")?);
    let folders = servers::format_new(layout, settings)?;
    let mut lost = Vec::new();
    for (server, folder) in settings.metadata.iter().zip(folders) {
        if running(layout, &server.name).is_some() {
            continue;
        }
        if folder == Folder::Wiped {
            let reason = format!(
                "its folder {} was emptied, and a metadata server that forgot its votes must not come back. Replace \
                 it: cairnctl dev replace --data {} {}",
                layout.data(&server.name).display(),
                layout.dir().display(),
                server.name
            );
            lost.push(Failure { name: server.name.clone(), reason, log: None, last_lines: Vec::new() });
            continue;
        }
        start_server(layout, &server.name, server.address, &meta)?;
    }
    for server in settings.chunk.iter().filter(|server| running(layout, &server.name).is_none()) {
        start_server(layout, &server.name, server.address, &chunk)?;
    }
    Ok(lost)
}

/// Starts one server, after a look whether its address is free.
pub(crate) fn start_server(
    layout: &Layout,
    name: &str,
    address: std::net::SocketAddr,
    program: &Path,
) -> Result<(), ControlError> {
    wait_until_free(address).map_err(|source| ControlError::PortTaken { name: name.to_owned(), address, source })?;
    process::start(layout, name, program, &[])?;
    Ok(())
}

/// A server that was killed keeps its address for as long as one of its threads waits for the disk,
/// although its process counts as gone.
fn wait_until_free(address: std::net::SocketAddr) -> std::io::Result<()> {
    let begun = Instant::now();
    loop {
        match UdpSocket::bind(address) {
            Err(error) if error.kind() == ErrorKind::AddrInUse && begun.elapsed() < PORT_WAIT => {
                std::thread::sleep(Duration::from_millis(20));
            }
            tried => return tried.map(drop),
        }
    }
}

/// Mounts one mount point, unless it is mounted.
async fn mount_one(layout: &Layout, entry: &MountEntry) -> Result<(), Failure> {
    let failed = |error: ControlError| Failure {
        name: entry.name.clone(),
        reason: error.to_string(),
        log: None,
        last_lines: Vec::new(),
    };
    if running(layout, &entry.name).is_some() {
        if is_mounted(&entry.path) {
            return ready::mount(layout, entry).await;
        }
        // Unmounted by hand: the daemon is on its way out, or has to go.
        process::stop(layout, std::slice::from_ref(&entry.name), process::STOP_WAIT).map_err(failed)?;
    }
    mount_point::prepare(&entry.path).map_err(failed)?;
    let program = program("cairn-mount").map_err(failed)?;
    process::start(layout, &entry.name, &program, &[&entry.path]).map_err(failed)?;
    ready::mount(layout, entry).await
}

/// What to do with it now.
fn summary(layout: &Layout, settings: &Settings) -> String {
    let own = std::env::current_exe().unwrap_or_else(|_| "cairnctl".into());
    let (own, data) = (own.display(), layout.dir().display());
    let mut text: Vec<String> = settings
        .mount
        .iter()
        .map(|mount| {
            let state = if is_mounted(&mount.path) { "mounted at" } else { "NOT mounted at" };
            format!("{state}     {}", mount.path.display())
        })
        .collect();
    text.push(format!("state          {own} dev status --data {data}"));
    text.push(format!("another mount  {own} dev mount --data {data} --mount DIR"));
    text.push(format!("stop           {own} dev down --data {data}"));
    text.push(format!("logs           {data}/log"));
    text.join("\n")
}
